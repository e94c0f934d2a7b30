"""The triggers that a schedule is a set of."""

from dataclasses import dataclass
from datetime import timedelta

from cto_backups.core.cron import CronTimes, parse_cron


@dataclass(frozen=True, slots=True)
class Continuous:
    """Captured all the time; without a stream of its own, a source is rescanned often."""


@dataclass(frozen=True, slots=True)
class OnChange:
    """Captured when it changes; because events get lost, also rescanned well within the RPO."""


@dataclass(frozen=True, slots=True)
class Every:
    """At a fixed interval after the last run. Raises ValueError for less than a minute."""

    interval: timedelta

    def __post_init__(self) -> None:
        if self.interval < timedelta(minutes=1):
            raise ValueError("an interval is at least 1 minute")


@dataclass(frozen=True, slots=True)
class At:
    """At a calendar time, in the policy's time zone.

    `weekday` (0 Monday … 6 Sunday) or `day` of the month (1 … 31; the last day where a month is shorter), and `months`
    (1 … 12, ascending) narrow it down: all None is daily. Raises ValueError for a time or day that never comes.
    """

    hour: int
    minute: int
    weekday: int | None = None
    day: int | None = None
    months: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise ValueError(f"{self.hour}:{self.minute} is no time of day between 00:00 and 23:59")
        if self.weekday is not None and not 0 <= self.weekday <= 6:
            raise ValueError(f"{self.weekday} is no weekday between 0 (Monday) and 6 (Sunday)")
        if self.day is not None and not 1 <= self.day <= 31:
            raise ValueError(f"{self.day} is no day of a month between 1 and 31")
        if self.weekday is not None and self.day is not None:
            raise ValueError("a calendar time names a weekday or a day of the month, not both")
        if self.months is not None and not (
            self.months and list(self.months) == sorted(set(self.months)) and set(self.months) <= set(range(1, 13))
        ):
            raise ValueError("months are ascending numbers between 1 and 12")


@dataclass(frozen=True, slots=True)
class Cron:
    """At the times of a cron expression, in the policy's time zone; it is kept as it was written.

    Raises ValueError (`CronError`) for one that cannot be understood, or never comes.
    """

    expression: str

    def __post_init__(self) -> None:
        parse_cron(self.expression)

    @property
    def means(self) -> CronTimes:
        """The days and times of day."""
        return parse_cron(self.expression)


Calendar = At | Cron
"""The triggers that go by the calendar."""
Trigger = Continuous | OnChange | Every | Calendar
Triggers = tuple[Trigger, ...]
