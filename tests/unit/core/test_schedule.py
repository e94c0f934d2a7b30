from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.schedule import (
    AT_ONCE,
    At,
    Continuous,
    Every,
    OnChange,
    longest_gap,
    next_run,
    occurrences,
    parse_triggers,
    rescan_interval,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")
ZONES = [UTC_ZONE, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kolkata")]

moments = st.integers(0, 10 * 365 * 86400).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + seconds * SECOND)
zones = st.sampled_from(ZONES)
daily = st.builds(At, st.integers(0, 23), st.integers(0, 59))
calendar = daily | st.builds(
    lambda hour, day, months: At(hour, 0, day=day, months=months),
    st.integers(0, 23),
    st.integers(1, 31),
    st.sampled_from([None, (2,), (1, 4, 7, 10)]),
)
intervals = st.integers(60, 10**7).map(lambda seconds: Every(timedelta(seconds=seconds)))
trigger_sets = st.lists(st.just(Continuous()) | st.just(OnChange()) | intervals | calendar, min_size=1, max_size=3).map(
    tuple
)
rpos = st.sampled_from([HOUR, DAY, 7 * DAY])


def after(text, last, *, zone=UTC_ZONE, rpo=DAY, lead=timedelta()):
    return next_run(parse_triggers(text), last=last, zone=zone, rpo=rpo, lead=lead).at


@given(trigger_sets, moments, zones, rpos, st.timedeltas(timedelta(), DAY))
def test_the_next_run_is_after_the_last_and_within_the_longest_gap(triggers, last, zone, rpo, lead):
    run = next_run(triggers, last=last, zone=zone, rpo=rpo, lead=lead)
    assert last < run.at <= last + longest_gap(triggers, rpo) + 2 * HOUR  # summer time, here and there
    assert run.trigger in triggers


@given(trigger_sets, moments, zones, rpos)
def test_a_longer_lead_never_makes_a_run_later(triggers, last, zone, rpo):
    runs = [next_run(triggers, last=last, zone=zone, rpo=rpo, lead=lead).at for lead in (timedelta(), rpo / 2, rpo)]
    assert runs == sorted(runs, reverse=True)


@given(trigger_sets, moments, rpos)
def test_a_source_that_never_ran_runs_at_once(triggers, moment, rpo):
    run = next_run(triggers, last=None, zone=UTC_ZONE, rpo=rpo)
    assert run.at == AT_ONCE < moment


def test_runs_missed_while_nothing_ran_are_caught_up_by_one():
    last, now = datetime(2026, 1, 1, 2, tzinfo=UTC), datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert after("daily", last) == datetime(2026, 1, 2, 2, tzinfo=UTC)
    assert after("daily", now) == datetime(2026, 1, 11, 2, tzinfo=UTC)


def test_the_earliest_trigger_of_a_set_wins():
    last = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
    run = next_run(parse_triggers("hourly, daily at 02:00"), last=last, zone=UTC_ZONE, rpo=2 * HOUR)
    assert run.at == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert run.trigger == At(2, 0)


def test_calendar_times_are_those_of_the_zone():
    last = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert after("daily at 02:00", last, zone=BERLIN) == datetime(2026, 1, 2, 1, tzinfo=UTC)
    assert after("daily at 02:00", datetime(2026, 7, 1, 12, tzinfo=UTC), zone=BERLIN) == datetime(
        2026, 7, 2, 0, tzinfo=UTC
    )


def test_a_time_that_summer_time_skips_runs_at_the_next_moment_that_exists():
    last = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert after("daily at 02:30", last, zone=BERLIN) == datetime(2026, 3, 29, 1, tzinfo=UTC)  # 03:00 local
    second = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert after("daily at 02:30", second, zone=BERLIN) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_a_time_that_comes_twice_runs_once():
    last = datetime(2026, 10, 24, 12, tzinfo=UTC)
    first = after("daily at 02:30", last, zone=BERLIN)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert after("daily at 02:30", first, zone=BERLIN) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_a_whole_day_that_a_zone_skipped_runs_when_the_next_begins():
    apia = ZoneInfo("Pacific/Apia")  # it had no 30 December 2011
    last = datetime(2011, 12, 29, 22, tzinfo=apia).astimezone(UTC)
    assert after("daily at 02:00", last, zone=apia).astimezone(apia) == datetime(2011, 12, 31, 0, tzinfo=apia)


@given(moments, zones, daily)
def test_a_daily_trigger_asks_once_a_day(start, zone, trigger):
    runs = list(occurrences(trigger, start, start + 370 * DAY, zone, rpo=DAY))
    assert 369 <= len(runs) <= 371
    assert all(22 * HOUR <= later - earlier <= 26 * HOUR for earlier, later in pairwise(runs))


@given(intervals | calendar, moments, zones)
def test_occurrences_are_the_next_runs_one_after_another(trigger, start, zone):
    expected = [start]
    for _ in range(3):
        # An RPO of a second: no interval is pulled forward by it.
        expected.append(next_run((trigger,), last=expected[-1], zone=zone, rpo=SECOND).at)
    assert list(occurrences(trigger, start, expected[-1], zone, rpo=DAY)) == expected[1:]


def test_rescans_come_well_within_the_rpo():
    assert rescan_interval(OnChange(), DAY) == 12 * HOUR
    assert rescan_interval(Continuous(), timedelta(minutes=20)) == timedelta(minutes=5)
    assert rescan_interval(Continuous(), 7 * DAY) == timedelta(minutes=15)
    assert rescan_interval(Every(HOUR), DAY) == HOUR
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(list(occurrences(OnChange(), start, start + DAY, UTC_ZONE, rpo=4 * HOUR))) == 12


def test_an_interval_as_long_as_the_rpo_comes_early_by_the_time_a_run_takes():
    last = datetime(2026, 1, 1, tzinfo=UTC)
    assert after("hourly", last, rpo=HOUR, lead=timedelta(minutes=4)) == last + timedelta(minutes=56)
    assert after("hourly", last, rpo=DAY, lead=timedelta(minutes=4)) == last + HOUR


def test_a_run_that_takes_longer_than_its_rpo_does_not_run_without_end():
    last = datetime(2026, 1, 1, tzinfo=UTC)
    assert after("hourly", last, rpo=HOUR, lead=3 * HOUR) == last + timedelta(minutes=15)


def test_an_interval_longer_than_the_rpo_is_left_alone():
    last = datetime(2026, 1, 1, tzinfo=UTC)
    assert after("every 7 days", last, rpo=HOUR) == last + 7 * DAY


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("continuous", timedelta(minutes=15)),
        ("on change", timedelta(minutes=30)),
        ("hourly", HOUR),
        ("daily", DAY),
        ("daily, daily at 14:00", 12 * HOUR),
        ("daily, every 6 h", 6 * HOUR),
        ("weekly", 7 * DAY),
        ("weekly on monday, weekly on thursday", 4 * DAY),
        ("monthly", 31 * DAY),
        ("monthly on the last day", 31 * DAY),
        ("quarterly", 92 * DAY),
        ("yearly", 366 * DAY),
        ("yearly on 29 february", 366 * DAY),
    ],
)
def test_the_longest_gap_is_what_the_whole_set_leaves(text, gap):
    assert longest_gap(parse_triggers(text), HOUR) == gap


