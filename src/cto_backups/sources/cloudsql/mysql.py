"""Instances of MySQL: their points and the place in the binary log of each, and what a clone to that place holds.

A recovery to a time ends at an event of the log by the second at which its statement began, which is not the second in
which it was committed. But the service recovers to a place in the log as well. So while nobody commits, for some
hundredths of a second, sessions begin to see one moment, and the server is asked where its log is: a clone to that
place holds the same.

A clone comes up from files, and then the log is carried out. So a table in memory has what the log tells since then
alone; and where a counter of AUTO_INCREMENT stood that moved on for rows nobody committed, no log tells.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import pymysql

from cto_backups import clock
from cto_backups.core.cloud_sql import ABOUT
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.cloudsql.capture import CloudSqlCapture, Standing, recorded, waiting
from cto_backups.sources.cloudsql.service import LogPlace
from cto_backups.sources.mysql import capture as mysql_capture
from cto_backups.sources.mysql.catalogue import catalogue
from cto_backups.sources.mysql.connection import Session, rows, stop, version_of
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.hashes import ALGORITHM, HASHES
from cto_backups.sources.mysql.inventory import STOPPING, rights
from cto_backups.sources.mysql.moment import begin, fingerprint_of, position_in, rows_digest, standing_still
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.summing import Summed, more_sessions, summed_up
from cto_backups.sources.mysql.unfinished import refuse_unfinished
from cto_backups.sources.streams import Stream, StreamTree

_IN_MEMORY: Final = "memory"
_NO_PLACE: Final = "its user may not see where the binary log is (REPLICATION CLIENT)"


@dataclass(frozen=True)
class FoundMysql:
    """Implements `proof.Found` for databases of MySQL, without the rows of tables in memory.

    `ran` are the events that the server itself has executed since it came up.
    """

    summed: Sequence[Summed]
    algorithm: str = ALGORITHM
    ran: Sequence[str] = ()

    def fingerprint(self, samples: Sequence[Sample]) -> Fingerprint:
        """See `proof.Found`."""
        return fingerprint_of(self.summed, {}, 0, samples, self.algorithm)

    def moved_on(self, expected: Fingerprint) -> list[Sample]:
        """None: see above of counters."""
        return []


def found_on(server: Server, names: Sequence[str], algorithm: str) -> FoundMysql:
    """Sum up these databases of a server that nobody writes to. Raises SourceError."""
    with server.session() as session, ExitStack() as stack:
        made_of = [catalogue(session, name) for name in names]
        reading = stack.enter_context(closing(server.address.connect(patient=True)))
        sessions = (reading, *more_sessions(server.address, stack))
        for each in sessions:
            begin(each)
        history = version_of(session)[0].keeps_history
        summed = summed_up(sessions, made_of, history=history, row_hash=HASHES[algorithm])
        return FoundMysql([_surviving(each) for each in summed], algorithm, _ran(session))


def _ran(session: Session) -> list[str]:
    """The events that a server has executed since it came up, which those of its log are not."""
    (uptime,) = rows(session, "SHOW GLOBAL STATUS LIKE 'Uptime'")
    there = "COALESCE(CONVERT_TZ(NOW(), @@SESSION.time_zone, TIME_ZONE), NOW())"  # as each event has its times
    found = rows(
        session,
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS"
        f" WHERE LAST_EXECUTED >= {there} - INTERVAL {int(uptime[1])} SECOND ORDER BY 1, 2",
    )
    return [f"{schema}.{name}" for schema, name in found]


@contextmanager
def exporting(
    server: Server, standing: Standing, state: Path, wait: float, *, to_clone: bool
) -> Iterator[CloudSqlCapture]:
    """Dumps of the databases; `to_clone`: with the place in the log at which clones hold the same.

    Raises SourceError.
    """
    refuse_unfinished(server)

    def beside(at: datetime, position: Position | None) -> Sequence[Stream]:
        place = _place(position) if to_clone else None
        return [recorded(standing.record(at if place else None, place))]

    with mysql_capture.capture(server, state, beside) as inner:
        place = _place(inner.place) if to_clone else None

        def fingerprint() -> Fingerprint:
            base = inner.fingerprint()
            if place is None:
                return base
            lasting = (
                Sample(f"{ABOUT}: {each.made_of.name}", {"rows": rows_digest(_surviving(each).tables)})
                for each in inner.summed
            )
            return replace(base, samples=(*base.samples, *lasting))

        notes = [f"Clones cannot be compared: {_NO_PLACE}"] if to_clone and place is None else []
        yield CloudSqlCapture(
            inner.captured_at,
            inner.tree,
            fingerprint,
            standing,
            inner.captured_at if place is not None else None,
            waiting(standing, wait),
            place=place,
            notes=notes,
            stored=inner.stored,
        )


@contextmanager
def recording(server: Server, standing: Standing, wait: float) -> Iterator[CloudSqlCapture]:
    """A record of a place in the log, and of what the databases held there. Raises SourceError."""
    with ExitStack() as stack, ThreadPoolExecutor(1, thread_name_prefix="fingerprint") as pool:
        control = stack.enter_context(server.session())
        plan = mysql_capture.planned(server, control)
        if not rights(control) & STOPPING:
            server.require(control, ["RELOAD"])
        unsafe = mysql_capture.unsafe_in(plan)
        if unsafe:
            server.require(control, ["LOCK TABLES"])
        sessions, held, where = stack.enter_context(standing_still(server.address, plan.version, unsafe))
        at, place = clock.now(), _place(position_in(where))
        if place is None:
            raise SourceError(
                f"source {server.name}: nobody tells where in its binary log {server.place} is",
                why=f"without an export a point is such a place, with which clones are compared; {_NO_PLACE}",
                todo="As an administrator: GRANT REPLICATION CLIENT ON *.* TO that user; or keep exports.",
            )
        history = plan.version.keeps_history
        future: Future[list[Summed]] = pool.submit(summed_up, sessions, plan.made_of, history=history, beside=held)

        def fingerprint() -> Fingerprint:
            try:
                summed = future.result()
                mysql_capture.unaltered(control, plan)
            except pymysql.MySQLError as error:
                raise server.unreadable(error) from error
            except ToolError as error:
                raise server.refusal("its databases", error) from error
            found = FoundMysql([_surviving(each) for each in summed])
            return found.fingerprint([Sample("server", {"version": str(plan.server["version"])})])

        try:
            tree = StreamTree([recorded(standing.record(at, place))], at)
            yield CloudSqlCapture(
                at, tree, fingerprint, standing, at, waiting(standing, wait), place=place, is_elsewhere=True
            )
        finally:
            if not future.cancel() and not future.done():
                for session in sessions:
                    stop(server.address, session)


def _place(position: Position | None) -> LogPlace | None:
    return LogPlace(position.file, position.offset) if position is not None else None


def _surviving(summed: Summed) -> Summed:
    """A database without the rows of tables in memory."""
    lost = {table.name for table in summed.made_of.tables if table.engine == _IN_MEMORY}
    return replace(summed, tables=[each for each in summed.tables if each.name not in lost])
