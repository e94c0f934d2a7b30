"""What an audit whose sources come in parts remembers of each of them."""

from dataclasses import replace

import pytest

from cto_backups.core.auditing import remembered
from cto_backups.core.controls import CONTROLS
from cto_backups.core.elsewhere import SAMPLE, elsewhere
from cto_backups.core.facts import SourceFacts
from cto_backups.core.model import Fingerprint, Sample

PLACES = (Sample(SAMPLE, {"program": "wal-g"}), Sample(f"{SAMPLE}: far", {"cipher": "", "holds": "yes"}))


def test_controls_that_are_given_parts_are_those_that_ask_for_nothing_else():
    """Whoever adds one that looks at several sources together leaves `by_source` out."""
    assert 15 < sum(control.by_source for control in CONTROLS) < len(CONTROLS)


@pytest.mark.parametrize("samples", [(), (Sample("table a", {"rows": "7"}),), PLACES])
def test_of_what_is_remembered_a_point_keeps_what_reports_and_other_controls_ask(build, samples):
    said = Fingerprint("files/1", {"a": "b"}, {"c": 1}, samples)
    point = replace(build.point(), fingerprint=said)
    known = remembered(SourceFacts("books", newest=point, newest_any=point))
    assert known.newest is not None and known.newest_any is None
    assert (known.newest.size_bytes, known.newest.entry_count) == (point.size_bytes, point.entry_count)
    assert elsewhere(known.newest) == elsewhere(point)
    assert known.newest.fingerprint == Fingerprint("files/1", {}, {}, samples if samples is PLACES else ())


def test_of_a_source_without_a_point_nothing_is_remembered_of_one():
    assert remembered(SourceFacts("books", point_count=3)) == SourceFacts("books")


def test_where_copies_lie_and_what_follows_a_log_is_remembered(build):
    known = SourceFacts("books", copies=("copy",), restores=("restore",), stream="stream", discovered_at=build.now)
    assert remembered(replace(known, point_count=3)) == known
