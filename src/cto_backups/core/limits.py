"""How long a backup may work at its source."""

from collections.abc import Callable
from typing import Final, Protocol


class Limit(Protocol):
    """When a backup's work at its source ends, whatever it waits for. Any thread may ask."""

    def left(self) -> float | None:
        """How many seconds there are left, never below zero; None without an end."""

    def then(self, end: Callable[[], object]) -> None:
        """Have this called when the time is over, by another thread, or at once if it is; what it raises is lost.

        It ends something that the source began, so that whoever waits for that gets an error.
        """


class Unlimited:
    """Implements `Limit`: no end."""

    def left(self) -> float | None:
        """None: as long as it takes."""
        return None

    def then(self, end: Callable[[], object]) -> None:
        """Never."""


UNLIMITED: Final[Limit] = Unlimited()


def at_most(limit: Limit, seconds: float) -> float:
    """How long to wait for something that may take so many seconds by itself; above zero, as who waits needs it."""
    left = limit.left()
    return seconds if left is None else max(0.001, min(seconds, left))
