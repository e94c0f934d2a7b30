"""What the gates keep of a source: never less than can be relied on, whatever its rules say."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.expiry import (
    WAIT,
    clean_before,
    decide_source,
    history,
    needs_approval,
    newest_verified,
    settles_by_time,
    succeeds,
    waiting,
)
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.governance import Governance, Governed, GoverningDocument, Who
from cto_backups.core.keeping import Mark, RetentionSeen, RetentionTold
from cto_backups.core.model import ActionKind
from cto_backups.core.plan import due
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


# -- a retention that was shortened


def aged(build, *retentions):
    """Ten points, ten days apart, the newest now; and the retentions that policy gave, each (text, age, settled)."""
    kept = [build.point(build.now - timedelta(days=10 * number), id=f"p{number}") for number in range(10)]
    seen = tuple(RetentionSeen(text, build.now - age, settled) for text, age, settled in retentions)
    return Facts(kept_points={"ledger": tuple(kept)}, retentions={"ledger": seen})


def dropped(build, text, facts, now=None, **options):
    policy = build.source(retention=text)
    decisions = decide_source(policy, facts, now=now or build.now, zone=ZONE, **options)
    return {each.point.id for each in decisions if not each.keep}


LONG = ("80 days", timedelta(days=400), True)
ALL = {"p9"}  # superseded 80 days ago and longer: what 80 days keep no more, a moment later
LATER = timedelta(minutes=1)


def test_what_the_retention_before_keeps_waits_for_72_hours(build):
    short = {f"p{number}" for number in range(4, 10)}
    facts = aged(build, LONG, ("30 days", LATER, False))
    assert dropped(build, "30 days", facts) == set()
    last = build.now - LATER + WAIT
    assert dropped(build, "30 days", facts, last - timedelta(microseconds=1)) == ALL, "both drop it"
    assert dropped(build, "30 days", facts, last) == short


def test_a_change_that_nobody_has_noted_yet_waits_as_well(build):
    facts = aged(build, LONG)
    assert dropped(build, "30 days", facts, build.now + LATER) == ALL
    assert dropped(build, "permanent", facts, build.now + LATER) == set()
    assert dropped(build, "30 days", replace(facts, retentions={}), build.now + LATER) >= {"p5"}


def test_the_reason_says_until_when_and_that_somebody_has_to_approve(build):
    facts = aged(build, LONG, ("30 days", timedelta(hours=1), False))

    def reasons(now, **options):
        decisions = decide_source(build.source(retention="30 days"), facts, now=now, zone=ZONE, **options)
        return next(each.reasons for each in decisions if each.point.id == "p5")

    wait = "one that was shortened waits until 2026-03-21 11:00"
    kept = "kept by the retention before, '80 days'"
    assert reasons(build.now) == (f"{kept}; {wait}",)
    assert reasons(build.now, approval=True) == (f"{kept}; {wait}; one that was shortened needs an approval",)
    late = build.now + timedelta(days=4)
    assert reasons(late, approval=True) == (f"{kept}; one that was shortened needs an approval",)


def test_one_that_was_replaced_before_its_wait_was_over_settles_nothing(build):
    quick = aged(build, LONG, ("50 days", timedelta(hours=72), False), ("60 days", timedelta(hours=1), False))
    assert [each.text for each in waiting(build.source(retention="60 days"), quick, build.now)] == [
        "50 days",
        "80 days",
    ]
    # The last one that was noted, and the one in the policy that nobody has noted yet.
    noted = replace(quick, retentions={"ledger": quick.retentions["ledger"][:2]})
    assert [each.text for each in waiting(build.source(retention="40 days"), noted, build.now)] == ["50 days"]


def test_an_approval_ends_no_wait(build):
    facts = aged(build, LONG)
    seen = RetentionSeen("30 days", build.now, settled=False, approved=True)
    facts = replace(facts, retentions={"ledger": (*facts.retentions["ledger"], seen)})
    assert "p5" not in dropped(build, "30 days", facts, build.now + WAIT - LATER, approval=True)
    assert "p5" in dropped(build, "30 days", facts, build.now + WAIT, approval=True)
    decisions = decide_source(build.source(retention="30 days"), facts, now=build.now, zone=ZONE, approval=True)
    assert all("needs an approval" not in reason for each in decisions for reason in each.reasons)


def test_without_the_approval_that_policy_asks_for_time_alone_settles_nothing(build):
    short = ("30 days", timedelta(days=9), False)
    assert dropped(build, "30 days", aged(build, LONG, short), approval=True) == set()
    assert dropped(build, "30 days", aged(build, LONG, (*short[:2], True)), approval=True) >= {"p5"}


def test_a_longer_retention_in_between_counts_for_72_hours_and_the_one_before_it_too(build):
    """Neither lengthening it for a moment nor shortening it in two steps is a way round."""
    facts = aged(build, LONG, ("permanent", timedelta(hours=2), False), ("30 days", timedelta(hours=1), False))
    assert dropped(build, "30 days", facts, build.now + LATER) == set()
    steps = aged(build, LONG, ("50 days", timedelta(hours=73), False), ("30 days", timedelta(hours=1), False))
    assert [each.text for each in waiting(build.source(retention="30 days"), steps, build.now)] == ["50 days"]
    assert dropped(build, "30 days", steps) == dropped(build, "50 days", Facts(kept_points=steps.kept_points))


def test_an_approval_settles_what_was_before_it(build):
    source = build.source(retention="30 days")
    seen = aged(build, LONG, ("50 days", timedelta(hours=1), True), ("30 days", timedelta(hours=1), False))
    assert [each.text for each in waiting(source, seen, build.now, approval=True)] == ["50 days"]
    unknown = aged(build, ("80 days", timedelta(days=400), False), ("30 days", timedelta(days=9), False))
    assert [each.text for each in waiting(source, unknown, build.now, approval=True)] == ["80 days"]


@pytest.mark.parametrize(
    ("noted", "text", "settled"),
    [
        ((), "30 days", True),
        ((LONG,), "80 days", None),
        ((LONG,), "81 days", True),
        ((LONG,), "79 days", False),
        ((LONG, ("30 days", LATER, False)), "60 days", False),
        ((LONG, ("30 days", LATER, False)), "80 days", True),
    ],
)
def test_a_retention_settles_at_once_unless_something_before_it_keeps_more(build, noted, text, settled):
    seen = aged(build, *noted).retentions["ledger"]
    new = succeeds(build.source(retention=text), seen, build.now)
    assert new == (None if settled is None else RetentionSeen(text, build.now, settled))


def test_no_expire_is_planned_while_all_waits(build):
    facts = replace(aged(build, LONG, ("30 days", LATER, False)), sources={"ledger": build.healthy()})
    policy = replace(
        build.policy(build.source(retention="30 days")),
        governance=Governance(approvals={Governed.SHORTER_RETENTION: Who.ANYONE}),
    )

    def planned(policy, now):
        return any(action.kind is ActionKind.EXPIRE for action in due(policy, facts, now))

    assert not planned(policy, build.now)
    facts = replace(facts, kept_points={"ledger": facts.kept_points["ledger"][:8]})
    assert not planned(policy, build.now + WAIT)
    assert planned(replace(policy, governance=None), build.now + WAIT)


def test_who_must_approve_is_policy(build):
    policy = build.policy()
    assert not needs_approval(policy)
    assert not needs_approval(replace(policy, governance=Governance(approvals={Governed.PRUNE: Who.ANYONE})))
    approvals = {Governed.SHORTER_RETENTION: Who.SECOND_PERSON}
    strict = replace(policy, governance=Governance(approvals=approvals))
    assert needs_approval(strict)
    documents = (GoverningDocument("ethics", "/ethics"),)
    read = replace(policy, governance=Governance(documents=documents))
    others = replace(policy, governance=Governance(documents=(replace(documents[0], governs=frozenset()),)))
    assert [settles_by_time(each) for each in (policy, others, strict, read)] == [True, True, False, False]


def test_the_history_of_retentions_by_what_records_tell(build):
    def told(text, days, **how):
        return RetentionTold(text, build.ago(days=days), **how)

    assert history(()) == ()
    changes = [told("60 days", 1), told("1 year", 20), told("30 days", 9, approved=True), told("30 days", 5)]
    before, shorter, longer = history(changes)
    assert before == RetentionSeen("1 year", build.ago(days=20), settled=True)
    assert shorter == RetentionSeen("30 days", build.ago(days=9), settled=False, approved=True)
    assert longer == RetentionSeen("60 days", build.ago(days=1), settled=False), "it keeps less than a year"
    noted = (RetentionSeen("1 year", build.ago(days=9), settled=True),)
    assert history([told("30 days", 10)], noted) == (), "it was replaced before"
    (kept,) = history([told("2 years", 3)], noted)
    assert kept.settled


def test_what_somebody_else_signed_is_believed_where_it_keeps_more(build):
    def told(text, days):
        return RetentionTold(text, build.ago(days=days), believed=False)

    noted = (RetentionSeen("1 year", build.ago(days=9), settled=True),)
    assert history([told("30 days", 2)], noted) == ()
    assert [each.text for each in history([told("2 years", 2)], noted)] == ["2 years"]
    assert [each.text for each in history([told("30 days", 2), told("7 days", 1)])] == ["30 days"]
