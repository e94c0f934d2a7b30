"""One transaction on a server that may restart, fail over or be away for a while in the middle of it.

What was not committed has certainly not happened: it is carried out again on a new session, statement by statement,
and each must give what it gave before, for what was done in between rests on that. Whether a commit that got no answer
has happened is looked up: a transaction that writes leaves a name of its own in the table `writes`, and whoever looks
for it holds the writers' lock, so that it is not still under way.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import psycopg

from cto_backups.catalog import database
from cto_backups.catalog.database import ChangedMeanwhileError
from cto_backups.catalog.postgresql import dialect
from cto_backups.catalog.postgresql.mishaps import is_lost
from cto_backups.catalog.postgresql.rows import Rows
from cto_backups.errors import BackupsError, CatalogAwayError

_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT version_num FROM alembic_version"
# The row of the version is the writers' lock: one writer at a time, none while somebody migrates, and each sees that
# it still knows the version. Every statement sees what was there when it began, so what others wrote before the lock.
# The commit itself does not wait for the disk, for whoever waits would hold the lock: see `_COMMIT`.
_WRITE: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit = off;
    SET LOCAL lock_timeout = {busy};
    SET LOCAL idle_in_transaction_session_timeout = {frozen};
    SELECT version_num FROM alembic_version FOR UPDATE;
    """
# In one go, so that the lock is let go of the sooner. The message is a transaction of its own, whose commit waits until
# the log up to it is on the disk, and at a synchronous standby: so is what came before it. Others write meanwhile, and
# the server flushes for all who wait at once. A message is in the log alone, and takes no table.
_COMMIT: Final = "COMMIT; SELECT pg_logical_emit_message(true, 'cto.backups', '')"
_NAMED: Final = "INSERT INTO writes (name, at) VALUES ('{name}', now()); "
# Nobody is in doubt about a commit for so long. One transaction in some thousands clears away.
_FORGET: Final = "DELETE FROM writes WHERE at < now() - interval '1 hour'; "
_CLEARING: Final = "000"
_PAUSES: Final = (0.05, 0.2, 0.5, 1.0)

_Given = TypeVar("_Given")
Opening = Callable[[], "psycopg.Connection[Any]"]


