"""A server at one moment: a dump and a session that see the same, and the fingerprint of what the session sees.

A dump cannot join another's snapshot. So nobody may commit from before the session's snapshot begins until the dump
says that its own has begun; that takes some hundredths of a second, and the right RELOAD. Without it, both begin, and
tell where in the binary log they are; if that differs, both begin anew. With both, both must hold.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pymysql

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import rows_samples
from cto_backups.sources.mysql.catalogue import Catalogue
from cto_backups.sources.mysql.connection import Address, Session, Version, do, rows
from cto_backups.sources.mysql.dump import Parts, Position
from cto_backups.sources.mysql.hashes import ALGORITHM
from cto_backups.sources.mysql.rows import SequenceAt, TableSums, sequences
from cto_backups.sources.mysql.summing import Summed, more_sessions
from cto_backups.sources.mysql.watch import connections

_MOST_SAMPLES: Final = 1000
_TRIES: Final = 20
_SETTLING_SECONDS: Final = 0.02
_SETTLING_LOOKS: Final = 10
_STANDSTILLS: Final = 5
_LONG_LOG: Final = 1 << 24
"""A dump reads the log's last file up to its end, for the GTID there, while nobody may commit."""
STANDSTILL_SECONDS: Final = 5.0
"""How long those who commit wait at most for those who do already; what a dump needs to begin comes on top."""
_ABANDONED_SECONDS: Final = 60
_TABLE: Final = re.compile(r"`(?:[^`]|``)*`\.`(?:[^`]|``)*`")
WAITED_TOO_LONG: Final = 1205
_DENIED: Final = frozenset({1044, 1045, 1142, 1227, 1370})


class ChangingError(Exception):
    """The two did not come to the same moment."""


@dataclass(frozen=True)
class Held:
    """A dump, and sessions whose snapshots are of the same moment; another holds the tables that are in no snapshot.

    `connection` is the number of the dump's own, if that is certain. `where` says which moment: the place in the binary
    log and its GTIDs, as far as the server tells.
    """

    parts: Parts
    sessions: Sequence[Session]
    beside: Session | None
    connection: int | None
    where: Mapping[str, str]

    @property
    def place(self) -> Position | None:
        """The place in the binary log, if the server tells."""
        return position_in(self.where)


def position_in(where: Mapping[str, str]) -> Position | None:
    """The place in the binary log that a server, or a fingerprint of it, tells; None where it tells none."""
    return Position(where["binlog_file"], int(where["binlog_position"])) if "binlog_file" in where else None


def tells_position(session: Session, version: Version) -> bool:
    """Whether snapshots tell where they are in the binary log."""
    return version.is_mariadb and snapshot_position(session) is not None


@contextmanager
def together(
    address: Address, version: Version, start: Callable[[], Parts], unsafe: str, *, stop: bool, compare: bool
) -> Iterator[Held]:
    """Both at the same moment, by stopping commits, by comparing places in the binary log, or by both.

    `start` starts a dump, which tells its place if `compare`; `unsafe` are the tables that are in no snapshot, with
    commas between them; they need `stop`. Raises ChangingError, ToolError, pymysql.MySQLError.
    """
    assert stop or (compare and not unsafe)
    tries = _STANDSTILLS if stop else _TRIES
    for tried in range(1, tries + 1):
        with ExitStack() as stack:
            if stop and compare:
                _shorten_log(address)
            session = stack.enter_context(_closing(address.connect(patient=True)))
            others = more_sessions(address, stack) if stop else []
            beside = None
            if unsafe and _in_stages(version):
                # Not at the standstill: who is about to write there, and stands still, would be waited for.
                beside = stack.enter_context(_closing(address.connect(patient=True)))
                lock_tables(beside, unsafe, version)
            with ExitStack() as still:
                if stop:
                    control = still.enter_context(_closing(address.impatient.connect(lock_seconds=STANDSTILL_SECONDS)))
                    still.enter_context(standstill(control, version))
                    if compare:
                        _settle(control)
                if unsafe and beside is None:
                    # Not before it: FLUSH TABLES WITH READ LOCK waits for tables that somebody holds, and we are.
                    beside = stack.enter_context(
                        _closing(address.connect(lock_seconds=STANDSTILL_SECONDS, patient=True))
                    )
                    if not _locked_in_time(beside, unsafe, version, last=tried == tries):
                        continue
                for each in (session, *others):
                    begin(each)
                before = connections(session)
                parts = start()
                stack.callback(parts.close)
                parts.open()
                new = connections(session) - before
                log = log_position(session, version) if stop else {}
            seen = snapshot_position(session) if compare else None
            if compare and (seen is None or parts.position() != seen):
                continue  # also though commits stand still: a table that knows no transactions may write into the log
            where = log if seen is None else {"binlog_file": seen.file, "binlog_position": str(seen.offset)}
            where = {**where, **_gtid(session, version, seen)}
            yield Held(parts, (session, *others), beside, new.pop() if len(new) == 1 else None, where)
            return
    raise ChangingError(
        f"something was written into the binary log between the beginnings of dump and snapshot, {tries} times"
    )


