"""Work that threads do ahead of whoever takes it; what is done comes at once, in any order."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """So many `threads`, and `most` that is under way, or done and not taken yet. For one thread; closed by `with`."""

    def __init__(self, threads: int, most: int, name: str) -> None:
        self.under_way = 0
        self._most = most
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._done: SimpleQueue[Future[T]] = SimpleQueue()

    def has_place(self) -> bool:
        """Whether something more may be begun."""
        return self.under_way < self._most

    def begin(self, work: Callable[[], T]) -> None:
        """Have something done."""
        self.under_way += 1
        self._pool.submit(work).add_done_callback(self._done.put)

    def taken(self) -> T:
        """Wait for the next that is done, and take it. Raises what it raised."""
        done = self._done.get()
        self.under_way -= 1
        return done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
