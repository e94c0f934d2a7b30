"""Lengths of time as people write them: "90 days", "7 years", "1 h"; and test cadences: "monthly".

A year is 365 days, a month 30 and a week 7: lengths of time in a policy are objectives, not calendar arithmetic
(calendar times belong to :mod:`cto_backups.core.schedule`).
"""

import re
from datetime import timedelta

from cto_backups.core.wording import counted, did_you_mean

LONGEST = timedelta(days=365 * 1000)
ALLOWED = "a whole number and a unit (seconds, minutes, h, days, weeks, months of 30 days, years of 365 days)"

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_YEAR = timedelta(days=365)

_UNITS = {
    "s": _SECOND,
    "second": _SECOND,
    "min": _MINUTE,
    "minute": _MINUTE,
    "h": _HOUR,
    "hour": _HOUR,
    "d": _DAY,
    "day": _DAY,
    "w": timedelta(weeks=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "y": _YEAR,
    "year": _YEAR,
}
_UNIT_NAMES = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
_UNITS |= {f"{unit}s": length for unit, length in _UNITS.items() if len(unit) > 1}

_CADENCES = {
    "daily": _DAY,
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=30),
    "quarterly": timedelta(days=90),
    "yearly": _YEAR,
}
_NO_CADENCE = "none"

_TERM = re.compile(r"(\d+)\s*([a-z]+)\s*", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """A length of time from one or more terms: "90 days", "72h", "1 h 30 minutes".

    Raises ValueError, whose message says what is allowed, for anything else, for nothing and for more than 1000 years.
    """
    lowered = text.strip().lower()
    position, length = 0, timedelta()
    while position < len(lowered):
        term = _TERM.match(lowered, position)
        if term is None:
            raise ValueError(f"'{text}' is no length of time: write {ALLOWED}, such as '90 days' or '1 h 30 minutes'")
        unit = _UNITS.get(term[2])
        if unit is None:
            raise ValueError(f"'{text}': '{term[2]}' is no unit: write {ALLOWED}{did_you_mean(term[2], _UNIT_NAMES)}")
        # An absurd number of digits must not reach timedelta, which overflows.
        if len(term[1]) > 15 or int(term[1]) > LONGEST / unit:
            raise ValueError(f"'{text}' is longer than 1000 years, the longest length of time there is here")
        length += int(term[1]) * unit
        position = term.end()
    if not _SECOND <= length <= LONGEST:
        raise ValueError(f"'{text}' is no length of time between 1 second and 1000 years: write {ALLOWED}")
    return length


def format_duration(length: timedelta) -> str:
    """A length of time for people: "7 years", "90 days", "72 h", "1 h 30 minutes"; fractions of a second are dropped.

    `parse_duration` reads it back to the same whole seconds. Whole days up to 72 hours are told in hours, as objectives
    usually are. Raises ValueError for a negative length.
    """
    if length < timedelta():
        raise ValueError("a length of time cannot be negative")
    if length and not length % _YEAR:
        return counted(length // _YEAR, "year")
    if length > 3 * _DAY and not length % _DAY:
        return counted(length // _DAY, "day")
    hours, rest = divmod(length, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    seconds = rest // _SECOND
    terms = [
        f"{hours} h" if hours else "",
        counted(minutes, "minute") if minutes else "",
        counted(seconds, "second") if seconds else "",
    ]
    return " ".join(filter(None, terms)) or "0 seconds"


def roughly(length: timedelta) -> str:
    """A length of time in its one or two leading units, for ages in sentences: "26 h", "9 days", "3 minutes".

    It is never rounded up: an age of 59 minutes and 59 seconds is "59 minutes".
    """
    if length >= 4 * _DAY:
        return counted(length // _DAY, "day")
    if length >= 4 * _HOUR:
        return f"{length // _HOUR} h"
    if length >= _MINUTE:
        return format_duration(length - length % _MINUTE)
    return counted(max(length, timedelta()) // _SECOND, "second")


def parse_cadence(text: str) -> timedelta | None:
    """How often something is tested: "weekly", "monthly" (30 days), "quarterly" (90 days), a duration, or "none".

    Raises ValueError, whose message says what is allowed.
    """
    lowered = text.strip().lower()
    if lowered == _NO_CADENCE:
        return None
    if lowered in _CADENCES:
        return _CADENCES[lowered]
    if lowered[:1].isdigit():
        return parse_duration(text)
    names = [*_CADENCES, _NO_CADENCE]
    raise ValueError(
        f"'{text}' is no cadence: write one of {', '.join(names)}, or a duration such as '45 days'"
        f"{did_you_mean(lowered, names)}"
    )


def format_cadence(every: timedelta | None) -> str:
    """A cadence for people: "monthly", "45 days", "none"; `parse_cadence` reads it back."""
    if every is None:
        return _NO_CADENCE
    return next((name for name, length in _CADENCES.items() if length == every), format_duration(every))
