"""What snapshots need: every tree is walked once, every needed blob is held by one pack, at a bit a blob."""

import subprocess
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups import _native
from cto_backups.errors import DamageError

Contents = list[list[tuple[int, int, int]]]


def blob(number: int) -> bytes:
    return bytes([number]) * 32


def tree(*data: int, subtrees: tuple[int, ...] = ()) -> bytes:
    """A tree's plain bytes: one file with this content, and these folders."""
    nodes: list[dict[str, Any]] = [{"name": "f", "type": "file", "content": [blob(one).hex() for one in data]}]
    nodes += [{"name": f"d{one}", "type": "dir", "subtree": blob(one).hex()} for one in subtrees]
    return orjson.dumps({"nodes": nodes})


def indexed(contents: Contents) -> _native.BlobIndex:
    """An index of packs, each with its blobs: kind, number, length."""
    index = _native.BlobIndex()
    for number, content in enumerate(contents):
        offset, blobs = 0, []
        for kind, one, length in content:
            blobs.append((kind, blob(one), offset, length, 0))
            offset += length
        index.add_pack(bytes([200, number]) * 16, blobs)
    return index


def walked(index: _native.BlobIndex, trees: dict[int, bytes], *roots: int) -> tuple[_native.Needs, list[int]]:
    """What these roots need, and the trees in the order in which they were walked."""
    needs = _native.Needs(index)
    order = []
    for root in roots:
        needs.add(blob(root))
        while (found := needs.next()) is not None:
            order.append(found[0])
            needs.enter(trees[found[0]])
    return needs, order


def test_every_tree_is_walked_once_whoever_refers_to_it() -> None:
    trees = {1: tree(10, subtrees=(2, 3)), 2: tree(11, subtrees=(3,)), 3: tree(10), 4: tree(12, subtrees=(2,))}
    for index in (indexed([]), indexed([[(1, 1, 50), (1, 3, 50)], [(1, 2, 50), (1, 2, 50)]])):
        needs, order = walked(index, trees, 1, 1, 4)
        assert sorted(order) == [1, 2, 3, 4]
        assert all(needs.has(0, blob(one)) for one in (10, 11, 12))
        assert not needs.has(0, blob(13)) and not needs.has(0, blob(1)), "a tree is no data"


def test_what_no_pack_holds_is_missing_until_one_does() -> None:
    index = indexed([[(0, 10, 50), (1, 1, 50)]])
    needs, _ = walked(index, {1: tree(12, 10, 11)}, 1)
    assert (needs.missing(0), needs.missing(1)) == ([blob(11), blob(12)], [])
    index.add_pack(b"p" * 32, [(0, blob(11), 0, 70, 0)])
    assert needs.missing(0) == [blob(12)]
    assert needs.has(0, blob(11))
    uses, _, _ = needs.uses(set())
    assert uses[1] == (1, 70, 0, 1), "and what came later is used"


def test_a_tree_that_makes_no_sense_is_damage() -> None:
    with pytest.raises(DamageError):
        _native.Needs(indexed([])).enter(b'{"nodes": [{"name": "..", "type": "dir"}]}')


def test_the_packs_that_hold_what_is_needed_are_known() -> None:
    index = indexed([[(0, 10, 50)], [(0, 11, 50)], [(0, 10, 60)], [(1, 1, 50)]])
    needs, _ = walked(index, {1: tree(10)}, 1)
    assert needs.packs() == {0, 2, 3}


def test_of_duplicates_the_one_in_the_pack_with_the_least_waste_is_used() -> None:
    index = indexed([[(0, 10, 50), (0, 11, 50), (0, 12, 50)], [(0, 10, 60), (0, 11, 60)], [(1, 1, 90)]])
    needs, _ = walked(index, {1: tree(10, 11)}, 1)
    uses, contested, beyond = needs.uses(set())
    assert uses == [(1, 0, 150, 0), (1, 120, 0, 2), (2, 90, 0, 1)]
    assert (sorted(contested), beyond) == ([(0, blob(10), 1), (0, blob(11), 1)], 2)
    assert needs.held_in({0}) == []
    assert sorted(needs.held_in({1, 2})) == [
        (0, blob(10), (1, 0, 60, 0)), (0, blob(11), (1, 60, 60, 0)), (1, blob(1), (2, 0, 90, 0))
    ]  # fmt: skip


