"""How fast what travels may go: by the wall clock of the policy's zone, also where that is put forward or back."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.bandwidth import LEAST_RATE, BandwidthLimit, parse_rate, rate_at
from cto_backups.core.windows import parse_time_of_day

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = BandwidthLimit(up=1000, down=2000, begin=8 * 60, end=18 * 60, weekdays=frozenset(range(5)))
NIGHT = BandwidthLimit(up=5000, begin=22 * 60, end=6 * 60)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20 MiB/s", 20 << 20),
        ("5 MB/s", 5_000_000),
        ("100 Mbit/s", 12_500_000),
        ("1.5 gib/s", 3 << 29),
        ("64KiB/s", LEAST_RATE),
        ("2 Gbit/s", 250_000_000),
    ],
)
def test_a_rate_is_read_in_the_units_that_people_write(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "20", "20 MiB", "fast", "20 miles/s", "-1 MiB/s", "1e9 MiB/s", "20 MiB/h"])
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is no rate: write one such as 20 MiB/s"):
        parse_rate(text)


def test_a_rate_at_which_connections_die_is_refused():
    with pytest.raises(ValueError, match="too slow: at least 64 KiB/s"):
        parse_rate("63 KiB/s")


def test_the_first_limit_that_holds_and_speaks_of_the_way_counts():
    """Wednesday the 18th: up and down are looked for each by itself."""
    limits = (OFFICE, NIGHT, BandwidthLimit(down=9000))
    seen = {}
    for hour in (5, 7, 8, 17, 18, 21, 22):
        moment = datetime(2026, 3, 18, hour, 30, tzinfo=BERLIN)
        seen[hour] = rate_at(limits, "up", moment, BERLIN), rate_at(limits, "down", moment, BERLIN)
    assert seen == {
        5: (5000, 9000),
        7: (None, 9000),
        8: (1000, 2000),
        17: (1000, 2000),
        18: (None, 9000),
        21: (None, 9000),
        22: (5000, 9000),
    }


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins():
    friday = BandwidthLimit(up=1, begin=22 * 60, end=6 * 60, weekdays=frozenset({4}))
    for day, hour, holds in (
        (20, 21, False),
        (20, 23, True),
        (21, 5, True),
        (21, 6, False),
        (21, 23, False),
        (20, 5, False),
    ):
        assert friday.holds(datetime(2026, 3, day, hour, 0, tzinfo=UTC), ZoneInfo("UTC")) is holds, (day, hour)
    weekend = BandwidthLimit(up=1, weekdays=frozenset({5, 6}))
    assert weekend.holds(datetime(2026, 3, 21, tzinfo=UTC), ZoneInfo("UTC"))
    assert not weekend.holds(datetime(2026, 3, 20, tzinfo=UTC), ZoneInfo("UTC"))


def held_minutes(limit, day):
    """For how many minutes of a day, on the clock of Berlin, a limit holds."""
    moment, end = (
        datetime(day.year, day.month, each, tzinfo=BERLIN).astimezone(UTC) for each in (day.day, day.day + 1)
    )
    held = 0
    while moment < end:
        held += limit.holds(moment, BERLIN)
        moment += timedelta(minutes=1)
    return held


def test_where_clocks_change_the_wall_clock_decides():
    """From 01:30 to 03:30: an hour less when clocks go forward over it, an hour more when they go back into it."""
    limit = BandwidthLimit(up=1, begin=90, end=210)
    days = (date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25))
    assert [held_minutes(limit, day) for day in days] == [120, 60, 180]
    skipped = BandwidthLimit(up=1, begin=parse_time_of_day("02:10"), end=parse_time_of_day("02:50"))
    assert [held_minutes(skipped, day) for day in days] == [40, 0, 80]


def test_a_naive_moment_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        rate_at((OFFICE,), "up", datetime(2026, 3, 18), BERLIN)  # noqa: DTZ001


@given(
    st.integers(0, 4_000_000_000),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_a_window_and_its_complement_share_each_moment_out(seconds, begin, end):
    """Whatever the clock does, a moment is in a window or in the rest of the day, and never in both."""
    if begin != end:
        moment = datetime.fromtimestamp(seconds, UTC)
        window, rest = BandwidthLimit(begin=begin, end=end), BandwidthLimit(begin=end, end=begin)
        assert window.holds(moment, BERLIN) is not rest.holds(moment, BERLIN)
