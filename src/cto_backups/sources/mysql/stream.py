"""A server's binary log, followed as it is written: what comes from it between two recovery points.

Pieces hold the server's files byte for byte, and none holds parts of two. Each says of which file it is, where in it,
and what a file has to begin with that has not all of it. Positions count the bytes of the files since the
one in which the base was made.
"""

import base64
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Final

from cto_backups import clock
from cto_backups.core.streams import FILE, OFFSET, Follows, Look, Mark, PieceRead
from cto_backups.errors import SourceError
from cto_backups.sources.mysql.binlog import MAGIC, BrokenLogError, Event, LogStream
from cto_backups.sources.mysql.connection import Session, rows
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.logged import refuse_unfit, version_in
from cto_backups.sources.mysql.server import Server

_AT_ONCE_BYTES: Final = 4 << 20
_HEARTBEAT_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 15.0
"""How long a server that has written something may give none of it: it is asked anew then."""
HEAD: Final = "head"


@dataclass(frozen=True, slots=True)
class _Start:
    """Where to begin: at which place, and at which position that file begins. `told` is the event there, if known:
    its SHA-256, and that of no other log's.
    """

    place: Position
    file_at: int
    told: str = ""


@contextmanager
def following(server: Server, follows: Follows, last: PieceRead | None) -> Iterator["LogFollower"]:
    """Follow a server's log on from where the last piece begins, or a point's log ends. Raises SourceError."""
    try:
        quick = replace(server, address=server.address.impatient)
        with quick.session() as session:
            refuse_unfit(server, session)
            _refuse_unsuited(server, session, follows)
            start = _after(last) if last is not None else _at_end(follows)
            with LogStream(quick.address.connect(), start.place, wait_seconds=_HEARTBEAT_SECONDS) as stream:
                position = last.piece.begins if last is not None else follows.ends
                follower = LogFollower(server, session, stream.events(), start, position)
                follower.recognise(int(follows.about["last_file_begun"]) if last is None else None)
                yield follower
    except BrokenLogError as error:
        raise SourceError(
            f"source {server.name}: the binary log of {server.place} does not go on from what is in the vault",
            why=str(error),
            todo="back up again: a new point begins with a base where it has to. When the server threw its log away,"
            " let it keep that for longer: binlog_expire_logs_seconds",
        ) from error


class LogFollower:
    """Implements `core.streams.Following`."""

    def __init__(self, server: Server, session: Session, events: Iterator[Event], start: _Start, position: int) -> None:
        self._server, self._session, self._events, self._start = server, session, events, start
        self._file, self._file_at, self._ends = start.place.file, start.file_at, position
        self._format = b""
        self._held: Event | None = None
        self._came = clock.monotonic()
        self._marks: deque[Mark] = deque()
        self._mark: Mark | None = None

    @property
    def ends(self) -> int:
        """The position up to which all of it was taken."""
        return self._ends

    def recognise(self, begun: int | None) -> None:
        """See that it is the log that is meant: its file was begun at this moment (None: any), and has the last event
        that is known. Raises BrokenLogError, pymysql.MySQLError.
        """
        event = self._next()
        if not event.is_format or (begun is not None and event.when != begun):
            raise BrokenLogError(f"{event.file} is another file of that name")
        if event.begins_file and self._ends == self._file_at:
            self._held = event
            return
        self._format = event.content
        if self._start.told:
            event = self._next() if not event.begins_file else event
            if event.digest != self._start.told or self._file_at + event.ends != self._ends:
                raise BrokenLogError(f"{event.file} is another than it was")

    def take(self, seconds: float) -> bytes:
        """What follows in one of the server's files, events as a whole; empty when nothing came for this long."""
        taken = bytearray()
        until = clock.monotonic() + seconds
        while len(taken) < _AT_ONCE_BYTES:
            event = self._next()
            if event.begins_file:
                if taken:
                    self._held = event
                    break
                self._file, self._file_at, self._format = event.file, self._ends, event.content
                taken += MAGIC
            elif event.is_format:
                self._format = event.content
                continue
            if not event.is_heartbeat:
                taken += event.content
                self._ends = self._file_at + event.ends
            if event.is_heartbeat or clock.monotonic() >= until:
                break
        return bytes(taken)

    def about(self, begins: int) -> Mapping[str, str]:
        """Of which of the server's files a piece is, where in it, and what comes before it in a file of its own."""
        head = base64.b64encode(MAGIC + self._format).decode("ascii")
        return {FILE: self._file, OFFSET: str(begins - self._file_at), HEAD: head}

    def look(self) -> Look:
        """How far the server is. Raises SourceError when statements are logged in place of rows, BrokenLogError.

        What was committed until the moment that it tells was in the log before it is asked for its place.
        """
        at = clock.now()
        ((moment, logged),) = rows(self._session, "SELECT UTC_TIMESTAMP(6), @@GLOBAL.binlog_format")
        if logged != "ROW":
            refuse_unfit(self._server, self._session)
        moment = moment.replace(tzinfo=UTC)
        ((file, offset, *_),) = rows(self._session, "SHOW MASTER STATUS")
        position = self._position(Position(str(file), int(offset)))
        if self._marks and self._marks[-1].position == position:
            self._marks.pop()
        self._marks.append(Mark(position, moment))
        while self._marks and self._marks[0].position <= self._ends:
            self._mark = self._marks.popleft()
        if position > self._ends and clock.monotonic() - self._came > _SILENT_SECONDS:
            raise BrokenLogError(f"the server is at {file}:{offset}, and gives nothing of it")
        return Look(at, position, moment, self._mark)

    def _position(self, place: Position) -> int:
        if place.file == self._file:
            position = self._file_at + place.offset
        else:
            sizes = {str(row[0]): int(row[1]) for row in rows(self._session, "SHOW BINARY LOGS")}
            files = list(sizes)
            if self._file not in sizes or place.file not in sizes:
                raise BrokenLogError(f"the server has no {self._file} any more")
            between = files[files.index(self._file) : files.index(place.file)]
            position = self._file_at + sum(sizes[name] for name in between) + place.offset
        if position < self._ends:
            raise BrokenLogError(f"the server's log ends at {place.file}:{place.offset}, before what it gave")
        return position

    def _next(self) -> Event:
        held, self._held = self._held, None
        event = held or next(self._events, None)
        if event is None:
            raise BrokenLogError("the server gives no more of it: it was begun anew")
        if not event.is_heartbeat:
            self._came = clock.monotonic()
        return event


def _refuse_unsuited(server: Server, session: Session, follows: Follows) -> None:
    what = f"source {server.name}: nothing leads on from the base of its newest point"
    if follows.about["goes_on"] != "true":
        raise SourceError(
            what,
            why="there were broken views or prepared transactions then, of which it has nothing",
            todo="mend such views, end such transactions, and back up again: a new point begins with a base",
        )
    if follows.about["version"] != version_in(session):
        raise SourceError(
            what,
            why=f"the server was {follows.about['version']} then, and is {version_in(session)} now",
            todo="back up again: a new point begins with a base",
        )


def _after(last: PieceRead) -> _Start:
    try:
        file, offset = last.about[FILE], int(last.about[OFFSET])
    except (KeyError, ValueError) as error:
        raise BrokenLogError("the last piece does not say of which file it is") from error
    return _Start(Position(file, max(offset, len(MAGIC))), last.piece.begins - offset)


def _at_end(follows: Follows) -> _Start:
    file, _, offset = follows.about["ends"].rpartition(":")
    told, at = follows.about["last_event"], int(follows.about["last_event_at"])
    return _Start(Position(file, at if told else int(offset)), follows.ends - int(offset), told)
