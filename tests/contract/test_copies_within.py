"""Objects of a bucket, and of another vault, are copied into a vault by the provider; on each store that can be had."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from payload_store_contract import label
from test_source_bucket import Store, delete, put, source

from cto_backups import _native, clock
from cto_backups.core.object_locks import Locking
from cto_backups.core.objects import ObjectState
from cto_backups.core.payloads import Draft
from cto_backups.core.policy import LockMode
from cto_backups.core.vaults import StoredFile, Vault
from cto_backups.errors import NotCopiedError, VaultError, VaultExistsError
from cto_backups.exports.store import ExportStore
from cto_backups.providers import pauses
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.bucket import reading
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.counted import CountedVault, Counter
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import S3Store, s3_vault
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore, user
from servers.rough_way import Fault, rough_way

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2))
LARGE = os.urandom((9 << 20) + 77)
OTHER = os.urandom(5 << 20)

MakeVault = Callable[..., BucketVault]


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of stores and logins decides nothing; nobody waits between tries."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    monkeypatch.setattr(reading, "pause", lambda *_: None)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)


@pytest.fixture(params=["versitygw", "moto", "fake_gcs_server"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in which there can be a vault."""
    found: Store = request.getfixturevalue(request.param)
    return found


def vaults() -> Iterator[MakeVault]:
    """Makes vaults that are closed in the end."""
    opened: list[BucketVault] = []

    def make(store: Store, bucket: str, prefix: str = "v", **settings: Any) -> BucketVault:
        kind = gcs_vault if isinstance(store, GoogleStore) else s3_vault
        opened.append(kind("near", store.address(bucket, prefix, **settings)))
        return opened[-1]

    yield make
    for vault in opened:
        vault.close()


@pytest.fixture
def made() -> Iterator[MakeVault]:
    yield from vaults()


