"""Ends a dump that waits for somebody's lock: its program has no setting for that, and a server lets it wait for a day.

Worse, it may wait for somebody who waits for us: who wants to alter a table that we hold comes first, and the dump
behind him. And behind both, everybody.
"""

from contextlib import suppress
from threading import Event, Thread
from typing import Final

import pymysql

from cto_backups.sources.mysql.connection import Address, Session, do, rows

_OFTEN_SECONDS: Final = 1.0
_WAITING: Final = """
    SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = %s AND STATE LIKE 'Waiting for %% lock' AND TIME >= %s
"""
_MINE: Final = """
    SELECT ID FROM information_schema.PROCESSLIST WHERE USER = SUBSTRING_INDEX(USER(), '@', 1)
"""


def connections(session: Session) -> set[int]:
    """The numbers of the connections that the session's user has."""
    return {int(number) for (number,) in rows(session, _MINE)}


class Watch:
    """Watches a dump's connection while the block lasts. `reason` says why it was ended, if it was."""

    def __init__(self, address: Address, connection: int | None) -> None:
        self._address, self._connection = address, connection
        self._over = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)
        self.reason = ""

    def __enter__(self) -> "Watch":
        if self._connection is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._connection is not None:
            self._thread.join()

    def _run(self) -> None:
        seconds = self._address.lock_seconds
        with suppress(pymysql.MySQLError, OSError):  # a server that does not answer ends the dump by itself
            session = self._address.impatient.connect()
            try:
                while not self._over.wait(min(_OFTEN_SECONDS, seconds / 2)):
                    waits = rows(session, _WAITING, self._connection, max(1, round(seconds)))
                    if waits and not self._over.is_set():
                        self.reason = f"the dump waited {waits[0][0]} seconds for a table that somebody locks or alters"
                        do(session, f"KILL {self._connection}")
                        return
            finally:
                session.close()
