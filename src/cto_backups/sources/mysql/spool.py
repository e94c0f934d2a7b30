"""The binary log on its way: from where a point's log ends up to another place, into files that go on from its own."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from cto_backups.sources.mysql.binlog import MAGIC, BrokenLogError, Event, LogStream
from cto_backups.sources.mysql.connection import Session
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.log import Log, Piece

_WAITED: Final = 50
_WAIT_SECONDS: Final = 0.1


def continued(
    log: Log, end: Position, until: datetime, connected: Callable[[], Session], folder: Path
) -> tuple[Log, dict[str, Path]]:
    """The log as it goes on to `end`, what there was at `until`; and its new files in a folder, by their names.

    Raises BrokenLogError where what is there does not go on from it, OSError, pymysql.MySQLError.
    """
    if end == log.ends:
        return log, {}
    with _Spool(replace(log, until=until), folder) as spool:
        expected = log.last  # once more the last event that is known: then it is the same log
        ended = False
        at = Position(log.ends.file, log.last_at if expected else log.ends.offset)
        for event in _events(at, end, connected):
            if event.is_format:
                if event.file == log.ends.file and event.when != log.born:
                    raise BrokenLogError(f"{event.file} is another file of that name")
                if event.begins_file and event.file != log.ends.file and not ended:
                    spool.crashed(event)
                spool.describe(event)
            elif expected:
                if event.digest != expected:
                    raise BrokenLogError(f"{event.file} is another than it was")
                expected = ""
            else:
                spool.take(event)
            if event.begins_file or not event.is_format:
                ended = event.ends_file
        longer = spool.end()
    if longer.ends != end:
        raise BrokenLogError(f"the log does not lead to {end.file}:{end.offset}")
    return longer, spool.files


def born(place: Position, connected: Callable[[], Session]) -> int:
    """When the file was begun in which a place is, in seconds since 1970. Raises BrokenLogError."""
    with LogStream(connected(), place) as stream:
        for event in stream.events():
            return event.when
    raise BrokenLogError(f"the server gives nothing of {place.file}")


def _events(at: Position, end: Position, connected: Callable[[], Session]) -> Iterator[Event]:
    """Up to `end`: what a snapshot shows is written, but the server may give it to others a little later."""
    for _ in range(_WAITED):
        with LogStream(connected(), at) as stream:
            for event in stream.events():
                yield event
                if event.ends:
                    at = Position(event.file, event.ends)
                if at == end:
                    return
        time.sleep(_WAIT_SECONDS)


class _Spool:
    """Writes events into pieces; a context, which closes the last one."""

    def __init__(self, log: Log, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        self._log = log
        self._folder = folder
        self._format: Event | None = None
        self._open: tuple[Piece, BinaryIO] | None = None
        self._last: Event | None = None

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open[1].close()

    def crashed(self, event: Event) -> None:
        """A file begins, and the server did not end the one before."""
        self._log = self._log.after_crash(event.file)

    def describe(self, event: Event) -> None:
        """The format of a file comes: of one that is read from its beginning, it is a part."""
        self._format = event
        if event.begins_file:
            self._begin(event)
            self._last = event

    def take(self, event: Event) -> None:
        """Add an event."""
        if self._open is None or self._open[0].file != event.file:
            self._begin(event)
        assert self._open is not None
        self._open[1].write(event.content)
        self._last = event

    def end(self) -> Log:
        """The log with all of them."""
        self._finish()
        last, form = self._last, self._format
        if last is None or form is None:
            return self._log
        ends = Position(last.file, last.ends)
        return replace(self._log, ends=ends, born=form.when, last_at=last.at, last=last.digest)

    def _begin(self, event: Event) -> None:
        self._finish()
        piece = Piece(self._log.next_name(event.file), event.file, event.at, event.at)
        assert self._format is not None
        self.files[piece.name] = self._folder / piece.name
        file = self.files[piece.name].open("xb")
        self._open = piece, file
        file.write(MAGIC + self._format.content)

    def _finish(self) -> None:
        if self._open is not None and self._last is not None:
            piece, file = self._open
            file.close()
            self._log = replace(self._log, pieces=(*self._log.pieces, replace(piece, ends=self._last.ends)))
            self._open = None
