"""Locks of stored files in buckets: set with what is stored, read back, renewed, never taken for less; what is hidden.

versitygw is the judge of rules. moto keeps what is set and refuses deletions, but answers no question for a lock that
is not there. fake-gcs-server keeps retentions and tells them, and deletes what is retained all the same; one that is
`Locked` it lets nobody make longer either, which Google does.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bucket_contract import Make, makes
from vault_contract import keys

from cto_backups import clock
from cto_backups.core.object_locks import FileLock, Locking
from cto_backups.core.policy import LockMode
from cto_backups.core.vault_settings import Change, Setting
from cto_backups.errors import (
    RefusedError,
    VaultError,
    VaultLockedError,
    VaultMissingError,
    VaultReadOnlyError,
)
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import s3_vault
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way

PACK = "repositories/main/data/ab/ab12"
MONTH = timedelta(days=30)
STRICT = Locking(LockMode.COMPLIANCE, MONTH)


@pytest.fixture(autouse=True)
def _no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def s3() -> Iterator[Make]:
    yield from makes(s3_vault)


@pytest.fixture
def gcs() -> Iterator[Make]:
    yield from makes(gcs_vault)


def locked(make: Make, store: ObjectStore, locking: Locking = STRICT) -> tuple[BucketVault, str]:
    """A new vault that locks, and its bucket."""
    bucket = store.bucket(ObjectLockEnabledForBucket=True)
    vault = make(store, bucket, locking=locking)
    vault.create()
    return vault, bucket


def in_days(lock: FileLock | None) -> float:
    """How many days a lock has left."""
    assert lock is not None
    return (lock.until - clock.now()) / timedelta(days=1)


def later(monkeypatch: pytest.MonkeyPatch, length: timedelta) -> None:
    moment = clock.now() + length
    monkeypatch.setattr(clock, "now", lambda: moment)


@pytest.mark.parametrize("mode", [LockMode.GOVERNANCE, LockMode.COMPLIANCE])
def test_a_file_is_locked_when_it_is_stored_and_nobody_deletes_it(
    object_store: ObjectStore, s3: Make, mode: LockMode
) -> None:
    vault, bucket = locked(s3, object_store, Locking(mode, MONTH))
    for key in (PACK, "vault.json"):
        if key == PACK:
            vault.put(key, [b"pack"])
        lock = vault.lock_of(key)
        assert lock is not None
        assert lock.mode is mode
        assert 29.9 < in_days(lock) <= 30
    vault.put("streams/main/shop/1/0-1", [b"piece"])
    assert 0.9 < in_days(vault.lock_of("streams/main/shop/1/0-1")) <= 1
    with pytest.raises(VaultLockedError, match="it is locked until") as caught:
        vault.delete(PACK)
    assert caught.value.until == vault.lock_of(PACK).until  # type: ignore[union-attr]
    assert vault.read(PACK) == b"pack"
    version = object_store.client.head_object(Bucket=bucket, Key=f"v/{PACK}")["VersionId"]
    with pytest.raises(object_store.client.exceptions.ClientError, match="AccessDenied"):
        object_store.client.delete_object(Bucket=bucket, Key=f"v/{PACK}", VersionId=version)
    for key in ("repositories/main/locks/ab", "repositories/main/index/ab"):
        vault.put(key, [b"x"])
        vault.delete(key)
    assert keys(vault) == {PACK, "streams/main/shop/1/0-1"}


def test_a_lock_is_renewed_for_a_whole_window_and_never_shortened(
    versitygw: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, bucket = locked(s3, versitygw)
    vault.put(PACK, [b"pack"])
    shorter = s3(versitygw, bucket, locking=Locking(LockMode.COMPLIANCE, timedelta(days=2)))
    with pytest.raises(VaultError, match="protected by object lock"):
        shorter.lock(PACK)
    later(monkeypatch, timedelta(days=20))
    assert 9.9 < in_days(vault.lock_of(PACK)) <= 10
    assert 29.9 < in_days(vault.lock(PACK)) <= 30
    later(monkeypatch, timedelta(days=31))
    vault.delete(PACK)
    assert keys(vault) == set()


def test_a_vault_that_is_to_lock_less_strongly_makes_a_stronger_lock_longer_as_it_is(
    object_store: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can make it a weaker one, and what is still needed is not to be left without."""
    vault, bucket = locked(s3, object_store)
    vault.put(PACK, [b"pack"])
    weaker = s3(object_store, bucket, locking=Locking(LockMode.GOVERNANCE, MONTH))
    later(monkeypatch, timedelta(days=20))
    lock = weaker.lock(PACK)
    assert 29.9 < in_days(lock) <= 30
    assert lock is not None
    assert lock.mode is LockMode.COMPLIANCE


