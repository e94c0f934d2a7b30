"""What a change of a bucket asks of its provider makes the setting so; at Google, whose buckets no server here patches.

A bucket there is a resource that a PATCH is merged into, as RFC 7396 has it.
"""

from typing import Any

import pytest

from cto_backups.buckets.gcs import NotToldError, changed, settings
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.policy import LockMode, VaultPolicy, VaultSettings
from cto_backups.core.vault_settings import Change, Setting, changes, desired, seen

KEY = "projects/acme/locations/us/keyRings/r/cryptoKeys/k"
ASKED = VaultSettings(access_logs="acme-logs", soft_delete_days=30)
VAULT = VaultPolicy("cloud", "gs://acme/office", "gcs", "us-central1", "object-storage", kms_key=KEY, settings=ASKED)
OTHERS = [
    {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 3, "matchesPrefix": ["elsewhere/"]}},
    {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 30}},
]


def merged(resource: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    both = dict(resource)
    for name, value in patch.items():
        if value is None:
            both.pop(name, None)
        else:
            both[name] = merged(both.get(name, {}), value) if isinstance(value, dict) else value
    return both


def test_every_change_makes_its_setting_so_and_leaves_rules_for_others() -> None:
    short = {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 1}}
    bucket: dict[str, Any] = {
        "location": "US-CENTRAL1",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "retentionPolicy": {"retentionPeriod": "100000"},
        "lifecycle": {"rule": [*OTHERS, short]},
    }
    everybody = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}]}

    def ask(path: str) -> Any:
        return everybody if path == "/iam" else bucket

    looked = seen(settings(ask, "office/"), desired(VAULT))
    wanted = changes(looked)
    assert {str(each.setting): each.current for each in wanted} == {
        "versioning": "off",
        "noncurrent-days": "1 day",
        "bucket-retention": "2 days",
        "public-access": "on",
        "soft-delete": "none",
        "encryption-key": "none",
        "access-logs": "none",
    }
    for each in wanted:
        bucket = merged(bucket, changed(ask, Change(each.setting, each.value), "office/"))
    assert all(each.holds for each in seen(settings(ask, "office/"), desired(VAULT)))
    assert bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    rules = bucket["lifecycle"]["rule"]
    assert rules[:-1] == OTHERS
    assert rules[-1]["condition"] == {"daysSinceNoncurrentTime": 365, "matchesPrefix": ["office/"]}


@pytest.mark.parametrize(
    ("condition", "ends"),
    [
        ({"age": 30}, "a rule deletes what is current"),
        ({"age": 30, "isLive": False}, ""),
        ({"age": 30, "matchesPrefix": ["elsewhere/"]}, ""),
        ({"age": 30, "matchesPrefix": ["office/records/"]}, "a rule deletes what is current"),
        ({"numNewerVersions": 3}, ""),
    ],
)
def test_a_rule_that_deletes_what_is_current_is_told_where_it_touches_the_vault(
    condition: dict[str, Any], ends: str
) -> None:
    bucket = {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}}
    assert settings(lambda path: {} if path else bucket, "office/").ends == ends


def test_what_this_login_may_not_ask_is_named_by_its_right() -> None:
    def denied(path: str) -> Any:
        if path == "/iam" or not told:
            raise NotToldError("no", denied=True)
        return {}

    told = False
    found = settings(denied)
    assert found.versioning is None
    assert found.unanswered["versioning"] == "this login may not storage.buckets.get"
    looked = seen(found, desired(VAULT))
    assert changes(looked) == ()
    assert {each.unknown for each in looked} == {"this login may not storage.buckets.get"}
    told = True
    assert settings(denied).unanswered == {"public": "this login may not storage.buckets.getIamPolicy"}


def test_the_lock_of_a_bucket_at_google_is_told_and_given_when_it_is_made() -> None:
    vault = VaultPolicy("cloud", "gs://acme", "gcs", "us", "object-storage", lock_mode=LockMode.COMPLIANCE)
    (lock,) = (each for each in seen(BucketSettings(locks=False), desired(vault)) if str(each.setting) == "object-lock")
    assert (lock.differs, lock.by_hand) == (
        True, "a bucket gets it when it is made, with --enable-per-object-retention"
    )  # fmt: skip
    assert settings(lambda path: {"objectRetention": {"mode": "Enabled"}}).locks


def test_a_retention_of_a_whole_bucket_at_google_that_is_locked_is_told_and_left_to_people() -> None:
    bucket = {"retentionPolicy": {"retentionPeriod": "2592000", "isLocked": True}}
    looked = seen(settings(lambda path: {} if path else bucket), desired(VAULT))
    (kept,) = (each for each in looked if each.setting is Setting.RETENTION)
    assert (kept.current, kept.holds) == ("30 days, locked", False)
    assert kept not in changes(looked)
