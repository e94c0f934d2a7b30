"""All of a server once in a while, and its binary log in between: each point is the one before, and what came since.

At each point every row is summed up at its own place in the log, and not only where its base was made: what never
came into the log shows. Nobody stands still for that.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pymysql

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.trees import AnyTree, Arrival, Before, Entry, EntryKind
from cto_backups.errors import DamageError, SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.mysql import capture as mysql_capture
from cto_backups.sources.mysql.bases import Base, Form, Moment, is_of_broken_views, now
from cto_backups.sources.mysql.binlog import BrokenLogError
from cto_backups.sources.mysql.connection import Session, rows, stop
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.inventory import STOPPING, rights
from cto_backups.sources.mysql.log import LOG_FILE, Log, first_name
from cto_backups.sources.mysql.moment import (
    ChangingError,
    fingerprint_of,
    moving_sample,
    place_of,
    snapshot,
)
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.spool import born, continued
from cto_backups.sources.mysql.summing import Summed, summed_up
from cto_backups.sources.mysql.sums import SUMS_FILE, Sums
from cto_backups.sources.mysql.users import Accounts
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Ready

_TRIES: Final = 5
_NEEDED: Final = ("REPLICATION SLAVE", "BINLOG MONITOR")


@dataclass(frozen=True)
class Often:
    """How often there is a `base`, and how often all rows are summed up at most: at each point without `sums`."""

    base: timedelta
    sums: timedelta | None = None


@dataclass(frozen=True)
class _Seen:
    """What the log leads to: how that was before it was summed up, and the sums to come."""

    plan: mysql_capture.Plan
    users: Accounts | None
    where: Mapping[str, str]
    summed: "Future[list[Summed]]"


class LoggedCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(self, tree: "LogTree") -> None:
        self.tree: AnyTree = tree
        self._arriving = tree
        self._begun_at = clock.now()

    @property
    def captured_at(self) -> datetime:
        """What was committed until then is in the point."""
        return self._arriving.captured_at or self._begun_at

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        return self._arriving.fingerprint()

    def stored(self) -> None:
        """Nothing is remembered: the next point goes on from what is in the vault."""


class LogTree:
    """Implements `core.trees.ArrivingTree`: the point before and the log since, or a base where that cannot be."""

    def __init__(
        self, server: Server, form: Form, state: Path, often: Often, stack: ExitStack, pool: ThreadPoolExecutor
    ) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.captured_at: datetime | None = None
        self._server, self._form, self._state, self._often = server, form, state, often
        self._stack, self._pool = stack, pool
        self._control = stack.enter_context(server.session())
        self._log: Log | None = None
        self._base: Base | None = None
        self._seen: _Seen | None = None
        self._sums: Sums | None = None
        self._told: Fingerprint | None = None
        refuse_unfit(server, self._control)

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """The files of the point before and those that go on from it; or a base."""
        log = self._goes_on(before)
        if before is not None and log is not None:
            try:
                self._sums = self._summed_before(before, log)
                added = self._since(log) if self._sums is None else self._after(log)
            except BrokenLogError:
                added = None  # the server has thrown it away, or has another one: that begins with a base
            if added is not None:
                yield from self._gone_on(before, added)
                return
        yield from self._based()

    def fingerprint(self) -> Fingerprint:
        """Of the moment to which the log leads. Raises SourceError."""
        if self._log is None:
            raise RuntimeError("nothing has arrived")
        if self._told is None:
            told = self._sums or self._summed_up(self._log)
            self._told = told.of(self._log)
        return self._told

    def _summed_up(self, log: Log) -> Sums:
        """What there is at the end of the log, once all of it is summed up. Raises SourceError."""
        told = self._base.capture.fingerprint() if self._base is not None else self._summed()
        at = self.captured_at
        assert at is not None
        self._sums = Sums(log.ends, log.until, at, told)
        return self._sums

    # -- a base --------------------------------------------------------------------------------------------------------

    def _based(self) -> Iterator[Arrival]:
        base_at = clock.now()
        base = self._stack.enter_context(self._form.begun(self._control))
        self._base = base
        moment = base.moment()
        begun = self._born(moment) if moment is not None else None  # soon: the server may throw it away meanwhile
        broken = False
        for arrival in base.arrivals():
            broken = broken or is_of_broken_views(arrival)
            yield arrival
        moment = moment or base.moment()
        assert moment is not None  # all of it has arrived
        self.captured_at = base.capture.captured_at
        ((number,),) = rows(self._control, "SELECT @@GLOBAL.server_id")
        self._log = Log(
            version_in(self._control),
            int(number),
            base_at,
            moment.clock,
            moment.clock,
            moment.place,
            moment.place,
            self._born(moment) if begun is None else begun,
            # Of views that no server takes, and of what was prepared, a base has nothing, and the log may speak.
            goes_on=not (broken or moment.unfinished),
            name=first_name(int(number), base_at),
        )
        yield _given(LOG_FILE, self._log.written())
        if self._often.sums is not None:
            yield _given(SUMS_FILE, self._summed_up(self._log).written())

    def _born(self, moment: Moment) -> int:
        try:
            return born(moment.place, self._server.address.connect)
        except BrokenLogError as error:
            raise self._unreadable(str(error)) from error

    # -- the log -------------------------------------------------------------------------------------------------------

    def _goes_on(self, before: Before | None) -> Log | None:
        """What the point before tells of its log, if it can be gone on with; else a base is due."""
        try:
            content = before.content(b"/" + LOG_FILE.encode()) if before is not None else None
            if before is None or content is None:
                return None
            log = Log.read(content)
            top = before.folder(b"")
            if not self._form.has_made(top) or not all(before.is_whole(entry.path) for entry in top):
                return None
        except (VerificationError, DamageError):
            return None
        ((number,),) = rows(self._control, "SELECT @@GLOBAL.server_id")
        young = timedelta(0) <= clock.now() - log.base_at < self._often.base
        same = (log.version, log.server) == (version_in(self._control), int(number))
        return log if young and same and log.goes_on else None

    def _summed_before(self, before: Before, log: Log) -> Sums | None:
        """What was summed up before, where that is to serve for this point too; else it is summed up anew."""
        every = self._often.sums
        content = before.content(b"/" + SUMS_FILE.encode()) if every is not None else None
        if content is None or every is None:
            return None
        try:
            sums = Sums.read(content)
        except VerificationError:
            return None
        return sums if sums.serve(log, clock.now(), every) else None

    def _after(self, log: Log) -> tuple[Log, dict[str, Path]]:
        """The log as it goes on to where it ends now, and the new pieces by name; nothing else is read.

        Raises BrokenLogError, SourceError.
        """
        captured_at, until = clock.now(), now(self._control)  # what was committed by then lies before the end
        ((file, offset, *_),) = rows(self._control, "SHOW MASTER STATUS")
        added = self._continued(
            log, Position(str(file), int(offset)), until, self._stack.enter_context(staging(self._state))
        )
        self.captured_at = captured_at
        return added

    def _continued(self, log: Log, end: Position, until: datetime, spool: Path) -> tuple[Log, dict[str, Path]]:
        try:
            return continued(log, end, until, self._server.address.connect, spool)
        except OSError as error:
            raise self._unreadable(f"{error.filename or spool}: {error.strerror}") from error

    def _since(self, log: Log) -> tuple[Log, dict[str, Path]]:
        """The log as it goes on to a moment that is being summed up, and the new pieces by name.

        Raises BrokenLogError, SourceError.
        """
        with ExitStack() as own:
            for _ in range(_TRIES):
                with ExitStack() as trying:
                    plan = mysql_capture.planned(self._server, self._control)
                    users = mysql_capture.who(self._server, self._control, plan)
                    captured_at, until = clock.now(), now(self._control)
                    try:
                        sessions, beside, at = trying.enter_context(
                            snapshot(self._server.address, plan.version, self._unsafe(plan))
                        )
                    except ChangingError as error:
                        raise self._unreadable(str(error)) from error
                    if mysql_capture.who(self._server, self._control, plan) == users:
                        own.push(trying.pop_all())
                        break
            else:
                raise self._unreadable(f"accounts were others {_TRIES} times while they were read")
            history = plan.version.keeps_history
            summed = self._pool.submit(summed_up, sessions, plan.made_of, history=history, beside=beside)
            own.callback(self._end, summed, sessions)
            added = self._continued(log, at, until, own.enter_context(staging(self._state)))
            self._seen = _Seen(plan, users, place_of(self._control, plan.version, at), summed)
            self.captured_at = captured_at
            self._stack.push(own.pop_all())
            return added

    def _end(self, summed: "Future[list[Summed]]", sessions: Sequence[Session]) -> None:
        if not summed.cancel() and not summed.done():
            for session in sessions:
                stop(self._server.address, session)

    def _gone_on(self, before: Before, added: tuple[Log, dict[str, Path]]) -> Iterator[Arrival]:
        self._log, files = added
        is_summed = self._sums is None
        anew = {*([LOG_FILE] if files else []), *([SUMS_FILE] if is_summed else [])}
        kept = [entry for entry in before.folder(b"") if os.fsdecode(entry.name) not in anew]
        yield from (Arrival(entry, kept=True) for entry in kept)
        for name, file in files.items():
            entry = _own(name)
            entry.size = file.stat().st_size
            yield Arrival(entry, _FileReader(file))
        if files:
            yield _given(LOG_FILE, self._log.written())
        if is_summed and self._often.sums is not None:
            yield _given(SUMS_FILE, self._summed_up(self._log).written())

    def _summed(self) -> Fingerprint:
        seen = self._seen
        assert seen is not None
        try:
            summed = seen.summed.result()
            mysql_capture.unaltered(self._control, seen.plan)
        except pymysql.MySQLError as error:
            raise self._server.unreadable(error) from error
        except ToolError as error:
            raise self._unreadable(error.detail) from error
        samples = [Sample("server", {**seen.plan.server, **self._form.about, **seen.where})]
        # What an AUTO_INCREMENT has reached is in a base, and in the log only as far as rows came of it.
        samples += [moving_sample(key, at) for key, at in seen.plan.moved if at.name.startswith("sequence ")]
        users = seen.users
        return fingerprint_of(summed, users.digests() if users else {}, len(users.every) if users else 0, samples)

    # -- both ----------------------------------------------------------------------------------------------------------

    def _unsafe(self, plan: mysql_capture.Plan) -> str:
        unsafe = mysql_capture.unsafe_in(plan)
        if unsafe:
            self._server.require(self._control, ["LOCK TABLES"])
            if not rights(self._control) & STOPPING:
                self._server.require(self._control, ["RELOAD"])
        return unsafe

    def _unreadable(self, why: str) -> SourceError:
        return SourceError(
            f"source {self._server.name}: the binary log of {self._server.place} could not be gone on with",
            why=why,
            todo="nothing of this attempt was kept; back up again",
        )


@contextmanager
def capture(server: Server, form: Form, state: Path, often: Often) -> Iterator[LoggedCapture]:
    """What a server holds, as a base and its log since. Raises SourceError."""
    with ThreadPoolExecutor(1, thread_name_prefix="fingerprint") as pool, ExitStack() as stack:
        yield LoggedCapture(LogTree(server, form, state, often, stack, pool))


class _FileReader:
    """Implements `core.trees.BlockReader` for a file of ours."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()


