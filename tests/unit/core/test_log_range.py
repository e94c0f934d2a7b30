"""Which point's log leads to a moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.log_range import follows, log_range, reaching
from cto_backups.core.model import Fingerprint, RecoveryPoint, Sample
from cto_backups.core.streams import Follows

BEGINS = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def logged(build):
    def made(name: str, since: int, until: int) -> RecoveryPoint:
        """A point whose log goes from hour to hour."""
        hours = {"since": since, "until": until}
        fields = {key: (BEGINS + timedelta(hours=hour)).isoformat() for key, hour in hours.items()}
        fingerprint = Fingerprint("any/1", {}, {}, (Sample("other", {}), Sample("log", fields)))
        return replace(build.point(id=name), fingerprint=fingerprint)

    return made


def test_the_log_that_ends_first_is_chosen(build, logged):
    points = [
        build.point(id="plain"),
        logged("long", 0, 9),
        logged("short", 0, 5),
        logged("longer", 0, 12),
        logged("new", 8, 9),
    ]
    at = [reaching(points, BEGINS + timedelta(hours=hour)) for hour in (0, 5, 6, 8.5, 12, 13)]
    assert [point and point.id for point in at] == ["short", "short", "long", "long", "longer", None]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"since": "2026-11-01T00:00:00+00:00"},
        {"since": "then", "until": "now"},
        {"since": "2026-11-01T00:00:00", "until": "2026-11-01T00:00:00+00:00"},
        {"since": "2026-11-01T00:00:00+00:00", "until": "2026-11-01T00:00:00"},
    ],
)
def test_what_makes_no_sense_leads_nowhere(build, fields):
    point = replace(build.point(id="odd"), fingerprint=Fingerprint("any/1", {}, {}, (Sample("log", fields),)))
    assert log_range(point) is None


def test_a_stream_goes_on_where_a_points_log_ends(build):
    def told(**fields):
        return follows(replace(build.point(), fingerprint=Fingerprint("any/1", {}, {}, (Sample("log", fields),))))

    whole = {"log": "server-1", "first_position": "10", "end_position": "30", "more": "known to the source"}
    assert told(**whole) == Follows("server-1", 10, 30, whole)
    assert told(since="then") is None, "of an earlier release"
    assert told(log="server-1", first_position="10") is None
    assert told(log="server-1", first_position="10", end_position="the end") is None
    assert follows(build.point()) is None