@contextmanager
def snapshot(
    address: Address, version: Version, unsafe: str
) -> Iterator[tuple[Sequence[Session], Session | None, Position]]:
    """Sessions that see one moment, another that holds the tables that are in no snapshot, and its place in the log.

    Nobody stands still for that; so there is one session alone where something was written between two beginnings.
    MariaDB alone tells the place. Raises ChangingError, pymysql.MySQLError.
    """
    with ExitStack() as stack:
        session = stack.enter_context(_closing(address.connect(patient=True)))
        beside = None
        if unsafe:
            beside = stack.enter_context(_closing(address.connect(patient=True)))
            lock_tables(beside, unsafe, version)
        others = more_sessions(address, stack)
        for each in (session, *others):
            begin(each)
        at = snapshot_position(session)
        if at is None:
            raise ChangingError("the server does not tell any more where in the binary log its snapshots are")
        yield (session, *(each for each in others if snapshot_position(each) == at)), beside, at


@contextmanager
def standing_still(
    address: Address, version: Version, unsafe: str
) -> Iterator[tuple[Sequence[Session], Session | None, Mapping[str, str]]]:
    """Sessions that see one moment, another that holds the tables that are in no snapshot, and where the log is then.

    Nobody commits while they begin: so any server tells the place. Raises pymysql.MySQLError.
    """
    with ExitStack() as stack:
        session = stack.enter_context(_closing(address.connect(patient=True)))
        sessions = (session, *more_sessions(address, stack))
        beside = stack.enter_context(_closing(address.connect(patient=True))) if unsafe else None
        if beside is not None and _in_stages(version):
            lock_tables(beside, unsafe, version)
        control = stack.enter_context(_closing(address.impatient.connect(lock_seconds=STANDSTILL_SECONDS)))
        with standstill(control, version):
            _settle(control)
            if beside is not None and not _in_stages(version):
                lock_tables(beside, unsafe, version)
            for each in sessions:
                begin(each)
            where = log_position(session, version)
        yield sessions, beside, where


