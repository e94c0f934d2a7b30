"""When heavy work begins where there are windows for it. The present moment is a Wednesday's noon, in UTC."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.agenda import agenda
from cto_backups.core.facts import Facts
from cto_backups.core.heavy_work import AHEAD, HELD, OUTSIDE, Spare, begins, heavy_work_begins, next_opening, notes
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.object_locks import locking
from cto_backups.core.plan import due, planned, upcoming
from cto_backups.core.policy import LockMode
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.timetable import timetable
from cto_backups.core.windows import Window, is_open
from cto_backups.core.worker import HEAVY, WorkerPolicy

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NIGHT = Window(22 * 60, 6 * 60)
SUNDAY = Window(weekdays=frozenset({6}))
TEST, VERIFY, PRUNE = ActionKind.RESTORE_TEST, ActionKind.VERIFY, ActionKind.PRUNE


def at_night(policy, *windows):
    return replace(policy, worker=WorkerPolicy(heavy_work=windows or (NIGHT,)))


def next_of(policy, facts, now, kind, vault=None):
    (found,) = [each for each in planned(policy, facts, now) if each.kind is kind and vault in (None, each.vault)]
    return found


def facts_tested(build, **ago):
    at = build.ago(**ago)
    return build.facts(build.healthy(proven_at=at, last_test=build.test(at)))


def test_a_test_that_is_due_waits_for_the_night_and_begins_in_it(build):
    policy, facts = build.policy(), facts_tested(build, days=29, hours=2)
    assert next_of(policy, facts, build.now, TEST).due_at <= build.now
    action = next_of(at_night(policy), facts, build.now, TEST)
    assert (action.due_at, action.reason) == (build.now + 10 * HOUR, f"tested every 30 days; {HELD}")
    assert TEST not in {each.kind for each in due(at_night(policy), facts, build.now + 10 * HOUR - MINUTE)}
    (begun,) = [each for each in due(at_night(policy), facts, build.now + 10 * HOUR) if each.kind is TEST]
    assert begun.key == action.key and begun.reason == "tested every 30 days"


def test_a_test_that_found_no_worker_in_its_window_waits_for_the_next_one(build):
    """Asked for at four in the morning: at noon it is the night's again, since it is not late yet."""
    facts = facts_tested(build, days=29, hours=8)
    assert next_of(at_night(build.policy()), facts, build.now, TEST).due_at == build.now + 10 * HOUR


def test_a_test_that_would_be_late_begins_outside_and_says_so(build):
    """It would be too old at ten past ten in the evening; the last one took six minutes."""
    facts = facts_tested(build, days=29, hours=13, minutes=50)
    policy = at_night(build.policy())
    assert next_of(policy, facts, build.now, TEST).reason.endswith(OUTSIDE) is False
    run = build.run(TEST, build.ago(days=29, hours=14), took=6 * MINUTE)
    slow = build.facts(replace(facts.sources["ledger"], last_runs=build.runs(run)))
    action = next_of(policy, slow, build.now, TEST)
    assert action.due_at <= build.now and action.reason == f"tested every 30 days; {OUTSIDE}"
    assert TEST in {each.kind for each in due(policy, slow, build.now)}


def test_daily_tests_begin_before_the_night_ends_where_the_next_one_would_be_too_late(build):
    """Tested at five past ten: at ten it would be done in time, but not after what it may take."""
    policy = at_night(build.policy(build.source(test_every=DAY)))
    tested_at = build.now - 14 * HOUR + 5 * MINUTE
    run = build.run(TEST, tested_at - 5 * MINUTE, took=5 * MINUTE)
    known = build.healthy(proven_at=tested_at, last_test=build.test(tested_at), last_runs=build.runs(run))
    four = build.now - 8 * HOUR
    action = next_of(policy, build.facts(known), four, TEST)
    assert (action.due_at, action.reason) == (build.now - 7 * HOUR, f"tested every 24 h; {AHEAD}")
    half_past_five = build.now - 6.5 * HOUR
    assert TEST in {each.kind for each in due(policy, build.facts(known), half_past_five)}
    missed = next_of(policy, build.facts(known), build.now, TEST)
    assert missed.due_at > build.now and missed.reason.endswith(OUTSIDE)


@pytest.mark.parametrize("every", [DAY, 2 * DAY, 7 * DAY, 30 * DAY])
@pytest.mark.parametrize("took", [MINUTE, 40 * MINUTE, 2 * HOUR])
def test_a_year_of_tests_at_night_is_never_late_and_never_by_day(build, every, took):
    """A worker that is always there does each as soon as it is due; clocks change twice meanwhile."""
    policy = replace(at_night(build.policy(build.source(test_every=every))), timezone="Europe/Berlin")
    now, end, known, done = build.now, build.now + 365 * DAY, build.healthy(last_test=None, proven_at=None), []
    known = replace(known, first_seen=now - HOUR)
    while now < end:
        action = next_of(policy, build.facts(known), now, TEST)
        if action.due_at > now:
            now = action.due_at
            continue
        assert is_open(policy.worker.heavy_work, now, ZoneInfo(policy.timezone)), (now, action.reason)
        run = build.run(TEST, now, took=took)
        now += took
        assert now - (done[-1] if done else known.first_seen) <= max(every, DAY)
        done.append(now)
        known = replace(known, proven_at=now, last_test=build.test(now), last_runs=build.runs(run))
    assert 365 * DAY / every <= len(done) <= 2 * 365 * DAY / every


