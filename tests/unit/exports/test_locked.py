"""Exports in a vault whose store locks what is stored: dropped, and deleted, once their locks have ended."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fakes.memory import MemoryTree
from payload_store_contract import store_tree

from cto_backups import clock
from cto_backups.core.object_locks import Locking, is_lockable
from cto_backups.core.payloads import Lapsing
from cto_backups.core.policy import LockMode
from cto_backups.errors import VaultLockedError
from cto_backups.exports.joined import JoinedStore, joined
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.s3 import s3_vault
from servers.object_stores import ObjectStore

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2))
LOCKING = Locking(LockMode.GOVERNANCE, timedelta(days=30))
LARGE = random.Random(3).randbytes((5 << 20) + 1)


@pytest.fixture
def vault(versitygw: ObjectStore) -> Iterator[BucketVault]:
    vault = s3_vault(
        "strict", versitygw.address(versitygw.bucket(ObjectLockEnabledForBucket=True), "v", locking=LOCKING)
    )
    vault.create()
    yield vault
    vault.close()


@pytest.fixture
def store(vault: BucketVault) -> JoinedStore:
    repository = RepositoryStore.create(
        vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    return joined(repository, plain=True)


def test_what_is_locked_stays_and_is_told_and_what_lapses_is_all_that_goes(
    vault: BucketVault, store: JoinedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kept = store_tree(store.exports, MemoryTree({b"large": LARGE, b"small": b"small"}))
    _, dropped = store_tree(store.exports, MemoryTree({b"other": LARGE[::-1], b"small": b"small"}), number=1)
    _, sealed = store_tree(store.repository, MemoryTree({b"sealed": b"sealed"}), number=2)
    lockable = {file.key for file in vault.list("exports") if is_lockable(file.key)}
    for key in lockable:
        lock = vault.lock_of(key)
        assert lock is not None and lock.until > datetime.now(UTC) + timedelta(days=29), key
    with pytest.raises(VaultLockedError, match="keeps 2 of the snapshots") as caught:
        store.expire([dropped, sealed])
    assert set(caught.value.left) == {dropped, sealed}
    assert {one.reference for one in store.committed()} == {kept, dropped, sealed}

    assert isinstance(store, Lapsing)
    manifests = {key for key in lockable if "/manifests/" in key}
    lapsing = set(store.lapsing([dropped, sealed]))
    assert f"exports/main/snapshots/{dropped}" in lapsing and f"repositories/main/snapshots/{sealed}" in lapsing
    assert len(lapsing) == 3 and len(manifests & lapsing) == 1

    for key in lapsing:  # the store's own clock cannot be turned: whoever may ends their locks early
        vault._store._client.put_object_retention(  # type: ignore[attr-defined]
            Bucket=vault.address.bucket,
            Key=vault.address.key(key),
            BypassGovernanceRetention=True,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=1)},
        )
    time.sleep(1.5)
    store.expire([dropped, sealed])
    assert {one.reference for one in store.committed()} == {kept}
    assert not manifests & lapsing & {file.key for file in vault.list("exports")}

    start = datetime.now(UTC)
    store.prune()
    lapsing = set(store.lapsing([]))
    objects = {key for key in lapsing if "/objects/" in key}
    assert len(objects) == 1 and len({key for key in lapsing if "/parts/" in key}) == 1
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(days=2))
    pruned = store.prune()
    assert any(each.pack.size_bytes > len(LARGE) for each in pruned.plan.locked), "it is still there, and told to be"
    assert objects < {file.key for file in vault.list("exports")}
    assert store.verify().damages == ()
