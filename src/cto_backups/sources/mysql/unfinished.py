"""Databases that a restore is making on a server in use: a table in each says so, until all of everything is there.

No server gives a database another name. So nobody takes half of one for the whole: a backup refuses it, and the next
restore makes it anew. One restore at a time works on a server, and what a killed one left running is ended.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pymysql

from cto_backups import clock
from cto_backups.core.wording import listed
from cto_backups.errors import RefusedError, RestoreError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources.mysql.connection import Session, do, quoted, rows
from cto_backups.sources.mysql.inventory import folding
from cto_backups.sources.mysql.server import Server

TABLE: Final = "cto_backups_restore_unfinished"
"""The table; its rows are the accounts that the restore has made, as files of accounts call them."""
_COMMENT: Final = "cto.backups: this database is not whole, a restore of it was begun at "
_RESTORING: Final = "cto.backups restore"
_LOADING: Final = "cto.backups restore loads"
_ENDING_SECONDS: Final = 60
_DATABASE_EXISTS: Final = 1007
_NO_SUCH_SESSION: Final = 1094
LOCK_OF_CLIENTS: Final = f"DO GET_LOCK('{_LOADING}', 0)"
"""What each program that loads says first: so one that a killed restore left is known."""
_TABLES: Final = """
    SELECT TABLE_SCHEMA, TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_NAME = %s AND TABLE_COMMENT LIKE %s
"""
_THINGS: Final = """
    SELECT TABLE_SCHEMA FROM information_schema.TABLES
    UNION SELECT ROUTINE_SCHEMA FROM information_schema.ROUTINES
    UNION SELECT EVENT_SCHEMA FROM information_schema.EVENTS
