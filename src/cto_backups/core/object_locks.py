"""Locks that a store sets on what is stored, so that nobody deletes it before a date: on which files, and for how long.

A lock is set when a file is stored, and lasts for a window. What is still needed is locked anew for a whole window once
less than half of it is left; what is not lapses by itself. No lock is longer than a window, so that no mistake costs
longer. Why so is told in docs/adr/0035.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cto_backups.core.duration import format_duration, parse_duration
from cto_backups.core.policy import LegalHolds, LockMode, VaultPolicy
from cto_backups.core.streams import SMALL_BYTES

LEAST_WINDOW = timedelta(days=1)

PIECE_WINDOW = timedelta(days=1)
"""How long a small piece of a log is locked at first: it is joined with others to a larger one, and goes then."""

_STREAMS = "streams/"
_WRAPPED = "wrapped-keys/"
_POSITIONS = re.compile(r"/([0-9A-F]{16})-([0-9A-F]{16})\.sealed\Z")
# Folders beside the repository, in which names of others may stand.
_BESIDE = (_STREAMS, _WRAPPED, "records/", "policies/")
SCRATCH = "check/"
"""Where a vault is tried out: what is stored there goes as soon as it can, and is locked by nobody but who tries."""
# What has to go at any moment: who works with the repository, and what can be made anew from the packs.
_REWRITTEN = frozenset({"locks", "index", "unlisted"})


@dataclass(frozen=True, slots=True)
class Locking:
    """How a vault locks what it stores: how strongly, and for how long at a time.

    `holds`: legal holds are put on what is stored, by the store's own means.
    """

    mode: LockMode
    window: timedelta
    holds: bool = False

    @property
    def renewed_every(self) -> timedelta:
        """How often its locks are looked at: so that none that is needed is ever nearer to its end than this."""
        return self.window / 4


@dataclass(frozen=True, slots=True)
class FileLock:
    """The lock of one stored file, as the store tells it."""

    mode: LockMode
    until: datetime

    def stands(self, now: datetime) -> bool:
        """Whether it keeps the file now."""
        return self.until > now


@dataclass(frozen=True, slots=True)
class Hidden:
    """A stored file that somebody deleted or replaced while its lock stands, so that it is still there below.

    `version` is what the store calls the one that is locked, `markers` what says above it that the key was deleted.
    `replaced`: something else lies above it as well. `until` is None where a legal hold keeps it, and no lock.
    """

    key: str
    version: str
    markers: tuple[str, ...]
    replaced: bool
    size_bytes: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class FormerVersion:
    """A version of a stored file that is not read any more, as the store calls it."""

    key: str
    version: str


def locking(vault: VaultPolicy) -> Locking | None:
    """How the policy has a vault lock what it stores; None where it does not."""
    if vault.lock_mode is LockMode.NONE:
        return None
    return Locking(vault.lock_mode, vault.lock_window, vault.legal_holds is LegalHolds.STORED)


def is_lockable(key: str) -> bool:
    """Whether what is stored under this key is to be locked."""
    return key.startswith(_BESIDE) or (not key.startswith(SCRATCH) and _REWRITTEN.isdisjoint(_folders(key)))


def may_be_held(key: str) -> bool:
    """Whether a legal hold may be on what is stored under this key: on what is locked, and on files of the index."""
    return is_lockable(key) or (not key.startswith((SCRATCH, *_BESIDE)) and "index" in _folders(key))


def gives_up_its_hold(key: str) -> bool:
    """Whether a file goes although a hold is on it, which is taken off first: a key, and what was written anew."""
    return may_be_withdrawn(key) or (may_be_held(key) and not is_lockable(key))


def kept_until(lock: FileLock | None, held: bool, locking: Locking, now: datetime) -> datetime | None:
    """Until when a store keeps a file that nothing needs; None: not now.

    A hold has no end: the next run that looks at the locks takes off one that nothing needs any more.
    """
    ends = [lock.until] if lock is not None and lock.stands(now) else []
    return max([*ends, now + locking.renewed_every] if held else ends, default=None)


def may_be_withdrawn(key: str) -> bool:
    """Whether this is a key file: deleted on purpose even while its lock stands, and not brought back beside others."""
    return key.startswith(_WRAPPED) or (not key.startswith(_BESIDE) and "keys" in _folders(key))


def locked_at_first(key: str, locking: Locking, now: datetime) -> datetime | None:
    """Until when a file is locked that is stored now; None where it is not."""
    if not is_lockable(key):
        return None
    window = min(locking.window, PIECE_WINDOW) if key.startswith(_STREAMS) and _is_small(key) else locking.window
    return whole_second(now + window)


def _is_small(key: str) -> bool:
    """Whether this is a piece of a log that may be joined with others, by the positions in its name."""
    places = _POSITIONS.search(key)
    return places is None or int(places[2], 16) - int(places[1], 16) < SMALL_BYTES


def suffices(lock: FileLock | None, locking: Locking, now: datetime) -> bool:
    """Whether a lock needs no renewal now: as strong as the vault's, and for half a window at least."""
    if lock is None or (lock.mode is not locking.mode and lock.mode is not LockMode.COMPLIANCE):
        return False
    return lock.until - now >= locking.window / 2


def whole_second(moment: datetime) -> datetime:
    """A moment as stores keep it."""
    return moment.replace(microsecond=0)


def parse_window(text: str) -> timedelta:
    """A window such as "30 d". Raises ValueError for one that is too short, or no length of time."""
    window = parse_duration(text)
    if window < LEAST_WINDOW:
        raise ValueError(f"a lock of {format_duration(window)} is too short: write at least 1 day")
    return window


def _folders(key: str) -> list[str]:
    return key.split("/")[:-1]
