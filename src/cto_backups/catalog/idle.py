"""Sessions with a database that are kept for the next transaction, of whichever kind."""

import threading
from typing import Generic, Protocol, TypeVar


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Let go of it."""
        ...


_Session = TypeVar("_Session", bound=Closing)


class IdleSessions(Generic[_Session]):
    """At most so many sessions that nobody uses now, the last one given back first. Safe between threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: list[_Session] = []
        self._closed = False
        self._lock = threading.Lock()

    def take(self) -> _Session | None:
        """One for oneself; None when there is none."""
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give(self, session: _Session) -> None:
        """Keep a session, which has no transaction any more; close it where there are enough, or this is closed."""
        with self._lock:
            if not self._closed and len(self._idle) < self._most:
                self._idle.append(session)
                return
        session.close()

    def close(self) -> None:
        """Close all; what is given back from now on is closed at once."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()
