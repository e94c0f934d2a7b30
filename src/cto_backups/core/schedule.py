"""When things run: a schedule is a set of triggers. Their written form is in `trigger_text`, re-exported here."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from heapq import merge
from itertools import pairwise
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import falls_on, has_second_turns, require_aware, second_turn, wall_clock
from cto_backups.core.trigger_text import TriggerError, format_trigger, format_triggers, parse_triggers
from cto_backups.core.triggers import At, Calendar, Continuous, Cron, Every, OnChange, Trigger, Triggers

__all__ = [
    "AT_ONCE",
    "At",
    "Continuous",
    "Cron",
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
    gaps = [rescan_interval(trigger, rpo) for trigger in triggers if not isinstance(trigger, Calendar)]
    calendar = tuple(trigger for trigger in triggers if isinstance(trigger, Calendar))
    return min([*gaps, _longest_calendar_gap(calendar)] if calendar else gaps)


@lru_cache(maxsize=1024)
def _longest_calendar_gap(triggers: tuple[Calendar, ...]) -> timedelta:
    """Measured over ten years, three of them leap years; two days do for triggers of every day."""
    first = date(2023, 1, 1)
    longest, before = 0, None  # minutes; the last run before this day
    for number in range(2 if all(map(_is_daily, triggers)) else _TEN_YEARS):
        minutes = _minutes(tuple(trigger for trigger in triggers if _falls_on(trigger, first + number * _DAY)))
        if not minutes:
            continue
        start = number * _DAY_MINUTES
        within = max((later - earlier for earlier, later in pairwise(minutes)), default=0)
        longest = max(longest, within, 0 if before is None else start + minutes[0] - before)
        before = start + minutes[-1]
    return timedelta(minutes=longest)


@lru_cache(maxsize=1024)
def _minutes(triggers: tuple[Calendar, ...]) -> tuple[int, ...]:
    """The minutes of a day on which all of these triggers fall, ascending."""
    return tuple(sorted({hour * 60 + minute for trigger in triggers for hour, minute in _times(trigger)}))


def _times(trigger: Calendar) -> tuple[tuple[int, int], ...]:
    """The times of day, ascending, as hour and minute."""
    return trigger.means.times if isinstance(trigger, Cron) else ((trigger.hour, trigger.minute),)


def _falls_on(trigger: Calendar, day: date) -> bool:
    if isinstance(trigger, Cron):
        return trigger.means.falls_on(day)
    return falls_on(day, weekday=trigger.weekday, month_day=trigger.day, months=trigger.months)


def _is_daily(trigger: Calendar) -> bool:
    if isinstance(trigger, Cron):
        return trigger.means.every_day
    return trigger == At(trigger.hour, trigger.minute)


def next_run(
    triggers: Triggers,
    *,
    last: datetime | None,
    zone: ZoneInfo,
    rpo: timedelta,
    lead: timedelta = timedelta(),
    shift: timedelta = timedelta(),
) -> NextRun:
    """When the set next asks for a run, given the moment of the last one (None: at once).

    Calendar times are in `zone`. Missed runs are caught up by one: the answer may lie far in the past. Interval
    triggers that would come too late for a new point to be finished within the RPO come early by `lead`, the time to
    allow for a run (but never sooner than a quarter of the RPO after the last run). All calendar times come later by
    `shift`: the times between them stay what they are.
    Raises ValueError for a naive moment and for a set without triggers.
    """
    if not triggers:
        raise ValueError("a schedule needs at least one trigger")
    if last is None:
        return NextRun(AT_ONCE, triggers[0])
    since = require_aware(last).astimezone(UTC)
    runs = (NextRun(_after(trigger, since, zone, rpo, lead, shift), trigger) for trigger in triggers)
    return min(runs, key=lambda run: run.at)


def occurrences(
    trigger: Trigger, after: datetime, until: datetime, zone: ZoneInfo, *, rpo: timedelta
) -> Iterator[datetime]:
    """Every moment after `after` and up to `until`, in UTC, at which this trigger asks for a run when each is done.

    Raises ValueError for a naive moment.
    """
    start, end = require_aware(after).astimezone(UTC), require_aware(until).astimezone(UTC)
    if isinstance(trigger, Calendar):
        return _calendar(trigger, start, zone, until=end)
    return _repeated(start, rescan_interval(trigger, rpo), end)


def _after(
    trigger: Trigger, last: datetime, zone: ZoneInfo, rpo: timedelta, lead: timedelta, shift: timedelta
) -> datetime:
    if isinstance(trigger, Calendar):
        return next(_calendar(trigger, last - shift, zone)) + shift
    interval = rescan_interval(trigger, rpo)
    latest = max(rpo - lead, rpo / 4)
    # An interval longer than the RPO is not what keeps it; another trigger of the set is.
    return last + (latest if latest <= interval <= rpo else interval)


def _calendar(
    trigger: Calendar, after: datetime, zone: ZoneInfo, *, until: datetime | None = None
) -> Iterator[datetime]:
    # One day back: where clocks skip midnight, a run of yesterday may come today.
    day, last = after.astimezone(zone).date() - _DAY, after
    while True:
        if _falls_on(trigger, day):
            for moment in _moments(trigger, day, zone, after):
                if until is not None and moment > until:
                    return
                if moment > last:
                    yield moment
                    last = moment
        day += _DAY


def _moments(trigger: Calendar, day: date, zone: ZoneInfo, after: datetime) -> Iterable[datetime]:
    """The moments of a day after `after`, ascending; where clocks skip several of its times, they share one.

    Of a time that clocks show twice, the first turn counts. But where a cron expression says `*` of the hours, hours
    are meant to pass, whatever clocks show: both do.
    """
    times = _times(trigger)
    # Later times never come earlier: so this looks at a few of them only.
    begin = bisect_right(times, after, key=lambda time: wall_clock(day, time[0], time[1], zone))
    moments = (wall_clock(day, hour, minute, zone) for hour, minute in times[begin:])
    if not (isinstance(trigger, Cron) and trigger.means.any_hour and has_second_turns(day, zone)):
        return moments
    again = (second_turn(day, hour, minute, zone) for hour, minute in times)
    return merge(moments, (turn for turn in again if turn is not None and turn > after))


def _repeated(after: datetime, interval: timedelta, until: datetime) -> Iterator[datetime]:
    moment = after + interval
    while moment <= until:
        yield moment
        moment += interval