def exports(vault: Vault) -> ExportStore:
    vault.create()
    repository = RepositoryStore.create(
        vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    return ExportStore(repository, vault, "exports/main")


def backed_up(store: Store, bucket: str, into: ExportStore, state: Path, **settings: Any) -> tuple[Draft, str]:
    with source(store, bucket, state, **settings).capture() as capture, into.writing() as writing:
        draft = writing.write(capture.tree)
        assert not capture.problems
        return draft, writing.commit(draft, label())


def objects(vault: Vault) -> list[StoredFile]:
    return list(vault.list("exports/main/data/objects"))


def test_a_state_is_copied_whole_to_a_new_key_and_to_no_other(store: Store, made: MakeVault) -> None:
    vault = made(store, store.bucket())
    vault.create()
    vault.put("from", [LARGE])
    state = vault.state_of("from")
    told = vault.copy_within("a/to", state)
    assert vault.read("a/to") == LARGE
    known = {"sha256": _sha256(LARGE), "crc32c": f"{_native.crc32c(LARGE, 0):08x}"}
    assert told
    assert all(known.get(name, value) == value for name, value in told.items())
    assert known.keys() & told.keys()
    vault.put("taken", [b"mine"])
    with pytest.raises(VaultExistsError):
        vault.copy_within("taken", state)
    assert vault.read("taken") == b"mine"


def test_another_state_than_the_one_that_is_meant_is_not_copied(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, made: MakeVault
) -> None:
    for store in (versitygw, fake_gcs_server):
        vault = made(store, store.bucket())
        vault.create()
        vault.put("from", [b"first" * 100])
        state = vault.state_of("from")
        vault.put("from", [b"second" * 100], overwrite=True)
        with pytest.raises(NotCopiedError):
            vault.copy_within("to", state)
        assert [file.key for file in vault.list("") if file.key == "to"] == []


def test_an_older_version_is_copied_where_the_bucket_keeps_versions(versitygw: ObjectStore, made: MakeVault) -> None:
    bucket = versitygw.bucket()
    versitygw.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    vault = made(versitygw, bucket)
    vault.create()
    vault.put("from", [b"first" * 100])
    state = vault.state_of("from")
    vault.put("from", [b"second" * 100], overwrite=True)
    vault.copy_within("to", state)
    assert vault.read("to") == b"first" * 100


def test_what_is_larger_than_one_request_copies_comes_in_parts(versitygw: ObjectStore, made: MakeVault) -> None:
    vault = made(versitygw, versitygw.bucket())
    vault.create()
    vault.put("from", [LARGE])
    assert isinstance(vault._store, S3Store)
    vault._store.copying = {"single_bytes": 6 << 20, "part_bytes": 5 << 20}
    assert vault.copy_within("to", vault.state_of("from")) == {"crc32c": f"{_native.crc32c(LARGE, 0):08x}"}
    assert vault.read("to") == LARGE
    with pytest.raises(NotCopiedError):
        vault.copy_within("other", replace(vault.state_of("from"), etag="0" * 32))
    uploads = versitygw.client.list_multipart_uploads(Bucket=vault.address.bucket)
    assert not uploads.get("Uploads"), "nothing is left of a copy that failed"


def test_a_copy_is_locked_when_it_is_made_by_a_vault_that_locks(versitygw: ObjectStore, made: MakeVault) -> None:
    locking = Locking(LockMode.GOVERNANCE, timedelta(days=3))
    vault = made(versitygw, versitygw.bucket(ObjectLockEnabledForBucket=True), locking=locking)
    vault.create()
    vault.put("from", [LARGE])
    for settings in ({}, {"single_bytes": 6 << 20, "part_bytes": 5 << 20}):
        assert isinstance(vault._store, S3Store)
        vault._store.copying = {**S3Store.copying, **settings}
        key = f"to{len(settings)}"
        vault.copy_within(key, vault.state_of("from"))
        lock = vault.lock_of(key)
        assert lock is not None
        assert lock.mode is LockMode.GOVERNANCE
        assert lock.until > clock.now() + timedelta(days=2, hours=23)


def test_large_objects_of_a_bucket_come_by_their_provider_and_nothing_of_them_is_sent(
    store: Store, made: MakeVault, tmp_path: Path
) -> None:
    bucket, counter = store.bucket(), Counter()
    put(store, bucket, "films/one", LARGE)
    put(store, bucket, "films/ünïcode ☃ 100% +two?", OTHER)
    put(store, bucket, "small", b"small" * 10)
    vault = made(store, store.bucket())
    into = exports(CountedVault(vault, counter))
    counter.take()
    draft, reference = backed_up(store, bucket, into, tmp_path)
    assert draft.ways is not None
    assert (draft.ways.copied, draft.ways.copied_bytes) == (2, len(LARGE) + len(OTHER))
    assert (draft.ways.passed, draft.ways.reasons) == (0, ())
    assert counter.take().up_bytes < 100_000
    assert _large_in(vault) == _large()
    assert into.verify().damages == ()
    restored = into.reader(reference).restore(tmp_path / "out")
    assert not restored.problems
    assert (tmp_path / "out/objects/films/one").read_bytes() == LARGE
    put(store, bucket, "films/copy", LARGE)
    again, _ = backed_up(store, bucket, into, tmp_path)
    assert again.ways is not None
    assert (again.ways.copied, _large_in(vault)) == (0, _large()), "what is there already is not copied again"


def _large() -> list[int]:
    return sorted((len(LARGE), len(OTHER)))


def _large_in(vault: Vault) -> list[int]:
    return sorted(file.size_bytes for file in objects(vault) if file.size_bytes > 4 << 20)


def test_a_point_has_the_same_root_whichever_way_it_came(store: Store, made: MakeVault, tmp_path: Path) -> None:
    bucket = store.bucket()
    put(store, bucket, "films/one", LARGE)
    copied, sent = exports(made(store, store.bucket())), exports(_Sending(made(store, store.bucket())))
    with source(store, bucket, tmp_path).capture() as capture, copied.writing() as one, sent.writing() as other:
        first, second = one.write(capture.tree), other.write(capture.tree)
    assert first.ways is not None
    assert second.ways is not None
    assert (first.ways.copied, second.ways.copied) == (1, 0)
    assert first.root == second.root


def test_a_vault_gets_a_point_from_another_by_their_provider(store: Store, made: MakeVault, tmp_path: Path) -> None:
    bucket, counter = store.bucket(), Counter()
    put(store, bucket, "films/one", LARGE)
    put(store, bucket, "small", b"small" * 10)
    near, far = made(store, store.bucket()), made(store, store.bucket(), "deep/v")
    origin, into = exports(CountedVault(near, counter)), exports(AppendOnlyVault(far))
    _, reference = backed_up(store, bucket, origin, tmp_path)
    counter.take()
    with into.writing() as writing:
        copied = writing.copy(origin, reference)
    assert copied.ways is not None
    assert copied.ways.copied >= 1
    assert copied.ways.reasons == ()
    assert counter.take().down_bytes < 200_000, "nothing of the large one came through here"
    assert into.verify().damages == ()
    assert not into.reader(copied.reference).restore(tmp_path / "out").problems
    assert (tmp_path / "out/objects/films/one").read_bytes() == LARGE


def test_what_is_damaged_at_the_origin_is_not_copied_on(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, made: MakeVault, tmp_path: Path
) -> None:
    for store in (versitygw, fake_gcs_server):
        bucket = store.bucket()
        put(store, bucket, "films/one", LARGE)
        near, far = made(store, store.bucket()), made(store, store.bucket())
        origin, into = exports(near), exports(far)
        _, reference = backed_up(store, bucket, origin, tmp_path / store.name)
        key = next(file.key for file in objects(near) if file.size_bytes == len(LARGE))
        flipped = bytearray(LARGE)
        flipped[7 << 20] ^= 1
        near.put(key, [flipped], overwrite=True)
        with into.writing() as writing, pytest.raises(Exception, match=r"damaged|is not what"):
            writing.copy(origin, reference)
        assert _large_in(far) == [], "the copy that differed is gone again"


def test_another_providers_vault_gets_it_through_here_and_says_so(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, made: MakeVault, tmp_path: Path
) -> None:
    bucket = versitygw.bucket()
    put(versitygw, bucket, "films/one", LARGE)
    vault = made(fake_gcs_server, fake_gcs_server.bucket())
    draft, _ = backed_up(versitygw, bucket, exports(vault), tmp_path)
    assert draft.ways is not None
    assert (draft.ways.copied, draft.ways.passed) == (0, 1)
    assert any("no provider copies" in reason for reason in draft.ways.reasons)
    assert vault.read(next(file.key for file in objects(vault) if file.size_bytes == len(LARGE))) == LARGE


def test_a_login_that_may_not_read_the_source_is_told_its_right_and_sends(
    versitygw: ObjectStore, versitygw_program: Path, made: MakeVault, tmp_path: Path
) -> None:
    bucket, own = versitygw.bucket(), versitygw.bucket()
    put(versitygw, bucket, "films/one", LARGE)
    put(versitygw, bucket, "films/two", OTHER)
    login = user(versitygw_program, versitygw)
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["' + login.access_key + '"]},'
        '"Action":["s3:*"],"Resource":["arn:aws:s3:::' + own + '","arn:aws:s3:::' + own + '/*"]}]}'
    )
    versitygw.client.put_bucket_policy(Bucket=own, Policy=policy)
    vault = made(login, own)
    draft, _ = backed_up(versitygw, bucket, exports(vault), tmp_path)
    assert draft.ways is not None
    assert (draft.ways.copied, draft.ways.passed) == (0, 2)
    (reason,) = draft.ways.reasons
    assert f"s3:GetObject on arn:aws:s3:::{bucket}/*" in reason
    assert _large_in(vault) == _large()


