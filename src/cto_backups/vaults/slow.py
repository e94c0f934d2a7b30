"""Answers that hardly move: who reads them is let go of, and asks again.

A connection's own timeout is over only when nothing comes at all; an answer of one byte a minute never ends by it. A
limit on the whole would end large answers on slow lines. So what is asked for is progress: a piece in each window.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from cto_backups import clock
from cto_backups.providers import pauses
from cto_backups.vaults.object_store import Body, ObjectStore
from cto_backups.vaults.pacing import current

_ATTEMPTS = 4  # at answers that end early, which the stores' clients have let go of by then
_WINDOW_SECONDS = 120.0  # in which at least one piece has to come

PIECE_BYTES = 64 << 10
"""How much is read at a time: with the window, the slowest that an answer may be, 546 bytes/s."""


_Read = TypeVar("_Read")


class StalledError(OSError):
    """Too little came for too long."""


class Watched:
    """One answer that is being read: `moved` is said for each piece."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.pieces = self.seen = 0
        self.stalled = False

    def moved(self) -> None:
        """A piece has come."""
        self.pieces += 1

    def look(self) -> None:
        """End it if nothing came since the last look."""
        if self.pieces == self.seen and not self.stalled:
            self.stalled = True
            with contextlib.suppress(Exception):  # it has just ended by itself
                self.body.shutdown()
        self.seen = self.pieces


class _Watch:
    """One thread for all answers of this process; it waits while there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next_looks: dict[Watched, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, watched: Watched) -> None:
        with self._changed:
            self._next_looks[watched] = clock.monotonic() + _WINDOW_SECONDS
            if self._thread is None or not self._thread.is_alive():  # as in a process that was forked
                self._thread = threading.Thread(target=self._run, name="slow", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, watched: Watched) -> None:
        with self._changed:
            self._next_looks.pop(watched, None)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = clock.monotonic()
                for watched in [watched for watched, moment in self._next_looks.items() if moment <= now]:
                    watched.look()
                    self._next_looks[watched] = now + _WINDOW_SECONDS
                self._changed.wait(min(self._next_looks.values()) - now if self._next_looks else None)


_watch = _Watch()


class Filling:
    """Memory that is filled by one answer, or by several of which each begins where the one before ended early."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.filled = 0
        self._fare = current()

    def take(self, body: Body) -> None:
        """Fill what is left. Raises StalledError, OSError when it ends early, and what the stream raises."""
        watched = Watched(body)
        _watch.add(watched)
        try:
            while self.filled < self.buffer.nbytes:
                more = body.readinto(self.buffer[self.filled : self.filled + PIECE_BYTES])
                if not more:
                    raise OSError(f"it ended after {self.filled} bytes of {self.buffer.nbytes}")
                self.filled += more
                if self._fare is not None:
                    self._fare.pay(more)
                watched.moved()
        except Exception as error:
            if watched.stalled:
                raise StalledError("it came too slowly, or stopped coming") from error
            raise
        finally:
            _watch.remove(watched)


def untorn(store: ObjectStore, key: str, read: Callable[[], _Read], came: Callable[[], int] = int) -> _Read:
    """Read until an answer comes whole; tries begin anew where more of it `came`. Raises VaultError."""
    failures = had = 0
    while True:
        try:
            return read()
        except store.torn as error:
            failures = 1 if came() - had >= PIECE_BYTES else failures + 1
            had = came()
            if failures == _ATTEMPTS:
                raise store.say.torn(key, str(error)) from error
            pauses.pause(failures)
