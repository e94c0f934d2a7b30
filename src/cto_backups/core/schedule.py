"""When things run: a schedule is a set of triggers."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Continuous:
    """Captured all the time; without a stream of its own, a source is rescanned often."""


@dataclass(frozen=True, slots=True)
class OnChange:
    """Captured when it changes; because events get lost, also rescanned well within the RPO."""


@dataclass(frozen=True, slots=True)
class Every:
    """At a fixed interval after the last run."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """At a calendar time, in the policy's time zone.

    `weekday` (0 Monday … 6 Sunday), `day` of the month (1 … 31; the last day where a month is shorter) and `months`
    narrow it down: all None is daily.
    """

    hour: int
    minute: int
    weekday: int | None = None
    day: int | None = None
    months: tuple[int, ...] | None = None


Trigger = Continuous | OnChange | Every | At
Triggers = tuple[Trigger, ...]
