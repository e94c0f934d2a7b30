"""A catalog on a server, opened: its sessions, which are kept and used again, and its transactions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg

from cto_backups.catalog.database import Connection, First
from cto_backups.catalog.idle import IdleSessions
from cto_backups.catalog.postgresql import rows
from cto_backups.catalog.postgresql.address import Address
from cto_backups.catalog.postgresql.checking import complaints
from cto_backups.catalog.postgresql.mishaps import translated
from cto_backups.catalog.postgresql.timeline import Timeline
from cto_backups.catalog.postgresql.transaction import Transaction
from cto_backups.errors import CatalogError

PATIENCE_SECONDS = 60.0
"""For how long a server may be away in the middle of something before that fails; it restarts in less."""
_OLDEST = 130_000
_NUMBERED = """
    SELECT table_name AS table, column_name AS column, pg_get_serial_sequence(table_name, column_name) AS sequence
    FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES'
    """
_MOST_IDLE = 2  # of each process; a fleet has many


class ServerDatabase:
    """A catalog on a server. Sessions are kept and used again; each has one transaction at a time."""

    shared = True

    def __init__(self, address: Address) -> None:
        self.address = address
        self.patience = 0.0
        self._place = Timeline()
        self._idle = IdleSessions["psycopg.Connection[Any]"](_MOST_IDLE)

    def close(self) -> None:
        """Let go of the server."""
        self._idle.close()

    def reading(self, *, lasting: bool = False) -> AbstractContextManager[Connection]:
        """A consistent view of everything. With `lasting`, no crash can take back what was seen, once it has ended."""
        return self._transaction(write=False, lasting=lasting)

    def writing(self) -> AbstractContextManager[Connection]:
        """All that is done is there at the end, durably, or none of it; once, whatever becomes of the server."""
        return self._transaction(write=True)

    def look_first(self, first: First) -> None:
        """Do this before anything is written, once for each server that takes another's place."""
        self._place.first = first

    def go_on_counting(self, connection: Connection) -> None:
        """Number new rows after those that were brought in with their numbers."""
        for row in list(connection.execute(_NUMBERED)):
            highest = f"SELECT coalesce(max({row['column']}), 0) + 1 FROM {row['table']}"
            connection.execute(f"SELECT setval('{row['sequence']}', ({highest}), false)")

    def check(self) -> tuple[str, ...]:
        """What is wrong with tables, indexes and references; nothing when all is well."""
        with self.reading() as connection:
            return complaints(connection)

    @contextmanager
    def _transaction(self, *, write: bool, lasting: bool = False) -> Iterator[Connection]:
        with translated(self.address):
            first = self._idle.take()
            before = self._place.look if write else None
            begun = Transaction(
                self.address.place, first, self.connect, before=before, patience=self.patience, lasting=lasting
            )
            try:
                yield Connection(begun)
                begun.commit()
            except BaseException:
                self._give_up(begun)
                raise
            self.give(begun.session)

    def connect(self) -> "psycopg.Connection[Any]":
        """A new session. Raises psycopg.Error, CatalogError."""
        session = self.address.connect(autocommit=True, cursor_factory=psycopg.ClientCursor)
        try:
            rows.adapt(session)
            _look_at(session, self.address.place)
        except BaseException:
            session.close()
            raise
        return session

    def give(self, session: "psycopg.Connection[Any] | None") -> None:
        """Keep a session for the next transaction, or close it."""
        if session is not None:
            self._idle.give(session)

    def _give_up(self, begun: Transaction) -> None:
        try:
            begun.roll_back()
        except psycopg.Error:
            if begun.session is not None:
                begun.session.close()  # which rolls back what it can
        else:
            self.give(begun.session)


def _look_at(session: "psycopg.Connection[Any]", place: str) -> None:
    """Refuse a server that cannot hold a catalog."""
    if session.info.server_version < _OLDEST:
        raise CatalogError(
            f"The catalog {place} is on a server that is too old",
            why=f"it is version {session.info.server_version // 10_000}",
            todo=f"Use PostgreSQL {_OLDEST // 10_000} or newer.",
        )
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise CatalogError(
            f"The catalog {place} is in a database with the encoding {encoding}",
            why="names of files are of every language",
            todo="Make a database with ENCODING 'UTF8' TEMPLATE template0.",
        )
