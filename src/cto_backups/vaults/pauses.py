"""How long one waits before a store is asked again."""

import random
import time

_LONGEST_SECONDS = 32.0


def pause(attempt: int, at_least: float = 0.0) -> None:
    """Wait before the next try, longer each time, and each thread differently."""
    time.sleep(min(max(at_least, random.uniform(0, 0.5 * 2**attempt)), _LONGEST_SECONDS))
