"""When windows of the day and of the week open and close, also where clocks are put forward or back."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cto_backups.core.windows import Window, closed_since, is_open, longest_opening, opens

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Window(22 * 60, 6 * 60)
WEEKEND = Window(weekdays=frozenset({5, 6}))

edges = st.one_of(
    st.just((None, None)), st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda edge: edge[0] != edge[1])
)
windows = st.lists(
    st.builds(lambda edge, days: Window(*edge, days), edges, st.frozensets(st.integers(0, 6), min_size=1)),
    min_size=1,
    max_size=3,
).map(tuple)
# The days around the changes of 2026 in Berlin and in New York, in whole minutes.
around = st.builds(
    lambda day, minutes: datetime(2026, *day, tzinfo=UTC) + minutes * MINUTE,
    st.sampled_from([(3, 28), (10, 24), (3, 7), (10, 31), (6, 1)]),
    st.integers(0, 3 * 1440),
)
zones = st.sampled_from([BERLIN, ZoneInfo("America/New_York"), ZoneInfo("UTC"), ZoneInfo("Asia/Beirut")])


def at(day, hour, minute=0, fold=0):
    return datetime(2026, *day, hour, minute, tzinfo=BERLIN, fold=fold).astimezone(UTC)


def test_a_night_opens_in_the_evening_and_has_closed_in_the_morning():
    assert opens((NIGHT,), at((3, 18), 12), BERLIN) == at((3, 18), 22)
    assert closed_since((NIGHT,), at((3, 18), 12), BERLIN) == at((3, 18), 6)
    for hour in (22, 23, 0, 5):
        moment = at((3, 18), hour)
        assert opens((NIGHT,), moment, BERLIN) == moment
        assert closed_since((NIGHT,), moment, BERLIN) is None


def test_a_weekend_is_open_from_saturdays_midnight_to_sundays():
    assert opens((WEEKEND,), at((3, 18), 12), BERLIN) == at((3, 21), 0)
    assert closed_since((WEEKEND,), at((3, 18), 12), BERLIN) == at((3, 16), 0)


def test_where_clocks_are_put_forward_over_its_begin_it_opens_when_they_are():
    window = Window(150, 300)  # 02:30 to 05:00
    assert opens((window,), at((3, 29), 1), BERLIN) == at((3, 29), 3) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_a_window_that_clocks_skip_opens_on_its_next_day():
    sundays = Window(130, 170, frozenset({6}))  # 02:10 to 02:50
    assert opens((sundays,), at((3, 28), 12), BERLIN) == at((4, 5), 2, 10)
    assert closed_since((sundays,), at((4, 4), 12), BERLIN) == at((3, 22), 2, 50)
    assert not is_open((sundays,), at((3, 29), 3), BERLIN)


def test_where_clocks_are_put_back_into_it_it_opens_again():
    window = Window(90, 150)  # 01:30 to 02:30
    between = at((10, 25), 2, 40)
    assert closed_since((window,), between, BERLIN) == at((10, 25), 2, 30)
    assert opens((window,), between, BERLIN) == at((10, 25), 2, 0, fold=1)
    late = Window(150, 300)  # 02:30 to 05:00
    assert opens((late,), at((10, 25), 2, 10, fold=1), BERLIN) == at((10, 25), 2, 30, fold=1)
    assert closed_since((late,), at((10, 25), 2, 10, fold=1), BERLIN) == at((10, 25), 2, 0, fold=1)


@given(windows, around, zones)
@example((NIGHT,), datetime(2026, 3, 29, 12, tzinfo=UTC), BERLIN)
def test_it_opens_at_the_first_minute_that_is_in_a_window(windows, moment, zone):
    """By looking at every minute up to then, or of three days where it is further away."""
    opening = opens(windows, moment, zone)
    assert opening >= moment and is_open(windows, opening, zone)
    for each in range(min(int((opening - moment) / MINUTE), 3 * 1440)):
        assert not is_open(windows, moment + each * MINUTE, zone)


@given(windows, around, zones)
def test_it_has_been_closed_since_the_last_minute_that_was_in_a_window(windows, moment, zone):
    closed = closed_since(windows, moment, zone)
    if closed is None:
        assert is_open(windows, moment, zone)
        return
    assert closed <= moment and is_open(windows, closed - MINUTE, zone)
    for each in range(min(int((moment - closed) / MINUTE) + 1, 3 * 1440)):
        assert not is_open(windows, moment - each * MINUTE, zone)


@pytest.mark.parametrize(
    ("given", "longest"),
    [
        ((NIGHT,), 8 * HOUR),
        ((WEEKEND,), 48 * HOUR),
        ((NIGHT, WEEKEND), 56 * HOUR),  # from friday's 22:00 to monday's 06:00
        ((Window(),), 7 * 24 * HOUR),
        ((Window(0, 60), Window(60, 90), Window(120, 150)), 90 * MINUTE),
        ((Window(weekdays=frozenset({6})), Window(weekdays=frozenset({0}))), 48 * HOUR),
        ((Window(0, 1439), Window(60, 120)), 1439 * MINUTE),
        ((), 0 * HOUR),
    ],
)
def test_the_longest_opening_goes_over_windows_that_touch(given, longest):
    assert longest_opening(given) == longest


def test_a_naive_moment_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        opens((NIGHT,), datetime(2026, 3, 18), BERLIN)  # noqa: DTZ001


def test_no_change_of_clocks_is_on_a_plain_day():
    moment = datetime.combine(date(2026, 6, 1), datetime.min.time(), BERLIN)
    assert opens((Window(0, 1),), moment, BERLIN) == moment
