"""Verification that walks forward: what is read next, and what the ledger says afterwards."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.verification import Ledger, Part, Readings, parse_part, parse_share, portion, runs_for_all

START = datetime(2026, 3, 18, 12, tzinfo=UTC)


def pack(number):
    return number.to_bytes(32, "big")


def at(run):
    return START + timedelta(days=run)


def verify(sizes, ledger, part, run, damaged=frozenset()):
    """One verification: the packs that it reads, and the ledger after it."""
    read = portion(sizes, ledger, part)
    assert len(set(read)) == len(read)
    readings = Readings(at(run), sizes.keys(), set(read) - damaged, set(read) & damaged)
    return read, readings.after(ledger)


# -- what a part is


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("10%", Part(share=Fraction(1, 10))),
        (" 0.5 % ", Part(share=Fraction(1, 200))),
        ("1/7", Part(share=Fraction(1, 7))),
        ("7/7", Part(share=Fraction(1))),
        ("100%", Part(share=Fraction(1))),
        ("50G", Part(size_bytes=50 * 1000**3)),
        ("1.5 GB", Part(size_bytes=1_500_000_000)),
        ("2KiB", Part(size_bytes=2048)),
        ("3t", Part(size_bytes=3 * 1000**4)),
    ],
)
def test_a_part_is_a_share_or_a_size(text, part):
    assert parse_part(text) == part


@pytest.mark.parametrize(
    "text", ["", "7", "10", "0%", "101%", "0/7", "1/0", "8/7", "-1/7", "1/7/2", "50X", "0G", "1,5G", "\u0663%"]
)
def test_anything_else_is_refused_with_a_reason(text):
    with pytest.raises(ValueError, match=r"part of a vault|nothing would be read"):
        parse_part(text)


def test_a_share_is_no_size():
    assert parse_share("1/3") == Fraction(1, 3)
    with pytest.raises(ValueError, match="1/7 or 10%"):
        parse_share("50G")
    with pytest.raises(ValueError, match="up to all"):
        parse_share("3/2")


@given(st.fractions(min_value=Fraction(1, 1000), max_value=1))
def test_so_many_runs_read_everything_and_one_less_does_not(share):
    runs = runs_for_all(share)
    assert runs * share >= 1 > (runs - 1) * share


# -- the order


def test_what_was_never_read_comes_first_and_then_what_was_read_longest_ago():
    sizes = {pack(number): 10 for number in range(5)}
    ledger = Ledger({pack(0): at(3), pack(1): at(1), pack(2): None, pack(3): at(2), pack(4): at(1)})
    assert portion(sizes, ledger, Part(size_bytes=40)) == (pack(2), pack(1), pack(4), pack(3))
    assert portion(sizes, ledger, Part(size_bytes=31)) == (pack(2), pack(1), pack(4), pack(3)), "rounded up to packs"
    assert portion(sizes, ledger, Part(share=Fraction(1, 5))) == (pack(2),)
    assert portion({}, ledger, Part(share=Fraction(1))) == ()


def test_what_is_new_is_read_whatever_the_part_says():
    sizes = {pack(number): 10 for number in range(4)}
    ledger = Ledger({pack(0): at(2), pack(1): at(1)})
    assert portion(sizes, ledger, Part(size_bytes=1)) == (pack(2), pack(3), pack(1))


def test_where_nothing_is_known_nothing_is_new():
    sizes = {pack(number): 10 for number in range(4)}
    for ledger in (Ledger(), Ledger({pack(9): at(1)})):
        assert portion(sizes, ledger, Part(share=Fraction(1, 4))) == (pack(0),)


def test_damage_is_read_again_until_it_is_repaired():
    sizes = {pack(number): 10 for number in range(6)}
    part = Part(share=Fraction(1, 6))
    ledger = Ledger()
    for run in range(3):
        read, ledger = verify(sizes, ledger, part, run, damaged={pack(0)})
        assert read == ((pack(0),) if run == 0 else (pack(0), pack(run)))
        assert ledger.damaged == {pack(0)}
    assert verify(sizes, ledger, part, 9)[1].damaged == frozenset()
    del sizes[pack(0)]
    read, ledger = verify(sizes, ledger, part, 9)
    assert read == (pack(3),)
    assert ledger.damaged == frozenset()


# -- what it comes to


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 9),
    st.lists(st.lists(st.integers(1, 50), max_size=8), min_size=9, max_size=9),
    st.randoms(use_true_random=False),
)
def test_n_portions_of_one_nth_read_all_that_was_there_however_much_comes_in_between(sizes, runs, arrivals, dice):
    names = [dice.getrandbits(256).to_bytes(32, "big") for _ in sizes]
    there = dict(zip(names, sizes, strict=True))
    part = Part(share=Fraction(1, runs))
    ledger, seen = Ledger(), set()
    for run in range(runs):
        total = sum(there.values())
        read, ledger = verify(there, ledger, part, run)
        old = [name for name in read if name in names]
        assert sum(there[name] for name in old[:-1]) < total / runs, "no more than asked for, but for what is new"
        if run:
            assert set(there) - set(names) <= seen | set(read), "what is new is read by the next run"
        seen |= set(read)
        for size in arrivals[run]:
            there[dice.getrandbits(256).to_bytes(32, "big")] = size
    assert seen >= set(names)
    assert ledger.read_since is not None
    assert ledger.read_since <= at(runs - 1)


@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(1, 9), max_size=20), st.randoms())
def test_the_same_ledger_gives_the_same_portion_in_any_order(sizes, dice):
    names = list(sizes)
    dice.shuffle(names)
    ledger = Ledger({name: at(size) for name, size in sizes.items() if size % 2})
    shuffled = Ledger({name: ledger.last_read[name] for name in names if name in ledger.last_read})
    part = Part(share=Fraction(1, 3))
    assert portion(sizes, ledger, part) == portion({name: sizes[name] for name in names}, shuffled, part)


# -- what the ledger says


def test_every_byte_was_read_since_the_oldest_reading():
    assert Ledger({pack(0): at(3), pack(1): at(1), pack(2): at(2)}).read_since == at(1)
    assert Ledger({pack(0): at(3), pack(1): None}).read_since is None
    assert Ledger({pack(0): at(3), pack(1): None}, {pack(1)}).read_since is None
    assert Ledger({pack(0): at(3)}, {pack(1)}).read_since is None
    assert Ledger().read_since is None


def test_what_is_gone_is_forgotten_and_what_is_new_is_known_from_now():
    ledger = Ledger({pack(0): at(1), pack(1): at(2), pack(2): None}, {pack(2)})
    after = Readings(at(5), {pack(1), pack(3), pack(4)}, intact={pack(3)}).after(ledger)
    assert after == Ledger({pack(1): at(2), pack(3): at(5), pack(4): None}, set())


def test_readings_of_two_kinds_of_files_are_those_of_one_vault():
    packs = Readings(at(5), [pack(0), pack(1)], intact={pack(0)}, damaged={pack(1)})
    pieces = Readings(at(5), [pack(2), pack(3)], intact={pack(2)})
    both = packs.joined(pieces)
    assert both == Readings(at(5), {pack(number) for number in range(4)}, {pack(0), pack(2)}, {pack(1)})


def test_a_pack_that_was_damaged_and_is_not_read_stays_damaged():
    ledger = Ledger({pack(0): None, pack(1): at(2)}, {pack(0)})
    after = Readings(at(5), {pack(0), pack(1)}, intact={pack(1)}).after(ledger)
    assert after == Ledger({pack(0): None, pack(1): at(5)}, {pack(0)})
