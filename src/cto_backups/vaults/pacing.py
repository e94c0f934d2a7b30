"""The pace of what travels to and from a vault: a rate over all threads of this process, paid for piece by piece.

Who sends or receives in pieces pays for each (`current`), so that a line is shared with others while a large file
travels, and not taken whole and then let go of. What nobody paid for by the end of a call, the call pays for itself.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf

from cto_backups import clock

_SHOWN_SECONDS = 2.0  # for how long after a wait one still speaks of it


class Pace:
    """So many bytes a second, in whatever order threads come. `rate` is asked each time: limits change by the hour."""

    def __init__(self, rate: Callable[[], int | None]) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = -inf  # when what was let through so far has had its time
        self._waited_at = -inf
        self.limit: int | None = None

    def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may have travelled; at once where nothing is limited now."""
        rate = self._rate()
        with self._lock:
            self.limit = rate
            now = clock.monotonic()
            if rate is None:
                self._free_at = now
                return
            self._free_at = max(self._free_at, now) + size_bytes / rate
            wait = self._free_at - now
            self._waited_at = self._free_at
        clock.sleep(wait)

    def slows(self) -> bool:
        """Whether somebody waits for it, or just did."""
        return self.limit is not None and clock.monotonic() - self._waited_at < _SHOWN_SECONDS


class Fare:
    """What one call pays: for each piece as it travels, and never for more than there is, however often it is sent."""

    def __init__(self, pace: Pace, total: float = inf) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._total = total
        self._paid = 0

    def pay(self, size_bytes: int) -> None:
        """Pay for a piece; any thread may."""
        with self._lock:
            due = int(min(size_bytes, self._total - self._paid))
            self._paid += max(due, 0)
        if due > 0:
            self._pace.take(due)

    def settle(self, total: int) -> None:
        """Pay for what of so many bytes was not paid for yet."""
        with self._lock:
            self._total = total
        self.pay(total)


_current: ContextVar[Fare | None] = ContextVar("fare", default=None)


def current() -> Fare | None:
    """What this call's pieces are paid by; None where nothing is limited."""
    return _current.get()


@contextmanager
def paying(fare: Fare) -> Iterator[Fare]:
    """Let what is sent or received meanwhile, by this thread, be paid by this fare."""
    token = _current.set(fare)
    try:
        yield fare
    finally:
        _current.reset(token)
