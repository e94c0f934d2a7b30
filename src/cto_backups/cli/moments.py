"""Moments as people type them: "2026-11-23 10:00", "yesterday", "2 hours ago"."""

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.duration import parse_duration
from cto_backups.errors import UsageError

ALLOWED = "'2026-11-23 10:00', '2026-11-23T10:00:00Z', '2026-11-23', 'today 08:00', 'yesterday', '2 hours ago' or 'now'"

_DAY = re.compile(r"(today|yesterday)(?:\s+(?:at\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_AGO = re.compile(r"(.+?)\s+ago")
_ONLY_A_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}")


def parse_moment(text: str, *, now: datetime, zone: ZoneInfo) -> datetime:
    """The moment meant, aware. Without a zone of its own it is in `zone`; a day without a time means that day's end.

    Raises UsageError that says what is allowed; also for a moment in the future, and for one that clocks skipped.
    """
    moment = _parse(text.strip(), now, zone)
    if moment > now:
        raise UsageError(
            f"'{text}' lies in the future",
            why=f"it means {moment:%Y-%m-%d %H:%M %Z}, and no recovery point can be that new",
            todo="Leave --at out for the newest recovery point.",
        )
    return moment


def _parse(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    lowered = text.lower()
    if lowered == "now":
        return now
    if named := _DAY.fullmatch(lowered):
        day = now.astimezone(zone).date() - timedelta(days=named[1] == "yesterday")
        if named[2] is None:
            return _end_of(day, now, zone)
        try:
            at = time(int(named[2]), int(named[3]), int(named[4] or 0))
        except ValueError:
            raise _unreadable(text) from None
        return _on_the_clock(datetime.combine(day, at), zone)
    if ago := _AGO.fullmatch(lowered):
        try:
            return now - parse_duration(ago[1])
        except (ValueError, OverflowError) as error:
            raise _unreadable(text, str(error)) from None
    try:
        moment = datetime.fromisoformat(text.upper() if lowered.endswith("z") else text)
    except ValueError:
        raise _unreadable(text) from None
    if _ONLY_A_DATE.fullmatch(text):
        return _end_of(moment.date(), now, zone)
    return moment if moment.tzinfo else _on_the_clock(moment, zone)


def _end_of(day: date, now: datetime, zone: ZoneInfo) -> datetime:
    end = datetime.combine(day + timedelta(days=1), time(), zone) - timedelta(microseconds=1)
    return now if day == now.astimezone(zone).date() else end


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
