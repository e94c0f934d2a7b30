"""Verification that walks forward: which packs to read next, so that runs in a row read every byte; pure.

The ledger lies in the catalog, and never in the vault: what a vault stores is not believed about itself.
"""

import re
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import ceil

PART_ALLOWED = "a share such as 10% or 1/7, or a size such as 50G (K, M, G, T are powers of 1000, KiB, MiB … of 1024)"
SHARE_ALLOWED = "a share such as 1/7 or 10%"

_SHARE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*%|(\d{1,9})\s*/\s*(\d{1,9})", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT])(i?)B?", re.ASCII | re.IGNORECASE)
_POWERS = "KMGT"


@dataclass(frozen=True, slots=True)
class Part:
    """How much one verification reads: a share of all stored bytes, or that many bytes. Just one of them is given."""

    share: Fraction | None = None
    size_bytes: int = 0

    def of(self, total_bytes: int) -> int:
        """How many bytes that is, of so many; rounded up."""
        return self.size_bytes if self.share is None else ceil(self.share * total_bytes)


def parse_part(text: str) -> Part:
    """A part from "10%", "1/7" or "50G". Raises ValueError, whose message says what is allowed."""
    size = _SIZE.fullmatch(text.strip())
    if size is None:
        try:
            return Part(share=parse_share(text))
        except ValueError:
            raise ValueError(f"'{text[:40]}' is no part of a vault: write {PART_ALLOWED}") from None
    number, unit, binary = size.groups()
    size_bytes = int(Fraction(number) * (1024 if binary else 1000) ** (_POWERS.index(unit.upper()) + 1))
    if not size_bytes:
        raise ValueError("nothing would be read")
    return Part(size_bytes=size_bytes)


def parse_share(text: str) -> Fraction:
    """A share from "10%" or "1/7", above 0 and at most 1. Raises ValueError."""
    found = _SHARE.fullmatch(text.strip())
    wrong = ValueError(f"'{text[:40]}' is no share: write {SHARE_ALLOWED}")
    if found is None:
        raise wrong
    percent, above, below = found.groups()
    if below is not None and not int(below):
        raise wrong
    share = Fraction(percent) / 100 if percent else Fraction(int(above), int(below))
    if not 0 < share <= 1:
        raise ValueError(f"'{text[:40]}' is not a share above nothing and up to all")
    return share


def runs_for_all(share: Fraction) -> int:
    """How many verifications of this share read everything."""
    return ceil(1 / share)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What verifications read of one store: when each pack, by name, was last found intact; None: it never was yet.

    `damaged` are those that were not intact when they were last read.
    """

    last_read: Mapping[bytes, datetime | None] = field(default_factory=dict)
    damaged: Set[bytes] = frozenset()

    @property
    def read_since(self) -> datetime | None:
        """Since when every pack was read and found intact; None when one was not, or there are none."""
        oldest = None
        for at in self.last_read.values():
            if at is None:
                return None
            oldest = at if oldest is None else min(at, oldest)
        return None if self.damaged else oldest


@dataclass(frozen=True, slots=True)
class Readings:
    """What one verification that began at `at` adds to the ledger: the packs it found `present`, and of these those it
    read and found `intact` or `damaged`.
    """

    at: datetime
    present: Collection[bytes]
    intact: Set[bytes] = frozenset()
    damaged: Set[bytes] = frozenset()

    def joined(self, other: "Readings") -> "Readings":
        """These readings and those of something else in the same vault."""
        return Readings(
            self.at, {*self.present, *other.present}, self.intact | other.intact, self.damaged | other.damaged
        )

    def after(self, ledger: Ledger) -> Ledger:
        """The ledger with these readings in it, and without what is not there any more."""
        return Ledger(
            {
                name: self.at if name in self.intact else None if name in self.damaged else ledger.last_read.get(name)
                for name in self.present
            },
            {name for name in self.present if name in self.damaged or (name in ledger.damaged - self.intact)},
        )


def portion(sizes: Mapping[bytes, int], ledger: Ledger, part: Part) -> tuple[bytes, ...]:
    """The packs to read now, of those that are there with their sizes in bytes, in the order in which to read them.

    First what was damaged, until it is repaired, and what is new since the verification before: both whatever the part
    says. Then, as many as the part says, those that were never read, and those whose last reading is longest ago. So a
    share of 1/N reads in N runs all that was there at the first, however much comes in between.
    """
    known = sizes.keys() & ledger.last_read.keys()
    damaged = known & ledger.damaged
    # Where no verification was before, or of another store, nothing is new: the walk begins.
    new = sizes.keys() - known if known else frozenset[bytes]()
    chosen = [*sorted(damaged), *sorted(new)]
    wanted = part.of(sum(sizes.values()))
    for name in sorted(sizes.keys() - damaged - new, key=lambda name: _turn(name, ledger)):
        if wanted <= 0:
            break
        chosen.append(name)
        wanted -= sizes[name]
    return tuple(chosen)


def _turn(name: bytes, ledger: Ledger) -> tuple[bool, float, bytes]:
    at = ledger.last_read.get(name)
    return at is not None, at.timestamp() if at is not None else 0.0, name
