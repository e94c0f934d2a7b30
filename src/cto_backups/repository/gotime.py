"""Times as Go's JSON writes and reads them: RFC 3339 with up to nine digits of fraction, trailing zeros dropped."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATTERN = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_FIRST_SECOND = -62167219200  # year 0, which Go can write and Python's datetime cannot
_LAST_SECOND = 253402300799  # year 9999


@lru_cache(maxsize=8192)
def _second(seconds: int) -> str:
    clamped = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    moment = time.gmtime(clamped)
    return f"{moment[0]:04d}-{moment[1]:02d}-{moment[2]:02d}T{moment[3]:02d}:{moment[4]:02d}:{moment[5]:02d}"


def format_ns(nanoseconds: int) -> str:
    """A moment given in nanoseconds since 1970, in UTC."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    if not fraction:
        return _second(seconds) + "Z"
    return f"{_second(seconds)}.{fraction:09d}".rstrip("0") + "Z"


def parse_ns(text: str) -> int:
    """Nanoseconds since 1970. Raises ValueError."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text!r:.60}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    shift = 0
    if year == 0:  # outside of datetime: four hundred years are a whole cycle of the calendar
        year, shift = 400, -12622780800
    moment = datetime(year, month, day, hour, minute, tzinfo=UTC)
    whole = moment - _EPOCH
    seconds = whole.days * 86400 + whole.seconds + second + shift
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += offset if zone[0] == "-" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))


def format_time(moment: datetime) -> str:
    """An aware datetime. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone")
    since = moment - _EPOCH
    return format_ns((since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)


def parse_time(text: str) -> datetime:
    """An aware datetime in UTC, to the microsecond. Raises ValueError."""
    return _EPOCH + timedelta(microseconds=parse_ns(text) // 1000)
