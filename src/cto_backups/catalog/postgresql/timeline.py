"""Whether the server is still the one that it was: who takes its place may lack what that was told last.

PostgreSQL numbers its history anew, by a timeline, whenever a standby is promoted, or a backup of the server is taken
to a moment. Where replication is asynchronous, transactions that were confirmed may be missing then. Each process looks
before it first writes on a timeline that it does not know; where all was there is noted in `writes`, and nothing
clears that away.
"""

import threading
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

import psycopg

from cto_backups import clock
from cto_backups.catalog.database import First
from cto_backups.catalog.postgresql.mishaps import is_lost
from cto_backups.errors import CatalogBehindError

_TIMELINE: Final = """
    SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
    """
_NOTE: Final = "INSERT INTO writes (name, at) VALUES (%s, 'infinity') ON CONFLICT DO NOTHING"
_AGAIN_SECONDS: Final = 5.0


class Timeline:
    """What one process knows of it. `first` is what it does before it writes on one that it does not know."""

    def __init__(self) -> None:
        self.first: First | None = None
        self._sessions: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._known: set[str] = set()
        self._behind: tuple[CatalogBehindError | None, float] = (None, 0.0)
        self._looking = threading.local()

    def look(self, session: "psycopg.Connection[Any]") -> None:
        """Before a transaction that writes begins on a session. Raises CatalogBehindError, psycopg.Error."""
        if self.first is None or session in self._sessions or getattr(self._looking, "now", False):
            return
        timeline = _of(session)
        if timeline and timeline not in self._known:
            self._look(session, self.first, timeline)
            self._known.add(timeline)
        self._sessions.add(session)

    def _look(self, session: "psycopg.Connection[Any]", first: First, timeline: str) -> None:
        start = f"timeline {timeline} {first.whom} "
        rows = session.execute("SELECT name FROM writes WHERE at = 'infinity'").fetchall()
        noted = {str(name).removeprefix(start) for (name,) in rows if name.startswith(start)}
        error, until = self._behind
        if error is not None and clock.monotonic() < until:
            raise error  # threads that give signs of life ask every second
        self._looking.now = True
        try:
            seen = first.look(noted)
        except CatalogBehindError as error:
            self._behind = error, clock.monotonic() + _AGAIN_SECONDS
            raise
        finally:
            self._looking.now = False
        # An enrolled host may not note it, and looks again.
        with suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
            for place in seen:
                session.execute(_NOTE, (start + place,))


def _of(session: "psycopg.Connection[Any]") -> str:
    """Eight hexadecimal digits; nothing on a standby, and where the provider does not tell."""
    try:
        row = session.execute(_TIMELINE).fetchone()
    except psycopg.Error as error:
        if is_lost(error):
            raise
        return ""
    return str(row[0]) if row else ""