def test_a_window_that_stays_open_does_not_see_one_test_right_after_the_other(build):
    """Only sundays, a test each week: the one after a short one begins before midnight, after a long one outside."""
    policy = at_night(build.policy(build.source(test_every=7 * DAY)), SUNDAY)
    sunday = datetime(2026, 3, 15, tzinfo=UTC)
    for took, at, because in ((20 * MINUTE, sunday + 23 * HOUR, AHEAD), (10 * HOUR, sunday + 6 * DAY, OUTSIDE)):
        run = build.run(TEST, sunday, took=took)
        known = build.healthy(proven_at=sunday + took, last_test=build.test(sunday + took), last_runs=build.runs(run))
        action = next_of(policy, build.facts(known), sunday + took, TEST)
        assert action.reason.endswith(because)
        assert timedelta() <= action.due_at - at < DAY


def test_a_first_test_has_as_long_as_lies_between_two(build):
    """A new source's first test waits for the night; one that waits for longer than policy allows does not."""
    new = build.healthy(last_test=None, proven_at=None, first_seen=build.ago(hours=2))
    assert next_of(at_night(build.policy()), build.facts(new), build.now, TEST).reason == f"never tested; {HELD}"
    old = build.facts(replace(new, first_seen=build.ago(days=31)))
    assert next_of(at_night(build.policy()), old, build.now, TEST).reason == f"never tested; {OUTSIDE}"


def test_a_test_that_failed_is_repeated_in_the_next_window(build):
    """It is told of already, and was done: somebody's quiet day is not for doing it each hour."""
    last = build.test(build.ago(hours=1), passed=False)
    known = build.healthy(last_test=last, proven_at=build.ago(days=40))
    assert next_of(at_night(build.policy()), build.facts(known), build.now, TEST).due_at == build.now + 10 * HOUR


def test_a_reading_waits_but_not_beyond_its_time(build):
    policy = build.policy()
    within = policy.sources["ledger"].category.read_within
    for left, because in ((11 * HOUR, HELD), (9 * HOUR, OUTSIDE)):
        facts = build.facts(vaults=build.read_vaults(read_at=build.now - within + left))
        action = next_of(at_night(policy), facts, build.now, VERIFY, "near")
        assert action.reason.endswith(because), left
        assert (action.due_at > build.now) is (because == HELD)


def test_a_reading_in_parts_is_late_by_no_more_than_its_share_of_the_turn_to_spare(build):
    """Each of six readings may be late by a sixth of a day's turn: four hours."""
    from fractions import Fraction

    week = replace(build.source().category, read_within=7 * DAY)
    parts = tuple(build.vault(name, read_part=Fraction(1, 6)) for name in ("near", "far"))
    policy = at_night(build.policy(build.source(category=week), vaults=parts))
    for asked, because in ((10 * HOUR - 3 * HOUR, HELD), (10 * HOUR - 5 * HOUR, AHEAD)):
        read_at = build.now + asked - DAY
        facts = build.facts(vaults=build.read_vaults(read_at=read_at, read_since=build.ago(days=3)))
        assert next_of(policy, facts, build.now - 7 * HOUR, VERIFY, "near").reason.endswith(because), because


def test_a_prune_always_waits(build):
    policy = at_night(build.policy(prune_every=7 * DAY), SUNDAY)
    facts = build.facts()
    action = next_of(policy, facts, build.now, PRUNE, "near")
    assert action.due_at == datetime(2026, 3, 22, tzinfo=UTC)
    assert action.reason == f"pruned every 7 days; {HELD}"


def test_backups_copies_expiry_checks_and_locks_never_wait(build):
    vaults = (
        build.vault("near", checks=parse_triggers("daily")),
        build.vault("far", lock_mode=LockMode.COMPLIANCE, lock_window=30 * DAY),
    )
    assert locking(vaults[1]) is not None
    policy = build.policy(build.source(retention="1 day"), vaults=vaults, prune_every=7 * DAY)
    newest = build.point(build.ago(hours=8))
    kept = {"ledger": tuple(build.point(build.ago(days=each)) for each in range(3, 30))}
    known = build.healthy(newest=newest, copies=(build.copy(newest, "near"),))
    facts = build.facts(known, kept_points=kept)

    def light(of):
        return [each for each in planned(of, facts, build.now) if each.kind not in HEAVY]

    assert light(at_night(policy)) == light(policy)
    kinds = {each.kind for each in light(policy) if each.due_at <= build.now}
    assert {ActionKind.BACKUP, ActionKind.COPY, ActionKind.CHECK, ActionKind.RENEW} <= kinds


