"""A server's log, followed as it is written: what comes from it between two recovery points.

It needs no slot of its own: that of the points (`postgresql_between`) has the server keep its log from the last of them
on, and a stream goes on from there. No place is ever reported safe: a server that waits for standbys does not wait for
us, and forgets nothing for us.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from cto_backups import clock
from cto_backups.core.streams import Follows, Look, Mark
from cto_backups.errors import PointNeededError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.inventory import tablespaces
from cto_backups.sources.postgresql.point import log_name
from cto_backups.sources.postgresql.replication import Replication, lsn, lsn_text
from cto_backups.sources.postgresql.rows import Session
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.spaces import SpaceWatch

_AT_ONCE_BYTES: Final = 4 << 20
_REPORT_SECONDS: Final = 5.0
_MARK_EVERY: Final = timedelta(seconds=5)
_MARK_ONE_EVERY: Final = timedelta(minutes=1)
"""After a single transaction, which may be somebody else's mark: two who follow a server must not keep it awake."""


@contextmanager
def following(
    server: Server, follows: Follows, position: int, is_kept: Callable[[int], bool]
) -> Iterator["LogFollower"]:
    """Follow a server's log from a position on. Raises SourceError.

    `is_kept` tells whether the server keeps it for the points from there on, once it could not be followed.
    """
    try:
        with (
            Replication(server.address, server.timeout_seconds) as connection,
            server.session("postgres", read_only=False) as session,
        ):
            (standby,) = session.execute("SELECT pg_is_in_recovery()").fetchone() or (False,)
            if standby:
                raise SourceError(
                    f"source {server.name}: the server at {server.place} is a standby",
                    why="moments can be marked in the log of its primary alone",
                    todo="let `host` lead to the primary; it is tried again",
                )
            place = connection.place()
            if log_name(place.system, place.timeline) != follows.log or place.at < position:
                raise PointNeededError(
                    f"source {server.name}: the log of {server.place} is not the one that its newest point holds",
                    why="the server was set back, made anew, or another one took its place",
                    todo="back up again: a new point begins with its files",
                )
            session.execute("SET synchronous_commit = local")
            connection.begin_log(None, position, place.timeline)
            yield LogFollower(server, connection, session, follows, position)
    except ToolError as error:
        if not is_kept(follows.ends):
            raise PointNeededError(
                f"source {server.name}: the server keeps its log from {lsn_text(follows.ends)} on no longer",
                why=error.detail,
                todo="back up again: a new point begins with its files",
            ) from error
        raise SourceError(
            f"source {server.name}: the log of {server.place} cannot be followed from {lsn_text(position)}",
            why=error.detail,
            todo="it is tried again; what is missing comes with the next recovery point",
        ) from error


class LogFollower:
    """Implements `core.streams.Following`."""

    def __init__(
        self, server: Server, connection: Replication, session: Session, follows: Follows, position: int
    ) -> None:
        self._server = server
        self._connection = connection
        self._session = session
        self._spaces = SpaceWatch(position)
        self._tablespaces = follows.about.get("tablespaces", "")
        self._ends = position
        self._reported = clock.monotonic()
        self._mark: Mark | None = None
        self._marked = clock.monotonic() - _MARK_EVERY.total_seconds()
        self._transactions = ""

    @property
    def ends(self) -> int:
        """The position up to which all of it was taken."""
        return self._ends

    def take(self, seconds: float) -> bytes:
        """What follows; empty when nothing came for this long. What comes in quick succession comes together.

        Raises PointNeededError for log that makes a tablespace, which the server need not tell of yet, or any more.
        """
        taken = bytearray()
        until = clock.monotonic() + seconds
        while len(taken) < _AT_ONCE_BYTES and (left := until - clock.monotonic()) > 0:
            try:
                piece = self._connection.log_data(left)
            except ToolError:
                if taken:
                    break  # the server's last words; the next question finds that it is gone
                raise
            if piece is not None:
                begins, data = piece
                if begins != self._ends:
                    raise ToolError("replication", None, f"after {lsn_text(self._ends)} came {lsn_text(begins)}")
                taken += data
                self._ends += len(data)
            if clock.monotonic() - self._reported > _REPORT_SECONDS:
                self._reported = clock.monotonic()
                self._connection.report(self._ends, 0)
        whole = bytes(taken)
        if (made := self._spaces.find(whole)) is not None:
            raise self._tablespace(f"its log makes one at {made.path}, after {lsn_text(made.at)}")
        return whole

    def about(self, begins: int) -> Mapping[str, str]:
        """Nothing: a place says in which file of the log it is."""
        return {}

    def look(self) -> Look:
        """How far the server is. Raises PointNeededError when a tablespace was made: nothing of that may be kept.

        Who recovered would make it where the server has it, on the server's own machine with the same files.
        """
        at = clock.now()
        row = self._session.execute(
            "SELECT pg_current_wal_flush_lsn()::text, pg_current_snapshot()::text, clock_timestamp()"
        ).fetchone()
        spaces = ",".join(map(str, tablespaces(self._session)))
        if row is None or spaces != self._tablespaces:
            raise self._tablespace("it has others than its newest point")
        flushed, transactions, moment = row
        if transactions != self._transactions:
            begun = _begun(transactions) - _begun(self._transactions) if self._transactions else 2
            every = _MARK_EVERY if begun > 1 else _MARK_ONE_EVERY
            if clock.monotonic() - self._marked >= every.total_seconds():
                self._write_mark(moment)
        return Look(at, lsn(flushed), moment, self._mark)

    def _tablespace(self, how: str) -> PointNeededError:
        return PointNeededError(
            f"source {self._server.name}: tablespaces of {self._server.place} were made or dropped",
            why=f"{how}; a server that recovered from this log would use the paths of the one that it was",
            todo="back up again: a new point begins with all files",
        )

    def _write_mark(self, moment: datetime) -> None:
        """Something committed after this moment: a server that recovers to a moment looks for what came after it."""
        self._session.execute("SELECT pg_logical_emit_message(true, 'cto.backups', 'mark')")
        row = self._session.execute("SELECT pg_current_wal_flush_lsn()::text, pg_current_snapshot()::text").fetchone()
        assert row is not None
        self._mark, self._transactions = Mark(lsn(row[0]), moment), row[1]
        self._marked = clock.monotonic()


def _begun(snapshot: str) -> int:
    """How many transactions had begun by a snapshot, as the server writes it: `xmin:xmax:…`."""
    return int(snapshot.split(":")[1])