def test_a_day_beyond_the_end_of_a_month_is_its_last():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    runs = occurrences(At(0, 0, day=31), start, start + 120 * DAY, UTC_ZONE, rpo=DAY)
    assert [(run.month, run.day) for run in runs] == [(1, 31), (2, 28), (3, 31), (4, 30)]


def test_naive_moments_are_refused():
    aware = datetime(2026, 1, 1, tzinfo=UTC)
    naive = aware.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"):
        after("daily", naive)
    with pytest.raises(ValueError, match="no time zone"):
        occurrences(OnChange(), naive, aware, UTC_ZONE, rpo=DAY)
    with pytest.raises(ValueError, match="no time zone"):
        occurrences(OnChange(), aware, naive, UTC_ZONE, rpo=DAY)


def test_a_schedule_without_triggers_is_refused():
    with pytest.raises(ValueError, match="at least one trigger"):
        longest_gap((), HOUR)
    with pytest.raises(ValueError, match="at least one trigger"):
        next_run((), last=None, zone=UTC_ZONE, rpo=HOUR)


@given(trigger_sets, moments, zones, rpos, st.integers(0, 3600))
def test_a_shift_leaves_the_times_between_runs_as_they_are(triggers, last, zone, rpo, seconds):
    """So it makes no RPO missed: the next run is no later than the longest gap after the last, wherever that was."""
    run = next_run(triggers, last=last, zone=zone, rpo=rpo, shift=seconds * SECOND)
    assert last < run.at <= last + longest_gap(triggers, rpo) + 2 * HOUR
    if isinstance(run.trigger, At):
        unshifted = next_run((run.trigger,), last=last - seconds * SECOND, zone=zone, rpo=rpo)
        assert run.at == unshifted.at + seconds * SECOND


def test_a_shift_puts_calendar_times_off_and_intervals_not():
    last = datetime(2026, 1, 1, 2, 3, tzinfo=UTC)
    shifted = {"zone": UTC_ZONE, "rpo": 2 * DAY, "shift": timedelta(minutes=7)}
    assert next_run(parse_triggers("daily at 02:00"), last=last, **shifted).at == last.replace(minute=7)
    assert next_run(parse_triggers("hourly"), last=last, **shifted).at == last + HOUR
