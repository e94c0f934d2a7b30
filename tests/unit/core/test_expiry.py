"""What the gates keep of a source: never less than can be relied on, whatever its rules say."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.expiry import clean_before, decide_source, newest_verified
from cto_backups.core.model import Facts, Mark, SourceFacts
from cto_backups.core.retention import Retention, decide

ZONE = ZoneInfo("UTC")
VAULTS = ("near", "far", "third")

points = st.lists(st.tuples(st.booleans(), st.frozensets(st.sampled_from((*VAULTS, "gone")))), min_size=1, max_size=8)


def known(build, made, **changes):
    """Points a day apart, the oldest first, each (incomplete, the vaults with a verified copy)."""
    kept = [
        build.point(build.now - timedelta(days=len(made) - number), id=f"p{number}", incomplete=incomplete)
        for number, (incomplete, _) in enumerate(made)
    ]
    copies = {f"p{number}": vaults for number, (_, vaults) in enumerate(made)}
    return Facts(kept_points={"ledger": tuple(kept)}, verified_copies=copies, **changes)


def source(build, copies=2, vaults=VAULTS):
    plain = build.source()
    return replace(
        plain, category=replace(plain.category, copies=copies), vaults=vaults, retention=Retention(versions=1)
    )


def removed(source, facts, now):
    return {each.point.id for each in decide_source(source, facts, now=now, zone=ZONE) if not each.keep}


@given(points, st.integers(1, 4), st.sets(st.sampled_from(VAULTS), min_size=1))
def test_expiring_again_and_again_leaves_the_newest_point_with_its_verified_copies(build, made, copies, vaults):
    """Of the points that have the verified copies that are asked for, the newest stays."""
    policy, facts = source(build, copies, tuple(sorted(vaults))), known(build, made)
    wanted = min(copies, len(vaults))

    def enough(kept):
        return {
            point.id
            for point in kept
            if point.complete and len(facts.verified_copies[point.id].intersection(vaults)) >= wanted
        }

    before = enough(facts.kept_points["ledger"])
    for days in range(3):
        gone = removed(policy, facts, build.now + timedelta(days=days))
        facts = replace(
            facts, kept_points={"ledger": tuple(p for p in facts.kept_points["ledger"] if p.id not in gone)}
        )
    after = enough(facts.kept_points["ledger"])
    assert bool(after) == bool(before)
    assert not before or max(before) in after
    assert newest_verified(policy, facts) == (max(after) if after else None)


@pytest.mark.parametrize(
    ("made", "stays"),
    [
        ([{"near", "far"}, {"near", "far"}, {"near"}, set()], {"p1", "p3"}),
        ([{"near", "far"}, {"near", "far"}, {"near"}, {"far", "third"}], {"p3"}),
        ([{"near"}, {"far"}, {"near"}, set()], {"p3"}),
        ([{"near", "gone"}, set(), set(), set()], {"p3"}),
    ],
)
def test_what_has_the_copies_stays_until_something_newer_has_them(build, made, stays):
    facts = known(build, [(False, frozenset(vaults)) for vaults in made])
    assert {"p0", "p1", "p2", "p3"} - removed(source(build), facts, build.now) == stays


def test_the_reason_is_told(build):
    facts = known(build, [(False, frozenset(VAULTS)), (False, frozenset())])
    _, oldest = decide_source(source(build), facts, now=build.now, zone=ZONE)
    assert oldest.reasons == ("newest point with the verified copies that policy asks for",)


def test_the_proven_point_and_holds_count_as_well(build):
    facts = known(build, [(False, frozenset())] * 4)
    proven, held, *_ = facts.kept_points["ledger"]
    facts = replace(
        facts, sources={"ledger": SourceFacts("ledger", proven=proven)}, holds={"ledger": (build.hold(held.id),)}
    )
    assert removed(source(build), facts, build.now) == {"p2"}


def test_a_source_without_points_has_no_decisions(build):
    assert decide_source(source(build), Facts(), now=build.now, zone=ZONE) == ()


@given(st.integers(1, 4000))
def test_a_source_that_is_idle_or_failing_ages_out_to_nothing_less(build, days):
    """However old the newest point is, and however many incomplete ones pile up, the last complete one stays."""
    rule = Retention(keep_for=timedelta(days=10))
    facts = known(build, [(False, frozenset()), (False, frozenset()), (True, frozenset())])
    later = build.now + timedelta(days=days)
    policy = replace(source(build), retention=rule)
    assert "p1" not in removed(policy, facts, later)
    alone = decide(rule, facts.kept_points["ledger"][1:2], now=later, proven=None, zone=ZONE)
    assert all(decision.keep for decision in alone)


def mark(build, number, point="p?"):
    return Mark(point, "ledger", build.now - timedelta(days=number), ("mass deletion: 9 of 9 entries are gone",))


def test_clean_points_before_one_under_suspicion_do_not_expire(build):
    """Nor those of the month before it, nor the newest of all that is clean, however old."""
    facts = known(build, [(False, frozenset())] * 50)  # p0 is 50 days old, p49 is one day old
    policy = source(build)
    assert removed(policy, facts, build.now) == {f"p{number}" for number in range(49)}
    marked = replace(facts, marks={"ledger": (mark(build, 10, "p40"),)})
    frozen = {f"p{number}" for number in range(10, 40)}
    assert removed(policy, marked, build.now) == {f"p{number}" for number in range(49)} - frozen
    said = next(
        each.reasons for each in decide_source(policy, marked, now=build.now, zone=ZONE) if each.point.id == "p39"
    )
    assert said[0] == "clean before p40, which is under suspicion and not cleared"


def test_the_newest_clean_point_is_kept_however_long_before(build):
    facts = known(build, [(False, frozenset()), (True, frozenset())])
    old = replace(facts.kept_points["ledger"][0], captured_at=build.now - timedelta(days=400))
    facts = replace(facts, kept_points={"ledger": (*facts.kept_points["ledger"], old)})
    frozen = clean_before((mark(build, 90, "gone"),), facts.kept_points["ledger"])
    assert frozen == {"p0": "clean before gone, which is under suspicion and not cleared"}
    assert clean_before((mark(build, 500, "gone"),), facts.kept_points["ledger"]) == {}


def test_neither_marked_nor_incomplete_points_count_as_clean(build):
    facts = known(build, [(False, frozenset()), (True, frozenset()), (False, frozenset()), (False, frozenset())])
    marks = (mark(build, 1, "p3"), mark(build, 2, "p2"))
    assert clean_before(marks, facts.kept_points["ledger"]) == {
        "p0": "clean before p2, which is under suspicion and not cleared"
    }
