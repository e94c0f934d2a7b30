"""What another program keeps of a PostgreSQL server, whichever it is: repositories, their backups, and their log."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cto_backups.sources.postgresql.log import segment_name

_USUAL_SEGMENT: Final = 16 << 20
_SEGMENT_SIZES: Final = tuple(1 << power for power in range(20, 31))


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup of a server's files.

    `begins` and `ends` are the places in the log between which it was made, on a timeline of the server's, the files of
    whose log had `segment_bytes`. `size_bytes` is what a restore writes. `damaged`: as the program made it, it came
    upon pages with wrong checksums.
    """

    label: str
    begins: int
    ends: int
    timeline: int
    segment_bytes: int
    started_at: datetime
    stopped_at: datetime
    size_bytes: int
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """One of the places in which a program keeps backups of a server, with those that a restore may begin with.

    These are the oldest first. `name` is what the program calls the place, `location` where that is, `archive` where in
    it the log is, in the program's own words, and `system` identifies the server. `trouble` says why nothing can be
    restored from it; empty where something can.
    """

    name: str
    location: str
    system: str = ""
    archive: str = ""
    cipher: str = ""
    backups: tuple[Backup, ...] = ()
    trouble: str = ""

    def newest(self, *, timeline: int | None = None, ends_by: int | None = None) -> Backup | None:
        """The newest backup of a timeline that had ended by a place in the log."""
        fitting = [
            backup
            for backup in self.backups
            if (timeline is None or backup.timeline == timeline) and (ends_by is None or backup.ends <= ends_by)
        ]
        return max(fitting, key=lambda backup: backup.ends, default=None)


def segment_bytes(timeline: int, begins: int, ends: int, first: str, last: str = "") -> int:
    """How large a server's files of the log are, as the names tell of those in which two places lie.

    Without the name of the last, that of the first decides.
    """
    for size in (_USUAL_SEGMENT, *_SEGMENT_SIZES):
        names = needed(timeline, begins, ends, size)
        if names[0] == first and last in ("", names[-1]):
            return size
    return _USUAL_SEGMENT


def needed(timeline: int, begins: int, ends: int, segment_bytes: int) -> Sequence[str]:
    """The files of the log from one place to another, in order."""
    numbers = range(begins // segment_bytes, max(ends - 1, begins) // segment_bytes + 1)
    return [segment_name(timeline, number, segment_bytes) for number in numbers]


def gap(wanted: Sequence[str], there: Collection[str]) -> str:
    """Which files of the log are missing, in a few words; empty where none is."""
    missing = [name for name in wanted if name not in there]
    if not missing:
        return ""
    which = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more, up to {missing[-1]},"
    return f"the log has a gap: {which} is not in its archive"
