"""A database at a moment that its log knows, so that who recovers to that place sees what was summed up.

With ``wal_level = logical`` a logical slot tells both: the snapshot that it exports shows exactly what was committed
before its place in the log. Without, tables are locked against writing, while one looks where the log is.
"""

import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import SourceError
from cto_backups.sources.postgresql.inventory import tablespaces
from cto_backups.sources.postgresql.replication import Replication, lsn
from cto_backups.sources.postgresql.rows import SequenceAt, Session, lock, sequences, table_names, whole
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.sums import (
    PHYSICAL,
    SAMPLED,
    Summed,
    drawn,
    fingerprint_of,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)

_TRIES: Final = 5
# What was emptied or rewritten since is not what the snapshot shows.
_REWRITTEN: Final = """
    SELECT count(*) FROM pg_class
    WHERE relkind IN ('r', 'm') AND relfilenode <> 0 AND relfilenode IS DISTINCT FROM pg_relation_filenode(oid)
"""
_IN_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True)
class Moment:
    """A database held at a place in the log, until `release`."""

    name: str
    session: Session
    at: int
    ahead: tuple[SequenceAt, ...]
    release: ExitStack


def moment(server: Server, name: str) -> Moment:
    """Hold a database at a moment of its log. Raises SourceError, ToolError."""
    for _ in range(_TRIES):
        with ExitStack() as own:
            session = own.enter_context(server.session(name))
            ahead = tuple(sequences(session))  # in no snapshot: they only move on
            try:
                at = _begun(server, name, session)
                lock(session, table_names(session), "ACCESS SHARE")
                (rewritten,) = session.execute(_REWRITTEN).fetchone() or (0,)
            except psycopg.errors.UndefinedTable:
                continue  # dropped since
            if not rewritten:
                return Moment(name, session, at, ahead, own.pop_all())
    raise SourceError(
        f"source {server.name}: database {name} holds still for no moment",
        why=f"in each of {_TRIES} attempts a table was dropped, emptied or rewritten meanwhile",
        todo="back up when nobody does that",
    )


def _begun(server: Server, name: str, session: Session) -> int:
    """Begin the transaction in which a database is summed up: its place in the log."""
    (level,) = session.execute("SHOW wal_level").fetchone() or ("",)
    if level == "logical":
        slot = f"cto_backups_{secrets.token_hex(6)}"
        with Replication(server.address, server.timeout_seconds, database=name) as connection:
            at, snapshot = connection.exported(slot)
            session.execute(_IN_SNAPSHOT)
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        return at
    with server.session(name, read_only=False) as locking, locking.transaction():
        try:
            lock(locking, table_names(locking), "SHARE")
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable) as error:
            raise SourceError(
                f"source {server.name}: no moment of database {name} can be held",
                why=f"{error.diag.message_primary}; with wal_level = {level} its tables must be locked for a moment",
                todo="set wal_level = logical on the server, or let this user lock its tables",
            ) from error
        session.execute(_IN_SNAPSHOT)
        (at,) = session.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("0/0",)
    return lsn(at)


@dataclass(frozen=True)
class Mark:
    """The end of a log: where recovery may end, up to where the log is needed for that, when that was by the server's
    clock, the transactions that it knew afterwards, and the numbers of its tablespaces.
    """

    target: int
    ends: int
    at: datetime
    transactions: str
    tablespaces: tuple[int, ...]


def mark(server: Server) -> Mark:
    """Write something into the log, after all moments. Raises SourceError.

    A server that recovers stops after what follows a place: at the very end of a log it would not find any.
    """
    with server.session("postgres", read_only=False) as session:
        session.execute("SET synchronous_commit = local")
        row = session.execute("SELECT clock_timestamp()").fetchone()
        marked = session.execute("SELECT pg_logical_emit_message(true, 'cto.backups', 'end')::text").fetchone()
        ended = session.execute("SELECT pg_current_wal_flush_lsn()::text, pg_current_snapshot()::text").fetchone()
        spaces = tablespaces(session)
    assert row is not None and marked is not None and ended is not None
    return Mark(lsn(marked[0]), lsn(ended[0]), row[0], str(ended[1]), spaces)


def is_quiet(server: Server, transactions: str) -> bool:
    """Whether nothing was committed since the server knew these transactions, none of which was open. Raises
    SourceError."""
    if not transactions.endswith(":"):
        return False  # who was at work then may have committed since, and left no trace here
    with server.session("postgres") as session:
        return session.execute("SELECT pg_current_snapshot()::text").fetchone() == (transactions,)


class HeldMoments:
    """Databases held at moments, one after the other, and summed up meanwhile."""

    def __init__(self, server: Server, pool: ThreadPoolExecutor, stack: ExitStack, *, sampled: bool = False) -> None:
        self.at: datetime | None = None
        """When the first was held."""
        self._server = server
        self._pool = pool
        self._sampled = sampled
        self._stack = stack
        self._taken: list[tuple[Moment, Future[Summed]]] = []
        self._shared: tuple[dict[str, str], int] = ({}, 0)

    def hold(self, name: str) -> None:
        """Hold a database at a moment, and begin to sum it up. Raises SourceError, ToolError."""
        begun = clock.now()
        held = moment(self._server, name)
        self._stack.callback(held.release.close)
        if self.at is None:
            self.at = begun
            self._shared = shared_lines(held.session)
        self._taken.append((held, self._pool.submit(self._summed, held)))

    @property
    def places(self) -> dict[str, int]:
        """Where in the log each database was held."""
        return {held.name: held.at for held, _ in self._taken}

    def fingerprint(self, server: Sample) -> Fingerprint:
        """The fingerprint of the databases, each at its moment; complete once all are summed up. Raises SourceError."""
        samples = [server]
        for held, _ in self._taken:
            samples += [sequence_sample(sequence_key(held.name, each), each) for each in held.ahead]
        summed = [future.result() for _, future in self._taken]
        return fingerprint_of(summed, *self._shared, samples, SAMPLED if self._sampled else PHYSICAL)

    def cancel(self) -> None:
        """Let go of everything: nobody asks for the sums any more, or all are there."""
        for held, future in self._taken:
            if not future.cancel() and not future.done():
                held.session.cancel()

    def _summed(self, held: Moment) -> Summed:
        try:
            parts = drawn if self._sampled else whole
            return summed_up(held.session, held.name, unlogged=False, parts=parts)
        except psycopg.Error as error:
            raise self._server.unreadable(held.name, error) from error
        finally:
            held.release.close()
