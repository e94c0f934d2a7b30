"""The plan of a prune keeps exactly what snapshots need, from one pack each, and says what becomes of every pack."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.pruning import Pack, PrunePlan, PruneRules, plan_prune
from cto_backups.errors import DamageError

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)
RULES = PruneRules(small_bytes=0)


def blob(number: int) -> bytes:
    return bytes([number]) * 32


def pack(name: str, *blobs: int, kind: int = 0, length: int = 100) -> Pack:
    return Pack(name, len(blobs) * length + 50, tuple((kind, blob(number), length) for number in blobs))


def plan(*packs: Pack, data: tuple[int, ...] = (), trees: tuple[int, ...] = (), **more: object) -> PrunePlan:
    needed = {blob(number) for number in data}, {blob(number) for number in trees}
    options = {"unlisted": {}, "marks": {}, "now": NOW, "rules": RULES} | more
    return plan_prune(packs, needed, **options)  # type: ignore[arg-type]


def names(found: tuple[object, ...]) -> list[str]:
    return [one.name for one in found]  # type: ignore[attr-defined]


def test_a_pack_of_which_nothing_is_needed_is_dropped() -> None:
    made = plan(pack("a", 1), pack("b", 2), pack("empty"), data=(1,))
    assert (names(made.keep), names(made.drop), made.repack) == (["a"], ["b", "empty"], ())
    assert made.changes_index
    assert (made.freed_bytes, made.used_bytes, made.unused_bytes) == (150 + 50, 100, 0)


def test_nothing_to_do_is_nothing_done() -> None:
    made = plan(pack("a", 1), data=(1,))
    assert not made.changes_index
    assert made.marks(NOW) == {}


def test_the_most_wasteful_packs_are_written_anew_until_little_is_unused() -> None:
    packs = [pack("a", *range(10)), pack("b", *range(10, 20)), pack("c", *range(20, 120))]
    needed = (0, *range(10, 19), *range(20, 120))
    made = plan(*packs, data=needed)
    assert (names(made.repack), names(made.keep)) == (["a"], ["b", "c"])
    assert (made.rewritten_bytes, made.unused_bytes, made.freed_bytes) == (100, 100, 950)
    assert names(plan(*packs, data=needed, rules=PruneRules(unused_share=0, small_bytes=0)).repack) == ["a", "b"]


def test_packs_of_data_and_trees_together_are_written_anew() -> None:
    mixed = Pack("m", 300, ((0, blob(1), 100), (1, blob(1), 100)))
    wasteful = Pack("w", 400, ((0, blob(2), 100), (1, blob(2), 100), (0, blob(3), 100)))
    made = plan(mixed, wasteful, pack("k", *range(10, 20)), data=(1, 2, *range(10, 20)), trees=(1, 2))
    assert names(made.repack) == ["m", "w"]
    made = plan(mixed, wasteful, pack("u", 8, 9), data=(1, 2, 8), trees=(1, 2))
    assert names(made.repack) == ["m", "w", "u"]


def test_small_packs_are_joined_once_there_are_many_of_a_kind() -> None:
    rules = PruneRules(small_bytes=200, small_packs=3)
    data = [pack(f"d{number}", number) for number in range(3)]
    trees = [pack(f"t{number}", number, kind=1) for number in range(2)]
    large = pack("l", *range(10, 20))
    made = plan(*data, *trees, large, data=(0, 1, 2, *range(10, 20)), trees=(0, 1), rules=rules)
    assert (names(made.repack), names(made.keep)) == (["d0", "d1", "d2"], ["t0", "t1", "l"])


def test_of_duplicates_the_one_in_the_pack_with_the_least_waste_stays() -> None:
    made = plan(pack("old", 1, 2, 3), pack("new", 1, 2), data=(1, 2))
    assert (names(made.keep), names(made.drop), made.duplicate_blobs) == (["new"], ["old"], 2)
    assert made.contested == {(0, blob(1)), (0, blob(2))}


def test_of_duplicates_a_damaged_one_is_not_relied_on() -> None:
    packs = pack("old", 1, 2, 3), pack("new", 1, 2)
    made = plan(*packs, data=(1, 2), damaged={(0, blob(1), "new")})
    assert {use.name: use.blobs for use in (*made.keep, *made.repack)} == {"old": {blob(1)}, "new": {blob(2)}}
    with pytest.raises(DamageError, match="is damaged"):
        plan(*packs, data=(1, 2), damaged={(0, blob(1), "new"), (0, blob(1), "old")})


def test_a_needed_blob_that_no_pack_holds_forbids_it() -> None:
    with pytest.raises(DamageError, match="Tree blob"):
        plan(pack("a", 1), trees=(1,))


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


def test_what_leaves_the_index_is_marked_with_the_moment() -> None:
    later = NOW + timedelta(hours=1)
    made = plan(pack("a", 1, 2), pack("b", 3), data=(1,), gone=("g",), marks={"a": NOW - timedelta(days=9)})
    assert made.marks(later) == {"a": later, "b": later, "g": later}


def test_what_rustic_marked_waits_until_no_index_names_it() -> None:
    old = NOW - timedelta(days=9)
    made = plan(pack("a", 1), data=(1,), unlisted={"m": 5, "u": 5}, marks={"m": old, "u": old}, taken_over=("m",))
    assert (names(made.waiting), names(made.overdue), made.taken_over) == (["m"], ["u"], ("m",))
    assert made.changes_index
    assert made.marks(NOW) == {"m": old}
    later = plan(pack("a", 1), data=(1,), unlisted={"m": 5}, marks={"m": old})
    assert (names(later.overdue), later.changes_index) == (["m"], False)


def test_many_index_files_are_joined() -> None:
    assert plan(index_files=9).changes_index
    assert not plan(index_files=8).changes_index


def test_a_share_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="unused_share"):
        PruneRules(unused_share=1)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(33, 900)), max_size=8), max_size=8),
    st.sets(st.tuples(st.integers(0, 1), st.integers(0, 12))),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([0, 500]),
)
def test_every_needed_blob_is_kept_once_and_nothing_else_is_written(
    contents: list[list[tuple[int, int, int]]], wanted: set[tuple[int, int]], share: float, small: int
) -> None:
    packs = [
        Pack(f"{number}", 2000 * len(content), tuple((kind, blob(one), length) for kind, one, length in content))
        for number, content in enumerate(contents)
    ]
    held = {(kind, one) for content in contents for kind, one, _ in content}
    needed = wanted & held
    rules = PruneRules(unused_share=share, small_bytes=small, small_packs=2)
    made = plan(
        *packs,
        data=tuple(one for kind, one in needed if kind == 0),
        trees=tuple(one for kind, one in needed if kind == 1),
        rules=rules,
    )
    uses = (*made.keep, *made.drop, *made.repack)
    assert sorted(names(uses)) == sorted(one.name for one in packs)
    stays = {blob for use in (*made.keep, *made.repack) for blob in use.blobs}
    assert stays == {blob(one) for _, one in needed}
    assert all(not use.blobs for use in made.drop)
    assert made.unused_bytes <= made.used_bytes * share / (1 - share) + 1e-6
    by_name = {one.name: one for one in packs}
    kept = {(kind, one) for use in made.keep for kind, one, _ in by_name[use.name].blobs}
    written = [
        (kind, one)
        for use in made.repack
        for kind, one in {found[:2] for found in by_name[use.name].blobs}
        if one in use.blobs
    ]
    assert kept | set(written) >= {(kind, blob(one)) for kind, one in needed}