def test_a_copy_that_is_not_what_was_read_counts_for_nothing(
    versitygw: ObjectStore, made: MakeVault, tmp_path: Path
) -> None:
    bucket = versitygw.bucket()
    put(versitygw, bucket, "films/one", LARGE)
    vault = made(versitygw, versitygw.bucket())
    into = exports(_Lying(vault))
    with (
        source(versitygw, bucket, tmp_path).capture() as capture,
        into.writing() as writing,
        pytest.raises(VaultError, match="does not hold what its provider was to copy"),
    ):
        writing.write(capture.tree)
    assert _large_in(vault) == []


def test_an_object_that_is_gone_while_it_is_read_leaves_no_copy(
    versitygw: ObjectStore, made: MakeVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = versitygw.bucket()
    put(versitygw, bucket, "films/one", LARGE)
    put(versitygw, bucket, "small", b"small")
    vault = made(versitygw, versitygw.bucket())
    into = exports(vault)
    whole = reading.ObjectReader.readinto

    def torn(self: reading.ObjectReader, buffer: memoryview) -> int:
        if self._at >= 8 << 20:
            delete(versitygw, bucket, "films/one")
            self._let_go()
        return whole(self, buffer)

    monkeypatch.setattr(reading.ObjectReader, "readinto", torn)
    with source(versitygw, bucket, tmp_path).capture() as capture, into.writing() as writing:
        writing.write(capture.tree)
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]
    assert _large_in(vault) == []


