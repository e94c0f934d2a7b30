"""What a check of a vault says, and what of it counts."""

from dataclasses import replace
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest

from cto_backups.core.facts import Facts, VaultFacts
from cto_backups.core.model import ActionKind, Evidence, Outcome, Rung
from cto_backups.core.object_locks import is_lockable
from cto_backups.core.plan import due
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.vault_check import CHECK, CHECKED_WITHIN, Answer, Told, counts_for, failing, next_check, told_in

HELD = Told("ranges", Answer.ENFORCED)
BROKEN = Told("overwrite", Answer.NOT_ENFORCED, "a second writer replaced it", seconds=1.5)
UNASKED = Told("lock-delete", Answer.NOT_ASKED, "this login may not s3:DeleteObject")
UNWANTED = Told("checksum", Answer.NOT_OFFERED, wanted=False)


def test_what_was_relied_on_and_not_seen_to_hold_fails() -> None:
    assert [each.passed for each in (HELD, BROKEN, UNASKED, UNWANTED)] == [True, False, False, True]
    assert failing((HELD, UNWANTED)) == ""
    assert failing((HELD, BROKEN, UNASKED)) == "overwrite: not enforced; lock-delete: could not be asked"


def test_evidence_tells_of_each_rule_what_the_check_did(build) -> None:
    told = (HELD, BROKEN, UNASKED, UNWANTED)
    steps = tuple(each.step(build.now) for each in told)
    evidence = Evidence("c", CHECK, None, None, "far", build.now, build.now, False, Rung.DECLARED, steps)
    assert told_in(evidence) == told
    assert [step.passed for step in steps] == [True, False, False, True]


def test_what_a_check_stores_is_locked_by_nobody_else() -> None:
    assert not is_lockable("check/20260318T120000Z-abcdef/locked")
    assert is_lockable("records/check/1")


# -- on a schedule


def planned(build, triggers, **known):
    """The checks that are due of a vault with this schedule, by what is known of it."""
    policy = build.policy(build.source(vaults=("near",)))
    near = replace(policy.vaults["near"], checks=parse_triggers(triggers) if triggers else ())
    facts = Facts(vaults={"near": VaultFacts("near", **{"first_copy_at": build.ago(days=100), **known})})
    actions = due(replace(policy, vaults={"near": near}), facts, build.now)
    return [action for action in actions if action.kind is ActionKind.CHECK]


def checked(build, **ago):
    at = build.ago(**ago)
    return Evidence("c", CHECK, None, None, "near", at, at, False, Rung.DECLARED, ())


def test_a_vault_is_tried_out_on_its_schedule_and_by_nobody_without_one(build):
    assert planned(build, "") == [], "by people"
    assert planned(build, "every 7 d", first_copy_at=None) == [], "there is nothing in it"
    (first,) = planned(build, "every 7 d")
    assert (first.vault, first.due_at, first.reason) == (
        "near",
        build.ago(days=100),
        "tried out every 7 days; it never was",
    )
    assert planned(build, "every 7 d", check=checked(build, days=6)) == []
    (again,) = planned(build, "every 7 d", check=checked(build, days=8))
    assert (again.due_at, again.reason) == (build.ago(days=1), "tried out every 7 days")
    assert planned(build, "every 7 d", check=checked(build, days=-1)), "one of the future is none"
    since = build.run(ActionKind.CHECK, build.ago(hours=1))
    assert not planned(build, "every 7 d", check=checked(build, days=-1), check_run=since), "it was made up for"


def test_a_check_that_could_not_be_made_is_tried_again_soon_and_one_that_runs_is_not_begun_twice(build):
    run = build.run(ActionKind.CHECK, build.ago(minutes=30), Outcome.FAILED)
    late = {"check": checked(build, days=8), "check_run": run}
    assert planned(build, "every 7 d", **late, check_failures=1)
    assert not planned(build, "every 7 d", **late, check_failures=9)
    assert not planned(build, "every 7 d", check_run=build.run(ActionKind.CHECK, build.ago(minutes=5), Outcome.RUNNING))


@pytest.mark.parametrize(
    ("triggers", "counts"),
    [("", CHECKED_WITHIN), ("every 2 d", timedelta(days=2.5)), ("weekly on sunday at 04:00", timedelta(days=8))],
)
def test_what_was_seen_counts_until_the_next_check_must_be_done(build, triggers, counts):
    vault = replace(build.vault("near"), checks=parse_triggers(triggers) if triggers else ())
    assert counts_for(vault) == counts


def test_calendar_times_are_those_of_the_policys_time_zone(build):
    vault = replace(build.vault("near"), checks=parse_triggers("daily at 04:00"))
    facts = VaultFacts("near", first_copy_at=build.ago(days=9), check=checked(build, days=2))
    at, _ = next_check(vault, facts, ZoneInfo("Asia/Tokyo"), build.now)
    assert at.astimezone(UTC).hour == 19
