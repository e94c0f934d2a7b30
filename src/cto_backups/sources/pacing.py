"""What is read at a rate, so that a server has time for others: whoever writes it is held up, and does no more."""

import time
from collections.abc import Callable
from typing import Final

from cto_backups.sources.streams import Giver

_PAUSES_A_SECOND: Final = 10


class Paced:
    """Implements `streams.Giver`: another one's bytes, at most `rate` a second, while `applies` says so."""

    def __init__(self, giver: Giver, rate: int, applies: Callable[[], bool]) -> None:
        self._giver, self._rate, self._applies = giver, rate, applies
        self._most = max(1, rate // _PAUSES_A_SECOND)
        self._due = 0.0

    def readinto(self, buffer: memoryview) -> int:
        """Some of them; 0 at the end. Raises ToolError."""
        if not self._applies():
            return self._giver.readinto(buffer)
        now = time.monotonic()
        if self._due > now:
            time.sleep(self._due - now)
        count = self._giver.readinto(buffer[: self._most])
        self._due = max(self._due, now) + count / self._rate
        return count

    def close(self) -> None:
        """Give no more."""
        self._giver.close()
