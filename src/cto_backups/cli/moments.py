"""Moments as people type them: "2026-11-23 10:00", "yesterday", "2 hours ago"."""

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.duration import parse_duration
from cto_backups.errors import UsageError

ALLOWED = "'2026-11-23 10:00', '2026-11-23T10:00:00Z', '2026-11-23', 'today 08:00', 'yesterday', '2 hours ago' or 'now'"

_DAY = re.compile(r"(today|yesterday)(?:\s+(?:at\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_AGO = re.compile(r"(.+?)\s+ago")
_ONLY_A_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_TIME = re.compile(r"[T ]\d{2}(?P<minute>:?\d{2}(?P<second>:?\d{2}(?P<fraction>[.,]\d+)?)?)?", re.IGNORECASE)
_INSTANT = timedelta(microseconds=1)


def parse_moment(text: str, *, now: datetime, zone: ZoneInfo, begin: bool = False) -> datetime:
    """The moment meant, aware. Without a zone of its own it is in `zone`.

    What is left out means its end: a day without a time the end of that day, 10:00 the end of that minute. So the
    moment that a listing shows of a point, cut off as it is, finds that point. With `begin` it means its beginning.
    Raises UsageError that says what is allowed; also for a moment in the future, and for one that clocks skipped.
    """
    moment, left_out = _parse(text.strip(), now, zone)
    if moment > now:
        raise UsageError(
            f"'{text}' lies in the future",
            why=f"it means {moment:%Y-%m-%d %H:%M %Z}, and no recovery point can be that new",
            todo="Give an earlier one, or leave it out for the newest recovery point.",
        )
    return moment if begin else min(moment + left_out, now)


def _parse(text: str, now: datetime, zone: ZoneInfo) -> tuple[datetime, timedelta]:
    """A moment, and how much longer it may last by what was left out."""
    lowered = text.lower()
    if lowered == "now":
        return now, timedelta()
    if named := _DAY.fullmatch(lowered):
        day = now.astimezone(zone).date() - timedelta(days=named[1] == "yesterday")
        if named[2] is None:
            return _whole(day, zone)
        try:
            at = time(int(named[2]), int(named[3]), int(named[4] or 0))
        except ValueError:
            raise _unreadable(text) from None
        left_out = timedelta(seconds=1) if named[4] else timedelta(minutes=1)
        return _on_the_clock(datetime.combine(day, at), zone), left_out - _INSTANT
    if ago := _AGO.fullmatch(lowered):
        try:
            return now - parse_duration(ago[1]), timedelta()
        except (ValueError, OverflowError) as error:
            raise _unreadable(text, str(error)) from None
    try:
        moment = datetime.fromisoformat(text.upper() if lowered.endswith("z") else text)
    except ValueError:
        raise _unreadable(text) from None
    if _ONLY_A_DATE.fullmatch(text):
        return _whole(moment.date(), zone)
    return moment if moment.tzinfo else _on_the_clock(moment, zone), _left_out(text)


def _whole(day: date, zone: ZoneInfo) -> tuple[datetime, timedelta]:
    start, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
    return start, end - start - _INSTANT


def _left_out(text: str) -> timedelta:
    written = _TIME.search(text)
    if written is None or written["fraction"]:
        return timedelta()
    if written["second"]:
        return timedelta(seconds=1) - _INSTANT
    return (timedelta(minutes=1) if written["minute"] else timedelta(hours=1)) - _INSTANT


def _on_the_clock(moment: datetime, zone: ZoneInfo) -> datetime:
    aware = moment.replace(tzinfo=zone)
    back = aware.astimezone(ZoneInfo("UTC")).astimezone(zone)
    if back.replace(tzinfo=None) != moment:
        raise UsageError(
            f"There was no {moment:%H:%M} on {moment:%Y-%m-%d} in {zone.key}",
            why="clocks were set forward over it",
            todo="Give a time before or after, or one with its offset, such as 2026-03-29T01:30:00Z.",
        )
    return aware


def _unreadable(text: str, why: str = "") -> UsageError:
    return UsageError(f"'{text}' is no moment", why=why, todo=f"Write one like {ALLOWED}.")
