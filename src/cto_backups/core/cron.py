"""Cron expressions: five fields, read as the classic cron reads them, and the days and times of day they mean.

::

    expression = minute hour day-of-month month day-of-week | "@hourly" | "@daily" | "@midnight" | "@weekly"
               | "@monthly" | "@yearly" | "@annually"
    field      = part { "," part }
    part       = ( "*" | value | value "-" value ) [ "/" step ]

Months and days of the week may be named by their first three letters; Sunday is 0 or 7. Where both kinds of day are
given, one of them is enough, unless one of the two begins with `*`: then both have to fit (as in Vixie's cron).
"""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

EXAMPLE = "30 2 * * 1-5"

SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_LONGEST_MONTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<step>[0-9]+))?", re.ASCII)
_SUNDAY_LAST = 7


class CronError(ValueError):
    """An expression cannot be understood, or never comes; the message says why, and what to write."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, _SUNDAY_LAST, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class CronTimes:
    """What an expression means.

    `days` are those of the month, `weekdays` 0 (Monday) … 6 (Sunday); `either`: one of the two has to fit, not both.
    `times` are (hour, minute), ascending. `any_hour`: the hours begin with `*`, so hours pass and no time is meant.
    """

    times: tuple[tuple[int, int], ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    any_hour: bool

    @property
    def every_day(self) -> bool:
        """Whether no day is left out."""
        return len(self.months) == 12 and len(self.days) == 31 and len(self.weekdays) == 7

    def falls_on(self, day: date) -> bool:
        """Whether a day is meant."""
        if day.month not in self.months:
            return False
        fits = (day.day in self.days, day.weekday() in self.weekdays)
        return any(fits) if self.either else all(fits)


def normalised(text: str) -> str:
    """An expression in the form in which it is shown: as it was written, in small letters with single spaces."""
    return " ".join(text.lower().split())


@lru_cache(maxsize=1024)
def parse_cron(expression: str) -> CronTimes:
    """What an expression means. Raises CronError for one that cannot be understood, or never comes."""
    if expression.startswith("@"):
        if expression not in SHORTHANDS:
            raise CronError(f"one of {', '.join(SHORTHANDS)}")
        expression = SHORTHANDS[expression]
    written = expression.split()
    if len(written) != len(_FIELDS):
        raise CronError(
            f"five fields (minute, hour, day of the month, month, day of the week) such as '{EXAMPLE}', and not "
            f"{len(written)}; a comma and a space stand between two triggers"
        )
    minutes, hours, days, months, weekdays = (
        _parse_field(field, text) for field, text in zip(_FIELDS, written, strict=True)
    )
    times = CronTimes(
        times=tuple((hour, minute) for hour in sorted(hours) for minute in sorted(minutes)),
        days=days,
        months=months,
        weekdays=frozenset((number - 1) % 7 for number in weekdays),  # 0 and 7 are Sunday
        either=not (written[2].startswith("*") or written[4].startswith("*")),
        any_hour=written[1].startswith("*"),
    )
    if not times.either and min(days) > max(_LONGEST_MONTHS[month] for month in months):
        raise CronError(f"a day that comes: no month of '{written[3]}' has a day {min(days)}")
    return times


def _parse_field(field: _Field, text: str) -> frozenset[int]:
    return frozenset().union(*(_parse_part(field, part) for part in text.split(",")))


def _parse_part(field: _Field, part: str) -> range:
    found = _PART.fullmatch(part)
    if found is None or (found["first"] == "*" and found["last"]):
        raise CronError(f"for the {field.name} numbers, ranges, lists or steps, and not '{part}'{_instead(part)}")
    if found["first"] == "*":
        first, last = field.low, min(field.high, 6) if field.names is _WEEKDAYS else field.high
    else:
        first = _value(field, found["first"], part)
        last = _value(field, found["last"], part, last=True) if found["last"] else first
    if last < first:
        raise CronError(f"for the {field.name} a range that goes up, and not '{part}'")
    if found["step"] is None:
        return range(first, last + 1)
    step = int(found["step"])
    if found["first"] != "*" and not found["last"]:
        raise CronError(f"a step behind a range, such as '{first}-{field.high}/{step}', and not '{part}'")
    if not 0 < step <= last - first:
        raise CronError(f"for the {field.name} a step of 1 to {last - first}, and not '{part}'")
    return range(first, last + 1, step)


def _value(field: _Field, text: str, part: str, *, last: bool = False) -> int:
    value = field.names.get(text[:3]) if text.isalpha() and len(text) == 3 else None
    if value == 0 and last:
        value = _SUNDAY_LAST  # "fri-sun" goes up
    if value is None and text.isdigit():
        value = int(text)
    if value is None or not field.low <= value <= field.high:
        names = f", or {' '.join(field.names)}" if field.names else ""
        raise CronError(
            f"for the {field.name} numbers from {field.low} to {field.high}{names}, and not '{part}'{_instead(part)}"
        )
    return value


def _instead(part: str) -> str:
    """What to write instead of an extension that other programs know."""
    if part in ("l", "lw"):
        return "; the last day is 'monthly on the last day at 02:00'"
    if part == "?":
        return "; write '*'"
    return ""
