"""A vault in a bucket passes the vault contract on each store that speaks S3; and what only buckets do is right."""

import hashlib
import json
import os
import re
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bucket_contract import BucketContract, Make, Refusal, makes, refused
from vault_contract import VaultContract, keys

from cto_backups.config.secrets import SecretReference
from cto_backups.core.policy import Tls
from cto_backups.core.vaults import Summed, Vault, lock_folders
from cto_backups.errors import (
    VaultError,
    VaultFullError,
    VaultMissingError,
    VaultReadOnlyError,
)
from cto_backups.providers import aws, pauses
from cto_backups.vaults import bucket as bucket_module
from cto_backups.vaults import s3_client, s3_upload
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.s3 import s3_vault
from servers import object_stores
from servers.certificates import Certificate, certificate
from servers.handshakes import shaking_hands
from servers.object_stores import ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes vaults, whose connections are closed in the end."""
    yield from makes(s3_vault)


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked a second time."""
    monkeypatch.setattr(aws, "_ATTEMPTS", 1)


@pytest.fixture(autouse=True)
def _no_settings_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of stores and logins decides nothing; nor is it asked over the network who it is."""
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class TestS3Vault(VaultContract):
    @pytest.fixture
    def vault(self, object_store: ObjectStore, made: Make) -> Vault:
        vault = made(object_store, object_store.bucket(), "office/main")
        vault.create()
        return vault


class TestBucketOfS3(BucketContract):
    putting, escaped = "PUT", "/"
    making = "s3api create-bucket --bucket no-such-bucket --region eu-central-1"

    @pytest.fixture
    def store(self, object_store: ObjectStore) -> ObjectStore:
        return object_store


@pytest.fixture
def rough(way: RoughWay, made: Make, monkeypatch: pytest.MonkeyPatch) -> BucketVault:
    """A vault at the end of the rough way; nothing has gone wrong yet, and nobody waits."""
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    way.plan()
    vault = made(way.store, way.store.bucket())
    vault.create()
    return vault


# -- buckets


def test_what_is_small_is_sent_without_asking_whether_it_may_come(
    versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wait for that takes as long as to store it. What is large is not sent for nothing where it is refused."""
    asked = {}

    def watched(*given: Any) -> Any:
        client = connected(*given)
        client.meta.events.register(
            "before-send.s3.PutObject",
            lambda request, **_: asked.update({request.url.rpartition("/")[2]: request.headers.get("Expect")}),
        )
        return client

    connected = s3_client.connected
    monkeypatch.setattr(s3_client, "connected", watched)
    vault = made(versitygw, versitygw.bucket())
    vault.create()
    vault.put("small", [bytes(60_000), b"more"])
    vault.put("large", [bytes(1 << 20)])
    assert (vault.size("small"), vault.size("large")) == (60_004, 1 << 20)
    assert {name: value and str(value, "ascii") for name, value in asked.items()} == {
        "vault.json": None,
        "small": None,
        "large": "100-continue",
    }


def test_the_command_that_makes_a_bucket_names_its_region_and_server(object_store: ObjectStore, made: Make) -> None:
    with pytest.raises(VaultMissingError) as caught:
        made(object_store, "no-such-bucket").check()
    assert "LocationConstraint=eu-central-1" in caught.value.todo
    assert object_store.endpoint in caught.value.todo


def test_a_listing_goes_on_after_a_thousand_keys(versitygw: ObjectStore, made: Make) -> None:
    bucket = versitygw.bucket()
    vault = made(versitygw, bucket, "v")
    vault.create()

    def put(number: int) -> None:
        versitygw.client.put_object(Bucket=bucket, Key=f"v/data/{number:04}", Body=b"x" * (number % 5))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1203)))
    found = {stored.key: stored.size_bytes for stored in vault.list("data")}
    assert found == {f"data/{number:04}": number % 5 for number in range(1203)}


