"""Points under suspicion in the catalog: told until cleared, expired or not, and by what a new point is judged."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.change import Change, NewContent
from cto_backups.core.keeping import Mark
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.evidence.payloads import point_from_payload, point_to_payload
from cto_backups.evidence.records import verify_chain

WHY = ("mass deletion: 9 of 9 entries are gone", "size collapsed: 3 % of what it was")
CHANGE = Change(10, 2**60, True, 1, 2, 3, 1, NewContent(2**61, 5, 4, 3, 2, 7.125))


@pytest.fixture
def add(catalog, build):
    def added(id, days, **changes):
        point = replace(build.point(id, build.ago(days=days)), **changes)
        catalog.add_point_with_copy(point, build.copy(id))
        return point

    return added


def clear(catalog, build, name, because="a drill, \udce9"):
    return catalog.marks.clear(name, by="cy", because=because, signer=build.key, now=build.now + timedelta(days=1))


def test_a_point_comes_back_with_its_figures_and_suspicions(catalog, add):
    point = add("ledger-1", 1, change=CHANGE, suspicions=WHY)
    assert catalog.point("ledger-1") == point
    assert point_from_payload(point_to_payload(point)) == point
    payload = point_to_payload(replace(point, change=None, suspicions=()))
    assert not {"change", "suspicions"} & set(payload), "records of points without are as they always were"


def test_marks_are_told_until_they_are_cleared_also_of_expired_points(catalog, build, add):
    add("ledger-1", 3, suspicions=WHY)
    add("ledger-2", 2, suspicions=WHY[1:])
    add("ledger-3", 1)
    first = Mark("ledger-1", "ledger", build.ago(days=3), WHY)
    second = Mark("ledger-2", "ledger", build.ago(days=2), WHY[1:])
    assert catalog.expire_point("ledger-1", build.now, ["old"], build.key)
    assert catalog.facts(build.now).marks == {"ledger": (first, second)}
    assert catalog.facts(build.now, ["another"]).marks == {}
    assert catalog.marks.listed() == (second, first)
    (cleared,) = clear(catalog, build, "ledger-1")
    assert cleared == replace(
        first, cleared_at=build.now + timedelta(days=1), cleared_by="cy", cleared_because="a drill, \\udce9"
    )
    assert catalog.facts(build.now).marks == {"ledger": (second,)}
    assert catalog.marks.listed() == (second,)
    assert catalog.marks.listed(cleared=True) == (second, cleared)


def test_clearing_is_signed_with_who_when_and_why(catalog, build, add):
    add("ledger-1", 3, suspicions=WHY)
    clear(catalog, build, "ledger-1", "a drill")
    records = list(catalog.records_after(build.key.signer, 0))
    assert verify_chain(records).intact
    assert [(record.kind, record.payload) for record in records] == [
        (
            "clearance",
            {
                "point": "ledger-1",
                "source": "ledger",
                "reason": "a drill",
                "cleared_at": "2026-03-19T12:00:00.123456Z",
                "cleared_by": "cy",
            },
        )
    ]
    assert catalog.marks.take(records) == 0, "it is known"


def test_a_source_stands_for_all_of_its_marks(catalog, build, add):
    for number in (1, 2):
        add(f"ledger-{number}", number, suspicions=WHY)
    assert [mark.point for mark in clear(catalog, build, "ledger")] == ["ledger-2", "ledger-1"]
    assert catalog.marks.listed() == ()


def test_only_a_mark_that_is_named_once_and_in_force_is_cleared(catalog, build, add):
    for number in (10, 11):
        add(f"ledger-{number}", number, suspicions=WHY)
    add("ledger-30", 9)
    for name in ("ledger-1", "ledger-30", "nothing", ""):
        with pytest.raises(NotFoundError) as caught:
            clear(catalog, build, name)
        assert ("ledger-10, ledger-11" in caught.value.why) is (name == "ledger-1")
    clear(catalog, build, "ledger-10")
    with pytest.raises(RefusedError, match="cleared before"):
        clear(catalog, build, "ledger-10")
    assert [record.kind for record in catalog.records_after(build.key.signer, 0)] == ["clearance"]


def test_the_history_is_what_is_not_suspect_expired_or_not_and_the_first_with_figures(catalog, build, add):
    add("p0", 9)
    for number in range(1, 8):
        add(f"p{number}", 9 - number, change=CHANGE)
    add("p8", 0.5, change=CHANGE, suspicions=WHY)
    catalog.expire_point("p6", build.now, ["old"], build.key)

    def history(limit):
        return [point.id for point in catalog.marks.history("ledger", limit)]

    assert history(3) == ["p7", "p6", "p5", "p1"]
    assert history(20) == [f"p{number}" for number in reversed(range(8))]
    clear(catalog, build, "p8")
    assert history(2) == ["p8", "p7", "p1"]
    assert catalog.marks.history("another", 9) == ()
