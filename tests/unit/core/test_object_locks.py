"""Which stored files are locked, for how long, and when a lock is to be renewed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.object_locks import (
    FileLock,
    Locking,
    gives_up_its_hold,
    is_lockable,
    kept_until,
    locked_at_first,
    locking,
    may_be_held,
    may_be_withdrawn,
    parse_window,
    suffices,
)
from cto_backups.core.policy import LegalHolds, LockMode, VaultPolicy
from cto_backups.core.streams import SMALL_BYTES
from cto_backups.core.vaults import locking_of, store_holds

NOW = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MONTH = Locking(LockMode.GOVERNANCE, timedelta(days=30))


@pytest.mark.parametrize(
    ("key", "locked"),
    [
        ("vault.json", True),
        ("repositories/main/config", True),
        ("repositories/main/data/ab/ab12", True),
        ("repositories/main/snapshots/ab12", True),
        ("repositories/main/keys/ab12", True),
        ("repositories/main/locks/ab12", False),
        ("repositories/main/index/ab12", False),
        ("repositories/main/unlisted/ab12", False),
        ("index/ab12", False),
        ("locks", True),
        ("records/ada/00000001-point.sealed", True),
        ("policies/ab12.sealed", True),
        ("wrapped-keys/ab12.json", True),
        ("streams/main/locks/index/00-0F.sealed", True),
    ],
)
def test_what_is_locked_is_what_is_never_rewritten(key, locked):
    assert is_lockable(key) is locked
    assert (locked_at_first(key, MONTH, NOW) is not None) is locked


def test_a_key_may_be_taken_back_and_nothing_else():
    taken = ["repositories/main/keys/ab", "keys/ab", "wrapped-keys/ab.json"]
    others = ["repositories/main/data/ab/ab", "streams/main/keys/1/00-0F.sealed", "records/keys/1.sealed", "keys"]
    assert [may_be_withdrawn(key) for key in (*taken, *others)] == [True] * 3 + [False] * 4


def test_a_lock_begins_with_a_whole_window_and_that_of_a_piece_with_a_day():
    assert locked_at_first("policies/ab", MONTH, NOW) == datetime(2026, 7, 31, 12, tzinfo=UTC), "whole seconds"
    assert locked_at_first("streams/main/a/b/0-1", MONTH, NOW) == datetime(2026, 7, 2, 12, tzinfo=UTC)
    small, large = (f"streams/main/a/b/{0:016X}-{size:016X}.sealed" for size in (SMALL_BYTES - 1, SMALL_BYTES))
    assert locked_at_first(small, MONTH, NOW) == datetime(2026, 7, 2, 12, tzinfo=UTC), "it is to be joined with others"
    assert locked_at_first(large, MONTH, NOW) == datetime(2026, 7, 31, 12, tzinfo=UTC), "or it was"
    brief = Locking(LockMode.GOVERNANCE, timedelta(hours=6))
    assert locked_at_first("streams/main/a/b/0-1", brief, NOW) == datetime(2026, 7, 1, 18, tzinfo=UTC)


def test_a_lock_suffices_that_is_strong_and_long_enough():
    def lock(mode, days):
        return FileLock(mode, NOW + timedelta(days=days))

    strict = Locking(LockMode.COMPLIANCE, timedelta(days=30))
    assert not suffices(None, MONTH, NOW)
    assert suffices(lock(LockMode.GOVERNANCE, 15), MONTH, NOW)
    assert not suffices(lock(LockMode.GOVERNANCE, 14.9), MONTH, NOW)
    assert suffices(lock(LockMode.COMPLIANCE, 15), MONTH, NOW), "stronger than what is asked for"
    assert not suffices(lock(LockMode.GOVERNANCE, 30), strict, NOW)


@given(
    window=st.timedeltas(timedelta(days=1), timedelta(days=400)),
    looks=st.lists(st.floats(0, 1), min_size=1, max_size=40),
)
def test_what_is_looked_at_in_time_is_always_locked_for_a_quarter_of_the_window(window, looks):
    """However the looks fall, as long as none comes later than it should."""
    locks = Locking(LockMode.COMPLIANCE, window)
    now, end = NOW, NOW + window
    for share in looks:
        now += share * locks.renewed_every
        assert end - now >= window / 4 - timedelta(seconds=1)
        if not suffices(FileLock(LockMode.COMPLIANCE, end), locks, now):
            end = now + window


def test_a_lock_stands_until_its_end():
    assert FileLock(LockMode.GOVERNANCE, NOW + timedelta(seconds=1)).stands(NOW)
    assert not FileLock(LockMode.GOVERNANCE, NOW).stands(NOW)


def test_windows_are_a_day_at_least():
    assert parse_window("90 days") == timedelta(days=90)
    with pytest.raises(ValueError, match="too short"):
        parse_window("23 h")
    with pytest.raises(ValueError, match="soon"):
        parse_window("soon")


def test_a_policys_vault_locks_as_it_says(build):
    assert locking(build.vault("near")) is None
    vault = build.vault("far", lock_mode=LockMode.COMPLIANCE, lock_window=timedelta(days=7))
    assert locking(vault) == Locking(LockMode.COMPLIANCE, timedelta(days=7))


def test_a_vault_that_cannot_lock_does_not():
    class Folder:
        pass

    assert locking_of(Folder()) is None


@pytest.mark.parametrize(
    ("key", "held", "gives_up"),
    [
        ("vault.json", True, False),
        ("repositories/main/data/ab/ab12", True, False),
        ("streams/main/locks/index/00-0F.sealed", True, False),
        ("repositories/main/index/ab12", True, True),
        ("repositories/main/keys/ab12", True, True),
        ("wrapped-keys/ab12.json", True, True),
        ("repositories/main/locks/ab12", False, False),
        ("repositories/main/unlisted/ab12", False, False),
        ("check/20260701T120000Z-ab/held", False, False),
    ],
)
def test_what_may_be_held_is_what_is_locked_and_the_index(key, held, gives_up):
    assert may_be_held(key) is held
    assert gives_up_its_hold(key) is gives_up


def test_a_hold_keeps_what_nothing_needs_until_the_next_look_at_the_locks():
    soon, late = NOW + timedelta(days=1), NOW + timedelta(days=20)
    lock = FileLock(LockMode.GOVERNANCE, soon)
    assert kept_until(None, False, MONTH, NOW) is None
    assert kept_until(lock, False, MONTH, NOW) == soon
    assert kept_until(lock, False, MONTH, soon) is None, "it has ended"
    assert kept_until(None, True, MONTH, NOW) == NOW + MONTH.renewed_every
    assert kept_until(lock, True, MONTH, NOW) == NOW + MONTH.renewed_every
    assert kept_until(FileLock(LockMode.GOVERNANCE, late), True, MONTH, NOW) == late


def test_a_vault_puts_holds_on_what_it_stores_where_policy_says_so():
    policy = VaultPolicy("cloud", "s3://a", "aws", "eu", "object-storage", lock_mode=LockMode.GOVERNANCE)
    assert locking(policy) == Locking(LockMode.GOVERNANCE, timedelta(days=30), holds=False)
    assert locking(replace(policy, legal_holds=LegalHolds.STORED)) == replace(MONTH, holds=True)

    class Plain:
        def __init__(self, locking):
            self.locking = locking

        def lock_of(self, key):
            raise NotImplementedError

        lock = hidden = bring_back = lock_of

    class Holding(Plain):
        legal_holds = "what puts them on"

    assert store_holds(Holding(replace(MONTH, holds=True))) == "what puts them on"
    assert store_holds(Holding(MONTH)) is None
    assert store_holds(Holding(None)) is None
    assert store_holds(Plain(replace(MONTH, holds=True))) is None
