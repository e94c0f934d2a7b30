"""A database at a moment that its log knows, so that who recovers to that place sees what was summed up.

With ``wal_level = logical`` a logical slot tells both: the snapshot that it exports shows exactly what was committed
before its place in the log. Without, tables are locked against writing, while one looks where the log is.
"""

import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from cto_backups.errors import SourceError
from cto_backups.sources.postgresql_replication import Replication, lsn
from cto_backups.sources.postgresql_rows import SequenceAt, Session, lock, sequences, table_names
from cto_backups.sources.postgresql_server import Server

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
