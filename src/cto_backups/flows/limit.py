"""The time that the policy gives a backup at its source: when it is over, all that was begun there is ended.

Nothing of such a backup is kept. What is ended fails where it is waited for, as it would if somebody else had ended it;
what gives bytes or entries by itself gives no more.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import TIMEOUT_MAX, Lock, Timer
from typing import Final

from cto_backups import clock
from cto_backups.core.duration import format_duration
from cto_backups.core.objects import FromObject, ObjectState
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.trees import AnyTree, Arrival, ArrivingTree, Before, BlockReader, CaptureTree, Entry
from cto_backups.errors import SourceError

_AT_ONCE: Final = 8


class TimeLimit:
    """Implements `core.limits.Limit`: from when it is made until it is lifted; without a `time` it has no end."""

    def __init__(self, time: timedelta | None) -> None:
        self._passed = False
        self._ends: list[Callable[[], object]] = []
        self._lifted = False
        self._lock = Lock()
        self._until = None if time is None else clock.monotonic() + time.total_seconds()
        self._timer = None if time is None else Timer(min(time.total_seconds(), TIMEOUT_MAX), self._pass)
        if self._timer is not None:
            self._timer.name = "backup_timeout"
            self._timer.daemon = True
            self._timer.start()

    def left(self) -> float | None:
        """How many seconds there are left; None once it is lifted."""
        return None if self._until is None or self._lifted else max(0.0, self._until - clock.monotonic())

    @property
    def over(self) -> bool:
        """Whether the time is over, and was not lifted before."""
        return self.left() == 0

    def then(self, end: Callable[[], object]) -> None:
        """Have something ended when the time is over."""
        with self._lock:
            if self._until is None or self._lifted:
                return
            self._ends.append(end)
            if not self._passed:
                return
        _ended(end)

    def lift(self) -> None:
        """Nothing is done at the source any more: from now on it may take as long as it takes."""
        with self._lock:
            self._lifted = True
            self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

    def _pass(self) -> None:
        with self._lock:
            if self._lifted:
                return
            self._passed = True
            ends = list(self._ends)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="backup_timeout") as pool:
            list(pool.map(_ended, ends))


def _ended(end: Callable[[], object]) -> None:
    with suppress(Exception):  # it may have ended by itself, or not let itself be ended: the others must be
        end()


@contextmanager
def limited(policy: SourcePolicy, *, spent: timedelta = timedelta()) -> Iterator[TimeLimit]:
    """The time that a source's backup may take, of which some is `spent` already.

    Raises SourceError, in place of what came of it, when it was over.
    """
    limit = TimeLimit(policy.backup_timeout and max(policy.backup_timeout - spent, timedelta()))
    try:
        yield limit
    except SourceError as error:
        if limit.over:
            raise _over(policy.name, policy.backup_timeout) from error
        raise
    finally:
        limit.lift()


def _over(source: str, time: timedelta | None) -> SourceError:
    return SourceError(
        f"source {source}: its backup was ended, since it had worked there for {format_duration(time or timedelta())}",
        why="`backup_timeout` of this source in the policy allows no more, for the sake of those who work there too",
        todo="nothing of it was kept; back up when less is done there, or allow more",
    )


def giving(tree: AnyTree, limit: TimeLimit) -> AnyTree:
    """A tree that gives nothing any more once the time is over: it raises SourceError then."""
    if limit.left() is None:
        return tree
    return _LimitedArrivals(tree, limit) if isinstance(tree, ArrivingTree) else _LimitedTree(tree, limit)


def _check(limit: TimeLimit) -> None:
    if limit.over:
        raise SourceError("the time for a backup is over")


class _LimitedTree:
    """Implements `core.trees.CaptureTree`."""

    def __init__(self, tree: CaptureTree, limit: TimeLimit) -> None:
        self._tree, self._limit = tree, limit

    @property
    def root(self) -> Entry:
        return self._tree.root

    def folder(self, entry: Entry) -> Sequence[Entry]:
        _check(self._limit)
        return self._tree.folder(entry)

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        _check(self._limit)
        return self._tree.read_many(entries)

    def open(self, entry: Entry) -> BlockReader:
        _check(self._limit)
        return _LimitedReader(self._tree.open(entry), self._limit)

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        _check(self._limit)
        return self._tree.reuse_many(entries)


class _LimitedArrivals:
    """Implements `core.trees.ArrivingTree`."""

    def __init__(self, tree: ArrivingTree, limit: TimeLimit) -> None:
        self._tree, self._limit = tree, limit

    @property
    def root(self) -> Entry:
        return self._tree.root

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        for arrival in self._tree.arrivals(before):
            _check(self._limit)
            yield arrival


class _LimitedReader:
    """Implements `core.trees.BlockReader`, and tells the object that is read, if it is one."""

    def __init__(self, reader: BlockReader, limit: TimeLimit) -> None:
        self._reader, self._limit = reader, limit

    @property
    def state(self) -> ObjectState | None:
        return self._reader.state if isinstance(self._reader, FromObject) else None

    def readinto(self, buffer: memoryview) -> int:
        _check(self._limit)
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()