def test_of_duplicates_a_damaged_one_is_not_relied_on() -> None:
    index = indexed([[(0, 10, 50), (0, 11, 50), (0, 12, 50)], [(0, 10, 60), (0, 11, 60)], [(1, 1, 90)]])
    needs, _ = walked(index, {1: tree(10, 11)}, 1)
    uses, contested, _ = needs.uses({(0, blob(10), 1)})
    assert uses == [(1, 50, 100, 1), (1, 60, 60, 1), (2, 90, 0, 1)]
    assert sorted(contested) == [(0, blob(10), 0), (0, blob(11), 1)]
    assert needs.held_in({0}) == [(0, blob(10), (0, 0, 50, 0))]
    with pytest.raises(DamageError, match="is damaged"):
        needs.uses({(0, blob(10), 1), (0, blob(10), 0)})


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(33, 900)), max_size=8), max_size=8),
    st.sets(st.integers(0, 12)),
    st.sets(st.integers(0, 12)),
)
def test_every_needed_blob_is_held_by_one_pack_and_sums_agree(
    contents: Contents, data: set[int], subtrees: set[int]
) -> None:
    trees = {**{one: tree() for one in range(13)}, 99: tree(*data, subtrees=tuple(subtrees))}
    index = indexed(contents)
    needs, _ = walked(index, trees, 99)
    places = {(kind, one) for content in contents for kind, one, _ in content}
    needed = {(0, one) for one in data} | {(1, one) for one in subtrees}
    uses, contested, beyond = needs.uses(set())
    held = needs.held_in(set(range(len(contents))))
    assert sorted((kind, id[0]) for kind, id, _ in held) == sorted(needed & places), "each just once"
    assert {(0, one[0]) for one in needs.missing(0)} | {(1, one[0]) for one in needs.missing(1)} == (
        needed | {(1, 99)}
    ) - places
    for number, (content, (kinds, used, unused, blobs)) in enumerate(zip(contents, uses, strict=True)):
        mine = [place for _, _, place in held if place[0] == number]
        assert (used, blobs) == (sum(place[2] for place in mine), len(mine))
        assert used + unused == sum(length for _, _, length in content)
        assert kinds == sum({1 + kind for kind, _, _ in content})
    packs_of = {one: {n for n, content in enumerate(contents) if one in {c[:2] for c in content}} for one in needed}
    assert {(kind, id[0]) for kind, id, _ in contested} == {one for one, packs in packs_of.items() if len(packs) > 1}
    assert beyond >= sum(len(packs) - 1 for packs in packs_of.values() if packs)


# -- the index, cut down and listed


def everything(index: _native.BlobIndex) -> list[Any]:
    names = [index.pack(number)[0] for number in range(index.pack_count)]
    found = index.blobs_in(set(range(index.pack_count)))
    return [names, sorted((names[place[0]], kind, id, place[1:]) for kind, id, place in found)]


CONTENTS: Contents = [[(0, one, 40 + one) for one in range(number, number + 3)] for number in range(0, 30, 3)]


def test_an_index_of_some_packs_lists_just_those() -> None:
    kept = indexed(CONTENTS).only({1, 4, 9, 77})
    assert kept.pack_count == 3
    whole = indexed([CONTENTS[1], CONTENTS[4], CONTENTS[9]])
    assert [one[1:] for one in everything(kept)[1]] != []
    assert sorted(one[1:] for one in everything(kept)[1]) == sorted(one[1:] for one in everything(whole)[1])
    assert [kept.pack(number)[1:] for number in range(3)] == [(3, whole.pack(number)[2]) for number in range(3)]


@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_listings_together_are_the_index(most: int) -> None:
    index = indexed([*CONTENTS, []])
    again, start, sizes = _native.BlobIndex(), 0, []
    while start < index.pack_count:
        json, start = index.listing(start, most)
        again.load(json)
        sizes.append(sum(len(pack["blobs"]) for pack in orjson.loads(json)["packs"]))
    assert everything(again) == everything(index)
    assert all(size <= max(most, 3) for size in sizes)


MEASURE = """
import resource, sys
from cto_backups import _native

def blob(number):
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little") * 4

index = _native.BlobIndex()
for pack in range(100):
    first = pack * 3000
    index.add_pack(blob(10**9 + pack), [(0, blob(first + n), n * 900, 900, 0) for n in range(3000)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
needs = _native.Needs(index)
for first in range(0, 300_000, 1000):
    content = ",".join('"%s"' % blob(first + n).hex() for n in range(1000))
    needs.enter(b'{"nodes":[{"name":"f","type":"file","content":[%s]}]}' % content.encode())
needs.uses(set())
needs.packs()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 300_000)
"""


def test_what_is_needed_is_remembered_in_few_bytes_a_blob() -> None:
    told = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    assert float(told) < 12, "sets of ids would take more than a hundred"
