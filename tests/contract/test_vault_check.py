"""A check of a vault tells of each store what it really enforces: what that is, is known of each, and differs.

versitygw heeds every rule. moto takes content under a wrong checksum, and lets a lock be shortened. fake-gcs-server
keeps retentions and deletes what is retained. gcp-storage-emulator takes no notice of conditions, nor of retentions.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bucket_contract import Make, makes
from vault_contract import keys

from cto_backups import clock
from cto_backups.core.object_locks import Locking, is_lockable
from cto_backups.core.policy import LockMode
from cto_backups.core.vault_check import RULES, Answer
from cto_backups.errors import VaultError, VaultMissingError
from cto_backups.vaults import conformance
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.conformance import Checked, check
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.local import LocalVault
from cto_backups.vaults.marker import new_marker
from cto_backups.vaults.pacing import Pace
from cto_backups.vaults.s3 import s3_vault
from cto_backups.vaults.throttled import ThrottledVault
from cto_backups.vaults.trying import Relied
from servers import object_stores
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore

KEPT = {"repositories/main/data/ab/ab12": b"pack", "records/main/1": b"record"}
STRICT = Relied(lock=LockMode.COMPLIANCE)
LOCKS = ("lock-at-write", "lock-extend", "lock-shorten", "lock-delete")
HOLDS = ("hold-set", "hold-delete")


@pytest.fixture(autouse=True)
def _no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is tried once at each store."""
    monkeypatch.setattr(conformance, "_LARGE_BYTES", (1 << 20) + 1)


@pytest.fixture
def s3() -> Iterator[Make]:
    yield from makes(s3_vault)


@pytest.fixture
def gcs() -> Iterator[Make]:
    yield from makes(gcs_vault)


def filled(vault: BucketVault | LocalVault) -> None:
    for key, content in KEPT.items():
        vault.put(key, [content])


def answers(checked: Checked) -> dict[str, str]:
    assert [each.rule for each in checked.told] == [rule for rule in RULES if rule not in ("copy", "key")]
    return {each.rule: str(each.answer) for each in checked.told}


def failed(checked: Checked) -> set[str]:
    return {each.rule for each in checked.told if not each.passed}


def other_than_enforced(checked: Checked) -> dict[str, str]:
    return {rule: answer for rule, answer in answers(checked).items() if answer != "enforced"}


