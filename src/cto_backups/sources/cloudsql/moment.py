"""All databases of a server held at one moment of its clock, such that a recovery to that time shows what they hold.

A recovery to a time ends before the first commit that is later. So no transaction may be under way at the moment: one
that has its time of commit already, and is not yet seen by others, would be on one side for us, and on the other for a
recovery. Such moments are there between the writes of most servers, and they are looked for again and again. A
transaction that wrote anything holds a lock on its own number until all others see it (pg_locks); one that comes later
gets a later time. Nobody has to wait for anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg

from cto_backups import clock
from cto_backups.sources.postgresql.dumping import Held
from cto_backups.sources.postgresql.rows import SequenceAt, Session, lock, sequences, table_names
from cto_backups.sources.postgresql.server import Server

# Whoever gets a number after `passed` commits later than the moment. Who was at work when we looked for locks, and has
# ended before we look again, shows in the last snapshot.
_IN_THIS_ORDER: Final = (
    "SELECT clock_timestamp()",
    "SELECT pg_sleep(0.0015)",
    "SELECT clock_timestamp() AS passed",
    "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'",
    "SELECT pg_current_snapshot()::text",
)
_FRESH_SECONDS: Final = 1.0
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Together:
    """Databases held at one moment, each until it is let go."""

    at: datetime
    _held: Mapping[str, tuple[Held, ExitStack]]

    @contextmanager
    def held(self, name: str) -> Iterator[Held]:
        """One of them, let go at the end."""
        held, own = self._held[name]
        with own:
            yield held


def hold_together(server: Server, names: Sequence[str], stack: ExitStack, seconds: float) -> Together | None:
    """Hold these databases at a moment, once there is one at which nobody writes; None where there is none for so long.

    Raises SourceError.
    """
    with ExitStack() as all_of_them:
        own = {name: ExitStack() for name in names}
        for each in own.values():
            all_of_them.callback(each.close)
        waiting = [_Waiting(server, name, own[name].enter_context(server.session(name))) for name in names]
        control = all_of_them.enter_context(server.session("postgres"))
        until, pause = clock.monotonic() + seconds, 0.001
        while (found := _tried(waiting, control)) is None:
            if clock.monotonic() > until:
                return None
            clock.sleep(pause)
            pause = min(pause * 1.2, 0.05)
        at, held = found
        stack.callback(all_of_them.pop_all().close)
    # A recovery has to see a later commit to know that it has come far enough.
    with server.session("postgres", read_only=False) as session, suppress(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT pg_logical_emit_message(true, 'cto.backups', 'moment')")
    return Together(at, {name: (held[name], own[name]) for name in names})


class _Waiting:
    """A database that waits for its moment: all that takes time is done before the snapshot is taken."""

    def __init__(self, server: Server, name: str, session: Session) -> None:
        self._server = server
        self._name = name
        self._session = session
        self._ahead: list[SequenceAt] = []
        self._tables: list[tuple[str, str]] = []
        self._read_at = -_FRESH_SECONDS

    def begin(self) -> bool:
        """Begin a transaction that has its locks, and no snapshot yet; false where a table was dropped meanwhile."""
        session = self._session
        try:
            session.execute("ROLLBACK")
            if clock.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._ahead = sequences(session)  # in no snapshot: they only move on
                self._tables = table_names(session)
                self._read_at = clock.monotonic()
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            lock(session, self._tables, "ACCESS SHARE")
        except psycopg.errors.UndefinedTable:
            self._read_at = -_FRESH_SECONDS
            return False
        except psycopg.Error as error:
            raise self._server.unreadable(self._name, error) from error
        return True

    def hold(self) -> tuple[Held, str]:
        """Take the snapshot: what is held, and which transactions it shows."""
        row = self._session.execute("SELECT pg_export_snapshot(), pg_current_snapshot()::text").fetchone()
        assert row is not None
        unencoded = self._session.info.parameter_status("server_encoding") == "SQL_ASCII"
        return Held(self._name, self._session, str(row[0]), self._ahead, unencoded), str(row[1])


def _tried(waiting: Sequence[_Waiting], control: Session) -> tuple[datetime, dict[str, Held]] | None:
    """The moment and what is held at it, if nobody wrote meanwhile."""
    if not all([each.begin() for each in waiting]):
        return None
    held, seen = {}, set[str]()
    for each in waiting:
        found, transactions = each.hold()
        held[found.name] = found
        seen.add(transactions)
    with control.pipeline():  # one way there and back: the longer it takes, the more likely does somebody write
        asked = [control.execute(statement) for statement in _IN_THIS_ORDER]
    now, _, passed, working, after = (cursor.fetchone() for cursor in asked)
    assert now is not None and passed is not None and working is not None and after is not None
    at = now[0] - timedelta(microseconds=now[0].microsecond % 1000) + _MILLISECOND
    if working[0] or {after[0]} != seen or not after[0].endswith(":") or passed[0] <= at:
        return None
    return at, held
