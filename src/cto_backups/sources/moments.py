"""When content was last written, by the dates that a file system keeps.

A file's content is as old as its mtime, which goes with it when it is copied. It is no newer than its ctime, which the
kernel alone sets: an mtime in the future counts for no more than that. What lies ahead even so is not believed. Zero is
what programs write that know no date.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from threading import Lock

from cto_backups import clock
from cto_backups.core.trees import Entry, EntryKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MTIME = attrgetter("mtime_ns")


def moment(nanoseconds: int) -> datetime:
    """The moment that many nanoseconds after 1970 began, to the microsecond below."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def nanoseconds(at: datetime) -> int:
    """How many nanoseconds after 1970 began a moment is."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


class NewestContent:
    """The newest content among the files of a tree, found on the way. Any thread may tell it of entries."""

    def __init__(self) -> None:
        self._newest = 0
        self._lock = Lock()

    def see(self, entries: Sequence[Entry]) -> None:
        """Take the files among these entries into account. Costs little where nothing is newer than what was seen."""
        if max(map(_MTIME, entries), default=0) <= self._newest:
            return
        until = nanoseconds(clock.now())
        written = (min(entry.mtime_ns, entry.ctime_ns) for entry in entries if entry.kind is EntryKind.FILE)
        newest = max((at for at in written if at <= until), default=0)
        with self._lock:
            self._newest = max(self._newest, newest)

    def by(self, limit: datetime) -> datetime | None:
        """Its moment, `limit` at the latest; None when no file was seen whose date can be believed."""
        return min(moment(self._newest), limit) if self._newest else None


def written_at(files: Iterable[Path], now: datetime) -> datetime | None:
    """When the newest content of these files was written; of those that are there, and not empty."""
    until = nanoseconds(now)
    written = (min(status.st_mtime_ns, status.st_ctime_ns) for status in _statuses(files) if status.st_size)
    newest = max((at for at in written if 0 < at <= until), default=0)
    return moment(newest) if newest else None


def changed_at(files: Iterable[Path]) -> datetime | None:
    """When one of these files was last changed in any way; None when none of them is there."""
    newest = max((status.st_ctime_ns for status in _statuses(files)), default=0)
    return moment(newest) if newest else None


def _statuses(files: Iterable[Path]) -> Iterator[os.stat_result]:
    for file in files:
        with suppress(FileNotFoundError):  # a log may go while it is looked at
            yield file.stat()
