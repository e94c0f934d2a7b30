"""The moment of a server's files: where mariadb-backup ends its standstill, with what is seen of the server just then.

It lets the server stand still in stages, by statements that come to us first (`mysql_relay`). Before ``FLUSH``, the
tables that are in no snapshot are locked: later on, who writes there waits for the program, and would be waited for.
Before ``BLOCK_COMMIT``, when nothing is made or altered any more, it is noted what there is. Before ``END``, when all
files are written and nobody commits, a session begins that goes on seeing that moment. Stages:
https://mariadb.com/kb/en/backup-stage/
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import pymysql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources import mysql_capture
from cto_backups.sources.mysql_bases import Moment, now, unfinished
from cto_backups.sources.mysql_connection import Session, do, stop
from cto_backups.sources.mysql_dump import Position
from cto_backups.sources.mysql_moment import (
    Summed,
    fingerprint_of,
    lock_tables,
    moving_sample,
    place_of,
    snapshot_position,
    summed_up,
)
from cto_backups.sources.mysql_rows import SequenceAt, committed_numbers
from cto_backups.sources.mysql_server import Server
from cto_backups.sources.mysql_users import Accounts

_STAGE: Final = ["BACKUP", "STAGE"]
_LOCKED: Final = ("FLUSH", "BLOCK_DDL", "BLOCK_COMMIT")
"""Older programs leave out the first ones."""


@dataclass(frozen=True)
class _Held:
    """What is known of the moment: its place in the binary log, if there is one, and the sums to come."""

    session: Session
    moment: Moment | None
    summed: "Future[tuple[list[tuple[str, SequenceAt]], list[Summed]]]"


class Standstill:
    """What is done at each stage of one backup; `asked` is for a relay. Leave it with `close`.

    `about` is what the fingerprint tells of the server beside.
    """

    def __init__(self, server: Server, control: Session, pool: ThreadPoolExecutor, about: Mapping[str, str]) -> None:
        self.captured_at: datetime | None = None
        """What was committed until then is in the files."""
        self.begun = False
        """Whether somebody may have to wait by now."""
        self._server, self._control, self._pool, self._about = server, control, pool, about
        self._stack = ExitStack()
        self._locked: str | None = None
        self._beside: Session | None = None
        self._session: Session | None = None
        self._plan: mysql_capture.Plan | None = None
        self._users: Accounts | None = None
        self._held: _Held | None = None

    def asked(self, statement: str) -> None:
        """A statement is about to be carried out. Raises SourceError, pymysql.MySQLError."""
        words = statement.upper().rstrip("; ").split()
        if words[:2] != _STAGE or len(words) < len(_STAGE) + 1:
            return
        stage = words[len(_STAGE)]
        if stage in _LOCKED and self._locked is None:
            self.begun = True
            self._lock()
        if stage == "BLOCK_COMMIT":
            self._look()
        if stage == "END" and self._plan is not None and self._held is None:
            self._begin(self._plan)

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
            mysql_capture.unaltered(self._control, plan)
            # Not while nobody commits: for the GTID the server reads its log's last file from the beginning.
            where = place_of(self._control, plan.version, held.moment.place) if held.moment is not None else {}
            same = mysql_capture.who(self._server, self._control, plan) == self._users
        except pymysql.MySQLError as error:
            raise self._server.unreadable(error) from error
        except ToolError as error:
            raise self._failed(f"{error.detail}, before all of it was summed up") from error
        if not same:
            raise self._failed("accounts or their rights became others just then")
        samples = [Sample("server", {**plan.server, **self._about, **where})]
        samples += [moving_sample(key, at) for key, at in moved]
        users = self._users
        return fingerprint_of(summed, users.digests() if users else {}, len(users.every) if users else 0, samples)

    def close(self) -> None:
        """End what is still summed up, and let go of all."""
        held = self._held
        if held is not None and not held.summed.cancel() and not held.summed.done():
            stop(self._server.address, held.session)
        self._stack.close()

    def _lock(self) -> None:
        unsafe = mysql_capture.unsafe_in(mysql_capture.planned(self._server, self._control))
        if unsafe:
            self._beside = self._stack.enter_context(closing(self._server.address.connect(patient=True)))
            lock_tables(self._beside, unsafe)
        self._locked = unsafe
        # Connecting is not for when nobody may commit.
        self._session = self._stack.enter_context(closing(self._server.address.connect(patient=True)))
        do(self._session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def _look(self) -> None:
        self._plan = mysql_capture.planned(self._server, self._control)
        if mysql_capture.unsafe_in(self._plan) != self._locked:
            raise self._failed("tables that are in no snapshot were made or dropped meanwhile")
        self._users = mysql_capture.who(self._server, self._control, self._plan)

    def _begin(self, plan: mysql_capture.Plan) -> None:
        session = self._session
        assert session is not None
        do(session, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        at = snapshot_position(session)
        moment = Moment(at, now(session), unfinished(session)) if at is not None else None
        self.captured_at = clock.now()
        history = plan.version.keeps_history
        summed = self._pool.submit(_summed_up, session, plan, history=history, beside=self._beside)
        self._held = _Held(session, moment, summed)

    def _known(self) -> tuple[mysql_capture.Plan, _Held]:
        if self._plan is None or self._held is None:
            raise self._failed("mariadb-backup ended without a standstill, which would have been its moment")
        return self._plan, self._held

    def _failed(self, why: str) -> SourceError:
        return SourceError(
            f"source {self._server.name}: files and fingerprint of {self._server.place} are not of one moment",
            why=why,
            todo="nothing of this attempt was kept; back up again",
        )


def _summed_up(
    session: Session, plan: mysql_capture.Plan, *, history: bool, beside: Session | None
) -> tuple[list[tuple[str, SequenceAt]], list[Summed]]:
    """What only moves on, no further than the files are sure to have it; and all rows. Raises pymysql.MySQLError."""
    numbers = {
        f"{each.name}: {name}": number
        for each in plan.made_of
        for name, number in committed_numbers(session, each, beside).items()
    }
    moved = [(key, replace(at, next=min(at.next, numbers.get(key, at.next)))) for key, at in plan.moved]
    return moved, summed_up(session, plan.made_of, history=history, beside=beside)
