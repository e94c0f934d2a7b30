"""The simulation says what retention, applied day by day, would leave."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.retention import Retention, decide, parse_retention
from cto_backups.core.schedule import At, Every, parse_triggers
from cto_backups.core.simulation import MOST_DAYS, simulate

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)

retentions = st.one_of(
    st.just(Retention(permanent=True)),
    st.builds(
        Retention,
        keep_for=st.none() | st.integers(1, 30).map(lambda days: days * DAY),
        versions=st.none() | st.integers(1, 3),
        daily=st.integers(1, 9),
        weekly=st.integers(0, 3),
        monthly=st.integers(0, 3),
        yearly=st.integers(0, 1),
    ),
    st.builds(Retention, keep_for=st.integers(1, 30).map(lambda days: days * DAY)),
    st.builds(Retention, versions=st.integers(1, 5)),
)
triggers = st.sampled_from(
    [(At(2, 0),), (At(12, 0, weekday=2), At(2, 30, day=31)), (Every(timedelta(hours=7)),), (At(2, 0), Every(2 * DAY))]
)
histories = st.lists(st.tuples(st.integers(1, 2000), st.booleans()), max_size=12, unique_by=lambda made: made[0])


def points(build, history):
    return [
        build.point(build.ago(hours=hours), id=f"old-{hours}", incomplete=incomplete) for hours, incomplete in history
    ]


def source(build, retention, text_or_triggers):
    chosen = parse_triggers(text_or_triggers) if isinstance(text_or_triggers, str) else text_or_triggers
    return replace(build.source(), retention=retention, triggers=chosen)


def run(build, rule, chosen, kept=(), *, days=400, **options):
    rule = parse_retention(rule) if isinstance(rule, str) else rule
    return simulate(source(build, rule, chosen), kept, now=build.now, days=days, zone=BERLIN, **options)


def same_as_decide_day_by_day(build, retention, chosen, history, days, held):
    before = points(build, history)
    holds = (build.hold(before[0].id),) if held and before else ()
    simulated = run(build, retention, chosen, before, days=days, holds=holds)
    made = run(build, Retention(permanent=True), chosen, before, days=days).kept
    there, unseen = [], sorted(made, key=lambda point: point.captured_at)
    for number, day in enumerate(simulated.days, start=1):
        now = build.now + number * DAY
        while unseen and unseen[0].captured_at <= now:
            there.append(unseen.pop(0))
        decisions = decide(retention, there, now=now, proven=None, holds=holds, zone=BERLIN)
        there = [decision.point for decision in decisions if decision.keep]
        assert (day.at, day.points) == (now, len(there))
    assert [point.id for point in simulated.kept] == [point.id for point in there]


@given(retentions, triggers, histories, st.integers(1, 45), st.booleans())
def test_the_end_is_that_of_decide_applied_day_by_day(build, retention, chosen, history, days, held):
    """Whatever short cuts it takes."""
    same_as_decide_day_by_day(build, retention, chosen, history, days, held)


@pytest.mark.parametrize("rule", ["3 days", "3 days, 5 daily", "2 days, 9 versions", "3 days, 6 daily, 3 weekly"])
@pytest.mark.parametrize("hours", [5, 7, 11])
def test_the_short_cuts_hold_where_points_are_dense_and_some_are_incomplete(build, rule, hours):
    """Several points a day, of which age keeps some and counts others; in the history every third is incomplete."""
    history = [(number * 5 + 1, number % 3 == 0) for number in range(60)]
    trigger = (Every(timedelta(hours=hours)),)
    same_as_decide_day_by_day(build, parse_retention(rule), trigger, history, 20, held=True)


def test_points_by_age_at_the_end(build):
    simulated = run(build, "7 daily, 5 weekly, 12 monthly", "hourly")
    assert simulated.by_age() == {"day": 2, "week": 5, "month": 4, "year": 10, "older": 0}
    assert sum(simulated.by_age().values()) == len(simulated.kept) == simulated.days[-1].points
    assert simulated.made == 400 * 24 + 1
    assert run(build, "permanent", "daily at 02:00").by_age()["older"] == 35


def test_calendar_times_are_in_the_zone_and_what_is_due_is_made_at_once(build):
    simulated = run(build, "permanent", "daily at 02:00", days=14)
    moments = sorted(point.captured_at.astimezone(UTC) for point in simulated.kept)
    assert moments[0] == build.now, "there was none before"
    assert moments[1] == datetime(2026, 3, 19, 1, tzinfo=UTC)
    assert moments[-1] == datetime(2026, 4, 1, 0, tzinfo=UTC), "summer time"
    behind = run(build, "permanent", "daily at 02:00", [build.point(build.ago(hours=5), id="x")], days=14)
    assert behind.made == 14


@pytest.mark.parametrize("trigger", ["on change", "continuous"])
def test_what_depends_on_changes_comes_as_often_as_it_came(build, trigger):
    gaps = (0, 40, 80, 119, 300)
    history = [build.point(build.ago(hours=hours), id=f"p{hours}") for hours in gaps]
    assert run(build, "permanent", trigger, history).triggers == (Every(timedelta(hours=40)),)
    dense = [build.point(build.ago(seconds=second), id=f"p{second}") for second in range(3)]
    often = run(build, "1 version", trigger, dense, days=1).triggers
    assert often == run(build, "1 version", trigger, days=1).triggers, "no more often than it is looked at"


def test_bytes_are_one_content_and_what_each_point_adds(build):
    history = [
        build.point(build.ago(days=1), id="b", size_bytes=1200, added_bytes=50),
        build.point(build.ago(days=2), id="a", size_bytes=1000, added_bytes=900),
    ]
    simulated = run(build, "3 versions", "daily at 02:00", history, days=30)
    assert [day.stored_bytes for day in simulated.days[5:]] == [1100 + 2 * 50] * 25
    assert simulated.byte_months() == pytest.approx(30 * 1200 / 30.4375, rel=0.01)
    single = run(build, "3 versions", "daily at 02:00", history[1:], days=30)
    assert (single.history.added_bytes, single.days[-1].stored_bytes) == (None, 1000)


def test_without_history_no_bytes_are_told(build):
    simulated = run(build, "3 versions", "daily at 02:00", days=3)
    assert (simulated.history.points, simulated.days[-1].stored_bytes, simulated.byte_months()) == (0, None, None)


@pytest.mark.parametrize("days", [0, -1, MOST_DAYS + 1])
def test_a_time_that_is_no_use_is_refused(build, days):
    with pytest.raises(ValueError, match="1 to 3660 days"):
        run(build, "3 versions", "daily at 02:00", days=days)


def test_a_naive_moment_is_refused(build):
    with pytest.raises(ValueError, match="time zone"):
        simulate(build.source(), (), now=build.now.replace(tzinfo=None), days=1, zone=BERLIN)
