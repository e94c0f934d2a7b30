"""When things run: a schedule is a set of triggers. Their written form is in `trigger_text`, re-exported here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import falls_on, require_aware, wall_clock
from cto_backups.core.trigger_text import TriggerError, format_trigger, format_triggers, parse_triggers
from cto_backups.core.triggers import At, Continuous, Every, OnChange, Trigger, Triggers

__all__ = [
    "AT_ONCE",
    "At",
    "Continuous",
    "Every",
    "NextRun",
    "OnChange",
    "Trigger",
    "TriggerError",
    "Triggers",
    "format_trigger",
    "format_triggers",
    "longest_gap",
    "next_run",
    "occurrences",
    "parse_triggers",
    "rescan_interval",
]

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
"""The moment at which a run is due that never happened before: every other moment is later."""

_CONTINUOUS_RESCAN = timedelta(minutes=15)
_DAY = timedelta(days=1)
_DAY_MINUTES = 24 * 60
_TEN_YEARS = 3653  # days


@dataclass(frozen=True, slots=True)
class NextRun:
    """When a set of triggers next asks for a run, and the trigger that does; `AT_ONCE` when there was none yet.

    `changed`: it asks because a change was noticed. `because` is why it asks where that is no trigger's doing.
    """

    at: datetime
    trigger: Trigger
    changed: bool = False
    because: str = ""


def rescan_interval(trigger: Continuous | OnChange | Every, rpo: timedelta) -> timedelta:
    """The longest time between two scans of a source that is not on a calendar.

    `on change` scans every half RPO and `continuous` every quarter of it, at most 15 minutes apart: events get lost, so
    both look again well within the RPO, and a scan that confirms that nothing changed counts as freshness.
    """
    if isinstance(trigger, Every):
        return trigger.interval
    return rpo / 2 if isinstance(trigger, OnChange) else min(rpo / 4, _CONTINUOUS_RESCAN)


def longest_gap(triggers: Triggers, rpo: timedelta) -> timedelta:
    """The longest time that can pass between two runs of this set, leaving aside the hour that summer time takes.

    Raises ValueError for a set without triggers.
    """
    if not triggers:
        raise ValueError("a schedule needs at least one trigger")
    gaps = [rescan_interval(trigger, rpo) for trigger in triggers if not isinstance(trigger, At)]
    calendar = tuple(trigger for trigger in triggers if isinstance(trigger, At))
    return min([*gaps, _longest_calendar_gap(calendar)] if calendar else gaps)


@lru_cache(maxsize=1024)
def _longest_calendar_gap(triggers: tuple[At, ...]) -> timedelta:
    """Measured over ten years, three of them leap years; two days do for triggers of every day."""
    daily = all(trigger == At(trigger.hour, trigger.minute) for trigger in triggers)
    first = date(2023, 1, 1)
    days = [first + number * _DAY for number in range(2 if daily else _TEN_YEARS)]
    minutes = sorted(
        {
            number * _DAY_MINUTES + trigger.hour * 60 + trigger.minute
            for trigger in triggers
            for number, day in enumerate(days)
            if falls_on(day, weekday=trigger.weekday, month_day=trigger.day, months=trigger.months)
        }
    )
    return timedelta(minutes=max(later - earlier for earlier, later in pairwise(minutes)))


def next_run(
    triggers: Triggers, *, last: datetime | None, zone: ZoneInfo, rpo: timedelta, lead: timedelta = timedelta()
) -> NextRun:
    """When the set next asks for a run, given the moment of the last one (None: at once).

    Calendar times are in `zone`. Missed runs are caught up by one: the answer may lie far in the past. Interval
    triggers that would come too late for a new point to be finished within the RPO come early by `lead`, the time to
    allow for a run (but never sooner than a quarter of the RPO after the last run).
    Raises ValueError for a naive moment and for a set without triggers.
    """
    if not triggers:
        raise ValueError("a schedule needs at least one trigger")
    if last is None:
        return NextRun(AT_ONCE, triggers[0])
    since = require_aware(last).astimezone(UTC)
    runs = (NextRun(_after(trigger, since, zone, rpo, lead), trigger) for trigger in triggers)
    return min(runs, key=lambda run: run.at)


def occurrences(
    trigger: Trigger, after: datetime, until: datetime, zone: ZoneInfo, *, rpo: timedelta
) -> Iterator[datetime]:
    """Every moment after `after` and up to `until`, in UTC, at which this trigger asks for a run when each is done.

    Raises ValueError for a naive moment.
    """
    start, end = require_aware(after).astimezone(UTC), require_aware(until).astimezone(UTC)
    if isinstance(trigger, At):
        return _calendar(trigger, start, zone, until=end)
    return _repeated(start, rescan_interval(trigger, rpo), end)


def _after(trigger: Trigger, last: datetime, zone: ZoneInfo, rpo: timedelta, lead: timedelta) -> datetime:
    if isinstance(trigger, At):
        return next(_calendar(trigger, last, zone))
    interval = rescan_interval(trigger, rpo)
    latest = max(rpo - lead, rpo / 4)
    # An interval longer than the RPO is not what keeps it; another trigger of the set is.
    return last + (latest if latest <= interval <= rpo else interval)


def _calendar(trigger: At, after: datetime, zone: ZoneInfo, *, until: datetime | None = None) -> Iterator[datetime]:
    # One day back: where clocks skip midnight, a run of yesterday may come today.
    day = after.astimezone(zone).date() - _DAY
    while True:
        if falls_on(day, weekday=trigger.weekday, month_day=trigger.day, months=trigger.months):
            moment = wall_clock(day, trigger.hour, trigger.minute, zone)
            if until is not None and moment > until:
                return
            if moment > after:
                yield moment
        day += _DAY


def _repeated(after: datetime, interval: timedelta, until: datetime) -> Iterator[datetime]:
    moment = after + interval
    while moment <= until:
        yield moment
        moment += interval
