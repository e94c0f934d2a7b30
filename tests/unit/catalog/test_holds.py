"""Legal holds in the catalog: what is held is not dropped, and each placing and release is signed with it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.keeping import Hold
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.evidence.records import verify_chain

CASE = "case 4711, \udce9"


@pytest.fixture
def hold(build):
    return Hold("hold-1", "ledger", "p1", CASE, build.now, "bo", "Ada")


@pytest.fixture
def filled(catalog, build):
    for id in ("p1", "p2"):
        catalog.add_point_with_copy(build.point(id), build.copy(id))
    return catalog


def release(catalog, build, name="hold-1"):
    return catalog.release_hold(name, by="cy", because="closed", signer=build.key, now=build.now + timedelta(days=1))


def test_a_held_point_is_not_dropped_until_it_is_released(filled, build, hold):
    filled.place_hold(hold, build.key)
    assert not filled.expire_point("p1", build.now, ["old"], build.key)
    assert filled.expire_point("p2", build.now, ["old"], build.key)
    assert not filled.expire_point("p2", build.now, ["old"], build.key), "it was dropped before"
    assert [point.id for point in filled.points()] == ["p1"]
    assert {copy.point for copy in filled.expired_copies_to_delete()} == {"p2"}
    release(filled, build)
    assert filled.expire_point("p1", build.now, ["old"], build.key)


def test_a_hold_on_a_source_holds_points_made_later_and_no_other_source(filled, build, hold):
    filled.sync_policy(build.policy(build.source(), build.source("another"), digest="d2"), b"", build.now)
    filled.add_point_with_copy(build.point("other", source="another"), build.copy("other"))
    filled.place_hold(replace(hold, point=None), build.key)
    filled.add_point_with_copy(build.point("p3"), build.copy("p3"))
    assert not filled.expire_point("p3", build.now, ["old"], build.key)
    assert filled.expire_point("other", build.now, ["old"], build.key)


def test_one_of_two_holds_released_leaves_the_point_held(filled, build, hold):
    filled.place_hold(hold, build.key)
    filled.place_hold(replace(hold, id="hold-2", point=None), build.key)
    release(filled, build)
    assert not filled.expire_point("p1", build.now, ["old"], build.key)


def test_placing_and_release_are_signed_with_who_when_and_why(filled, build, hold):
    filled.place_hold(hold, build.key)
    assert not filled.expire_point("p1", build.now, ["old"], build.key)
    released = release(filled, build)
    records = list(filled.records_after(build.key.signer, 0))
    assert verify_chain(records).intact
    assert [record.kind for record in records] == ["hold", "release"], "what was not dropped is not signed as dropped"
    about = {"id": "hold-1", "source": "ledger", "point": "p1"}
    assert records[0].payload == about | {
        "reason": "case 4711, \\udce9",
        "placed_at": "2026-03-18T12:00:00.123456Z",
        "placed_by": "bo",
        "approver": "Ada",
    }
    assert records[1].payload == about | {
        "reason": "closed",
        "released_at": "2026-03-19T12:00:00.123456Z",
        "released_by": "cy",
    }
    assert (released.released_by, released.released_because) == ("cy", "closed")
    assert filled.holds() == ()
    assert filled.holds(released=True) == (released,)


def test_facts_have_the_holds_in_force_of_the_sources_asked_for(filled, build, hold):
    filled.place_hold(hold, build.key)
    (placed,) = filled.holds()
    assert filled.facts(build.now, ["ledger"], kept_points=True).holds == {"ledger": (placed,)}
    assert filled.facts(build.now, ["another"], kept_points=True).holds == {}
    release(filled, build)
    assert filled.facts(build.now, ["ledger"], kept_points=True).holds == {}


def test_a_point_that_was_dropped_meanwhile_cannot_be_held(filled, build, hold):
    filled.expire_point("p1", build.now, ["old"], build.key)
    with pytest.raises(RefusedError, match="dropped while"):
        filled.place_hold(hold, build.key)
    assert filled.holds(released=True) == ()
    assert [record.kind for record in filled.records_after(build.key.signer, 0)] == ["expiry"]


def test_a_hold_is_named_by_a_unique_beginning_and_released_once(filled, build, hold):
    filled.place_hold(hold, build.key)
    filled.place_hold(replace(hold, id="hold-12"), build.key)
    for name, says in (("hold", "more than one"), ("", "more than one"), ("case", "no hold 'case'"), ("%", "no hold")):
        with pytest.raises(NotFoundError, match=says):
            release(filled, build, name)
    assert release(filled, build, "hold-1").id == "hold-1", "a whole id is meant, whatever begins with it"
    with pytest.raises(RefusedError, match="released before"):
        release(filled, build, "hold-1")
    assert release(filled, build, "hold-12").id == "hold-12"
