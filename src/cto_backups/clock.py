"""The only clock: every other module is given its moments as arguments."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, in UTC, aware."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back, for durations."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait; here so that tests can do without waiting."""
    time.sleep(seconds)