def begin(session: Session) -> None:
    """Go on seeing what there is now. Raises pymysql.MySQLError."""
    do(session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    do(session, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def place_of(session: Session, version: Version, at: Position) -> dict[str, str]:
    """What a fingerprint tells of a place in the binary log."""
    return {"binlog_file": at.file, "binlog_position": str(at.offset), **_gtid(session, version, at)}


def moving(session: Session, made_of: Sequence[Catalogue]) -> list[tuple[str, SequenceAt]]:
    """How far everything that only moves on has come, and the names of the samples of that."""
    return [(f"{each.name}: {at.name}", at) for each in made_of for at in sequences(session, each)]


def fingerprint_of(
    summed: Sequence[Summed],
    shared: Mapping[str, str],
    accounts: int,
    samples: Sequence[Sample],
    algorithm: str = ALGORITHM,
) -> Fingerprint:
    """The fingerprint of all that was summed up; of the tables, the largest are samples."""
    checksums = {f"server: {kind}": digest for kind, digest in shared.items()}
    counts = {"databases": len(summed), "accounts": accounts, "tables": 0, "rows": 0}
    largest: list[tuple[int, Sample]] = []
    rows: dict[str, int] = {}
    for each in summed:
        name = each.made_of.name
        checksums |= {f"{name}: {kind}": digest for kind, digest in each.made_of.digests.items()}
        checksums[f"{name}: rows"] = rows_digest(each.tables)
        counts["tables"] += len(each.made_of.tables)
        rows[name] = sum(table.rows for table in each.tables)
        counts["rows"] += rows[name]
        largest += [(table.rows, _table_sample(name, table)) for table in each.tables]
    largest.sort(key=lambda pair: (-pair[0], pair[1].key))
    broken = broken_views([each.made_of for each in summed])
    if broken:
        checksums["server: broken views"] = sha256(broken).hexdigest()
    return Fingerprint(
        algorithm=algorithm,
        checksums=checksums,
        counts=counts,
        samples=(*samples, *rows_samples(rows), *(sample for _, sample in largest[:_MOST_SAMPLES])),
    )


def rows_digest(tables: Sequence[TableSums]) -> str:
    """The SHA-256 of what all rows of these tables come to."""
    content = "\n".join("\t".join(map(str, (table.name, table.rows, *table.sums))) for table in tables)
    return sha256(content.encode()).hexdigest()


def broken_views(made_of: Sequence[Catalogue]) -> bytes:
    """The statements of views that no server takes, as a file; nothing where there are none."""
    statements = [statement for each in made_of for _, statement in sorted(each.broken.items())]
    if not statements:
        return b""
    lines = ["-- Views that nobody can use: what they show is not there any more, and no server takes them."]
    return "\n".join([*lines, *(f"{statement};" for statement in statements), "-- Dump completed", ""]).encode()


def moving_sample(key: str, at: SequenceAt) -> Sample:
    """How far something had come."""
    return Sample(key, {"next": str(at.next), "rising": str(at.rising).lower()})


def moving_from(sample: Sample) -> SequenceAt:
    """What `moving_sample` wrote."""
    return SequenceAt(sample.key, sample.fields["rising"] == "true", int(sample.fields["next"]))


def _table_sample(database: str, table: TableSums) -> Sample:
    sums = {f"sum_{number}": str(total) for number, total in enumerate(table.sums, 1)}
    return Sample(f"{database}: table {table.name}", {"rows": str(table.rows), **sums})


@contextmanager
def _closing(session: Session) -> Iterator[Session]:
    try:
        yield session
    finally:
        session.close()


def lock_tables(session: Session, unsafe: str, version: Version) -> None:
    """Let nobody write into these tables, and everybody read. Raises pymysql.MySQLError.

    On MariaDB, LOCK TABLES lets who waits to write keep others out; on MySQL it does not, and FLUSH TABLES waits for
    whoever holds the lock for backups.
    """
    words = f"FLUSH LOCAL TABLES {unsafe} WITH READ LOCK"
    if not version.is_mariadb:
        words = "LOCK TABLES " + _TABLE.sub(r"\g<0> READ", unsafe)
    try:
        do(session, words)
    except pymysql.MySQLError as error:
        error.add_note("while tables were locked that are in no snapshot (MyISAM, Aria and the like)")
        raise


def _locked_in_time(session: Session, unsafe: str, version: Version, *, last: bool) -> bool:
    """Whether these tables could be locked while nobody commits: who has written there and is about to commit waits for
    us, and we for them. The `last` time, it raises pymysql.MySQLError.
    """
    try:
        lock_tables(session, unsafe, version)
    except pymysql.MySQLError as error:
        if last or error.args[0] != WAITED_TOO_LONG:
            raise
        return False
    return True


def _shorten_log(address: Address) -> None:
    """Have the server begin another file of its binary log, where the last one is long."""
    with _closing(address.impatient.connect()) as session:
        at = snapshot_position(session)
        if at is not None and at.offset > _LONG_LOG:
            with suppress(pymysql.MySQLError):  # who may not, waits longer
                do(session, "FLUSH LOCAL BINARY LOGS")


def _in_stages(version: Version) -> bool:
    """Whether a standstill can begin while others hold tables."""
    return version.is_mariadb and version.series >= (10, 4)


@contextmanager
def standstill(session: Session, version: Version) -> Iterator[None]:
    """Nobody commits. What only reads goes on. It ends by itself when this machine is gone."""
    do(session, f"SET SESSION wait_timeout = {_ABANDONED_SECONDS}")
    if _in_stages(version):
        begin, end = ["BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"], "BACKUP STAGE END"
    else:
        begin, end = ["FLUSH LOCAL TABLES WITH READ LOCK"], "UNLOCK TABLES"
    for number, statement in enumerate(begin):
        try:
            do(session, statement)
        except pymysql.MySQLError:
            if number:
                do(session, end)
            raise
    try:
        yield
    finally:
        do(session, end)


def _settle(session: Session) -> None:
    """Wait until nothing more comes into the binary log: a statement on a table that knows no transactions, which was
    at it when commits began to stand still, is written there a moment later.
    """
    at = snapshot_position(session)
    for _ in range(_SETTLING_LOOKS):
        time.sleep(_SETTLING_SECONDS)
        before, at = at, snapshot_position(session)
        if at == before:
            return


def snapshot_position(session: Session) -> Position | None:
    """Where in the binary log the session's snapshot is; without one, where the log is. None without a log, and of
    MySQL. Raises pymysql.MySQLError.
    """
    told = dict(rows(session, "SHOW SESSION STATUS LIKE 'binlog\\_snapshot\\_%'"))
    file, offset = told.get("Binlog_snapshot_file"), told.get("Binlog_snapshot_position")
    return Position(str(file), int(offset)) if file and offset else None


def log_position(session: Session, version: Version) -> dict[str, str]:
    """Where the binary log is now, as far as this user may know, and there is one."""
    statements = ["SHOW MASTER STATUS"]
    if not version.is_mariadb and version.series >= (8, 2):
        statements = ["SHOW BINARY LOG STATUS"]
    try:
        told = rows(session, statements[0])
    except pymysql.MySQLError as error:
        if error.args[0] in _DENIED:
            return {}
        raise
    if not told:
        return {}
    file, offset, *more = told[0]
    gtids = {"gtid": str(more[-1])} if not version.is_mariadb and more and more[-1] else {}
    return {"binlog_file": str(file), "binlog_position": str(offset), **gtids}


def _gtid(session: Session, version: Version, at: Position | None) -> dict[str, str]:
    if not version.is_mariadb or at is None:
        return {}
    ((gtid,),) = rows(session, "SELECT BINLOG_GTID_POS(%s, %s)", at.file, at.offset)
    return {"gtid": str(gtid)} if gtid else {}
