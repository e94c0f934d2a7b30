"""How long one waits before a service is asked again."""

import random

from cto_backups import clock

_LONGEST_SECONDS = 32.0


def pause(attempt: int, at_least: float = 0.0, at_most: float = _LONGEST_SECONDS) -> None:
    """Wait before the next try, longer each time, and each thread differently."""
    wanted = max(at_least, random.uniform(0, 0.5 * 2 ** min(attempt, 8)))
    clock.sleep(min(wanted, at_most, _LONGEST_SECONDS))