def _sha256(content: bytes) -> str:
    from hashlib import sha256

    return sha256(content).hexdigest()


class _Sending:
    """A vault whose store copies nothing by itself."""

    def __init__(self, vault: BucketVault) -> None:
        self._vault = vault

    def copies(self, state: ObjectState) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)


class _Lying(_Sending):
    """A vault whose store tells a checksum that is of something else."""

    def copies(self, state: ObjectState) -> bool:
        return True

    def copy_within(self, key: str, state: ObjectState) -> dict[str, str]:
        told = self._vault.copy_within(key, state)
        return {
            name: re.sub("^.", lambda first: "0" if first[0] != "0" else "1", value) for name, value in told.items()
        }


# -- on rough ways -----------------------------------------------------------------------------------------------------

TROUBLES = {
    "s3 answer lost": ("versitygw", Fault("PUT", "/data/objects/", lost=True)),
    "s3 refused": ("versitygw", Fault("PUT", "/data/objects/", status=403, code="AccessDenied")),
    "s3 error under the status of success": (
        "versitygw",
        Fault("PUT", "/data/objects/", times=9, status=200, code="InternalError"),
    ),
    "s3 unknown": ("versitygw", Fault("PUT", "/data/objects/", status=501, code="NotImplemented")),
    "google answer lost": ("fake_gcs_server", Fault("POST", "/rewriteTo/", lost=True)),
    "google refused": ("fake_gcs_server", Fault("POST", "/rewriteTo/", status=403, code="forbidden")),
    "google busy": ("fake_gcs_server", Fault("POST", "/rewriteTo/", times=99, status=503, code="backendError")),
    "google answer cut": ("fake_gcs_server", Fault("POST", "/rewriteTo/", cut=3)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_goes_wrong_with_a_copy_it_is_there_once_and_whole(
    trouble: str, request: pytest.FixtureRequest, made: MakeVault, tmp_path: Path
) -> None:
    name, fault = TROUBLES[trouble]
    store: Store = request.getfixturevalue(name)
    bucket = store.bucket()
    put(store, bucket, "films/one", LARGE)
    with rough_way(store) as way:
        vault = made(way.store, store.bucket())
        into = exports(vault)
        way.plan(fault)
        draft, reference = backed_up(way.store, bucket, into, tmp_path)
        assert draft.ways is not None
        assert draft.ways.copied + draft.ways.passed == 1
        assert draft.ways.passed == len(draft.ways.reasons), "whatever was sent says why"
        if "refused" in trouble:
            assert "objects.get on bucket" in draft.ways.reasons[0] or "s3:GetObject on" in draft.ways.reasons[0]
        assert _large_in(vault) == [len(LARGE)]
        assert into.verify().damages == ()
        assert not into.reader(reference).restore(tmp_path / "out").problems
        assert (tmp_path / "out/objects/films/one").read_bytes() == LARGE
