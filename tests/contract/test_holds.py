"""Legal holds of stores: put on what is stored, told again, and kept by the store until they are taken off.

versitygw and moto keep what a hold is on from whoever wants to delete its version. fake-gcs-server notes a hold and
enforces none: what Google does by it is not exercised.
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from bucket_contract import Make, makes

from cto_backups import clock
from cto_backups.core.object_locks import Locking
from cto_backups.core.policy import LockMode
from cto_backups.core.vaults import StoreHolds, store_holds
from cto_backups.errors import VaultError, VaultLockedError, VaultMissingError
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import s3_vault
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way

PACK = "repositories/main/data/ab/ab12"
INDEX = "repositories/main/index/ab12"
KEY = "repositories/main/keys/ab12"
MONTH = timedelta(days=30)
HOLDING = Locking(LockMode.GOVERNANCE, MONTH, holds=True)


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


def holding(make: Make, store: ObjectStore) -> tuple[BucketVault, StoreHolds, str]:
    """A new vault that holds, what holds in it, and its bucket."""
    bucket = store.bucket(ObjectLockEnabledForBucket=True)
    vault = make(store, bucket, locking=HOLDING)
    vault.create()
    holds = store_holds(vault)
    assert holds is not None
    return vault, holds, bucket


def later(monkeypatch: pytest.MonkeyPatch, length: timedelta) -> None:
    moment = clock.now() + length
    monkeypatch.setattr(clock, "now", lambda: moment)


def version(store: ObjectStore, bucket: str, key: str) -> str:
    return str(store.client.head_object(Bucket=bucket, Key=f"v/{key}")["VersionId"])


def test_what_is_held_is_deleted_by_nobody_until_the_hold_is_taken_off(object_store: ObjectStore, s3: Make) -> None:
    """Not even by whoever may take locks under governance away."""
    vault, holds, bucket = holding(s3, object_store)
    vault.put(PACK, [b"pack"])
    assert not holds.is_on(PACK)
    assert holds.put_on(PACK)
    assert holds.is_on(PACK)
    client = object_store.client
    asked = {"Bucket": bucket, "Key": f"v/{PACK}", "VersionId": version(object_store, bucket, PACK)}
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(**asked, BypassGovernanceRetention=True)
    assert vault.read(PACK) == b"pack"
    assert holds.take_off(PACK)
    assert not holds.is_on(PACK)
    client.delete_object(**asked, BypassGovernanceRetention=True)


def test_our_own_deletions_leave_what_is_held(versitygw: ObjectStore, s3: Make) -> None:
    vault, holds, bucket = holding(s3, versitygw)
    s3(versitygw, bucket).put(PACK, [b"pack"])
    assert vault.lock_of(PACK) is None
    holds.put_on(PACK)
    with pytest.raises(VaultLockedError, match="a legal hold is on it") as caught:
        vault.delete(PACK)
    assert caught.value.until is not None
    assert caught.value.until - clock.now() <= HOLDING.renewed_every
    assert vault.read(PACK) == b"pack"
    holds.take_off(PACK)
    vault.delete(PACK)
    for ask in (holds.is_on, holds.put_on, holds.take_off):
        for key in (PACK, "repositories/main/data/cd/cd34"):
            with pytest.raises(VaultMissingError):
                ask(key)


def test_a_key_that_is_taken_back_and_an_index_that_was_made_anew_lose_their_holds(
    object_store: ObjectStore, s3: Make
) -> None:
    vault, holds, bucket = holding(s3, object_store)
    for key in (KEY, INDEX):
        vault.put(key, [b"x"])
        holds.put_on(key)
    versions = {key: version(object_store, bucket, key) for key in (KEY, INDEX)}
    for key in (KEY, INDEX):
        vault.delete(key)
        with pytest.raises(VaultMissingError):
            vault.size(key)
    former = {each.key: each for each in holds.former()}
    assert {key: each.version for key, each in former.items()} == versions
    assert not any(map(holds.is_on_former, former.values()))


def test_what_an_intruder_replaced_is_held_below_and_can_be_let_go_of(object_store: ObjectStore, s3: Make) -> None:
    vault, holds, bucket = holding(s3, object_store)
    vault.put(PACK, [b"pack"])
    holds.put_on(PACK)
    object_store.client.put_object(Bucket=bucket, Key=f"v/{PACK}", Body=b"pay here")
    assert not holds.is_on(PACK), "what is read now is not what was held"
    (former,) = holds.former()
    assert holds.is_on_former(former)
    holds.take_off_former(former)
    assert not holds.is_on_former(former)


def test_what_was_deleted_while_it_was_held_comes_back_when_its_lock_has_long_ended(
    object_store: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, holds, bucket = holding(s3, object_store)
    lapsed = "repositories/main/data/cd/cd34"
    for key in (PACK, lapsed):
        vault.put(key, [key.encode()])
    holds.put_on(PACK)
    for key in (PACK, lapsed):
        object_store.client.delete_object(Bucket=bucket, Key=f"v/{key}")
    later(monkeypatch, MONTH + timedelta(days=1))
    (hidden,) = vault.hidden()
    assert (hidden.key, hidden.until) == (PACK, None)
    vault.bring_back(hidden)
    assert vault.read(PACK) == PACK.encode()
    without = s3(object_store, bucket, locking=Locking(LockMode.GOVERNANCE, MONTH))
    assert store_holds(without) is None


def test_a_bucket_without_object_lock_is_told(versitygw: ObjectStore, s3: Make) -> None:
    bucket = versitygw.bucket()
    s3(versitygw, bucket).create()
    holds = s3(versitygw, bucket, locking=HOLDING).legal_holds
    with pytest.raises(VaultError, match="has no Object Lock"):
        holds.put_on("vault.json")


# -- at Google


@pytest.fixture
def way(fake_gcs_server: GoogleStore) -> Iterator[RoughWay]:
    with rough_way(fake_gcs_server) as way:
        yield way


def test_google_is_asked_for_a_temporary_hold_and_for_nothing_else(way: RoughWay, gcs: Make) -> None:
    asked: list[Any] = []

    def seen(_headers: dict[str, str], body: bytes) -> bytes:
        asked.append(json.loads(body))
        return body

    vault = gcs(way.store, way.store.bucket(), locking=HOLDING)
    vault.create()
    vault.put(PACK, [b"pack"])
    holds = vault.legal_holds
    way.plan(Fault("PATCH", times=9, asked=seen))
    told = holds.put_on(PACK)
    holds.take_off(PACK)
    assert asked == [{"temporaryHold": True}, {"temporaryHold": False}]
    assert isinstance(told, bool)
    assert list(holds.former()) == []
    with pytest.raises(VaultMissingError):
        holds.put_on("repositories/main/data/cd/cd34")


def test_a_role_at_google_without_the_right_is_told(way: RoughWay, gcs: Make) -> None:
    vault = gcs(way.store, way.store.bucket(), locking=HOLDING)
    vault.create()
    way.plan(Fault("PATCH", status=403, code="forbidden"))
    with pytest.raises(VaultError, match=r"has not storage\.objects\.update on object v/vault\.json"):
        vault.legal_holds.put_on("vault.json")
