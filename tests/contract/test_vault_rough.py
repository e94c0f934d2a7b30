"""Vaults on a rough way to stores that speak S3 and Google's API, and what goes wrong only with one of them."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from bucket_contract import Make, makes
from rough_contract import RoughContract
from vault_contract import keys

from cto_backups.errors import VaultError, VaultExistsError, VaultReadOnlyError
from cto_backups.vaults import bucket as bucket_module
from cto_backups.vaults import gcs_upload, s3_upload
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import s3_vault
from servers import google_stores
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way

_MIB = 1 << 20


@pytest.fixture(scope="module")
def s3_way(versitygw: ObjectStore) -> Iterator[RoughWay]:
    with rough_way(versitygw) as way:
        yield way


@pytest.fixture(scope="module")
def gcs_way(fake_gcs_server: GoogleStore) -> Iterator[RoughWay]:
    with rough_way(fake_gcs_server) as way:
        yield way


@pytest.fixture(autouse=True)
def _no_settings_of_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of logins decides nothing; nor is it asked over the network who it is."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")


class TestS3(RoughContract):
    putting, escaped = "PUT", "/"

    @pytest.fixture
    def made(self) -> Iterator[Make]:
        yield from makes(s3_vault)

    @pytest.fixture
    def way(self, s3_way: RoughWay) -> RoughWay:
        return s3_way

    def test_a_conflict_of_two_requests_is_asked_again(self, way: RoughWay, rough: BucketVault) -> None:
        way.plan(Fault("DELETE", self.at("a"), times=2, status=409, code="OperationAborted"))
        rough.delete("a")
        assert self.tries(way, "DELETE") == 3

    def test_a_key_that_was_replaced_is_looked_up_anew(self, way: RoughWay, made: Make) -> None:
        bucket, looked_up = way.store.bucket(), 0

        def secret() -> str:
            nonlocal looked_up
            looked_up += 1
            return "of yesterday" if looked_up == 1 else str(way.store.secret_key)

        vault = made(way.store, bucket, logins={"access_key": lambda: way.store.access_key, "secret_key": secret})
        vault.create()
        vault.put("a", [b"x"])
        assert looked_up == 2
        way.plan(Fault("PUT", self.at("b"), status=400, code="ExpiredToken"))
        vault.put("b", [b"y"])
        assert (looked_up, keys(vault)) == (3, {"a", "b"})

    # -- in parts

    @pytest.fixture
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """How large parts are, which are as small as a store takes them."""
        monkeypatch.setattr(s3_upload, "_SINGLE_BYTES", 6 * _MIB)
        monkeypatch.setattr(s3_upload, "_PART_BYTES", 5 * _MIB)
        return 5 * _MIB

    def unfinished(self, way: RoughWay, vault: BucketVault) -> int:
        """How many uploads lie there that never ended."""
        return len(way.store.client.list_multipart_uploads(Bucket=vault.address.bucket).get("Uploads", ()))

    def test_large_content_goes_in_parts_of_which_only_what_got_lost_goes_again(
        self, way: RoughWay, rough: BucketVault, small_parts: int
    ) -> None:
        content = os.urandom(16 * _MIB)
        way.plan(
            Fault("PUT", "partNumber=2", reset=_MIB),
            Fault("PUT", "partNumber=3", lost=True),
            Fault("PUT", "partNumber=1", status=400, code="ExpiredToken"),
            Fault("POST", "uploadId=", lost=True),
        )
        rough.put("a", [content[:1_000_000], content[1_000_000:]])
        assert way.bytes_came < len(content) + _MIB + 2 * small_parts + 10_000, "three of its parts, and what was cut"
        assert rough.read("a") == content
        assert self.unfinished(way, rough) == 0
        with pytest.raises(VaultExistsError):
            rough.put("a", [content[:-1] + b"!"])
        assert self.unfinished(way, rough) == 0

    def test_an_error_under_the_status_of_success_is_an_error(
        self, way: RoughWay, rough: BucketVault, small_parts: int
    ) -> None:
        """S3 begins to answer before it has put the parts together, and says in the body what came of it."""
        content = os.urandom(11 * _MIB)
        way.plan(Fault("POST", "uploadId=", times=2, status=200, code="InternalError"))
        rough.put("a", [content])
        assert rough.read("a") == content
        way.plan(Fault("POST", "uploadId=", times=99, status=200, code="InternalError"))
        with pytest.raises(VaultError, match="cannot store b"):
            rough.put("b", [content])
        way.plan()
        assert (keys(rough), self.unfinished(way, rough)) == ({"a"}, 0)

    def test_parts_that_are_refused_or_changed_on_the_way_store_nothing_and_leave_nothing(
        self, way: RoughWay, rough: BucketVault, small_parts: int
    ) -> None:
        content = os.urandom(11 * _MIB)

        def flip(_: dict[str, str], body: bytes) -> bytes:
            return bytes([body[0] ^ 1]) + body[1:]

        way.plan(Fault("PUT", "partNumber=2", status=403, code="AccessDenied"))
        with pytest.raises(VaultReadOnlyError, match=r"may not s3:PutObject"):
            rough.put("a", [content])
        way.plan(Fault("PUT", "partNumber=2", times=9, asked=flip))
        with pytest.raises(VaultError, match="cannot store a"):
            rough.put("a", [content])
        way.plan(Fault("PUT", "partNumber=2", status=404, code="NoSuchUpload"))
        with pytest.raises(VaultError, match="the parts of it that had come were removed"):
            rough.put("a", [content])
        assert (keys(rough), self.unfinished(way, rough)) == (set(), 0)

    def test_what_came_in_parts_is_proven_by_checksums_of_checksums_by_tags_or_by_reading_it(
        self, way: RoughWay, rough: BucketVault, small_parts: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = os.urandom(11 * _MIB)
        sums: list[str] = []

        def older(told: dict[str, str]) -> None:
            sums.extend(told.pop(name) for name in [name for name in told if name.lower() == "x-amz-checksum-sha256"])

        way.plan()
        rough.put("a", [content])
        other = content[:-1] + bytes([content[-1] ^ 1])
        store = rough._store
        assert (store.holds("a", [content]), store.holds("a", [other]), store.holds("a", [b""])) == (True, False, False)
        way.plan(Fault("HEAD", self.at("a"), times=2, told=older))
        assert (store.holds("a", [content]), store.holds("a", [other])) == (True, False)
        assert sums[0].endswith("-3")
        way.plan()
        monkeypatch.setattr(s3_upload, "_PART_BYTES", 6 * _MIB)
        assert store.holds("a", [content]) is None
        assert (rough._holds("a", [content]), rough._holds("a", [other])) == (True, False)

    def test_a_stream_is_sent_on_where_it_broke_and_read_back_where_no_answer_comes(
        self, way: RoughWay, rough: BucketVault, small_parts: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_module, "_PART_BYTES", small_parts)
        content = os.urandom(11 * _MIB)
        way.plan(Fault("PUT", "partNumber=2", reset=_MIB), Fault("POST", "uploadId=", times=99, lost=True))
        rough.put_stream("a", iter([content[:1_000_000], content[1_000_000:]]))
        assert (rough.read("a"), self.unfinished(way, rough)) == (content, 0)
        way.plan(Fault("POST", "uploadId=", times=99, status=500, code="InternalError"))
        with pytest.raises(VaultError, match="cannot store a"):
            rough.put_stream("a", iter([content[:-1], b"!"]), overwrite=True)

        def flip(_: dict[str, str], body: bytes) -> bytes:
            return bytes([body[0] ^ 1]) + body[1:]

        way.plan(Fault("PUT", "partNumber=2", times=9, asked=flip))
        with pytest.raises(VaultError, match="cannot store b"):
            rough.put_stream("b", iter([content]))
        assert (keys(rough), self.unfinished(way, rough)) == ({"a"}, 0)
        assert rough.read("a") == content

    def test_what_dead_writers_left_is_swept_once_it_is_old(
        self, way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = rough.address.bucket
        for key in ("v/data/left", "beside/the/vault"):
            way.store.client.create_multipart_upload(Bucket=bucket, Key=key)
        assert rough.sweep() == 0, "somebody may be at it"
        monkeypatch.setattr(bucket_module, "_UPLOADS_END", timedelta(hours=-1))
        assert (rough.sweep(), rough.sweep()) == (1, 0)
        assert self.unfinished(way, rough) == 1, "what is not the vault's is nobody's of ours"
        way.plan(Fault("GET", "uploads", status=403, code="AccessDenied"))
        with pytest.raises(VaultError, match=rf"may not s3:ListBucketMultipartUploads on arn:aws:s3:::{bucket}"):
            rough.sweep()
        way.plan(Fault("GET", "uploads", status=501, code="NotImplemented"))
        assert rough.sweep() == 0


class TestGoogle(RoughContract):
    putting, escaped = "POST", "%2F"

    @pytest.fixture
    def made(self) -> Iterator[Make]:
        yield from makes(gcs_vault)

    @pytest.fixture
    def way(self, gcs_way: RoughWay) -> RoughWay:
        return gcs_way

    def test_a_session_that_the_store_has_lost_is_begun_anew(
        self, way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcs_upload, "_SINGLE_BYTES", 100_000)
        monkeypatch.setattr(gcs_upload, "_CHUNK_BYTES", 256 << 10)
        content = os.urandom(700_000)
        way.plan(Fault("PUT", status=410, code="gone"), Fault("PUT", status=404, code="notFound"))
        rough.put("a", [content[:9], content[9:]])
        assert rough.read("a") == content
        assert self.tries(way, "POST") == 3
        way.plan(Fault("PUT", times=99, status=410, code="gone"))
        with pytest.raises(VaultError, match="cannot store b"):
            rough.put("b", [content])

    def test_a_stream_of_which_the_last_answer_is_lost_is_compared_and_what_fails_leaves_nothing(
        self, way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_module, "_PART_BYTES", 256 << 10)
        content = os.urandom(700_000)
        way.plan(
            Fault("PUT", told=lambda _: None),
            Fault("PUT", told=lambda _: None),
            Fault("PUT", times=99, lost=True),
        )
        rough.put_stream("a", iter([content[:9], content[9:]]))
        assert rough.read("a") == content
        way.plan(Fault("PUT", status=410, code="gone"))
        with pytest.raises(VaultError, match="cannot store c"):
            rough.put_stream("c", iter([content]))

        def flip(_: dict[str, str], body: bytes) -> bytes:
            return bytes([body[0] ^ 1]) + body[1:]

        way.plan(Fault("PUT", asked=flip))
        with pytest.raises(VaultError, match="its checksum there is not that of what was sent"):
            rough.put_stream("d", iter([content]))
        assert keys(rough) == {"a"}

    def test_a_key_that_was_replaced_is_looked_up_anew(self, way: RoughWay, made: Make) -> None:
        login = json.loads(way.store.logins.key_file)
        with google_stores.logins() as other:
            elsewhere = json.dumps({**login, "token_uri": json.loads(other.key_file)["token_uri"]})
            other.refused = "Invalid JWT Signature."
            files = iter([elsewhere, way.store.logins.key_file])
            vault = made(way.store, way.store.bucket(), logins={"credentials": lambda: next(files)})
            vault.create()
            vault.put("a", [b"x"])
        assert keys(vault) == {"a"}

    def test_a_clock_that_is_wrong_is_told_by_that_name(self, way: RoughWay, made: Make) -> None:
        way.store.logins.refused = (
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
            "and exp values in the JWT claim."
        )
        try:
            with pytest.raises(VaultError, match="the clock of this machine and Google's differ") as caught:
                made(way.store, "any").check()
        finally:
            way.store.logins.refused = ""
        assert "Set the clock" in caught.value.todo
