"""Blobs that are wanted, as reads of packs."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.repository.copying import Wanted, ranges
from cto_backups.repository.fetch import FAR
from cto_backups.repository.index import Location

REACH = replace(FAR, read_bytes=1000, gap_bytes=100)
LARGEST = 300
LAYOUT = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 150), st.integers(1, LARGEST)), max_size=60)


def laid_out(layout: list[tuple[int, int, int]]) -> list[Wanted]:
    """Blobs of packs, each so far behind the one before it in its pack, and so long."""
    ends = [0, 0, 0]
    wanted = []
    for number, (pack, gap, length) in enumerate(layout):
        wanted.append((number.to_bytes(32, "big"), Location(pack, ends[pack] + gap, length, 0)))
        ends[pack] += gap + length
    return wanted


@given(LAYOUT)
def test_each_blob_is_in_one_read_of_its_pack_over_no_wide_gap(layout: list[tuple[int, int, int]]) -> None:
    wanted = laid_out(layout)
    groups = list(ranges(wanted, REACH))
    assert [one for group in groups for one in group] == sorted(wanted, key=lambda one: one[1][:2])
    for group in groups:
        assert len({place.pack for _, place in group}) == 1
        for (_, before), (_, after) in itertools.pairwise(group):
            assert after.offset - before.offset - before.length <= REACH.gap_bytes
        length = group[-1][1].offset + group[-1][1].length - group[0][1].offset
        assert length <= REACH.read_bytes * 1.5 + LARGEST + REACH.gap_bytes


@given(st.lists(st.integers(1, LARGEST), min_size=1, max_size=60))
def test_neighbours_are_divided_evenly(lengths: list[int]) -> None:
    """No more reads than their bytes need, and none that only brings a small rest."""
    groups = list(ranges(laid_out([(0, 0, length) for length in lengths]), REACH))
    assert len(groups) <= REACH.reads(sum(lengths))
    if len(groups) > 1:
        assert sum(place.length for _, place in groups[0]) >= sum(lengths) / REACH.reads(sum(lengths))


def test_what_is_a_little_more_than_one_read_is_one() -> None:
    assert len(list(ranges(laid_out([(0, 0, 100)] * 14), REACH))) == 1
    assert [len(group) for group in ranges(laid_out([(0, 0, 100)] * 17), REACH)] == [9, 8]
