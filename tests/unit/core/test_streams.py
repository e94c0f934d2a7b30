"""Streams: which pieces lead on from a point, which nobody needs, and when one stands still."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.schedule import parse_triggers
from cto_backups.core.streams import (
    JOIN_LEAST,
    JOINED_BYTES,
    SMALL_BYTES,
    Follows,
    Piece,
    PieceRead,
    StreamFacts,
    by_file,
    covered,
    cut,
    desired,
    gap_after,
    gets_nothing,
    going,
    joinable,
    needless,
    stall_after,
    standing,
    unbroken,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALIVE = StreamFacts("ledger", "a", 100, NOW - timedelta(seconds=1), holder="shop", leased_until=NOW + HOUR)


def pieces(*ranges, log="a"):
    return [Piece(log, begins, ends) for begins, ends in ranges]


def test_continuous_sources_that_can_be_followed_are():
    sources = [
        (name, parse_triggers(text)) for name, text in (("a", "continuous"), ("b", "daily"), ("c", "continuous"))
    ]
    assert desired(sources, lambda name: name != "c") == ("a",)


def test_a_log_is_the_same_while_it_may_be_followed_as_before():
    one = Follows("a", 1, 9, {"tablespaces": "7"})
    assert one.same_as(Follows("a", 1, 20, {"tablespaces": "7", "since": "then"}))
    assert not one.same_as(replace(one, log="b"))
    assert not one.same_as(replace(one, about={"tablespaces": "7,8"}))


def test_pieces_lead_on_as_far_as_there_is_no_gap():
    there = pieces((10, 20), (20, 30), (35, 40))
    assert unbroken(there, "a", 10) == tuple(there[:2])
    assert unbroken(there, "a", 15) == tuple(there[:2]), "in the middle of a piece"
    assert unbroken(there, "a", 30) == (), "a gap"
    assert unbroken(there, "a", 36) == tuple(there[2:])
    assert unbroken(there, "a", 40) == ()
    assert unbroken(there, "b", 10) == ()
    assert unbroken(pieces((0, 10), (30, 40)), "a", 5) == tuple(pieces((0, 10)))


def test_where_pieces_overlap_the_fewest_are_taken():
    assert unbroken(pieces((0, 10), (5, 12), (8, 30), (30, 31)), "a", 0) == tuple(pieces((0, 10), (8, 30), (30, 31)))
    assert unbroken(pieces((0, 10), (0, 20), (10, 20)), "a", 0) == tuple(pieces((0, 20)))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9))), st.integers(0, 40))
def test_what_leads_on_is_exactly_what_can_be_reached(ranges, begins):
    there = pieces(*((at, at + size) for at, size in ranges))
    chosen = unbroken(there, "a", begins)
    reachable, grown = begins, True
    while grown:
        ends = [piece.ends for piece in there if piece.begins <= reachable < piece.ends]
        grown = bool(ends)
        reachable = max(ends, default=reachable)
    at = begins
    for piece in chosen:
        assert piece.begins <= at < piece.ends
        at = piece.ends
    assert at == reachable


def test_a_piece_goes_when_a_points_own_log_holds_it():
    there = pieces((10, 20), (20, 30), (30, 40))
    assert needless(there, [Follows("a", 5, 30, {})]) == tuple(there[:2])
    assert needless(there, [Follows("a", 15, 30, {})]) == (there[0], there[1]), "nothing leads to what is before"
    assert needless(there, []) == (), "while there is no point, nobody knows"


def test_what_was_streamed_while_a_base_was_read_stays_with_the_point_before():
    there = pieces((10, 20), (20, 30), (30, 40))
    before, base = Follows("a", 1, 10, {}), Follows("a", 28, 30, {})
    assert needless(there, [before, base]) == (), "moments between the two are in no point"
    assert needless(there, [base]) == tuple(there[:2]), "the point before has expired"
    later = replace(base, ends=40)
    assert needless(there, [before, later]) == (there[2],)


def test_pieces_of_a_log_that_no_point_follows_go():
    there = [*pieces((10, 20)), *pieces((500, 600), log="b")]
    assert needless(there, [Follows("a", 1, 10, {})]) == (there[1],)


def test_a_stream_that_needs_a_new_point_says_so_whoever_follows_it():
    stuck = replace(ALIVE, stuck_at="ledger-1", stuck_since=NOW, problem="another server")
    for facts in (stuck, replace(stuck, leased_until=None)):
        assert standing(facts, HOUR, NOW) == (
            "leads on from ledger-1 no longer, for 1 second, so that a new point is due at once: another server"
        )


def test_what_lies_behind_a_gap_waits_for_a_later_point_of_the_same_log():
    there = pieces((10, 20), (30, 40))
    held = [Follows("a", 1, 10, {}), Follows("b", 50, 90, {})]
    assert needless(there, held) == (), "another vault may still bring what lies between"
    assert needless(there, [*held, Follows("a", 45, 50, {})]) == (there[1],)


def test_a_stream_stands_still_when_nobody_follows_or_nothing_arrives():
    assert standing(ALIVE, HOUR, NOW) is None
    assert going(ALIVE, NOW) == "is in the vaults until 1 second ago, nothing behind"
    assert "12 bytes behind" in going(replace(ALIVE, unsent_bytes=12), NOW)
    assert "nothing of it is in a vault yet" in going(replace(ALIVE, reached_at=None), NOW)
    for gone in (replace(ALIVE, leased_until=None), replace(ALIVE, leased_until=NOW)):
        assert standing(gone, HOUR, NOW) == "is followed by no worker, for 1 second"
    failed = replace(ALIVE, leased_until=None, problem="no such server", reached_at=None)
    assert standing(failed, HOUR, NOW) == "is followed by no worker: no such server"


def test_a_stream_is_given_time_to_begin_and_no_more():
    late = replace(ALIVE, reached_at=NOW - timedelta(minutes=3), unsent_bytes=7, began_at=NOW - timedelta(seconds=5))
    assert standing(late, HOUR, NOW) is None
    late = replace(late, began_at=NOW - timedelta(minutes=2))
    assert standing(late, HOUR, NOW) == "does not reach the vaults, for 3 minutes, 7 bytes behind"
    never = replace(late, reached_at=None, unsent_bytes=0, problem="full", began_at=None)
    assert standing(never, HOUR, NOW) == "does not reach the vaults: full"


def test_a_vault_that_gets_nothing_is_said():
    assert standing(replace(ALIVE, problem=gets_nothing("two")), HOUR, NOW) == (
        "does not reach every vault: vault two gets nothing"
    )


def test_a_gap_is_what_nothing_leads_over():
    there = [*pieces((10, 20), (30, 40), (50, 60)), *pieces((70, 80), log="b")]
    assert gap_after(there, "a", 20, []) == 30
    assert gap_after(there, "a", 60, []) is None, "another log is another one"
    assert gap_after(there, "a", 20, [Follows("a", 5, 20, {}), Follows("b", 5, 90, {})]) == 30
    assert gap_after(there, "a", 20, [Follows("a", 15, 45, {})]) is None, "a later point holds what lies between"


@pytest.mark.parametrize(
    ("rpo", "limit"), [(HOUR, timedelta(minutes=1)), (timedelta(minutes=2), timedelta(seconds=30))]
)
def test_how_long_nothing_may_arrive(rpo, limit):
    assert stall_after(rpo) == limit


def test_what_leads_on_from_a_point_that_another_vault_keeps_waits_for_it():
    there = [*pieces((10, 20)), *pieces((110, 120), log="b")]
    here, elsewhere = Follows("a", 1, 10, {}), Follows("b", 100, 110, {})
    assert needless(there, [here]) == (there[1],)
    assert needless(there, [here], [elsewhere]) == ()
    assert needless(pieces((5, 8)), [here], [replace(here, ends=20)]) == tuple(pieces((5, 8))), "its own log holds it"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9))), st.integers(0, 40), st.integers(1, 9))
def test_pieces_hold_what_they_hold_however_they_are_cut(ranges, begins, size):
    there = pieces(*((at, at + length) for at, length in ranges))
    bytes_there = {at for piece in there for at in range(piece.begins, piece.ends)}
    (asked,) = pieces((begins, begins + size))
    assert covered(there)(asked) == bytes_there.issuperset(range(begins, begins + size))
    assert not covered(there)(replace(asked, log="b"))


def test_small_pieces_that_follow_each_other_are_joined():
    few = pieces(*((at, at + 1) for at in range(JOIN_LEAST - 1)))
    enough = pieces(*((at, at + 1) for at in range(JOIN_LEAST)))
    large = pieces((JOIN_LEAST, JOIN_LEAST + SMALL_BYTES))
    assert list(joinable(few)) == []
    assert list(joinable(enough)) == [tuple(enough)]
    assert list(joinable([*reversed(enough), *large])) == [tuple(enough)], "a large one stays as it is"
    apart = pieces((100, 101), (102, 103), *((at, at + 1) for at in range(103, 103 + JOIN_LEAST)))
    assert list(joinable([*few, *apart])) == [tuple(apart[1:])], "none is joined over a gap"
    other = pieces(*((at, at + 1) for at in range(JOIN_LEAST)), log="b")
    assert list(joinable([*enough, *other])) == [tuple(enough), tuple(other)]


def test_only_pieces_of_one_file_become_one_and_a_cut_one_begins_later_in_it():
    reads = [
        PieceRead(piece, None, bytes(10), None, about)
        for piece, about in zip(
            pieces((0, 10), (10, 20), (20, 30)),
            [{"file": "a", "offset": "4"}, {"file": "a", "offset": "14"}, {"file": "b", "offset": "4"}],
            strict=True,
        )
    ]
    assert list(by_file(reads)) == [reads[:2], reads[2:]]
    assert cut(reads[1], 13) == {"file": "a", "offset": "17"}
    assert cut(replace(reads[0], about={}), 5) == {}, "a source whose places say all tells none"


def test_a_joined_piece_is_bounded():
    size = SMALL_BYTES - 1
    there = pieces(*((at * size, (at + 1) * size) for at in range(9)))
    groups = list(joinable(there))
    assert [len(group) for group in groups] == [4, 4]
    assert all(group[-1].ends - group[0].begins <= JOINED_BYTES for group in groups)


@given(st.lists(st.integers(1, 3 * SMALL_BYTES), max_size=60))
def test_whatever_is_joined_is_small_and_without_a_gap(sizes):
    ends = list(accumulate(sizes))
    there = pieces(*zip([0, *ends], ends, strict=False))
    for group in joinable(there):
        assert len(group) > 1 and group[-1].ends - group[0].begins <= JOINED_BYTES
        assert all(one.ends == after.begins for one, after in pairwise(group))
        assert all(piece.ends - piece.begins < SMALL_BYTES for piece in group)
