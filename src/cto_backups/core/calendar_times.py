"""Calendar arithmetic with time zones: when a wall-clock time happens, and on which days."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_MINUTE = timedelta(minutes=1)


def require_aware(moment: datetime) -> datetime:
    """The moment itself. Raises ValueError when it is naive: without its zone a time says nothing."""
    if moment.utcoffset() is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; every moment needs one")
    return moment


def wall_clock(day: date, hour: int, minute: int, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which clocks in `zone` show this time on this day.

    Where the clocks skip it, the next moment that exists; where they show it twice, the first of the two.
    """
    naive = datetime.combine(day, time(hour, minute))
    while True:
        moment = naive.replace(tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == naive:
            return moment
        naive += _MINUTE


def has_second_turns(day: date, zone: ZoneInfo) -> bool:
    """Whether clocks in `zone` are put forward or back on this day or the next one, so that `second_turn` may tell."""
    begin = datetime.combine(day, time(), zone)
    return begin.utcoffset() != datetime.combine(day + timedelta(days=2), time(), zone).utcoffset()


def second_turn(day: date, hour: int, minute: int, zone: ZoneInfo) -> datetime | None:
    """The later of the two moments, in UTC, at which clocks in `zone` show this time on this day; None: it is one."""
    first, second = (
        datetime.combine(day, time(hour, minute, fold=fold)).replace(tzinfo=zone).astimezone(UTC) for fold in (0, 1)
    )
    return second if second > first else None


def falls_on(day: date, *, weekday: int | None, month_day: int | None, months: tuple[int, ...] | None) -> bool:
    """Whether a day is meant; a `month_day` beyond the month's end means its last day."""
    if weekday is not None and day.weekday() != weekday:
        return False
    if months is not None and day.month not in months:
        return False
    return month_day is None or day.day == min(month_day, calendar.monthrange(day.year, day.month)[1])
