"""How the bucket of a vault is set against policy, and what the audit says of vaults that were tried out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.auditing import audit
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.controls import Environment
from cto_backups.core.facts import Facts, VaultFacts
from cto_backups.core.model import Evidence, Rung
from cto_backups.core.policy import LockMode, VaultSettings
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.vault_check import CHECK, Answer, Told
from cto_backups.core.vault_settings import SETTINGS, Setting, changes, desired, seen

SOUND = BucketSettings(
    versioning=True, kept_days=365, public=False, replicated=True, region="here", log_bucket="logs", key="k",
    locks=True, ends="", soft_delete_days=7,
)  # fmt: skip
ALL = VaultSettings(replicated=True, access_logs="logs")


def looked(build, found=SOUND, url="s3://acme", settings=ALL, **changes):
    changes = {"kms_key": "k", "lock_mode": LockMode.GOVERNANCE, **changes}
    return seen(found, desired(build.vault("far", url=url, settings=settings, **changes)))


def test_a_bucket_that_is_set_as_asked_holds_in_everything(build):
    at_amazon, at_google = looked(build), looked(build, url="gs://acme")
    assert all(each.holds for each in (*at_amazon, *at_google))
    assert [each.setting for each in at_amazon][-1] is Setting.LOCKS, "it needs versions"
    assert {each.setting for each in at_google} - {each.setting for each in at_amazon} == {Setting.SOFT_DELETE}
    assert changes(at_amazon) == ()


def test_what_nobody_asks_for_is_not_looked_at(build):
    nothing = VaultSettings(versioning=False, noncurrent_days=0, soft_delete_days=0)
    left = {Setting.PUBLIC, Setting.REGION, Setting.LIFECYCLE}
    bare = {"kms_key": None, "lock_mode": LockMode.NONE}
    assert {each.setting for each in looked(build, settings=nothing, **bare)} == left
    assert {each.setting for each in looked(build, url="gs://acme", settings=nothing, **bare)} == left
    locked = looked(build, settings=nothing, kms_key=None)
    assert {each.setting for each in locked} == {*left, Setting.VERSIONING, Setting.LOCKS}, "S3 locks versions alone"
    google = looked(build, url="gs://acme", settings=nothing, kms_key=None)
    assert {each.setting for each in google} == {*left, Setting.LOCKS}


@pytest.mark.parametrize(
    ("found", "setting", "told"),
    [
        ({"versioning": False}, Setting.VERSIONING, "versioning is off, and is to be on"),
        ({"kept_days": 30}, Setting.NONCURRENT, "noncurrent-days is 30 days, and is to be 365 days"),
        ({"kept_days": 0}, Setting.NONCURRENT, "noncurrent-days is none, and is to be 365 days"),
        ({"public": True}, Setting.PUBLIC, "public-access is on, and is to be off"),
        ({"key": ""}, Setting.KEY, "encryption-key is none, and is to be k"),
        ({"log_bucket": "other"}, Setting.LOGS, "access-logs is other, and is to be logs"),
        ({"locks": False}, Setting.LOCKS, "object-lock is off, and is to be on"),
        ({"replicated": False}, Setting.REPLICATED, "replication is off, and is to be on"),
        ({"region": "there"}, Setting.REGION, "region is there, and is to be here"),
        ({"ends": "a rule deletes what is current"}, Setting.LIFECYCLE, "a rule deletes what is current, and is to be"),
        ({"key": None, "unanswered": {"encryption": "no right"}}, Setting.KEY, "encryption-key is not known: no right"),
        ({"public": None, "unanswered": {"public": "no right"}}, Setting.PUBLIC, "is not known: no right"),
        ({"region": None}, Setting.REGION, "region is not known: the store does not tell"),
        ({"ends": None, "unanswered": {"kept_days": "no right"}}, Setting.LIFECYCLE, "is not known: no right"),
    ],
)
def test_what_is_set_otherwise_or_not_known_is_told(build, found, setting, told):
    from dataclasses import replace

    (other,) = (each for each in looked(build, replace(SOUND, **found)) if not each.holds)
    assert other.setting is setting
    assert told in other.told()
    assert other.irreversible is (setting is Setting.LOCKS)
    by_hand = setting in (Setting.REPLICATED, Setting.REGION, Setting.LIFECYCLE)
    assert bool(other.by_hand) is by_hand
    assert changes((other,)) == ((other,) if other.current is not None and not by_hand else ())
    assert other.step(build.now).figures["known"] is (other.current is not None)


KEEPING = replace(ALL, retention_days=30)


@pytest.mark.parametrize(
    ("days", "mode", "settings", "wrong"),
    [
        (0, "", ALL, None),
        (9, "governance", ALL, "bucket-retention is 9 days, governance, and is to be none"),
        (30, "governance", KEEPING, ""),
        (31, "compliance", KEEPING, ""),
        (29, "governance", KEEPING, "bucket-retention is 29 days, governance, and is to be 30 days, governance"),
        (0, "", KEEPING, "bucket-retention is none, and is to be 30 days, governance"),
        (None, "", KEEPING, "bucket-retention is not known: the store does not tell"),
    ],
)
def test_the_retention_of_a_whole_bucket_is_as_policy_has_it_or_there_is_none(build, days, mode, settings, wrong):
    found = replace(SOUND, retention_days=days, retention_mode=mode)
    told = [each for each in looked(build, found, settings=settings) if each.setting is Setting.RETENTION]
    if wrong is None:
        assert told == []
        return
    assert (told[0].holds, told[0].told() if wrong else "") == (not wrong, wrong)
    assert told[0].value == ("" if settings is ALL else "governance 30")
    assert bool(changes(tuple(told))) is (bool(wrong) and days is not None)


def test_a_weaker_mode_is_no_retention_and_what_nobody_can_change_is_told_so(build):
    weak = replace(SOUND, retention_days=99, retention_mode="governance")
    (found,) = (each for each in looked(build, weak, settings=KEEPING, lock_mode=LockMode.COMPLIANCE) if not each.holds)
    assert found.wanted == "30 days, compliance"
    unlockable = replace(SOUND, locks=False, retention_days=0)
    first, second = (each for each in looked(build, unlockable, settings=KEEPING) if not each.holds)
    assert (first.setting, second.setting) == (Setting.RETENTION, Setting.LOCKS)
    assert "Object Lock has to be on first" in first.by_hand
    at_google = replace(SOUND, retention_days=30, retention_mode="locked")
    (kept,) = (each for each in looked(build, at_google, url="gs://acme") if not each.holds)
    assert "nobody can take it away" in kept.by_hand and changes((kept,)) == ()
    (free,) = (each for each in looked(build, replace(at_google, retention_mode=""), url="gs://acme") if not each.holds)
    assert (free.current, free.wanted) == ("30 days", "none") and changes((free,)) == (free,)


# -- the audit


def evidence(build, kind, steps, at, passed):
    reason = "" if passed else "overwrite: not enforced"
    return Evidence("e", kind, None, None, "far", at, at, passed, Rung.DECLARED, tuple(steps), reason)


def failed(build, control, *, url="s3://acme", check=None, settings=None, **given):
    policy = build.policy(vaults=(build.vault("near"), replace(build.vault("far", url=url), **given)))
    facts = Facts(
        sources={"ledger": build.healthy()}, vaults={"far": VaultFacts("far", check=check, settings=settings)}
    )
    report = audit(policy, facts, judge(policy, facts, build.now), build.now, Environment())
    (result,) = (each for each in report.results if each.control.id == control)
    return [each.detail for each in result.checks if not each.passed], [each.subject for each in result.checks]


def test_a_store_that_was_never_tried_out_is_a_finding_and_a_folder_is_none(build):
    assert failed(build, "vault-checked") == (["what its store enforces was never tried out"], ["far"])
    assert failed(build, "vault-checked", url="file:/vaults/far") == ([], [])
    assert failed(build, "vault-settings") == ([], []), "that it was not tried out is told once"


@pytest.mark.parametrize(
    ("age", "passed", "told"),
    [
        (timedelta(days=3), True, None),
        (timedelta(days=91), True, "what policy relies on was enforced 91 days ago; a look every 90 days is asked for"),
        (timedelta(hours=-1), True, "was enforced at a moment in the future"),
        (timedelta(days=9), False, "tried out 9 days ago: overwrite: not enforced"),
    ],
)
def test_a_check_counts_while_it_is_fresh_and_passed(build, age, passed, told):
    step = Told("overwrite", Answer.ENFORCED if passed else Answer.NOT_ENFORCED).step(build.now)
    check = evidence(build, CHECK, [step], build.now - age, passed)
    for url in ("s3://acme", "file:/vaults/far"):
        found, subjects = failed(build, "vault-checked", url=url, check=check)
        assert subjects == ["far"]
        assert found == [] if told is None else told in found[0]


def test_settings_count_as_they_were_seen_and_while_that_is_fresh(build):
    steps = [each.step(build.now) for each in looked(build)]
    for age, told in ((timedelta(days=3), []), (timedelta(days=91), ["its bucket was set as asked 91 days ago"])):
        kept = evidence(build, SETTINGS, steps, build.now - age, True)
        found, _ = failed(build, "vault-settings", settings=kept)
        assert [one.partition(";")[0] for one in found] == told
    other = looked(build, BucketSettings(unanswered={"versioning": "this login may not look"}))
    kept = evidence(build, SETTINGS, [each.step(build.now) for each in other], build.now, False)
    found, _ = failed(build, "vault-settings", settings=kept)
    assert "versioning is not known: this login may not look; seen 0 seconds ago" in found
    assert len(found) == len(other)


def test_a_check_that_policy_has_on_a_schedule_is_overdue_soon_after_its_time(build):
    every = {"checks": parse_triggers("every 7 d")}
    step = Told("overwrite", Answer.ENFORCED).step(build.now)
    for days, told in ((7.9, []), (8.1, ["policy has it tried out every 7 days, so it counts for 8 days"])):
        check = evidence(build, CHECK, [step], build.now - timedelta(days=days), True)
        found, _ = failed(build, "vault-checked", check=check, **every)
        assert [one.partition("; ")[2] for one in found] == told
    assert failed(build, "vault-checked", url="file:/far", **every)[0] == [
        "what its store enforces was never tried out"
    ]


def test_what_lies_plain_in_a_bucket_has_a_key_of_its_owners(build):
    (told,), _ = failed(build, "plain-exports-key", plain_exports=True)
    assert "the policy names no kms_key" in told
    assert failed(build, "plain-exports-key", plain_exports=True, kms_key="alias/office") == ([], ["far"])
    assert failed(build, "plain-exports-key", plain_exports=True, url="file:/far") == ([], [])
    assert failed(build, "plain-exports-key") == ([], []), "sealed here"
