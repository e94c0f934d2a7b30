"""How fast what travels to and from a vault may go, by the time of day; pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from cto_backups.core.windows import Window

Direction = Literal["up", "down"]

LEAST_RATE = 64 << 10
"""The lowest limit, in bytes a second: below it, stores would take a connection for dead."""

_UNITS = {
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kbit": 1000 / 8,
    "mbit": 1000**2 / 8,
    "gbit": 1000**3 / 8,
}
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([a-z]+)/s", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class BandwidthLimit:
    """At most so many bytes a second each way (None: nothing is said of it) from one time of day to another.

    `begin`, `end` and `weekdays` are those of a `Window`, on the wall clock of the policy's time zone.
    """

    up: int | None = None
    down: int | None = None
    begin: int | None = None
    end: int | None = None
    weekdays: frozenset[int] = frozenset(range(7))

    def holds(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether clocks in `zone` show a time within the window. Raises ValueError for a naive moment."""
        return Window(self.begin, self.end, self.weekdays).holds(moment, zone)


BandwidthLimits = tuple[BandwidthLimit, ...]


def parse_rate(text: str) -> int:
    """Bytes a second from "20 MiB/s", "5 MB/s" or "100 Mbit/s". Raises ValueError with the forms there are."""
    found = _RATE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"'{text[:40]}' is no rate: write one such as 20 MiB/s, 5 MB/s or 100 Mbit/s")
    rate = int(float(found[1]) * _UNITS[found[2].lower()])
    if rate < LEAST_RATE:
        raise ValueError(f"'{text[:40]}' is too slow: at least 64 KiB/s, or stores take the connection for dead")
    return rate


def rate_at(limits: BandwidthLimits, direction: Direction, moment: datetime, zone: ZoneInfo) -> int | None:
    """How many bytes a second may travel this way now: by the first limit that holds and speaks of it; None: any.

    Where clocks are put back, an hour's limits hold for both of its turns. Raises ValueError for a naive moment.
    """
    for limit in limits:
        rate = limit.up if direction == "up" else limit.down
        if rate is not None and limit.holds(moment, zone):
            return rate
    return None
