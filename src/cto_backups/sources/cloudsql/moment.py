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
from cto_backups.errors import SourceError
from cto_backups.sources.postgresql.dumping import Held
from cto_backups.sources.postgresql.rows import Session, hold, sequences
from cto_backups.sources.postgresql.server import Server

_WORKING: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'"
_SNAPSHOT: Final = "SELECT pg_current_snapshot()::text"
_PAUSE_SECONDS: Final = 0.004
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
        sessions = {name: own[name].enter_context(server.session(name)) for name in names}
        control = all_of_them.enter_context(server.session("postgres"))
        until, pause = clock.monotonic() + seconds, 0.001
        while (found := _tried(server, sessions, control)) is None:
            for session in sessions.values():
                session.execute("ROLLBACK")
            if clock.monotonic() > until:
                return None
            clock.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        at, held = found
        stack.callback(all_of_them.pop_all().close)
    # A recovery has to see a later commit to know that it has come far enough.
    with server.session("postgres", read_only=False) as session, suppress(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT pg_logical_emit_message(true, 'cto.backups', 'moment')")
    return Together(at, {name: (held[name], own[name]) for name in names})


def _tried(
    server: Server, sessions: Mapping[str, Session], control: Session
) -> tuple[datetime, dict[str, Held]] | None:
    """The moment and what is held at it, if nobody wrote meanwhile."""
    if _one(control, _WORKING):
        return None
    held, seen = {}, set[object]()
    for name, session in sessions.items():
        try:
            ahead = sequences(session)  # in no snapshot: they only move on
            snapshot = hold(session)
        except psycopg.errors.UndefinedTable:
            return None  # dropped since
        except psycopg.Error as error:
            raise server.unreadable(name, error) from error
        seen.add(_one(session, _SNAPSHOT))
        unencoded = session.info.parameter_status("server_encoding") == "SQL_ASCII"
        held[name] = Held(name, session, snapshot, ahead, unencoded)
    if len(seen) != 1:
        return None
    (transactions,) = seen
    now = _one(control, "SELECT clock_timestamp()")
    if not isinstance(now, datetime):
        raise SourceError(f"source {server.name}: the server does not tell the time")
    at = now - timedelta(microseconds=now.microsecond % 1000) + _MILLISECOND
    clock.sleep(_PAUSE_SECONDS)
    after = _one(control, "SELECT clock_timestamp()")  # whoever gets a number from now on commits later than `at`
    if not isinstance(after, datetime) or after <= at:
        return None
    # In this order: who was at work when we looked for locks, and has ended before we look again, shows in the latter.
    if _one(control, _WORKING) or {_one(control, _SNAPSHOT)} != seen or not str(transactions).endswith(":"):
        return None
    return at, held


def _one(session: Session, statement: str) -> object:
    row = session.execute(statement.encode()).fetchone()  # bytes: none of these has parameters
    return row[0] if row else None
