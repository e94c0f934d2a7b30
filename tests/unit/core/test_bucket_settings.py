"""How a bucket is set against what policy asks, and that the audit says so."""

from dataclasses import replace

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.auditing import audit
from cto_backups.core.bucket_settings import BucketSettings, BucketTeller, SeenBucket, WantedSettings
from cto_backups.core.controls import Environment
from cto_backups.core.policy import Tls

SOUND = BucketSettings(versioning=True, kept_days=365, public=False, replicated=True)
WHY = "this login may not look"


def judged(settings: BucketSettings, **wanted: object) -> list[tuple[bool, str]]:
    return list(SeenBucket("gs://media", settings, WantedSettings(**wanted)).judged())  # type: ignore[arg-type]


def test_a_bucket_that_is_set_as_asked_passes() -> None:
    assert [passed for passed, _ in judged(SOUND, replicated=True)] == [True] * 4
    assert judged(replace(SOUND, public=True, versioning=False), versioning=False, public=True) == []
    assert [passed for passed, _ in judged(SOUND, noncurrent_days=0)] == [True, True]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("versioning", False, "it keeps no versions"),
        ("versioning", None, f"whether it keeps versions is not known: {WHY}"),
        ("kept_days", 0, "no rule deletes old versions, which pile up; policy asks for 365 days"),
        ("kept_days", 30, "old versions are deleted after 30 days; policy asks for 365 days"),
        ("kept_days", None, f"when it deletes old versions is not known: {WHY}"),
        ("public", True, "anybody may read it"),
        ("public", None, f"whether anybody may read it is not known: {WHY}"),
        ("replicated", False, "its provider keeps it in one region alone"),
        ("replicated", None, f"whether it is replicated is not known: {WHY}"),
    ],
)
def test_what_is_set_otherwise_or_not_known_is_told(name: str, value: object, told: str) -> None:
    settings = replace(SOUND, **{name: value}, unanswered={name: WHY})  # type: ignore[arg-type]
    failed = [detail for passed, detail in judged(settings, replicated=True) if not passed]
    assert len(failed) == 1
    assert told in failed[0]


def test_a_way_with_less_than_tls_1_3_is_told() -> None:
    assert judged(SOUND, tls=Tls.V1_2)[-1] == (False, "policy allows that it is read with TLS 1.2")
    assert judged(SOUND, tls=Tls.NONE)[-1] == (False, "policy allows that it is read unencrypted")


def test_what_nobody_asks_for_is_told_beside() -> None:
    told = BucketSettings(region="us-east1", encryption="aws:kms", soft_delete_days=7, access_logs=True).told()
    assert told == "in us-east1, encrypted by aws:kms, deleted objects kept for 7 days, access is logged"
    assert BucketSettings(soft_delete_days=0, access_logs=False).told() == "no soft delete, access is not logged"
    assert BucketSettings().told() == ""


def test_the_audit_has_a_finding_for_each_setting_that_falls_short(build) -> None:
    policy, facts = build.policy(build.source()), build.facts()
    seen = SeenBucket("gs://media", replace(SOUND, versioning=False, public=True, region="us-east1"), WantedSettings())
    environment = Environment(buckets={"ledger": seen})
    report = audit(policy, facts, judge(policy, facts, build.now), build.now, environment)
    (result,) = (each for each in report.results if each.control.id == "bucket-settings")
    assert [finding.detail for finding in result.findings] == [
        "gs://media (in us-east1): it keeps no versions: what is overwritten or deleted there is gone",
        "gs://media (in us-east1): anybody may read it",
    ]
    unset = Environment(buckets={"ledger": SeenBucket("gs://media", SOUND, WantedSettings())})
    report = audit(policy, facts, judge(policy, facts, build.now), build.now, unset)
    (result,) = (each for each in report.results if each.control.id == "bucket-settings")
    assert result.findings == ()
    assert result.checks[0].detail == "gs://media: it keeps versions"


def test_a_source_that_is_no_bucket_is_not_asked() -> None:
    assert not isinstance(object(), BucketTeller)
