"""Windows: times of the day, and of the week, by the wall clock of a time zone; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import require_aware, second_turn, wall_clock

DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * DAY_MINUTES
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of day to another: `begin` and `end` are minutes since midnight.

    It ends on the next day where its end is not after its begin, and is the whole day where both are None. `weekdays`
    (0 Monday … 6 Sunday) are those on which it begins.
    """

    begin: int | None = None
    end: int | None = None
    weekdays: frozenset[int] = frozenset(range(7))

    def holds(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether clocks in `zone` show a time within the window. Raises ValueError for a naive moment."""
        local = require_aware(moment).astimezone(zone)
        today, yesterday = local.weekday(), (local.weekday() - 1) % 7
        if self.begin is None or self.end is None:
            return today in self.weekdays
        minute = local.hour * 60 + local.minute
        if self.begin < self.end:
            return today in self.weekdays and self.begin <= minute < self.end
        return (today in self.weekdays and minute >= self.begin) or (yesterday in self.weekdays and minute < self.end)


Windows = tuple[Window, ...]


def parse_time_of_day(text: str) -> int:
    """Minutes since midnight of "08:00"."""
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) % DAY_MINUTES


def is_open(windows: Windows, moment: datetime, zone: ZoneInfo) -> bool:
    """Whether one of the windows holds. Raises ValueError for a naive moment."""
    return any(window.holds(moment, zone) for window in windows)


def opens(windows: Windows, moment: datetime, zone: ZoneInfo) -> datetime:
    """The first moment from this one on in which a window holds: the moment itself, or a later one in UTC.

    A window that clocks skip does not open on that day; one that they leave early, since they are put forward over its
    begin, opens when they are. Raises ValueError for a naive moment, StopIteration where there is no window.
    """
    if is_open(windows, moment, zone):
        return moment
    return next(
        turn
        for day in _days(moment, zone, 1)
        for turn in sorted(_turns(windows, day, zone))
        if turn > moment and is_open(windows, turn, zone)
    )


def closed_since(windows: Windows, moment: datetime, zone: ZoneInfo) -> datetime | None:
    """When the last window before a moment outside all of them ended, in UTC; None while one holds.

    Raises ValueError for a naive moment, StopIteration where there is no window.
    """
    if is_open(windows, moment, zone):
        return None
    return next(
        turn
        for day in _days(moment, zone, -1)
        for turn in sorted(_turns(windows, day, zone), reverse=True)
        if turn <= moment and is_open(windows, turn - _SECOND, zone)
    )


def longest_opening(windows: Windows) -> timedelta:
    """For how long windows hold at a stretch at most, in a week in which clocks are left alone; a week at most."""
    spans = sorted(
        (start, start + _length(window))
        for window in windows
        for day in window.weekdays
        for start in (day * DAY_MINUTES + (window.begin or 0) + turn * _WEEK_MINUTES for turn in (0, 1))
    )
    longest = begin = end = 0
    for start, stop in spans:
        begin, end = (start, stop) if start > end else (begin, max(end, stop))
        longest = max(longest, end - begin)
    return timedelta(minutes=min(longest, _WEEK_MINUTES))


def _length(window: Window) -> int:
    if window.begin is None or window.end is None:
        return DAY_MINUTES
    return (window.end - window.begin - 1) % DAY_MINUTES + 1


def _days(moment: datetime, zone: ZoneInfo, step: int) -> Iterator[date]:
    """The days around a moment, as clocks in `zone` tell them, and on as far as a window may be away."""
    local = moment.astimezone(zone).date()
    # One window a week, on the one day of the year on which clocks skip it: the next is two weeks away.
    return (local + timedelta(days=step * each) for each in range(-1, 23))


def _turns(windows: Sequence[Window], day: date, zone: ZoneInfo) -> set[datetime]:
    """The moments of a day at which a window may begin or end to hold, in UTC."""
    found = set()
    for minute in {0, *(edge for window in windows for edge in (window.begin, window.end) if edge is not None)}:
        found.add(wall_clock(day, *divmod(minute, 60), zone))
        found.add(second_turn(day, *divmod(minute, 60), zone) or wall_clock(day, 0, 0, zone))
    if (change := _change(day, zone)) is not None:
        found.add(change)
    return found


def _change(day: date, zone: ZoneInfo) -> datetime | None:
    """When clocks in `zone` are put forward or back on a day, to the second and in UTC; None: on none."""
    low, high = (wall_clock(day + timedelta(days=each), 0, 0, zone) for each in (0, 1))
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return None
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high