def test_a_pack_is_stored_and_read_into_memory_without_another_copy_of_it(versitygw: ObjectStore, made: Make) -> None:
    vault = made(versitygw, versitygw.bucket())
    vault.create()
    size = 16 << 20
    parts = [os.urandom(size // 4) for _ in range(4)]
    memory = memoryview(bytearray(size))
    tracemalloc.start()
    try:
        vault.put("pack", parts)
        vault.read_into("pack", 0, memory)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory == b"".join(parts)
    assert peak < size // 4, f"{peak / 2**20:.1f} MiB beside what is stored"


# -- logging in


def test_a_wrong_secret_is_told_as_one_and_not_shown(versitygw: ObjectStore, made: Make) -> None:
    logins = {"access_key": lambda: versitygw.access_key, "secret_key": lambda: "swordfish-of-ada"}
    vault = made(versitygw, versitygw.bucket(), logins=logins)
    with pytest.raises(VaultError, match=r"does not take this key \(SignatureDoesNotMatch\)") as caught:
        vault.check()
    assert "swordfish" not in f"{caught.value} {caught.value.todo}"


def test_without_keys_in_the_policy_the_usual_places_are_searched(
    versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = versitygw.bucket()
    with pytest.raises(VaultError, match="no login to the store was found") as caught:
        made(versitygw, bucket, logins={}).create()
    assert "access_key and secret_key" in caught.value.todo
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", versitygw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", versitygw.secret_key)
    vault = made(versitygw, bucket, logins={})
    vault.create()
    vault.put("a", [b"x"])
    assert vault.read("a") == b"x"


def test_a_key_that_is_not_where_the_policy_says_is_a_problem_of_this_vault(versitygw: ObjectStore, made: Make) -> None:
    def reveal() -> str:
        return SecretReference.parse("env:NO_SUCH_VARIABLE_OF_TESTS").resolve(Path("/")).reveal()

    vault = made(versitygw, "any", logins={"access_key": reveal, "secret_key": reveal})
    with pytest.raises(VaultError, match="NO_SUCH_VARIABLE_OF_TESTS"):
        vault.check()


def test_a_bucket_in_another_region_than_the_policy_says_is_refused(way: RoughWay, made: Make) -> None:
    vault = made(way.store, way.store.bucket(), "v")
    way.plan(Fault("HEAD", status=200, headers=(("x-amz-bucket-region", "us-west-2"),)))
    with pytest.raises(VaultError, match="not in region eu-central-1, but in us-west-2") as caught:
        vault.create()
    assert "region: us-west-2" in caught.value.todo


def test_the_environment_does_not_lead_copies_elsewhere(
    versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", versitygw.endpoint)
    client = s3_client.connected("cloud", versitygw.address("any", endpoint=None, tls=Tls.NONE))
    assert client.meta.endpoint_url == "http://s3.eu-central-1.amazonaws.com", "of the policy's region; not asked yet"
    client.close()


def test_a_profile_that_is_not_there_is_told(
    versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(VaultError, match="nobody"):
        made(versitygw, "any", logins={}).check()


# -- roles


def documented_roles() -> tuple[str, str]:
    """The policies in the how-to: of who does everything, and of who only adds."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-vault.md"
    full, added = re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return full, added


def with_role(program: Path, store: ObjectStore, role: str) -> tuple[ObjectStore, str]:
    """The store as a user sees it who may do what a role says in a bucket, and no more; and the bucket."""
    bucket, user = store.bucket(), object_stores.user(program, store)
    policy = json.loads(role.replace("acme-backups", bucket))
    # A denial whose condition the store does not know, and refuses.
    policy["Statement"] = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [user.access_key]}
    store.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return user, bucket


def test_the_documented_role_is_enough_for_everything(
    versitygw_program: Path, versitygw: ObjectStore, made: Make
) -> None:
    vault = made(*with_role(versitygw_program, versitygw, documented_roles()[0]), "office")
    vault.create()
    vault.put("repositories/main/data/ab/ab", [b"pack"])
    vault.put("repositories/main/data/ab/ab", [b"again"], overwrite=True)
    assert vault.read("repositories/main/data/ab/ab", 1) == b"gain"
    assert keys(vault) == {"repositories/main/data/ab/ab"}
    vault.delete("repositories/main/data/ab/ab")
    with pytest.raises(VaultMissingError):
        vault.size("repositories/main/data/ab/ab")


def test_the_documented_role_of_who_only_adds_deletes_nothing_but_locks(
    versitygw_program: Path, versitygw: ObjectStore, made: Make
) -> None:
    user, bucket = with_role(versitygw_program, versitygw, documented_roles()[1])
    vault = made(user, bucket, "office")
    vault.create()
    vault.put("repositories/main/data/ab/ab", [b"pack"])
    assert vault.read("repositories/main/data/ab/ab") == b"pack"
    for folder in lock_folders("repositories/main"):
        vault.put(f"{folder}cd", [b"lock"])
        vault.delete(f"{folder}cd")
    arn = f"arn:aws:s3:::{bucket}/office/repositories/main/data/ab/ab"
    with pytest.raises(VaultReadOnlyError, match=f"may not s3:DeleteObject on {arn}"):
        vault.delete("repositories/main/data/ab/ab")
    assert keys(vault) == {"repositories/main/data/ab/ab"}


@pytest.mark.parametrize("role", [0, 1], ids=["everything", "only adds"])
def test_the_documented_roles_are_enough_for_parts_and_for_sweeping_them(
    versitygw_program: Path, versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch, role: int
) -> None:
    monkeypatch.setattr(s3_upload, "_SINGLE_BYTES", 5 << 20)
    monkeypatch.setattr(s3_upload, "_PART_BYTES", 5 << 20)
    monkeypatch.setattr(bucket_module, "_UPLOADS_END", timedelta(hours=-1))
    user, bucket = with_role(versitygw_program, versitygw, documented_roles()[role])
    vault = made(user, bucket, "office")
    vault.create()
    vault.put("repositories/main/data/ab/ab", [bytes(6 << 20)])
    assert vault.size("repositories/main/data/ab/ab") == 6 << 20
    versitygw.client.create_multipart_upload(Bucket=bucket, Key="office/repositories/main/data/cd/cd")
    assert (vault.sweep(), vault.sweep()) == (1, 0)


def test_who_may_nothing_is_told_what_is_missing(versitygw_program: Path, versitygw: ObjectStore, made: Make) -> None:
    bucket = versitygw.bucket()
    vault = made(object_stores.user(versitygw_program, versitygw), bucket, "office")
    with pytest.raises(VaultError, match=f"may not s3:ListBucket on arn:aws:s3:::{bucket}$"):
        vault.create()
    with pytest.raises(VaultReadOnlyError, match=f"may not s3:PutObject on arn:aws:s3:::{bucket}/office/a$"):
        vault.put("a", [b"x"])


# -- the way there


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificates"), "localhost")


def test_a_store_is_used_over_tls(
    versitygw_program: Path, shown: Certificate, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(shown.shown))
    with object_stores.versitygw(versitygw_program, {"cert": shown.shown, "key": shown.key}) as store:
        vault = made(store, store.bucket(), tls=Tls.V1_3)
        vault.create()
        vault.put("a", [b"x" * 100_000, b"y"])
        assert vault.read("a", 99_999) == b"xy"
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(VaultError, match="is not trusted"):
            made(store, "any", tls=Tls.V1_3).check()


def test_nothing_is_sent_over_less_than_the_policy_asks_for(
    shown: Certificate, versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(shown.shown))
    with shaking_hands(shown, ssl.TLSVersion.TLSv1_2) as address:
        vault = made(versitygw, "any", endpoint=address, tls=Tls.V1_3)
        with pytest.raises(VaultError, match=r"speaks TLS 1\.2, and the policy asks for 1\.3"):
            vault.put("a", [b"x"])


@pytest.fixture(scope="module")
def way(versitygw: ObjectStore) -> Iterator[RoughWay]:
    with rough_way(versitygw) as way:
        yield way


def test_a_conflict_of_writers_is_tried_again(way: RoughWay, rough: BucketVault) -> None:
    conflict = Fault("PUT", "v/", status=409, code="ConditionalRequestConflict")
    way.plan(conflict)
    rough.put("a", [b"mine"])
    assert rough.read("a") == b"mine"
    way.plan(Fault("PUT", "v/", times=9, status=409, code="ConditionalRequestConflict"))
    with pytest.raises(VaultError):
        rough.put("b", [b"mine"])


def test_what_changes_on_the_way_is_refused_and_not_stored(way: RoughWay, rough: BucketVault) -> None:
    def flip(_headers: dict[str, str], body: bytes) -> bytes:
        return bytes([body[0] ^ 1]) + body[1:]

    way.plan(Fault("PUT", "v/a", times=9, asked=flip))
    with pytest.raises(VaultError, match="cannot store a"):
        rough.put("a", [b"content"])
    way.plan()
    assert keys(rough) == set()


def test_a_sum_that_is_known_is_sent_as_it_is_and_compared_by_the_store(
    versitygw: ObjectStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = made(versitygw, versitygw.bucket())
    vault.create()
    content = b"content" * 1000
    digest = hashlib.sha256(content).digest()
    monkeypatch.setattr(s3_upload, "_digest", lambda *_: pytest.fail("it is known"))
    vault.put("data/a", Summed.of([content[:5], content[5:]], digest))
    assert vault.read("data/a") == content
    with pytest.raises(VaultError, match="not what was sent"):
        vault.put("data/b", Summed.of([content], hashlib.sha256(b"other").digest()))
    assert keys(vault) == {"data/a"}


def test_an_answer_with_another_checksum_is_a_failure(way: RoughWay, rough: BucketVault) -> None:
    def lie(told: dict[str, str]) -> None:
        for name in told:
            if name.lower() == "x-amz-checksum-sha256":
                told[name] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

    way.plan(Fault("PUT", "v/a", told=lie))
    with pytest.raises(VaultError, match="its checksum there is not that of what was sent"):
        rough.put("a", [b"content"])


@pytest.mark.parametrize("tag", [True, False], ids=["with MD5", "with another tag"])
def test_a_store_without_checksums_is_believed_by_its_entity_tag(way: RoughWay, rough: BucketVault, tag: bool) -> None:
    def older(told: dict[str, str]) -> None:
        for name in [name for name in told if "checksum" in name.lower()]:
            del told[name]
        if not tag:
            told["ETag"] = '"0123456789abcdef0123456789abcdef"'

    way.plan(Fault("PUT", "v/a", told=older))
    if tag:
        rough.put("a", [b"con", b"tent"])
    else:
        with pytest.raises(VaultError, match="cannot store a"):
            rough.put("a", [b"content"])


@pytest.fixture
def unsigned_way(moto: ObjectStore) -> Iterator[RoughWay]:
    """A way to a store that checks no signatures: what is asked can be changed on it, unnoticed."""
    with rough_way(moto) as way:
        yield way


def without(header: str) -> Callable[[dict[str, str], bytes], bytes]:
    """A change of requests: this header is gone."""

    def change(headers: dict[str, str], body: bytes) -> bytes:
        for name in [name for name in headers if name.lower() == header]:
            del headers[name]
        return body

    return change


def test_a_store_that_takes_no_notice_of_conditions_is_refused(unsigned_way: RoughWay, made: Make) -> None:
    vault = made(unsigned_way.store, unsigned_way.store.bucket(), "v")
    unsigned_way.plan(Fault("PUT", "v/vault.json", times=9, asked=without("if-none-match")))
    with pytest.raises(VaultError, match="takes no notice of If-None-Match"):
        vault.create()


def test_a_store_that_takes_no_notice_of_ranges_is_told(unsigned_way: RoughWay, made: Make) -> None:
    vault = made(unsigned_way.store, unsigned_way.store.bucket(), "v")
    vault.create()
    vault.put("a", [b"0123456789"])
    unsigned_way.plan(Fault("GET", "v/a", asked=without("range")))
    with pytest.raises(VaultError, match="another part than it was asked for"):
        vault.read("a", 3, 4)


def test_a_busy_store_is_asked_again(way: RoughWay, rough: BucketVault) -> None:
    way.plan(Fault("PUT", "v/a", times=2, status=503, code="SlowDown"))
    rough.put("a", [b"x"])
    assert rough.read("a") == b"x"


ARN = r"arn:aws:s3:::test-[0-9a-f]{12}"
REFUSALS: dict[str, Refusal] = {
    "denied put": (
        Fault("PUT", status=403, code="AccessDenied", message="not authorized"),
        VaultReadOnlyError,
        rf"may not s3:PutObject on {ARN}/v/a",
        "Allow s3:PutObject",
    ),
    "denied get": (
        Fault("GET", status=403, code="AccessDenied"),
        VaultError,
        rf"may not s3:GetObject on {ARN}/v/a",
        "s3:ListBucket",
    ),
    "denied delete": (
        Fault("DELETE", status=403, code="AccessDenied"),
        VaultReadOnlyError,
        rf"may not s3:DeleteObject on {ARN}/v/a",
        "locks",
    ),
    "denied look": (
        Fault("HEAD", status=403),
        VaultError,
        rf"may not s3:GetObject on {ARN}/v/a",
        "Allow s3:GetObject",
    ),
    "expired": (
        Fault("GET", status=400, code="ExpiredToken", times=9),
        VaultError,
        "the login has expired",
        "Log in anew",
    ),
    "unknown key": (
        Fault("GET", status=403, code="InvalidAccessKeyId", times=9),
        VaultError,
        "does not take this key",
        "valid",
    ),
    "clock": (
        Fault("GET", status=403, code="RequestTimeTooSkewed", headers=(("Date", "Sun, 29 Nov 2026 10:00:00 GMT"),)),
        VaultError,
        "there it was 2026-11-29 10:00:00 UTC",
        "Set the clock",
    ),
    "region": (
        Fault("GET", status=301, code="PermanentRedirect", times=3, headers=(("x-amz-bucket-region", "us-west-2"),)),
        VaultError,
        "not in region eu-central-1, but in us-west-2",
        "region: us-west-2",
    ),
    "full": (Fault("PUT", status=403, code="QuotaExceeded"), VaultFullError, "is full", "quota"),
    "garbled": (Fault("PUT", status=400, code="BadDigest"), VaultError, "not what was sent", "network"),
    "archived": (Fault("GET", status=403, code="InvalidObjectState"), VaultError, "in an archive", "lifecycle"),
    "unknown": (Fault("PUT", status=501, code="NotImplemented"), VaultError, "does not know", "conditional writes"),
    "odd": (
        Fault("GET", status=418, code="Teapot", message="short and stout"),
        VaultError,
        "short and stout",
        "records",
    ),
    "busy": (Fault("GET", status=503, code="SlowDown", times=9), VaultError, "asks for fewer requests", "later"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_store_refuses_is_told_with_why_and_what_to_do(
    way: RoughWay, made: Make, one_try: None, case: str
) -> None:
    said = refused(way, made, REFUSALS[case], "PUT")
    assert not [secret for secret in (way.store.secret_key, way.store.access_key) if secret in said]