def test_a_vault_that_is_to_lock_more_strongly_makes_a_weaker_lock_longer_at_least(
    object_store: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to take locks away, stores that are strict change the mode of none that stands."""
    vault, bucket = locked(s3, object_store, Locking(LockMode.GOVERNANCE, MONTH))
    vault.put(PACK, [b"pack"])
    later(monkeypatch, timedelta(days=20))
    lock = s3(object_store, bucket, locking=STRICT).lock(PACK)
    assert 29.9 < in_days(lock) <= 30
    assert lock is not None
    assert lock.mode is (LockMode.GOVERNANCE if object_store.name == "versitygw" else LockMode.COMPLIANCE)


def test_what_was_stored_before_the_vault_was_to_lock_is_locked_by_a_renewal(versitygw: ObjectStore, s3: Make) -> None:
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    before = s3(versitygw, bucket)
    before.create()
    before.put(PACK, [b"pack"])
    vault = s3(versitygw, bucket, locking=STRICT)
    assert vault.lock_of(PACK) is None
    assert 29.9 < in_days(vault.lock(PACK)) <= 30
    with pytest.raises(VaultMissingError):
        vault.lock_of("repositories/main/data/cd/cd34")
    with pytest.raises(VaultMissingError):
        vault.lock("repositories/main/data/cd/cd34")


def test_a_bucket_without_object_lock_is_told_with_the_command_that_turns_it_on(
    versitygw: ObjectStore, s3: Make
) -> None:
    bucket = versitygw.bucket()
    s3(versitygw, bucket).create()
    vault = s3(versitygw, bucket, locking=STRICT)
    for action in (
        lambda: vault.put(PACK, [b"x"]),
        lambda: vault.lock_of("vault.json"),
        lambda: vault.lock("vault.json"),
    ):
        with pytest.raises(VaultError, match="has no Object Lock") as caught:
            action()
        assert f"put-object-lock-configuration --bucket {bucket}" in caught.value.todo


def test_what_is_deleted_or_replaced_while_it_is_locked_comes_back(object_store: ObjectStore, s3: Make) -> None:
    vault, bucket = locked(s3, object_store)
    files = {f"repositories/main/data/ab/ab{number}": os.urandom(50) for number in range(4)}
    for key, content in files.items():
        vault.put(key, [content])
    deleted, replaced, both, _ = files
    client = object_store.client
    client.delete_object(Bucket=bucket, Key=f"v/{deleted}")
    client.delete_object(Bucket=bucket, Key="v/vault.json")
    client.put_object(Bucket=bucket, Key=f"v/{replaced}", Body=b"x" * 50)
    client.put_object(Bucket=bucket, Key=f"v/{both}", Body=b"x")
    client.delete_object(Bucket=bucket, Key=f"v/{both}")
    hidden = {each.key: each for each in AppendOnlyVault(vault).hidden()}
    assert {key: each.replaced for key, each in hidden.items()} == {
        "vault.json": False, deleted: False, replaced: True, both: True
    }  # fmt: skip
    for each in hidden.values():
        AppendOnlyVault(vault).bring_back(each)
    assert {key: vault.read(key) for key in files} == files
    assert list(vault.hidden()) == []
    vault.check()


def test_what_lapsed_is_not_brought_back_nor_a_key_that_was_taken_back(
    versitygw: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, bucket = locked(s3, versitygw)
    one, two = "repositories/main/keys/one", "repositories/main/keys/two"
    for key in (one, two, PACK):
        vault.put(key, [key.encode()])
    vault.delete(one)
    assert list(vault.hidden()) == [], "another key is there"
    versitygw.client.delete_object(Bucket=bucket, Key=f"v/{two}")
    assert {each.key for each in vault.hidden()} == {one, two}, "nothing would open it"
    later(monkeypatch, MONTH + timedelta(minutes=1))
    vault.delete(PACK)
    assert list(vault.hidden()) == []


# -- at Google


@pytest.fixture
def way(fake_gcs_server: GoogleStore) -> Iterator[RoughWay]:
    with rough_way(fake_gcs_server) as way:
        yield way


def test_google_is_told_of_the_retention_with_what_is_stored_and_tells_it_again(
    fake_gcs_server: GoogleStore, gcs: Make
) -> None:
    for mode in (LockMode.GOVERNANCE, LockMode.COMPLIANCE):
        bucket = fake_gcs_server.bucket()
        vault = gcs(fake_gcs_server, bucket, locking=Locking(mode, MONTH))
        vault.create()
        vault.put(PACK, [b"pack"])
        lock = vault.lock_of(PACK)
        assert lock is not None
        assert lock.mode is mode
        assert 29.9 < in_days(lock) <= 30
        with pytest.raises(VaultLockedError):
            vault.delete(PACK)
        assert vault.read(PACK) == b"pack"
        for key in ("repositories/main/index/ab", "repositories/main/locks/ab"):
            vault.put(key, [b"x"])
            assert vault.lock_of(key) is None
            vault.delete(key)
        with pytest.raises(RefusedError, match="hides nothing that is locked"):
            list(vault.hidden())


def test_google_is_asked_for_a_longer_retention_and_never_for_leave_to_shorten(way: RoughWay, gcs: Make) -> None:
    asked: list[Any] = []

    def seen(_headers: dict[str, str], body: bytes) -> bytes:
        asked.append(json.loads(body))
        return body

    for mode, name in ((LockMode.GOVERNANCE, "Unlocked"), (LockMode.COMPLIANCE, "Locked")):
        way.plan()
        bucket = way.store.bucket()
        before = gcs(way.store, bucket)
        before.create()
        before.put(PACK, [b"pack"])
        assert before.lock_of(PACK) is None
        asked.clear()
        way.plan(Fault("PATCH", times=9, asked=seen))
        vault = gcs(way.store, bucket, locking=Locking(mode, MONTH))
        assert 29.9 < in_days(vault.lock(PACK)) <= 30
        (patch,) = asked
        assert patch.keys() == {"retention"}
        assert patch["retention"]["mode"] == name
        until = datetime.strptime(patch["retention"]["retainUntilTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert timedelta(days=29.9) < until - clock.now() <= MONTH
        assert not [path for _, path in way.seen if "override" in path.lower()]


def test_a_bucket_of_google_without_retention_and_a_role_without_the_right_are_told(way: RoughWay, gcs: Make) -> None:
    vault = gcs(way.store, way.store.bucket(), locking=STRICT)
    message = "Object retention is not enabled for the bucket."
    way.plan(Fault("POST", status=400, code="invalid", message=message))
    with pytest.raises(VaultError, match="Object retention is not enabled") as caught:
        vault.put(PACK, [b"x"])
    assert "--enable-per-object-retention" in caught.value.todo
    way.plan(Fault("POST", status=403, code="forbidden"))
    with pytest.raises(VaultReadOnlyError, match=r"storage\.objects\.create and storage\.objects\.setRetention"):
        vault.put(PACK, [b"x"])
    way.plan(Fault("PATCH", status=403, code="forbidden"))
    with pytest.raises(VaultError, match=r"storage\.objects\.setRetention and storage\.objects\.update"):
        vault.lock(PACK)
    with pytest.raises(VaultMissingError, match="--enable-per-object-retention"):
        try:
            gcs(way.store, "no-such-bucket", locking=STRICT).create()
        except VaultMissingError as error:
            raise VaultMissingError(error.todo) from error


@pytest.mark.parametrize("store", ["moto", "versitygw"])
def test_the_retention_of_a_whole_bucket_is_seen_set_and_taken_away(
    request: pytest.FixtureRequest, s3: Make, store: str
) -> None:
    server: ObjectStore = request.getfixturevalue(store)
    bucket = server.bucket(ObjectLockEnabledForBucket=True)
    vault = s3(server, bucket, locking=Locking(LockMode.GOVERNANCE, MONTH))
    assert (vault.settings().retention_days, vault.settings().locks) == (0, True)
    for days in (9, 30):
        assert vault.change(Change(Setting.RETENTION, f"governance {days}")) == ""
        assert (vault.settings().retention_days, vault.settings().retention_mode) == (days, "governance")
    assert vault.change(Change(Setting.RETENTION, "")) == ""
    assert (vault.settings().retention_days, vault.settings().locks) == (0, True)