def _given(name: str, content: bytes) -> Arrival:
    entry = _own(name)
    entry.size = len(content)
    return Arrival(entry, Ready(content))


def _own(name: str) -> Entry:
    now = int(clock.now().timestamp()) * 1_000_000_000
    path = b"/" + os.fsencode(name)
    return Entry(path[1:], path, EntryKind.FILE, stat.S_IFREG | 0o600, os.geteuid(), os.getegid(), 0, now, now)


def version_in(session: Session) -> str:
    """The series that a server is of: what another one logged, this one may not carry out."""
    ((text,),) = rows(session, "SELECT VERSION()")
    return ".".join(str(text).split(".")[:2])


def refuse_unfit(server: Server, session: Session) -> None:
    """Raise SourceError where the log does not lead from one moment to another for certain."""
    names = "('version', 'log_bin', 'binlog_format', 'log_slave_updates')"
    settings = dict(rows(session, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {names}"))
    if "mariadb" not in settings["version"].lower():
        raise _unfit(server, "it is a server of MySQL, whose log is not read", "leave `base_every` out")
    server.require(session, _NEEDED)
    if settings["log_bin"] != "ON":
        raise _unfit(server, "it writes none", "set log_bin in its configuration, and start it again")
    if settings["binlog_format"] != "ROW":
        raise _unfit(
            server,
            f"its binlog_format is {settings['binlog_format']}: a statement may do something else the second time",
            "SET GLOBAL binlog_format = 'ROW', and in its configuration; who is connected keeps the former",
        )
    filtered = ", ".join(str(part) for row in rows(session, "SHOW MASTER STATUS") for part in row[2:4] if part)
    if filtered:
        why = f"not all databases are in it: a filter says {filtered}"
        raise _unfit(server, why, "take binlog_do_db and binlog_ignore_db out of its configuration")
    replicating = dict(rows(session, "SHOW GLOBAL STATUS LIKE 'Slaves_running'")).get("Slaves_running", "0")
    if replicating != "0" and settings["log_slave_updates"] != "ON":
        why = "the server is a replica, and does not log what it gets"
        raise _unfit(server, why, "set log_slave_updates in its configuration; or name its primary")


def _unfit(server: Server, why: str, todo: str) -> SourceError:
    return SourceError(
        f"source {server.name}: the binary log of {server.place} does not do for base_every", why=why, todo=todo
    )
