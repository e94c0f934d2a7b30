"""The moment of a server's files, with what is seen of the server just then.

What the program that copies them asks of the server comes to us first (`mysql_relay`).

mariadb-backup lets the server stand still in stages. Before ``FLUSH``, the tables that are in no snapshot are locked:
later on, who writes there waits for the program, and would be waited for. Before ``BLOCK_COMMIT``, when nothing is made
or altered any more, it is noted what there is. Before ``END``, when all files are written and nobody commits, a session
begins that goes on seeing that moment. Stages: https://mariadb.com/kb/en/backup-stage/

xtrabackup keeps tables from being made and altered from its beginning (``LOCK INSTANCE FOR BACKUP``), but stops nobody
who commits. When it has begun another file of the binary log, it asks where the server's logs are
(``performance_schema.log_status``), copies what lacks up to there and maybe some more, and lets go (``UNLOCK
INSTANCE``). So here nobody may commit from before that question until then, and a session begins in between that goes
on seeing that moment. https://docs.percona.com/percona-xtrabackup/8.0/how-xtrabackup-works.html
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

import pymysql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.mysql import capture
from cto_backups.sources.mysql.bases import Moment, now, unfinished
from cto_backups.sources.mysql.connection import Session, Version, stop
from cto_backups.sources.mysql.copier import copier_of
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.moment import (
    STANDSTILL_SECONDS,
    WAITED_TOO_LONG,
    begin,
    fingerprint_of,
    lock_tables,
    log_position,
    moving_sample,
    place_of,
    snapshot_position,
    standstill,
)
from cto_backups.sources.mysql.rows import SequenceAt, committed_numbers
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.summing import Summed, more_sessions, summed_up
from cto_backups.sources.mysql.users import Accounts

_STAGE: Final = ["BACKUP", "STAGE"]
_LOCKED: Final = ("FLUSH", "BLOCK_DDL", "BLOCK_COMMIT")
"""Older programs leave out the first ones."""
_LOCK_TABLES: Final = ["LOCK", "TABLES", "FOR", "BACKUP"]
_LOG_STATUS: Final = "LOG_STATUS"


_TRIES: Final = 5
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Held:
    """What is known of the moment: its place in the binary log, if there is one, and the sums to come.

    `where` is what a fingerprint tells of that place, where it is known already.
    """

    sessions: Sequence[Session]
    moment: Moment | None
    where: Mapping[str, str] | None
    summed: "Future[tuple[list[tuple[str, SequenceAt]], list[Summed]]]"


class _Watch(Protocol):
    """Knows from a program's statements how far it has come."""

    def asked(self, words: Sequence[str]) -> None:
        """A statement, in capitals, is about to be carried out. Raises SourceError, pymysql.MySQLError."""


class Standstill:
    """What is done while one backup goes on; `asked` is for a relay. Leave it with `close`.

    `about` is what the fingerprint tells of the server beside.
    """

    def __init__(
        self, server: Server, control: Session, pool: ThreadPoolExecutor, version: Version, about: Mapping[str, str]
    ) -> None:
        self.captured_at: datetime | None = None
        """What was committed until then is in the files."""
        self.begun = False
        """Whether somebody may have to wait by now."""
        self._server, self._control, self._pool, self._about = server, control, pool, about
        self._version = version
        self._watch: _Watch = _Stages(self) if version.is_mariadb else _BackupLock(self)
        self._stack = ExitStack()
        self._still = ExitStack()
        self._beside: Session | None = None
        self._sessions: Sequence[Session] = ()
        self._plan: capture.Plan | None = None
        self._users: Accounts | None = None
        self._held: _Held | None = None

    def asked(self, statement: str) -> None:
        """A statement is about to be carried out. Raises SourceError, pymysql.MySQLError."""
        self._watch.asked(statement.upper().rstrip("; ").split())

    @property
    def place(self) -> Position | None:
        """Where in the binary log the moment is, if there is one. Raises SourceError before it was."""
        moment = self._known()[1].moment
        return moment.place if moment is not None else None

    @property
    def moment(self) -> Moment | None:
        """What a log that goes on from there has to know; None before it was, and where there is no log."""
        return self._held.moment if self._held is not None else None

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        plan, held = self._known()
        try:
            moved, summed = held.summed.result()
            capture.unaltered(self._control, plan)
            # Not while nobody commits: for the GTID the server reads its log's last file from the beginning.
            where = held.where
            if where is None:
                where = place_of(self._control, plan.version, held.moment.place) if held.moment is not None else {}
            same = capture.who(self._server, self._control, plan) == self._users
        except pymysql.MySQLError as error:
            raise self._server.unreadable(error) from error
        except ToolError as error:
            raise self.failed(f"{error.detail}, before all of it was summed up") from error
        if not same:
            raise self.failed("accounts or their rights became others just then")
        samples = [Sample("server", {**plan.server, **self._about, **where})]
        samples += [moving_sample(key, at) for key, at in moved]
        users = self._users
        return fingerprint_of(summed, users.digests() if users else {}, len(users.every) if users else 0, samples)

    def close(self) -> None:
        """End what is still summed up, and let go of all."""
        self.let_go()
        held = self._held
        if held is not None and not held.summed.cancel() and not held.summed.done():
            for session in held.sessions:
                stop(self._server.address, session)
        self._stack.close()

    # -- what is done when a program has come so far -------------------------------------------------------------------

    def unsafe(self) -> str:
        """The tables that are in no snapshot, as there are now."""
        return capture.unsafe_in(capture.planned(self._server, self._control))

    def connect(self, unsafe: str) -> None:
        """Have sessions for the moment: connecting is not for when nobody may commit."""
        self.begun = True
        if unsafe:
            self._beside = self._stack.enter_context(closing(self._server.address.connect(patient=True)))
        session = self._stack.enter_context(closing(self._server.address.connect(patient=True)))
        self._sessions = (session, *more_sessions(self._server.address, self._stack))

    def lock(self, unsafe: str) -> None:
        """Let nobody write into tables that are in no snapshot until they are summed up."""
        if self._beside is not None:
            lock_tables(self._beside, unsafe, self._version)

    def look(self, unsafe: str) -> None:
        """Note what there is, when nothing is made or altered any more."""
        self._plan = capture.planned(self._server, self._control)
        if capture.unsafe_in(self._plan) != unsafe:
            raise self.failed("tables that are in no snapshot were made or dropped meanwhile")
        self._users = capture.who(self._server, self._control, self._plan)

    def stand_still(self) -> None:
        """Let nobody commit until `let_go`: in short attempts, as everybody waits behind one that waits."""
        address = self._server.address.impatient
        session = self._still.enter_context(closing(address.connect(lock_seconds=STANDSTILL_SECONDS)))
        for tried in range(1, _TRIES + 1):
            try:
                self._still.enter_context(standstill(session, self._version))
            except pymysql.MySQLError as error:
                if tried == _TRIES or error.args[0] != WAITED_TOO_LONG:
                    error.add_note("while all who commit were to stand still")
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def let_go(self) -> None:
        """Everybody may commit again."""
        self._still.close()

    def begin(self) -> None:
        """Begin to see the moment, and to sum up what is seen."""
        sessions, plan = self._sessions, self._plan
        if not sessions or plan is None or self._held is not None:
            return
        for session in sessions:
            begin(session)
        session = sessions[0]
        where = None
        if self._version.is_mariadb:
            at = snapshot_position(session)
        else:
            where = log_position(session, self._version)
            at = Position(where["binlog_file"], int(where["binlog_position"])) if where else None
        # The log of MySQL is not gone on with, and who may read it may not see what is prepared.
        prepared = unfinished(session) if self._version.is_mariadb else True
        moment = Moment(at, now(session), prepared) if at is not None else None
        self.captured_at = clock.now()
        history = plan.version.keeps_history
        summed = self._pool.submit(_summed_up, sessions, plan, history=history, beside=self._beside)
        self._held = _Held(sessions, moment, where, summed)

    def _known(self) -> tuple[capture.Plan, _Held]:
        if self._plan is None or self._held is None:
            raise self.failed(f"{copier_of(self._version).name} ended without a standstill, its moment")
        return self._plan, self._held

    def failed(self, why: str) -> SourceError:
        """What to raise when no moment came about."""
        return SourceError(
            f"source {self._server.name}: files and fingerprint of {self._server.place} are not of one moment",
            why=why,
            todo="nothing of this attempt was kept; back up again",
        )