def test_the_window_is_by_the_wall_clock_of_the_policys_zone(build):
    """In Berlin the night begins at 21:00 UTC in winter, and at 20:00 UTC in summer."""
    policy = at_night(build.policy(prune_every=7 * DAY, timezone="Europe/Berlin"))
    for now, hour in ((datetime(2026, 3, 27, 12, tzinfo=UTC), 21), (datetime(2026, 3, 29, 12, tzinfo=UTC), 20)):
        assert next_of(policy, build.facts(), now, PRUNE, "near").due_at == now.replace(hour=hour)


def test_schedule_its_agenda_and_the_story_tell_when_the_window_opens(build):
    policy, facts = at_night(build.policy()), facts_tested(build, days=29, hours=2)
    opening = build.now + 10 * HOUR
    (row,) = timetable(policy, facts, build.now, ZoneInfo("UTC"))
    assert (row.test_next, row.test_why) == (opening, f"tested every 30 days; {HELD}")
    (coming,) = [each for each in agenda(policy, facts, build.now, DAY) if each.kind is TEST]
    assert (coming.first, coming.why) == (opening, f"tested every 30 days; {HELD}")
    (told,) = [each for each in upcoming(policy, "ledger", facts, build.now) if each.kind is TEST]
    assert told.due_at == opening
    (plain,) = timetable(build.policy(), facts, build.now, ZoneInfo("UTC"))
    assert plain.test_why == "tested every 30 days"


def test_whether_a_window_is_open_and_when_the_next_one_opens(build):
    policy = at_night(build.policy())
    assert (heavy_work_begins(build.policy(), build.now), next_opening(build.policy(), build.now)) == (True, None)
    assert (heavy_work_begins(policy, build.now), next_opening(policy, build.now)) == (False, build.now + 10 * HOUR)
    night = build.now + 11 * HOUR
    assert (heavy_work_begins(policy, night), next_opening(policy, night)) == (True, night)


def test_what_takes_longer_than_any_window_is_noted(build):
    run = build.run(TEST, build.ago(days=2), took=9 * HOUR)
    short = build.run(PRUNE, build.ago(days=2), took=HOUR)
    running = build.run(VERIFY, build.ago(days=2), Outcome.RUNNING)
    vaults = {name: replace(known, prune_run=short, last_run=running) for name, known in build.read_vaults().items()}
    facts = build.facts(build.healthy(last_runs=build.runs(run)), vaults=vaults)
    assert notes(build.policy(), facts) == ()
    (note,) = notes(at_night(build.policy()), facts)
    assert note.startswith(
        "the restore test of ledger last took 9 h, longer than heavy work's windows are ever open (8 h)"
    )
    assert notes(at_night(build.policy(), NIGHT, SUNDAY), facts) == ()
    assert notes(at_night(build.policy()), Facts()) == ()


minutes = st.integers(-10 * 1440, 10 * 1440)
edges = st.one_of(
    st.just((None, None)), st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda edge: edge[0] != edge[1])
)
some_windows = st.lists(
    st.builds(lambda edge, days: Window(*edge, days), edges, st.frozensets(st.integers(0, 6), min_size=1)),
    min_size=1,
    max_size=3,
)


@given(some_windows, minutes, minutes, st.integers(0, 10 * 1440), st.integers(0, 1000))
def test_heavy_work_begins_in_windows_unless_that_would_make_it_late(build, windows, asked, earliest, late, takes):
    """And it is asked for again and again until it begins: looking at each moment finds it due when it was said."""
    policy = replace(at_night(build.policy(), *windows), timezone="Europe/Berlin")
    zone = ZoneInfo(policy.timezone)
    at = build.now + asked * MINUTE
    room = Spare(min(build.now + earliest * MINUTE, at), at + late * MINUTE, takes * MINUTE)
    begin, because = begins(policy, at, build.now, room)
    opening = next_opening(policy, max(at, build.now))
    if because == OUTSIDE:
        assert begin == at and opening + room.takes > room.late
    else:
        assert is_open(policy.worker.heavy_work, max(begin, build.now), zone)
    if because == AHEAD:
        assert room.earliest <= begin < at and begin >= build.now and opening + room.takes > room.late
    if because == HELD:
        assert begin == opening and opening + room.takes <= room.late
    assert begins(policy, at, max(begin, build.now), room)[0] <= max(begin, build.now)


@pytest.mark.parametrize("wrong", [timedelta(hours=-1)])
def test_a_run_while_which_a_clock_was_put_back_took_no_time(build, wrong):
    run = build.run(TEST, build.ago(days=2), took=wrong)
    assert notes(at_night(build.policy()), build.facts(build.healthy(last_runs=build.runs(run)))) == ()
