"""A server at one moment: databases held by transactions, what they are summed up to, and the fingerprint of that."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.ports import CaptureTree
from cto_backups.sources.postgresql_catalogue import DATABASE, GLOBALS
from cto_backups.sources.postgresql_rows import SequenceAt, Session, TableSums, catalogue, line, tables
from cto_backups.sources.streams import Giver, StreamTree

ALGORITHM: Final = "postgresql/1"
_MOST_SAMPLES: Final = 1000


@dataclass(frozen=True)
class Held:
    """A database, the transaction that holds it at one moment, and how to get there from other sessions.

    `unencoded`: its texts are bytes in whatever encoding who wrote them had.
    """

    name: str
    session: Session
    snapshot: str
    ahead: Sequence[SequenceAt]
    unencoded: bool


@dataclass(frozen=True)
class Summed:
    """What a database holds at one moment."""

    name: str
    tables: Sequence[TableSums]
    catalogue: Mapping[str, str]


@dataclass(frozen=True)
class Shared:
    """What all databases of a server share: digests by kind, the number of roles; its first superuser; its version."""

    digests: Mapping[str, str]
    roles: int
    bootstrap: str
    major: int


class _Dumping:
    """Implements `streams.Giver`: a dump whose database is let go once it was read and the database is summed up."""

    def __init__(self, dump: Giver, future: "Future[Summed]", release: Callable[[], object]) -> None:
        self._dump, self._future, self._release = dump, future, release

    def readinto(self, buffer: memoryview) -> int:
        return self._dump.readinto(buffer)

    def close(self) -> None:
        self._dump.close()
        self._future.add_done_callback(lambda _: self._release())


class Moments:
    """The databases of a server, each held from when its dump begins until it is dumped and summed up.

    So a server with hundreds of databases has as many of our sessions as there are dumps at once.
    """

    def __init__(
        self,
        hold: Callable[[str], AbstractContextManager[Held]],
        dump: Callable[[Held], Giver],
        summed: Callable[[Held], Summed],
        pool: ThreadPoolExecutor,
        stack: ExitStack,
    ) -> None:
        self._hold, self._dump, self._summed = hold, dump, summed
        self._pool, self._stack = pool, stack
        self.taken: dict[str, tuple[Held, Future[Summed]]] = {}

    def begin(self, name: str) -> Giver:
        """Hold a database, and begin to dump it and to sum it up. Raises SourceError, ToolError."""
        own = ExitStack()
        self._stack.callback(own.close)
        held = own.enter_context(self._hold(name))
        dump = self._dump(held)
        future = self._pool.submit(self._summed, held)
        self.taken[name] = held, future
        return _Dumping(dump, future, own.close)

    def first_failure(self) -> BaseException | None:
        """Why a database could not be summed up, if one could not."""
        failed = (future.exception() for _, future in self.taken.values() if future.done() and not future.cancelled())
        return next((reason for reason in failed if reason is not None), None)

    def cancel(self) -> None:
        """Let go of everything: nobody asks for the sums any more, or all are there."""
        for held, future in self.taken.values():
            if not future.cancel() and not future.done():
                held.session.cancel()


class PostgresqlCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()  # a dump is whole, or there is none
    newest_content_at: datetime | None = None

    def __init__(
        self,
        streams: StreamTree,
        now: datetime,
        moments: Moments,
        shared: Shared,
    ) -> None:
        self.captured_at = now
        self.paths = ("/",)
        self.tree: CaptureTree = streams
        self._moments, self._shared = moments, shared

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        server = Sample("server", {"version": str(self._shared.major), "bootstrap": self._shared.bootstrap})
        taken = [self._moments.taken[name] for name in sorted(self._moments.taken)]
        moved = [sequence_sample(sequence_key(held.name, each), each) for held, _ in taken for each in held.ahead]
        summed = [future.result() for _, future in taken]
        return fingerprint_of(summed, self._shared.digests, self._shared.roles, [server, *moved])

    def stored(self) -> None:
        """Nothing is remembered: what is in a database is only known when it is read."""


def shared_lines(session: Session) -> tuple[dict[str, str], int]:
    """The digests of what all databases share, and how many roles there are."""
    digests, roles = {}, 0
    for kind, statement in GLOBALS.items():
        lines = sorted(map(line, session.execute(statement)))
        digests[kind] = sha256("\n".join(lines).encode()).hexdigest()
        if kind == "roles":
            roles = len(lines)
    return digests, roles


def bootstrap(session: Session) -> str:
    """The name of the server's first superuser: no dump makes it, since initdb does."""
    row = session.execute("SELECT rolname FROM pg_roles WHERE oid = 10").fetchone()
    return str(row[0]) if row else "postgres"


def summed_up(session: Session, name: str, *, unlogged: bool = True) -> Summed:
    """All of a database, as the session's snapshot shows it. Raises psycopg.Error."""
    about = session.execute(DATABASE).fetchone()
    words = line(about or ())
    told = {**catalogue(session), "database": sha256(words.encode()).hexdigest()}
    return Summed(name, list(tables(session, unlogged=unlogged)), told)


def fingerprint_of(
    summed: Sequence[Summed],
    shared: Mapping[str, str],
    roles: int,
    samples: Sequence[Sample],
    algorithm: str = ALGORITHM,
) -> Fingerprint:
    """The fingerprint of all that was summed up; of the tables, the largest are samples."""
    checksums = {f"server: {kind}": digest for kind, digest in shared.items()}
    counts = {"databases": len(summed), "roles": roles, "tables": 0, "rows": 0, "large_objects": 0}
    largest: list[tuple[int, Sample]] = []
    for each in summed:
        checksums |= {f"{each.name}: {kind}": digest for kind, digest in each.catalogue.items()}
        content = "\n".join(f"{table.name}\t{table.rows}\t{table.sums[0]}\t{table.sums[1]}" for table in each.tables)
        checksums[f"{each.name}: rows"] = sha256(content.encode()).hexdigest()
        *own, large_objects = each.tables
        counts["tables"] += len(own)
        counts["rows"] += sum(table.rows for table in own)
        counts["large_objects"] += large_objects.rows
        largest += [(table.rows, _table_sample(each.name, table)) for table in each.tables]
    largest.sort(key=lambda pair: (-pair[0], pair[1].key))
    return Fingerprint(
        algorithm=algorithm,
        checksums=checksums,
        counts=counts,
        samples=(*samples, *(sample for _, sample in largest[:_MOST_SAMPLES])),
    )


def _table_sample(database: str, table: TableSums) -> Sample:
    return Sample(
        f"{database}: {table.name}", {"rows": str(table.rows), "sum_1": table.sums[0], "sum_2": table.sums[1]}
    )


def sequence_key(database: str, sequence: SequenceAt) -> str:
    """What the sample of a sequence is called."""
    return f"{database}: sequence {sequence.name}"


def sequence_sample(key: str, sequence: SequenceAt) -> Sample:
    """How far a sequence had come."""
    fields = {"last": str(sequence.last), "used": str(sequence.used).lower(), "rising": str(sequence.rising).lower()}
    return Sample(key, fields)


def sequence_from(sample: Sample) -> SequenceAt:
    """What `sequence_sample` wrote."""
    fields = sample.fields
    return SequenceAt(sample.key, fields["rising"] == "true", int(fields["last"]), fields["used"] == "true")
