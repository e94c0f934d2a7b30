"""Databases held at one moment each, while they are dumped and summed up."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime

from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.trees import CaptureTree
from cto_backups.sources.postgresql.rows import SequenceAt, Session
from cto_backups.sources.postgresql.sums import (
    LOGICAL,
    Shared,
    Summed,
    fingerprint_of,
    sequence_key,
    sequence_sample,
)
from cto_backups.sources.streams import Giver, StreamTree


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


Hold = Callable[[str], AbstractContextManager[Held]]
"""Holds a database at one moment, until it is let go."""


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
        hold: Hold,
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
    """Implements `core.ports.Capture` and `Remarking`."""

    staged = True
    problems: tuple[Problem, ...] = ()  # a dump is whole, or there is none
    newest_content_at: datetime | None = None

    def __init__(
        self,
        streams: StreamTree,
        now: datetime,
        moments: Moments,
        shared: Shared,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.captured_at = now
        self.paths = ("/",)
        self.tree: CaptureTree = streams
        self.notes = notes
        self._moments, self._shared = moments, shared

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        server = Sample("server", {"version": str(self._shared.major), "bootstrap": self._shared.bootstrap})
        taken = [self._moments.taken[name] for name in sorted(self._moments.taken)]
        moved = [sequence_sample(sequence_key(held.name, each), each) for held, _ in taken for each in held.ahead]
        return fingerprint_of(list(self.summed), self._shared.digests, self._shared.roles, [server, *moved], LOGICAL)

    @property
    def summed(self) -> Sequence[Summed]:
        """What each database was summed up to; complete once every table was. Raises SourceError."""
        return [self._moments.taken[name][1].result() for name in sorted(self._moments.taken)]

    def stored(self) -> None:
        """Nothing is remembered: what is in a database is only known when it is read."""
