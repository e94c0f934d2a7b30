"""Vaults on schedules of their own: when copies are due there, how far they may lag, and who is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.controls import CONTROLS, Audited, Environment
from cto_backups.core.copies import (
    MOST_COUNTED,
    allowed_lag,
    asked,
    behind,
    copy_timetable,
    lag,
    lagging,
    late,
    told_lag,
    why,
)
from cto_backups.core.facts import Facts, Lag, SourceFacts
from cto_backups.core.model import ActionKind, Outcome, Status
from cto_backups.core.plan import due, upcoming
from cto_backups.core.policy import check_copies, check_policy
from cto_backups.core.schedule import parse_triggers

HOUR = timedelta(hours=1)
DAILY = parse_triggers("daily at 03:00")


@pytest.fixture
def made(build):
    """A policy whose third vault gets copies daily at 03:00, and facts in which it lags by so many hourly points."""

    def make(points=9, *, triggers=DAILY, held=True, timezone="UTC", **changes):
        source = build.source(vaults=("near", "far", "third"))
        vaults = (build.vault("near"), build.vault("far"), build.vault("third", copies=triggers))
        policy = build.policy(source, vaults=vaults, timezone=timezone)
        newest = build.point(build.ago(hours=1))
        copies = [build.copy(newest, "near"), build.copy(newest, "far")]
        behind = Lag("third", waiting_since=build.ago(hours=points), behind=points)
        if held:
            at = build.ago(hours=points + 1)
            behind = replace(behind, point="old", captured_at=at, stored_at=at + timedelta(minutes=5))
        if not points:
            behind = Lag("third", newest.id, newest.captured_at, newest.finished_at)
            copies.append(build.copy(newest, "third"))
        known = build.healthy(newest=newest, copies=tuple(copies), **{"lags": {"third": behind}, **changes})
        read = build.read_vaults()
        return policy, build.facts(known, vaults={**read, "third": replace(read["near"], vault="third")})

    return make


def copies_due(policy, facts, now):
    return [action for action in due(policy, facts, now) if action.kind is ActionKind.COPY]


# -- when


def test_copies_on_a_schedule_are_due_at_its_first_time_after_the_oldest_point_that_waits(build, made):
    """At 12:00, the oldest of the waiting points is of 03:00 at night: the next time is 03:00 tomorrow."""
    policy, facts = made(9)
    tomorrow = datetime(2026, 3, 19, 3, 0, tzinfo=UTC)
    assert not copies_due(policy, facts, tomorrow - timedelta(seconds=1))
    (action,) = copies_due(policy, facts, tomorrow)
    assert (action.vault, action.point, action.due_at) == ("third", facts.sources["ledger"].newest.id, tomorrow)
    assert action.reason == "vault third gets copies daily at 03:00; 9 points to bring"
    assert action.key == "copy:ledger:third:20260319T030000Z:0123456789abcdef"
    (coming,) = [each for each in upcoming(policy, "ledger", facts, build.now) if each.kind is ActionKind.COPY]
    assert coming.due_at == tomorrow
    assert build.next_due_at(policy, "ledger", facts) <= tomorrow


def test_a_new_point_does_not_put_off_those_that_wait(build, made):
    """However new the newest is: what has waited since before 03:00 is due since then."""
    policy, facts = made(10)
    (action,) = copies_due(policy, facts, build.now)
    assert action.due_at == datetime(2026, 3, 18, 3, 0, tzinfo=UTC)


def test_what_a_source_without_news_waits_for_is_nothing(build, made):
    policy, facts = made(0)
    assert not copies_due(policy, facts, build.now + 48 * HOUR)
    assert asked(policy, policy.sources["ledger"], facts.sources["ledger"], "third") is None


def test_the_schedule_is_in_the_time_zone_of_the_policy(build, made):
    policy, facts = made(9, timezone="America/New_York")
    run = asked(policy, policy.sources["ledger"], facts.sources["ledger"], "third")
    assert run.at == datetime(2026, 3, 18, 7, 0, tzinfo=UTC)


def test_a_failed_copy_on_a_schedule_backs_off(build, made):
    run = build.run(ActionKind.COPY, build.ago(minutes=2), Outcome.FAILED, vault="third")
    policy, facts = made(20, last_runs=build.runs(run), failures={ActionKind.COPY: 5})
    assert not copies_due(policy, facts, build.now)
    assert copies_due(policy, facts, build.now + 20 * timedelta(minutes=1))


# -- how far behind


def test_a_lag_is_told_in_points_and_in_age(build, made):
    known = made(9)[1].sources["ledger"]
    assert (told_lag(known, "third"), behind(known, "third")) == ("9 points and 9 h behind", 9 * HOUR)
    assert told_lag(made(9, held=False)[1].sources["ledger"], "third") == "no copy"
    assert told_lag(made(0)[1].sources["ledger"], "third") == "up to date"
    many = {"third": replace(known.lags["third"], behind=MOST_COUNTED)}
    assert told_lag(replace(known, lags=many), "third") == "1000 points or more and 9 h behind"
    assert behind(SourceFacts("ledger"), "third") is None


def test_without_a_look_at_the_catalog_the_newest_point_says_what_it_can(build):
    known = build.healthy()
    assert lag(known, "far") == Lag("far", known.newest.id, known.newest.captured_at, known.newest.finished_at)
    assert lag(known, "third") == Lag("third", behind=1, waiting_since=known.newest.finished_at)
    assert lag(SourceFacts("ledger"), "third") == Lag("third")
    policy = build.policy(vaults=(build.vault("near"), build.vault("far")))
    assert why(policy, known, "far", known.newest).startswith("vault far has no copy of the newest complete point p-")


@pytest.mark.parametrize(
    ("triggers", "hours"),
    [("daily at 03:00", 28), ("every 6 h", 7.5), ("weekly on sunday", 172), ("daily at 03:00, daily at 15:00", 15)],
)
def test_a_vault_may_lag_until_its_next_run_and_while_that_copies(triggers, hours):
    assert allowed_lag(parse_triggers(triggers), 24 * HOUR) == hours * HOUR


# -- who is told


def test_a_vault_that_lags_as_it_may_counts_as_a_copy_and_leaves_its_source_healthy(build, made):
    policy, facts = made(27)
    verdict = judge(policy, facts, build.now)["ledger"]
    assert (verdict.status, verdict.copies) == (Status.HEALTHY, 3)
    assert "2 copies and 1 older one by schedule" in verdict.reasons[0]
    assert lagging(policy, policy.sources["ledger"], facts.sources["ledger"], build.now) == ("third",)


def test_beyond_its_schedule_it_counts_for_nothing_and_is_overdue(build, made):
    policy, facts = made(29)
    verdict = judge(policy, facts, build.now)["ledger"]
    assert (verdict.status, verdict.copies) == (Status.OVERDUE, 2)
    assert verdict.reasons[0] == (
        "vault third is 29 points and 29 h behind, and a point has waited for 29 h; "
        "its schedule 'daily at 03:00' allows 28 h"
    )
    policy, facts = made(29, held=False)
    assert "vault third has no copy, and a point has waited" in judge(policy, facts, build.now)["ledger"].reasons[0]


def test_a_copy_that_fails_is_overdue_at_once(build, made):
    policy, facts = made(2, failures={ActionKind.COPY: 1})
    verdict = judge(policy, facts, build.now)["ledger"]
    assert verdict.status is Status.OVERDUE
    assert "vault third: 2 points and 2 h behind, and the last copy failed" in verdict.reasons


def test_an_older_copy_counts_only_where_it_can_be_read_and_is_not_damaged(build, made):
    policy, facts = made(9)
    away = replace(facts, vaults_away={"third": "gone"})
    assert judge(policy, away, build.now)["ledger"].copies == 2
    damaged = {**facts.vaults, "third": replace(facts.vaults["third"], read_passed=False)}
    assert judge(policy, replace(facts, vaults=damaged), build.now)["ledger"].copies == 2


def checks(control, policy, facts, now):
    audited = Audited(policy, facts, judge(policy, facts, now), now, Environment())
    return list(next(each for each in CONTROLS if each.id == control).check(audited))


def test_the_audit_tells_how_far_each_vault_is_behind(build, made):
    policy, facts = made(9)
    assert [(check.passed, check.detail) for check in checks("copies-on-time", policy, facts, build.now)] == [
        (True, "vault near: up to date; it gets each point, RPO 24 h"),
        (True, "vault far: up to date; it gets each point, RPO 24 h"),
        (True, "vault third: 9 points and 9 h behind; copies come daily at 03:00"),
    ]
    (found,) = [check for check in checks("copies-on-time", *made(29), build.now) if not check.passed]
    assert "allows 28 h" in found.detail
    assert checks("copies-on-time", policy, Facts(), build.now) == []
    (count,) = checks("copies", policy, facts, build.now)
    assert count.detail.endswith("; that in third may be of an older one by schedule")
    (types,) = checks("storage-types", policy, facts, build.now)
    assert types.detail.startswith("copies on 3 storage types"), "an older copy that may be so is a copy"


def test_a_vault_without_a_schedule_is_not_to_be_behind_by_more_than_the_rpo(build, made):
    policy, facts = made(0)
    known = facts.sources["ledger"]
    old = Lag("far", "p", known.newest.captured_at - 25 * HOUR, build.now, 25, build.ago(hours=25))
    facts = replace(facts, sources={"ledger": replace(known, lags={**known.lags, "far": old})})
    (found,) = [check for check in checks("copies-on-time", policy, facts, build.now) if not check.passed]
    assert found.detail == "vault far: 25 points and 25 h behind; it gets each point, RPO 24 h"
    none = replace(known, lags={**known.lags, "far": Lag("far", behind=1, waiting_since=build.ago(minutes=1))})
    (found,) = [
        check
        for check in checks("copies-on-time", policy, Facts(sources={"ledger": none}), build.now)
        if not check.passed
    ]
    assert found.detail == "vault far: no copy; it gets each point, RPO 24 h"


def test_the_timetable_shows_each_vault_that_gets_copies(build, made):
    policy, facts = made(9, timezone="Europe/Berlin")
    far, third = copy_timetable(policy, facts, build.now)
    assert (far.vault, far.triggers, far.next_run, far.why) == ("far", "", None, "no point waits")
    assert far.last_copy == facts.sources["ledger"].newest.finished_at
    assert (third.triggers, third.why) == ("daily at 03:00", "points of 1 source wait")
    assert f"{third.next_run:%d %H:%M %Z}" == "19 03:00 CET"
    policy, facts = made(0)
    assert copy_timetable(policy, facts, build.now)[1].next_run == datetime(2026, 3, 19, 3, 0, tzinfo=UTC)
    policy, facts = made(0, triggers=parse_triggers("every 6 h"))
    assert copy_timetable(policy, facts, build.now)[1].next_run is None
    waiting = build.healthy(copies=(build.copy(build.healthy().newest, "near"),))
    assert copy_timetable(build.policy(), build.facts(waiting), build.now)[0].next_run == build.now
    assert copy_timetable(build.policy(build.source(vaults=("near",))), facts, build.now) == ()


# -- what a policy may ask


def test_the_vault_that_takes_the_points_has_no_schedule(build, made):
    policy, _ = made()
    source = build.source(vaults=("third", "near"))
    (violation,) = check_policy(replace(policy, sources={"ledger": source}))
    assert (violation.field, violation.what) == (
        "vaults",
        "the first vault of source 'ledger' has a schedule for copies",
    )


def test_one_copy_beside_the_first_has_to_come_within_the_rpo(build, made):
    policy, _ = made()
    hourly = build.source(category="A", triggers="hourly", vaults=("near", "third"))
    (violation,) = check_copies(hourly, policy.vaults)
    assert violation.what == "no second copy of source 'ledger' comes within its RPO"
    assert "with vault near lost, up to 24 h are lost with it" in violation.why
    assert check_copies(replace(hourly, vaults=("near", "far", "third")), policy.vaults) == ()
    assert check_copies(build.source(vaults=("near", "third")), policy.vaults) == ()
    assert check_copies(build.source(category="C", vaults=("near", "third")), policy.vaults) == ()
    weekly = {**policy.vaults, "third": replace(policy.vaults["third"], copies=parse_triggers("weekly"))}
    assert len(check_copies(build.source(vaults=("near", "third")), weekly)) == 1


def test_a_schedule_that_has_nothing_to_bring_is_not_late(build, made):
    policy, facts = made(0)
    assert late(policy, policy.sources["ledger"], facts.sources["ledger"], "third", build.now) is None
