"""What a rebuild of the catalog has added, and what it could not believe."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from cto_backups.core.payloads import Damage
from cto_backups.errors import BackupsError
from cto_backups.evidence import statements
from cto_backups.evidence.records import Record

AT_ONCE = 200
_Thing = TypeVar("_Thing")


@dataclass
class Rebuilt:
    """What was added. `records` counts those taken over by signer; `away` are vaults that could not be read.

    `retentions` counts the sources of which it is known again what applied before. `damages` are records that cannot be
    trusted, and `parted` tells that this installation's own chain is among them; `remarks` are sentences about what was
    left out, and why.
    """

    vaults: tuple[str, ...]
    away: dict[str, BackupsError] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    evidence: int = 0
    holds: int = 0
    clearances: int = 0
    approvals: int = 0
    alerts: int = 0
    audits: int = 0
    retentions: int = 0
    copies: dict[str, int] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    parted: bool = False
    remarks: list[str] = field(default_factory=list)

    def sound(self, record: Record, read: Callable[[Record], _Thing]) -> _Thing | None:
        """What a record says; that it says nothing is a damage."""
        try:
            return read(record)
        except statements.SENSELESS as error:
            detail = f"it is signed, and says nothing readable: {type(error).__name__}"
            self.damages.append(Damage(record.key, detail))
            return None


def in_batches(things: Iterable[_Thing]) -> Iterator[list[_Thing]]:
    """So many at a time as one transaction takes."""
    remaining = iter(things)
    while batch := list(islice(remaining, AT_ONCE)):
        yield batch
