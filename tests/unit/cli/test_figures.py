"""Sizes, lengths of time and moments as people read them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from cto_backups.cli import figures

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999.7, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567, "1.2 MB"),
        (99_950_000, "100 MB"),
        (1_200_000_000, "1.2 GB"),
        (3_400_000_000_000, "3.4 TB"),
        (5 * 10**21, "5000 EB"),
    ],
)
def test_a_size_has_the_unit_that_reads_best(size_bytes: float, told: str) -> None:
    assert figures.size(size_bytes) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_a_duration_is_told_in_one_or_two_units(seconds: float, told: str) -> None:
    assert figures.duration(seconds) == told


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=71), "71 h"),
        (timedelta(days=3), "3 d"),
        (timedelta(days=1095), "3 y"),
    ],
)
def test_an_age_is_never_rounded_up(length: timedelta, told: str) -> None:
    assert figures.age(length) == told


def test_a_moment_is_told_from_now() -> None:
    assert figures.relative(NOW + timedelta(hours=2), NOW) == "in 2 h"
    assert figures.relative(NOW - timedelta(minutes=5), NOW) == "5 min ago"
    assert figures.relative(NOW + timedelta(seconds=4), NOW) == "now"


def test_a_moment_is_told_on_the_clocks_of_the_zone() -> None:
    assert figures.local(NOW, ZoneInfo("Europe/Berlin")) == "2026-11-23 11:00"


def test_a_rate_is_not_told_of_an_instant() -> None:
    assert figures.rate(1_000_000, 0.0) == ""
    assert figures.rate(240_000_000, 2.0) == "120 MB/s"
