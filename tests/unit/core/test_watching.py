"""When changes that were noticed ask for a backup, by the same plan as everything else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.plan import due, upcoming
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.streams import StreamFacts
from cto_backups.core.watched import Noticed
from cto_backups.core.watching import shortest_pause, watching_trigger

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def source(build, triggers, rpo=HOUR):
    return build.source(triggers=triggers, category=replace(CATEGORIES["A"], rpo=rpo), retention="2 days, 30 daily")


def known(build, first=None, last=None, *, took=SECOND, copied=SECOND, ended=-10 * MINUTE):
    """The facts of a source that was backed up so long ago, with changes noticed at these times from now."""
    started = build.now + ended - took
    point = build.point(started, took=took)
    runs = build.runs(build.run("backup", started, took=took), build.run("copy", build.now + ended, took=copied))
    noticed = None if first is None else Noticed(build.now + first, build.now + (last if last is not None else first))
    return build.healthy(newest=point, newest_any=point, last_runs=runs, confirmed_at=None, noticed=noticed)


def due_in(build, triggers, facts, rpo=HOUR):
    policy = build.policy(source(build, triggers, rpo))
    return build.next_due_at(policy, "ledger", build.facts(facts)) - build.now


def test_a_change_is_waited_out_until_a_quiet_moment(build):
    assert due_in(build, "continuous", known(build, timedelta())) == SECOND
    assert due_in(build, "on change", known(build, timedelta())) == 10 * SECOND
    assert due_in(build, "on change", known(build, -5 * SECOND, timedelta())) == 10 * SECOND


def test_constant_changes_are_not_waited_out_for_ever(build):
    assert due_in(build, "continuous", known(build, -60 * SECOND, timedelta())) <= timedelta()
    assert due_in(build, "continuous", known(build, -4 * SECOND, timedelta())) == SECOND
    assert due_in(build, "continuous", known(build, -14.5 * SECOND, timedelta())) == SECOND / 2
    # A 24th of an RPO of one hour.
    assert due_in(build, "on change", known(build, -145 * SECOND, timedelta())) == 5 * SECOND


def test_on_change_never_waits_longer_than_a_short_rpo_allows(build):
    assert due_in(build, "on change", known(build, timedelta(), ended=-20 * SECOND), 2 * MINUTE) == 5 * SECOND


def test_a_change_without_such_a_trigger_asks_for_nothing(build):
    assert due_in(build, "hourly", known(build, -MINUTE)) > 40 * MINUTE


def test_without_a_change_the_rescan_is_what_comes(build):
    assert due_in(build, "continuous", known(build, None)) == 5 * MINUTE - SECOND


def test_a_change_never_delays_the_rescan(build):
    """However long the last backup took, and however late the change is."""
    for took in (SECOND, 2 * MINUTE, 10 * MINUTE):
        without = due_in(build, "continuous", known(build, None, took=took))
        assert due_in(build, "continuous", known(build, timedelta(), took=took)) <= without


def test_what_a_backup_has_already_asks_for_nothing(build):
    assert due_in(build, "continuous", known(build, -11 * MINUTE, -10 * MINUTE - SECOND)) == 5 * MINUTE - SECOND


def test_of_changes_before_and_after_a_backup_only_those_after_it_wait(build):
    facts = known(build, -HOUR, timedelta(), ended=-20 * SECOND, took=SECOND, copied=timedelta())
    assert due_in(build, "on change", facts) == 10 * SECOND


def test_backups_take_a_tenth_of_the_time_at_most(build):
    """Nine times as long as the backup and the copy to the other vault took, the source is left alone."""
    facts = known(build, -MINUTE, timedelta(), took=4 * SECOND, copied=3 * SECOND, ended=-60 * SECOND)
    assert due_in(build, "continuous", facts) == 3 * SECOND
    running = build.run("copy", build.now, Outcome.RUNNING)
    uncopied = replace(facts, last_runs={**facts.last_runs, ActionKind.COPY: running})
    assert due_in(build, "continuous", uncopied) <= timedelta()


def test_points_do_not_pile_up(build):
    facts = known(build, -2 * SECOND, ended=-5 * SECOND, took=SECOND / 100, copied=timedelta())
    assert due_in(build, "continuous", facts) == 10 * SECOND - SECOND / 100


@pytest.mark.parametrize(
    ("rpo", "retention", "pause"),
    [
        (MINUTE, "7 daily", SECOND),
        (HOUR, "2 days, 30 daily", 15 * SECOND),
        (7 * 24 * HOUR, "30 versions", 5 * MINUTE),
        (HOUR, "50 days", 43.2 * SECOND),
        (HOUR, "7 years", 5 * MINUTE),
        (HOUR, "permanent", 5 * MINUTE),
    ],
)
def test_the_pause_follows_the_rpo_and_how_long_points_are_kept(build, rpo, retention, pause):
    assert shortest_pause(replace(source(build, "continuous", rpo), retention=parse_retention(retention))) == pause


def test_a_source_without_a_backup_is_due_anyway(build):
    facts = build.healthy(newest=None, newest_any=None, confirmed_at=None, last_runs={})
    facts = replace(facts, copies=(), first_seen=build.ago(minutes=1), noticed=Noticed(build.now, build.now))
    assert due_in(build, "continuous", facts) == -MINUTE


def test_a_source_known_only_by_its_point_has_nothing_to_rest_from(build):
    facts = replace(known(build, -MINUTE), last_runs={})
    assert due_in(build, "continuous", facts) <= timedelta()


def test_the_plan_says_that_a_change_is_why(build):
    policy = build.policy(source(build, "hourly, on change"))
    (action,) = due(policy, build.facts(known(build, -MINUTE)), build.now)
    assert action.reason == "trigger 'on change', a change was noticed"


def test_of_some_sources_only_their_actions_are_planned(build):
    other = replace(source(build, "hourly"), name="other")
    policy = build.policy(source(build, "continuous"), other)
    facts = build.facts(known(build, -MINUTE))
    assert {action.source for action in due(policy, facts, build.now)} == {"ledger", "other"}
    assert [action.source for action in due(policy, facts, build.now, ["ledger"])] == ["ledger"]
    assert due(policy, facts, build.now, []) == ()


def test_continuous_is_the_more_urgent_of_two():
    assert watching_trigger(parse_triggers("on change, continuous")) == parse_triggers("continuous")[0]
    assert watching_trigger(parse_triggers("daily, on change")) == parse_triggers("on change")[0]
    assert watching_trigger(parse_triggers("daily")) is None


def stuck(build, facts, since=-MINUTE):
    return replace(facts, stream=StreamFacts("ledger", stuck_at=facts.newest.id, stuck_since=build.now + since))


def test_a_stream_that_needs_a_new_point_gets_it_at_once(build):
    facts = stuck(build, known(build))
    assert due_in(build, "daily, continuous", facts) == -MINUTE
    policy = build.policy(source(build, "daily, continuous"))
    (backup,) = (
        action
        for action in upcoming(policy, "ledger", build.facts(facts), build.now)
        if action.kind is ActionKind.BACKUP
    )
    assert backup.reason == "its log needs a new point to go on from"


def test_a_stream_asks_for_one_point_and_not_in_the_place_of_a_backup_that_is_due(build):
    facts = known(build)
    usual = due_in(build, "daily, continuous", facts)
    assert usual > timedelta()
    assert due_in(build, "daily", stuck(build, facts)) > timedelta(), "it is followed no longer"
    assert due_in(build, "daily, continuous", replace(stuck(build, facts), newest=build.point(build.now))) > timedelta()
    flowing = replace(facts, stream=StreamFacts("ledger"))
    assert due_in(build, "daily, continuous", flowing) == usual
    assert due_in(build, "daily, continuous", stuck(build, facts, since=usual)) == usual
    unchanged = build.runs(build.run("backup", build.now - SECOND, Outcome.UNCHANGED))
    assert due_in(build, "daily, continuous", replace(stuck(build, facts), last_runs=unchanged)) > timedelta()
    failed = build.runs(build.run("backup", build.now - SECOND, Outcome.FAILED, took=SECOND))
    assert due_in(build, "daily, continuous", replace(stuck(build, facts), last_runs=failed)) == MINUTE
