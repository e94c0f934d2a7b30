"""What policy says of its workers: how much they do at once, and how much they get out of others' way."""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from cto_backups.core.model import ActionKind
from cto_backups.core.windows import Windows

HEAVY = frozenset({ActionKind.RESTORE_TEST, ActionKind.VERIFY, ActionKind.PRUNE, ActionKind.REPAIR})
"""The kinds of actions that read or restore much, and keep no RPO."""


class IoPriority(StrEnum):
    """How the disks of a host serve its actions: as any other program, after others, or when nobody else wants them."""

    NORMAL = "normal"
    LOW = "low"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many actions a worker does at once: in all, at one source, and in one vault; each is 1 or more."""

    actions: int = 2
    per_source: int = 2
    per_vault: int = 2


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """What policy says of each worker. `nice` is 0 (as any other program) … 19 (last), of its actions' processes.

    Calendar times of sources come later by less than `spread`, each source by its own time, which its name and `place`
    (the installation, as nothing else is called) give. Heavy work begins in the windows of `heavy_work`, on the wall
    clock of the policy's time zone; at any time where there are none.
    """

    limits: Limits = field(default_factory=Limits)
    spread: timedelta = timedelta()
    place: str = ""
    nice: int = 5
    io: IoPriority = IoPriority.LOW
    heavy_work: Windows = ()

    def shift(self, source: str) -> timedelta:
        """By how much the calendar times of a source come later, in whole seconds: always the same."""
        seconds = int(self.spread.total_seconds())
        if not seconds:
            return timedelta()
        digest = hashlib.sha256(f"{self.place}\0{source}".encode("utf-8", "surrogateescape")).digest()
        return timedelta(seconds=int.from_bytes(digest[:8], "big") % seconds)
