"""The plan of a prune keeps exactly what snapshots need, from one pack each, and says what becomes of every pack."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.pruning import PackUse, PrunePlan, PruneRules, parse_grace, parse_unused, plan_prune

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)
RULES = PruneRules(small_bytes=0)


def pack(name: str, used: int, unused: int = 0, *, kind: str = "data", length: int = 100) -> PackUse:
    """A pack with so many blobs of which something is needed, and so many of which nothing is."""
    return PackUse(name, kind, (used + unused) * length + 50, used * length, unused * length, used)


def plan(*packs: PackUse, **more: object) -> PrunePlan:
    options = {"unlisted": {}, "marks": {}, "now": NOW, "rules": RULES} | more
    return plan_prune(packs, **options)  # type: ignore[arg-type]


def names(found: tuple[object, ...]) -> list[str]:
    return [one.name for one in found]  # type: ignore[attr-defined]


def test_a_pack_of_which_nothing_is_needed_is_dropped() -> None:
    made = plan(pack("a", 1), pack("b", 0, 1), pack("empty", 0))
    assert (names(made.keep), names(made.drop), made.repack) == (["a"], ["b", "empty"], ())
    assert made.changes_index
    assert (made.freed_bytes, made.used_bytes, made.unused_bytes) == (150 + 50, 100, 0)


def test_nothing_to_do_is_nothing_done() -> None:
    made = plan(pack("a", 1))
    assert not made.changes_index
    assert made.marks(NOW) == {}


def test_the_most_wasteful_packs_are_written_anew_until_little_is_unused() -> None:
    packs = [pack("a", 1, 9), pack("b", 9, 1), pack("c", 100)]
    made = plan(*packs)
    assert (names(made.repack), names(made.keep)) == (["a"], ["b", "c"])
    assert (made.rewritten_bytes, made.unused_bytes, made.freed_bytes) == (100, 100, 950)
    assert names(plan(*packs, rules=PruneRules(unused_share=0, small_bytes=0)).repack) == ["a", "b"]


def test_packs_of_data_and_trees_together_are_written_anew() -> None:
    mixed, wasteful = pack("m", 2, kind="mixed"), pack("w", 2, 1, kind="mixed")
    assert names(plan(mixed, wasteful, pack("k", 10)).repack) == ["m", "w"]
    assert names(plan(mixed, wasteful, pack("u", 1, 1)).repack) == ["m", "w", "u"]


def test_small_packs_are_joined_once_there_are_many_of_a_kind() -> None:
    rules = PruneRules(small_bytes=200, small_packs=3)
    data = [pack(f"d{number}", 1) for number in range(3)]
    trees = [pack(f"t{number}", 1, kind="tree") for number in range(2)]
    made = plan(*data, *trees, pack("l", 10), rules=rules)
    assert (names(made.repack), names(made.keep)) == (["d0", "d1", "d2"], ["t0", "t1", "l"])


def test_what_no_index_lists_waits_for_its_grace() -> None:
    hours = {"old": 24, "young": 23, "future": -5}
    made = plan(
        unlisted=dict.fromkeys((*hours, "new"), 7),
        marks={name: NOW - timedelta(hours=hours) for name, hours in hours.items()},
    )
    assert names(made.overdue) == ["old"]
    assert {one.name: one.since for one in made.waiting} == {
        "future": NOW, "new": NOW, "young": NOW - timedelta(hours=23)
    }  # fmt: skip
    assert (made.deleted_bytes, made.waiting_bytes) == (7, 21)
    assert made.marks(NOW).keys() == {"young", "future", "new"}


def test_what_is_locked_waits_for_the_end_of_its_lock_and_stays_marked() -> None:
    old, later = NOW - timedelta(days=2), NOW + timedelta(days=9)
    unlisted, marks = (
        dict.fromkeys(("free", "kept", "kept-on", "young"), 7),
        dict.fromkeys(("free", "kept", "kept-on"), old),
    )
    locks = {"kept": later, "kept-on": NOW + timedelta(days=1), "free": NOW, "young": later}
    made = plan(unlisted=unlisted, marks=marks, locks=locks)
    assert (names(made.overdue), names(made.waiting)) == (["free"], ["young"])
    assert made.going == {"free", *names(made.drop), *names(made.repack)}
    assert [each.pack.name for each in made.locked] == ["kept", "kept-on"]
    assert (made.deleted_bytes, made.locked_bytes, made.locked_until) == (7, 14, later)
    assert made.marks(NOW) == {"kept": old, "kept-on": old, "young": NOW}
    assert plan(unlisted=unlisted, marks=marks).locked_until is None


def test_what_leaves_the_index_is_marked_with_the_moment() -> None:
    later = NOW + timedelta(hours=1)
    made = plan(pack("a", 1, 1), pack("b", 0, 1), gone=("g",), marks={"a": NOW - timedelta(days=9)})
    assert made.marks(later) == {"a": later, "b": later, "g": later}


def test_what_rustic_marked_waits_until_no_index_names_it() -> None:
    old = NOW - timedelta(days=9)
    made = plan(pack("a", 1), unlisted={"m": 5, "u": 5}, marks={"m": old, "u": old}, taken_over=("m",))
    assert (names(made.waiting), names(made.overdue), made.taken_over) == (["m"], ["u"], ("m",))
    assert made.changes_index
    assert made.marks(NOW) == {"m": old}
    later = plan(pack("a", 1), unlisted={"m": 5}, marks={"m": old})
    assert (names(later.overdue), later.changes_index) == (["m"], False)


def test_many_index_files_are_joined() -> None:
    assert plan(index_files=9).changes_index
    assert not plan(index_files=8).changes_index
    assert not plan(index_files=9, listed_blobs=30_000).changes_index, "so many blobs need more than a few files"


def test_a_share_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="unused_share"):
        PruneRules(unused_share=1)


def test_a_grace_is_never_below_the_life_of_a_lock() -> None:
    assert parse_grace("1 h") == timedelta(hours=1)
    assert parse_grace("3 days") == timedelta(days=3)
    for text in ("59 minutes", "1 s"):
        with pytest.raises(ValueError, match="write at least 1 h"):
            parse_grace(text)
    with pytest.raises(ValueError, match="length of time"):
        parse_grace("soon")


def test_not_all_may_be_unused() -> None:
    assert parse_unused("5%") == Fraction(1, 20)
    with pytest.raises(ValueError, match="below 100%"):
        parse_unused("100%")


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(["data", "tree", "mixed"]), st.just(100)),
        max_size=8,
    ),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([0, 500]),
)
def test_every_pack_of_which_something_is_needed_stays_or_is_written_anew_and_little_is_unused(
    contents: list[tuple[int, int, str, int]], share: float, small: int
) -> None:
    packs = [
        pack(f"{number}", used, unused, kind=kind, length=length)
        for number, (used, unused, kind, length) in enumerate(contents)
    ]
    made = plan(*packs, rules=PruneRules(unused_share=share, small_bytes=small, small_packs=2))
    assert {*made.keep, *made.drop, *made.repack} == set(packs)
    assert len((*made.keep, *made.drop, *made.repack)) == len(packs)
    assert all(not use.used_blobs for use in made.drop)
    assert all(use.used_blobs for use in (*made.keep, *made.repack))
    assert made.used_bytes == sum(use.used_bytes for use in packs)
    assert made.unused_bytes <= made.used_bytes * share / (1 - share) + 1e-6
