"""Break-glass escrow: a secret of its own opens every vault, and custodians hold word shares of it (SLIP-39)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

MOST_SHARES = 16  # of SLIP-39
LEAST_THRESHOLD = 2  # one share alone would be the key itself, in words


@dataclass(frozen=True, slots=True)
class Escrow:
    """What policy asks for: who holds a share each, how many of them are enough, how often that is tried."""

    custodians: tuple[str, ...]
    threshold: int
    drill: timedelta


@dataclass(frozen=True, slots=True)
class ShareSet:
    """The shares that were handed out: the set's number, which every share bears, and the key file in each vault."""

    identifier: int
    threshold: int
    custodians: tuple[str, ...]
    made_at: datetime
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyDrill:
    """A drill: with shares of which set, when it ended, what came of each vault (nothing: it opened and restored)."""

    identifier: int
    finished_at: datetime
    vaults: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EscrowFacts:
    """The newest set, its drills in order, and in which vaults its key file is gone."""

    shares: ShareSet | None = None
    drills: tuple[KeyDrill, ...] = field(default=())
    gone: frozenset[str] = frozenset()