class Transaction:
    """Carries statements out, and all of them again where the session was lost. Its user says how it ends."""

    def __init__(
        self,
        place: str,
        first: "psycopg.Connection[Any] | None",
        connect: Opening,
        *,
        before: Callable[["psycopg.Connection[Any]"], None] | None,
        patience: float,
        lasting: bool = False,
    ) -> None:
        """One that writes does `before` with each session on which it begins; without it, one that reads.

        One that reads, and is `lasting`, ends once what it saw is on the disk: others may have only just written it.
        """
        self._place = place
        self._connect = connect
        self._before = before
        self._write = write = before is not None
        self._lasting = write or lasting
        self._patience = patience
        self._name = secrets.token_hex(16) if write else ""
        self._done: list[tuple[Callable[[], Rows], int]] = []
        self.session = first
        self._attempt(self._begin, kept=first is not None)

    def execute(self, statement: str, values: Mapping[str, Any], /) -> Rows:
        """Run one statement. Raises psycopg.Error, CatalogAwayError."""
        text, given = dialect.statement(statement), dict(values)
        return self._do(lambda: Rows(self._open.execute(text, given)))

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]], /) -> None:
        """Run one statement with each of these values. Raises psycopg.Error, CatalogAwayError."""
        text, given = dialect.statement(statement), [dict(row) for row in rows]
        if given:
            self._do(lambda: self._all(text, given))

    def commit(self) -> None:
        """Make it lasting, once. Raises psycopg.Error, CatalogAwayError."""
        try:
            self._end()
        except psycopg.Error as error:
            if not is_lost(error):
                raise
            if self._write:
                self._settle_at_last()
            elif self._lasting:
                self._attempt(self._see_again)

    def _settle_at_last(self) -> None:
        try:
            self._attempt(self._settle)
        except psycopg.Error as error:
            if not is_lost(error):
                raise
            raise CatalogAwayError(
                f"The catalog {self._place} went away while it was written to",
                why="whether the last change is there is not known",
                todo="Start the server, and run this again: it goes by what is there then.",
            ) from None

    def roll_back(self) -> None:
        """Undo what was done, where the session still can. Raises psycopg.Error."""
        if self.session is not None:
            self.session.execute("ROLLBACK")

    @property
    def _open(self) -> "psycopg.Connection[Any]":
        assert self.session is not None
        return self.session

    def _all(self, text: str, rows: list[dict[str, Any]]) -> Rows:
        with psycopg.Cursor(self._open) as cursor:  # binds on the server, so that many go there in one go
            cursor.executemany(text, rows)
            return Rows(cursor)

    def _do(self, step: Callable[[], Rows]) -> Rows:
        try:
            result = step()
        except psycopg.Error as error:
            if not is_lost(error):
                raise
            result = self._attempt(lambda: self._repeated(step))
        self._done.append((step, result.mark))
        return result

    def _repeated(self, step: Callable[[], Rows]) -> Rows:
        self._repeat()
        return step()

    def _begin(self) -> None:
        if self.session is None:
            self.session = self._connect()
        if self._before is not None:
            self._before(self.session)
        milliseconds = {"busy": int(database.BUSY_SECONDS * 1000), "frozen": int(database.FROZEN_SECONDS * 1000)}
        begun = self.session.execute(_WRITE.format(**milliseconds) if self._write else _READ)
        while begun.nextset():
            pass
        (version,) = begun.fetchone() or ("",)
        if version != database.VERSION:
            raise database.too_new(self._place, str(version))

    def _repeat(self) -> None:
        """Begin anew, and do again what was done."""
        self._drop()
        self._begin()
        for step, mark in self._done:
            if step().mark != mark:
                raise ChangedMeanwhileError(
                    f"The catalog {self._place} was away for a moment, and changed meanwhile",
                    why="what this rests on is not what it was; nothing of it was written",
                    todo="Run it again.",
                )

    def _end(self) -> None:
        ending = (_NAMED.format(name=self._name) if self._write else "") + (_COMMIT if self._lasting else "COMMIT")
        # After a statement that failed, a transaction that writes cannot leave its name: that is no silent rollback.
        self._ended((_FORGET if self._write and self._name.startswith(_CLEARING) else "") + ending)

    def _see_again(self) -> None:
        """See whether what was seen is still there: it may have been taken back with the session."""
        self._repeat()
        self._end()

    def _ended(self, statements: str) -> None:
        ended = self._open.execute(statements)
        while ended.nextset():
            pass

    def _settle(self) -> None:
        """Find out whether a commit without an answer has happened; if not, do all again."""
        self._drop()
        self._begin()  # with the lock: no other session is still about to commit it
        found = self._open.execute("SELECT 1 FROM writes WHERE name = %s", (self._name,)).fetchone()
        if found is not None:
            self._ended(_COMMIT)  # it may not have been on the disk when the session was lost
            return
        self._repeat()
        self._end()

    def _attempt(self, step: Callable[[], _Given], *, kept: bool = False) -> _Given:
        """Try a step again while the session gets lost, and as long as patience lasts."""
        until = time.monotonic() + self._patience
        number = 0
        while True:
            try:
                return step()
            except psycopg.Error as error:
                # A session that was kept may have been lost long ago: that is found out at once, and costs no pause.
                self._drop()
                again = is_lost(error) or (kept and isinstance(error, psycopg.errors.ReadOnlySqlTransaction))
                if not again or (time.monotonic() > until and not kept):
                    raise
                if not kept:
                    time.sleep(_PAUSES[min(number, len(_PAUSES) - 1)])
                    number += 1
                kept = False
            except BackupsError:
                self._drop()
                raise

    def _drop(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