class _Stages:
    """MariaDB's stages, which are mariadb-backup's."""

    def __init__(self, still: Standstill) -> None:
        self._still = still
        self._unsafe: str | None = None
        self._looked = False

    def asked(self, words: Sequence[str]) -> None:
        """Implements `_Watch`."""
        if words[:2] != _STAGE or len(words) < len(_STAGE) + 1:
            return
        stage = words[len(_STAGE)]
        if stage in _LOCKED and self._unsafe is None:
            self._unsafe = self._still.unsafe()
            self._still.connect(self._unsafe)
            self._still.lock(self._unsafe)
        if stage == "BLOCK_COMMIT":
            self._still.look(self._unsafe or "")
            self._looked = True
        if stage == "END" and self._looked:
            self._still.begin()


class _BackupLock:
    """MySQL's lock for backups, which is xtrabackup's.

    Tables that are in no snapshot it copies after ``FLUSH TABLES WITH READ LOCK`` (of Percona Server, ``LOCK TABLES FOR
    BACKUP``), and until it lets go nobody writes there.
    """

    def __init__(self, still: Standstill) -> None:
        self._still = still
        self._holds_unsafe = self._other_file = self._done = False

    def asked(self, words: Sequence[str]) -> None:
        """Implements `_Watch`."""
        if (words[:1] == ["FLUSH"] and words[-3:] == ["WITH", "READ", "LOCK"]) or words == _LOCK_TABLES:
            self._holds_unsafe = self._still.begun = True
        elif words[:1] == ["FLUSH"] and words[-2:] == ["BINARY", "LOGS"]:
            self._other_file = True
        elif self._other_file and not self._done and any(_LOG_STATUS in word for word in words):
            self._done = True
            self._stand_still()
        elif words[:1] == ["UNLOCK"]:
            self._still.let_go()

    def _stand_still(self) -> None:
        unsafe = self._still.unsafe()
        if unsafe and not self._holds_unsafe:
            raise self._still.failed(f"xtrabackup did not hold tables that are in no snapshot: {unsafe[:200]}")
        self._still.connect(unsafe)
        self._still.look(unsafe)
        self._still.stand_still()
        self._still.lock(unsafe)
        self._still.begin()


def _summed_up(
    sessions: Sequence[Session], plan: capture.Plan, *, history: bool, beside: Session | None
) -> tuple[list[tuple[str, SequenceAt]], list[Summed]]:
    """What only moves on, no further than the files are sure to have it; and all rows. Raises pymysql.MySQLError."""
    numbers = {
        f"{each.name}: {name}": number
        for each in plan.made_of
        for name, number in committed_numbers(sessions[0], each, beside).items()
    }
    moved = [(key, replace(at, next=min(at.next, numbers.get(key, at.next)))) for key, at in plan.moved]
    return moved, summed_up(sessions, plan.made_of, history=history, beside=beside)