def test_a_gateway_that_heeds_every_rule_passes_with_locks_and_what_it_keeps_is_cleared_later(
    versitygw: ObjectStore, s3: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    vault = s3(versitygw, bucket, locking=Locking(LockMode.COMPLIANCE, timedelta(days=30)))
    vault.create()
    plain = s3(versitygw, bucket)
    filled(plain)
    checked = check(vault, STRICT)
    assert failed(checked) == set(), checked.told
    assert other_than_enforced(checked) == {
        "tls": "not enforced",
        "encryption": "not offered",
        "role-delete": "not enforced",
        "role-hide": "not enforced",
        "role-replace": "not enforced",
    }
    assert checked.locked_until is not None
    assert timedelta(minutes=2) < checked.locked_until - clock.now() <= timedelta(minutes=3)
    (left,) = checked.left
    assert left == f"{checked.scratch}locked"
    assert not is_lockable(left), "a renewal would keep it for a month"
    assert keys(vault) == {*KEPT, left}

    monkeypatch.setattr(conformance, "_LARGE_BYTES", (1 << 20) + 1)
    again = check(vault, STRICT)
    assert left in keys(vault), "it may be another check's, at work"
    assert len(again.left) == 1
    really = clock.now()
    monkeypatch.setattr(clock, "now", lambda: really + timedelta(minutes=16))
    third = conformance._clear(vault, "check/none/")
    assert set(third) == {left, *again.left}, "the store's own clock keeps them still"
    for key, content in KEPT.items():
        assert vault.read(key) == content


def test_moto_lets_a_lock_be_shortened_and_takes_a_wrong_checksum(moto: ObjectStore, s3: Make) -> None:
    vault = s3(moto, moto.bucket(ObjectLockEnabledForBucket=True))
    vault.create()
    checked = check(vault, STRICT)
    assert failed(checked) == {"lock-shorten"}
    assert answers(checked)["checksum"] == "not enforced"
    assert answers(checked)["parts"] == "enforced"
    assert answers(checked)["lock-delete"] == "enforced"


@pytest.mark.usefixtures("small")
def test_legal_holds_are_tried_and_taken_off_again(object_store: ObjectStore, s3: Make) -> None:
    vault = s3(object_store, object_store.bucket(ObjectLockEnabledForBucket=True))
    vault.create()
    relied = Relied(lock=LockMode.GOVERNANCE, holds=True)
    checked = check(vault, relied)
    told = {each.rule: each for each in checked.told}
    assert {(told[rule].answer, told[rule].wanted) for rule in HOLDS} == {(Answer.ENFORCED, True)}
    assert told["hold-delete"].detail == "until it is taken off"
    assert set(checked.left) == {f"{checked.scratch}locked"}, "nothing is left held"
    without = s3(object_store, object_store.bucket())
    without.create()
    assert failed(check(without, relied)) >= set(HOLDS)
    assert not failed(check(without, Relied())), "nothing relies on them"


@pytest.mark.usefixtures("small")
def test_a_store_that_notes_holds_or_ignores_them_is_told(
    fake_gcs_server: GoogleStore, gcp_storage_emulator: GoogleStore, gcs: Make
) -> None:
    """What Google's own store does is not exercised."""
    for store in (fake_gcs_server, gcp_storage_emulator):
        bucket = store.bucket()
        store.put(bucket, "v/vault.json", new_marker())
        checked = check(gcs(store, bucket), Relied(lock=LockMode.GOVERNANCE, holds=True))
        assert failed(checked) & set(HOLDS), store
        assert not [key for key in checked.left if "held" in key]


@pytest.mark.usefixtures("small")
def test_a_login_without_the_right_to_hold_is_told(versitygw_program: Path, versitygw: ObjectStore, s3: Make) -> None:
    from acceptance.test_locked_buckets import documented

    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    s3(versitygw, bucket, "office").create()
    user, keeper = (object_stores.user(versitygw_program, versitygw) for _ in range(2))
    policy = {"Version": "2012-10-17", "Statement": documented(bucket, user, keeper)}
    versitygw.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    relied = Relied(lock=LockMode.GOVERNANCE, holds=True)
    told = {each.rule: each for each in check(s3(keeper, bucket, "office"), relied).told}
    assert {told[rule].answer for rule in HOLDS} == {Answer.ENFORCED}, "the owner's role has it"
    told = {each.rule: each for each in check(AppendOnlyVault(s3(user, bucket, "office")), relied).told}
    assert (told["hold-set"].answer, told["hold-set"].detail) == (
        Answer.NOT_ASKED,
        "this login may not s3:PutObjectLegalHold",
    )


@pytest.mark.usefixtures("small")
def test_a_bucket_without_versions_and_locks_offers_none(object_store: ObjectStore, s3: Make) -> None:
    vault = s3(object_store, object_store.bucket())
    vault.create()
    filled(vault)
    checked = check(vault, Relied())
    assert failed(checked) == set(), "nothing relies on them"
    assert {answers(checked)[rule] for rule in (*LOCKS, "versions", "role-shorten")} == {"not offered"}
    assert (checked.left, checked.locked_until) == ({}, None)
    assert keys(vault) == set(KEPT)
    relied = check(vault, STRICT)
    assert failed(relied) == {*LOCKS, "versions"}


@pytest.mark.parametrize("mode", [LockMode.GOVERNANCE, LockMode.COMPLIANCE])
def test_a_store_that_keeps_retentions_and_enforces_none_is_told(
    fake_gcs_server: GoogleStore, gcs: Make, mode: LockMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is LockMode.GOVERNANCE:
        monkeypatch.setattr(conformance, "_LARGE_BYTES", (1 << 20) + 1)
    vault = gcs(fake_gcs_server, fake_gcs_server.bucket())
    vault.create()
    filled(vault)
    checked = check(vault, Relied(lock=mode))
    only = {"lock-shorten"} if mode is LockMode.GOVERNANCE else {"lock-extend"}
    assert failed(checked) == {"lock-delete", *only}
    assert answers(checked)["checksum"] == "enforced"
    assert answers(checked)["role-hide"] == "not offered"
    assert checked.left == {}
    assert keys(vault) == set(KEPT)


@pytest.mark.usefixtures("small")
def test_a_store_that_takes_no_notice_of_conditions_is_told(gcp_storage_emulator: GoogleStore, gcs: Make) -> None:
    """It cannot be made a vault by us: somebody else put the marker there."""
    bucket = gcp_storage_emulator.bucket()
    gcp_storage_emulator.put(bucket, "v/vault.json", new_marker())
    checked = check(gcs(gcp_storage_emulator, bucket), STRICT)
    assert failed(checked) == {"create-once", "overwrite", *LOCKS}
    told = {each.rule: each for each in checked.told}
    assert told["create-once"].detail == "4 of 4 writers were told that theirs is stored"
    assert told["lock-at-write"].answer is Answer.NOT_ENFORCED, "it said yes, and kept nothing"
    assert told["lock-delete"].answer is Answer.NOT_OFFERED


def test_the_login_of_a_host_that_only_adds_is_tried_by_all_four_attacks(
    versitygw_program: Path, versitygw: ObjectStore, s3: Make
) -> None:
    from acceptance.test_locked_buckets import documented

    bucket = versitygw.bucket(ObjectLockEnabledForBucket=True)
    s3(versitygw, bucket, "office").create()
    user, keeper = (object_stores.user(versitygw_program, versitygw) for _ in range(2))
    policy = {"Version": "2012-10-17", "Statement": documented(bucket, user, keeper)}
    versitygw.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    host = Relied(append_only=True, lock=LockMode.GOVERNANCE)
    checked = check(AppendOnlyVault(s3(user, bucket, "office")), host)
    assert failed(checked) == set(), checked.told
    told = {each.rule: each for each in checked.told}
    for rule in ("role-delete", "role-hide"):
        assert (told[rule].answer, told[rule].detail) == (Answer.ENFORCED, "this login may not s3:DeleteObject")
    assert told["role-shorten"].answer is Answer.ENFORCED
    assert told["role-replace"].detail == "it stores above it; the former version stays below"
    assert told["parts"].answer is Answer.NOT_ASKED, "33 MB would stay"
    assert told["lock-delete"].answer is Answer.NOT_ASKED
    assert {key.rpartition("/")[0] + "/" for key in checked.left} >= {checked.scratch}

    wide = Relied(append_only=True)
    owner = check(s3(versitygw, bucket, "office"), wide)
    assert failed(owner) == {"role-delete", "role-hide"}, "such a login is no host's that only adds"
    assert "what is not locked" in {each.rule: each.detail for each in owner.told}["role-delete"]


@pytest.fixture
def local(tmp_path: Path) -> LocalVault:
    vault = LocalVault("cellar", tmp_path / "vault")
    vault.create()
    filled(vault)
    return vault


@pytest.mark.usefixtures("small")
def test_a_folder_is_tried_as_well_and_left_as_it_was(local: LocalVault) -> None:
    checked = check(local, Relied())
    assert failed(checked) == set()
    assert answers(checked)["clock"] == "enforced"
    assert answers(checked)["lock-delete"] == "not offered"
    assert failed(check(local, Relied(append_only=True))) == {"role-delete", "role-replace"}
    assert sorted(path.name for path in local.root.iterdir()) == ["records", "repositories", "vault.json"]
    assert keys(local) == set(KEPT)


@pytest.mark.usefixtures("small")
def test_what_goes_wrong_leaves_nothing_and_a_killed_check_is_cleared_by_the_next(
    local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    ago = clock.now().astimezone(UTC) - timedelta(hours=1)
    killed = f"check/{ago:%Y%m%dT%H%M%SZ}-abcdef/large"
    local.put(killed, [b"x"])
    local.put("check/of-somebody-else", [b"x"])

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conformance._General, "_ranges", stopped)
    with pytest.raises(KeyboardInterrupt):
        check(local, Relied())
    assert keys(local) == {*KEPT, "check/of-somebody-else"}


@pytest.mark.usefixtures("small")
def test_a_clock_that_is_wrong_is_told(local: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    really = clock.now
    monkeypatch.setattr(clock, "now", lambda: really() + timedelta(minutes=6))
    (clocks,) = (each for each in check(local, Relied()).told if each.rule == "clock")
    assert (clocks.answer, clocks.passed) == (Answer.NOT_ENFORCED, False)
    assert clocks.detail in ("360 s apart", "361 s apart", "359 s apart")


class _Deaf(LocalVault):
    """A vault that says yes, and does something else."""

    def put(self, key: str, parts: Any, *, overwrite: bool = False) -> None:
        super().put(key, parts, overwrite=True)

    def delete(self, key: str) -> None:
        if "deleted" not in key:
            super().delete(key)

    def list(self, prefix: str) -> Any:
        return (each for each in super().list(prefix) if not each.key.endswith("/7/file"))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if key.endswith("ranges"):
            return super().read(key)[offset : offset + length + 1] if length else super().read(key)
        return super().read(key, offset, length) if not key.endswith("small") else b"other"


@pytest.mark.usefixtures("small")
def test_the_check_catches_a_vault_that_says_yes_and_does_something_else(tmp_path: Path) -> None:
    deaf = _Deaf("deaf", tmp_path / "vault")
    deaf.create()
    assert failed(check(deaf, Relied())) == {"write", "delete", "listing", "create-once", "overwrite", "ranges"}


def test_a_vault_that_is_not_there_is_no_answer(tmp_path: Path, versitygw: ObjectStore, s3: Make) -> None:
    for vault in (LocalVault("gone", tmp_path / "none"), s3(versitygw, "no-such-bucket")):
        with pytest.raises(VaultMissingError):
            check(vault, Relied())
    with pytest.raises(VaultError):
        check(s3(versitygw, versitygw.bucket(), endpoint="http://127.0.0.1:1"), Relied())


def test_a_policys_key_is_looked_for(fake_gcs_server: GoogleStore, gcs: Make, small: None) -> None:
    vault = gcs(fake_gcs_server, fake_gcs_server.bucket())
    vault.create()
    checked = check(vault, Relied(kms_key="projects/acme/locations/us/keyRings/r/cryptoKeys/k"))
    assert failed(checked) == {"encryption"}
    assert datetime.now(UTC) - timedelta(minutes=5) < clock.now()


@pytest.mark.usefixtures("small")
def test_a_folder_under_bandwidth_limits_that_only_adds_is_tried_itself(local: LocalVault) -> None:
    limited = ThrottledVault(AppendOnlyVault(local), Pace(lambda: 1 << 40), Pace(lambda: 1 << 40))
    assert failed(check(limited, Relied(append_only=True))) == {"role-delete", "role-replace"}
    assert keys(local) == set(KEPT)