"""


@dataclass(frozen=True)
class Unfinished:
    """A database that is not whole: `begun` is when a restore of it was begun, in UTC."""

    database: str
    begun: str


def unfinished(session: Session) -> dict[str, Unfinished]:
    """Those that are there, by name. Raises pymysql.MySQLError."""
    found = rows(session, _TABLES, TABLE, f"{_COMMENT}%")
    return {str(name): Unfinished(str(name), str(text).removeprefix(_COMMENT)) for name, text in found}


def empty(session: Session, there: Collection[str]) -> set[str]:
    """Those of these databases in which there is nothing: so a restore leaves one that was killed as it began.

    Raises pymysql.MySQLError.
    """
    return set(there) - {str(name) for (name,) in rows(session, _THINGS)}


def accounts_made(session: Session) -> set[str]:
    """The accounts that unfinished restores have made: they may lack their rights. Raises pymysql.MySQLError."""
    told = (rows(session, f"SELECT account FROM {quoted(name)}.{TABLE}") for name in unfinished(session))
    return {bytes(account).decode("utf-8", "surrogateescape") for each in told for (account,) in each}


def begin(session: Session, database: str, creation: str, accounts: Collection[str]) -> None:
    """Make a database in which there is nothing but that it is not whole; one that was not finished goes for it.

    `creation` is what follows ``CREATE DATABASE``. Raises pymysql.MySQLError; ToolError where somebody has made it.
    """
    folded = folding(session)
    if folded(database) in map(folded, unfinished(session)):
        do(session, f"DROP DATABASE {quoted(database)}")
    made = _made(session, creation)
    now = f"{clock.now():%Y-%m-%d %H:%M:%S}"
    do(
        session,
        # In a log that is carried out one day, an earlier one may have been made in a database that was there.
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{TABLE} (number CHAR(32) PRIMARY KEY, account VARBINARY(700))"
        f" COMMENT '{_COMMENT}{now}'",
    )
    if not made and len(rows(session, f"SHOW TABLES FROM {quoted(database)}")) != 1:
        do(session, f"DROP TABLE {quoted(database)}.{TABLE}")
        raise _taken(database)
    for account in sorted(accounts):
        with session.cursor() as cursor:
            number, name = uuid4().hex, account.encode("utf-8", "surrogateescape")
            cursor.execute(f"INSERT INTO {quoted(database)}.{TABLE} VALUES (%s, %s)", (number, name))


def _made(session: Session, creation: str) -> bool:
    """Whether a database was made, and not there with nothing in it; its character set is as it should be."""
    try:
        do(session, f"CREATE DATABASE {creation}")
    except pymysql.MySQLError as error:
        if error.args[0] != _DATABASE_EXISTS:
            raise
    else:
        return True
    name = creation[1 : creation.rindex("`")].replace("``", "`")
    there = {str(found) for (found,) in rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")}
    if name not in empty(session, there & {name}):
        raise _taken(name)
    do(session, f"ALTER DATABASE {creation}")
    return False


def _taken(database: str) -> ToolError:
    why = "was made meanwhile, or there is one whose name differs in case alone"
    return ToolError("CREATE DATABASE", None, f"a database {database} {why}")


def drop_but(session: Session, names: Collection[str]) -> None:
    """Remove those that are not whole, but for these. Raises pymysql.MySQLError."""
    folded = folding(session)
    for name in sorted(unfinished(session)):
        if folded(name) not in map(folded, names):
            do(session, f"DROP DATABASE {quoted(name)}")


def finish(session: Session, names: Collection[str] | None) -> None:
    """Say that these databases are whole, all when None. Raises pymysql.MySQLError."""
    folded = folding(session)
    for name in sorted(unfinished(session)):
        if names is None or folded(name) in map(folded, names):
            do(session, f"DROP TABLE {quoted(name)}.{TABLE}")


@contextmanager
def alone(source: str, session: Session) -> Iterator[None]:
    """While nobody else restores to the server; what a killed restore left running there has ended.

    Raises RefusedError, RestoreError, pymysql.MySQLError.
    """
    if not _locked(session, _RESTORING, 0):
        ((number,),) = rows(session, "SELECT IS_USED_LOCK(%s)", _RESTORING)
        raise RefusedError(
            f"source {source}: another restore to this server is running",
            why=f"session {number} of the server has the lock '{_RESTORING}'",
            todo=f"wait for it; if its machine is gone: KILL {number}",
        )
    try:
        ((left,),) = rows(session, "SELECT IS_USED_LOCK(%s)", _LOADING)
        if left is not None:
            try:
                do(session, f"KILL {int(left)}")
            except pymysql.MySQLError as error:
                if error.args[0] != _NO_SUCH_SESSION:
                    raise
        if not _locked(session, _LOADING, _ENDING_SECONDS):
            raise RestoreError(
                f"source {source}: what an earlier restore left to the server does not end",
                why=f"session {left} of the server was told to, and still has the lock '{_LOADING}'",
                todo="wait until it has undone what it did (SHOW PROCESSLIST), and restore again",
            )
        rows(session, "SELECT RELEASE_LOCK(%s)", _LOADING)
        yield
    finally:
        with suppress(pymysql.MySQLError):  # it goes with the session
            rows(session, "SELECT RELEASE_LOCK(%s)", _RESTORING)


def _locked(session: Session, lock: str, seconds: int) -> bool:
    ((got,),) = rows(session, "SELECT GET_LOCK(%s, %s)", lock, seconds)
    return bool(got == 1)


def refuse_unfinished(server: Server) -> None:
    """Raise SourceError where a database is not whole: a point of it would look as if it were."""
    with server.session() as session:
        half = [each for name, each in sorted(unfinished(session).items()) if server.covers(name)]
    if half:
        names = listed(each.database for each in half)
        drops = "; ".join(f"DROP TABLE {quoted(each.database)}.{TABLE}" for each in half)
        raise SourceError(
            f"source {server.name}: not whole at {server.place}: {names}",
            why=f"a restore was begun at {half[0].begun} UTC, and is running still or was cut off",
            todo="if none is running, restore in place again: it makes them anew. Where you have made them whole"
            f" yourself: {drops}",
        )
