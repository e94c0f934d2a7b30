"""Moments as people type them after --at."""

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.cli.moments import parse_moment
from cto_backups.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def meant(text: str) -> datetime:
    return parse_moment(text, now=NOW, zone=BERLIN)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("2026-11-23T09:00:00Z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23t09:00:00z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T09:00:00-01:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23 10:00", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-07-01 10:00", datetime(2026, 7, 1, 8, tzinfo=UTC)),
        ("today 08:30", datetime(2026, 11, 23, 7, 30, tzinfo=UTC)),
        ("Yesterday at 18:00", datetime(2026, 11, 22, 17, tzinfo=UTC)),
        ("2 hours ago", NOW - timedelta(hours=2)),
        ("1 h 30 minutes ago", NOW - timedelta(minutes=90)),
        ("3 days ago", NOW - timedelta(days=3)),
    ],
)
def test_the_usual_forms_are_understood(text: str, moment: datetime) -> None:
    assert meant(text).replace(microsecond=0) == moment.replace(second=meant(text).second)
    assert abs(meant(text) - moment) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23 10:00:05.25", datetime(2026, 11, 23, 9, 0, 5, 250_000, tzinfo=UTC)),
        ("2026-11-23 10:00:05", datetime(2026, 11, 23, 9, 0, 5, 999_999, tzinfo=UTC)),
        ("2026-11-23T09:00:05Z", datetime(2026, 11, 23, 9, 0, 5, 999_999, tzinfo=UTC)),
        ("2026-11-23T09:00+00:00", datetime(2026, 11, 23, 9, 0, 59, 999_999, tzinfo=UTC)),
        ("2026-11-23 10:00", datetime(2026, 11, 23, 9, 0, 59, 999_999, tzinfo=UTC)),
        ("today 10:00", datetime(2026, 11, 23, 9, 0, 59, 999_999, tzinfo=UTC)),
        ("2026-11-23 11:00", NOW),
    ],
)
def test_what_is_left_out_of_a_moment_means_its_end_so_that_a_listed_point_is_found(
    text: str, moment: datetime
) -> None:
    assert meant(text) == moment


def test_a_day_without_a_time_means_its_end_so_that_its_newest_point_is_found() -> None:
    for text in ("2026-11-22", "yesterday"):
        assert meant(text) == datetime(2026, 11, 22, 23, 0, tzinfo=UTC) - timedelta(microseconds=1)


def test_today_ends_now() -> None:
    assert meant("today") == NOW
    assert meant("2026-11-23") == NOW


@pytest.mark.parametrize(
    "text", ["tomorrow", "", "soon", "25:00", "yesterday 25:00", "2026-13-01", "ten days ago", "-1"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        meant(text)
    assert "2 hours ago" in caught.value.todo


def test_the_future_is_refused() -> None:
    with pytest.raises(UsageError, match="lies in the future"):
        meant("2026-11-23 11:01")


def test_a_moment_that_clocks_skipped_is_refused() -> None:
    with pytest.raises(UsageError, match="no 02:30 on 2026-03-29 in Europe/Berlin"):
        meant("2026-03-29 02:30")


@given(st.text(max_size=30))
def test_no_text_ends_in_anything_but_a_moment_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert meant(text).tzinfo is not None


@given(st.integers(min_value=0, max_value=10**9))
def test_iso_moments_are_read_back_exactly(seconds: int) -> None:
    moment = NOW - timedelta(seconds=seconds)
    assert meant(moment.isoformat(timespec="microseconds")) == moment
