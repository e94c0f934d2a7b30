"""Triggers as people write them: "hourly, daily at 02:00".

::

    triggers  = trigger { "," trigger }
    trigger   = "continuous" | "on change" | "hourly" | "every" duration
              | frequency [ "on" day ] [ "in" month { "and" month } ] [ "at" HH:MM ]
              | a cron expression (see `cron`)
    frequency = "daily" | "weekly" | "monthly" | "quarterly" | "yearly"
    day       = a weekday (weekly) | 1 … 31 | "the last day" (monthly, quarterly, yearly)
              | a day and a month (yearly)

Left out, the time is 02:00, the weekday Monday, the day the first, the month January. A comma inside a cron expression
has no space behind it; one that ends the expression has.
"""

import re
from collections.abc import Iterator
from datetime import timedelta

from cto_backups.core.cron import EXAMPLE as CRON_EXAMPLE
from cto_backups.core.cron import CronError, normalised
from cto_backups.core.duration import format_duration, parse_duration
from cto_backups.core.triggers import At, Continuous, Cron, Every, OnChange, Trigger, Triggers
from cto_backups.core.wording import did_you_mean

EXAMPLES = (
    "continuous",
    "on change",
    "hourly",
    "every 15 minutes",
    "daily at 02:00",
    "weekly on monday at 02:00",
    "monthly on 15 at 02:00",
    "monthly on the last day at 02:00",
    "quarterly on 1 at 02:00",
    "yearly on 31 march at 02:00",
    CRON_EXAMPLE,
)
"""One of each kind of trigger, in the form that `format_triggers` writes."""

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_FREQUENCIES = ("daily", "weekly", "monthly", "quarterly", "yearly")
_STARTS = ("continuous", "on change", "hourly", "every", *_FREQUENCIES)

_CRON_STARTS = tuple("0123456789*@")

_DEFAULT_HOUR = 2
_LAST_DAY = 31
_QUARTER_STARTS = (1, 4, 7, 10)
_QUARTER_ENDS = (3, 6, 9, 12)

_PHRASE = re.compile(
    r"(?P<frequency>[a-z]+)(?: on (?P<day>.+?))?(?: in (?P<months>[a-z ]+?))?(?: at (?P<time>\S+))?", re.ASCII
)
_TIME = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_NEXT = re.compile(r"\s*(?:(?P<cron>[0-9*].*?)(?:,(?=\s|$)|$)|(?P<words>[^,]*)(?:,|$))", re.ASCII | re.DOTALL)
_DAY_NUMBER = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?", re.ASCII)


class TriggerError(ValueError):
    """A trigger cannot be understood; `part` is what is wrong, `allowed` and `hint` (may be empty) go with it."""

    def __init__(self, part: str, allowed: str, hint: str = "") -> None:
        super().__init__(f"'{part}' is no trigger: write {allowed}{hint}")
        self.part = part
        self.allowed = allowed
        self.hint = hint


def parse_triggers(text: str) -> Triggers:
    """The set of triggers that a comma-separated text names, in its order, without repetitions.

    Raises TriggerError with the offending part, what is allowed, and the closest correct word.
    """
    return tuple(dict.fromkeys(_parse_trigger(part) for part in _split(text)))


def _split(text: str) -> Iterator[str]:
    """The triggers of a set, each as it is written; what begins as a cron expression may hold commas."""
    at, more = 0, True
    while more:
        found = _NEXT.match(text, at)
        assert found is not None  # anything is one or the other
        yield found["cron"] or found["words"] or ""
        at, more = found.end(), found[0].endswith(",")


def _parse_trigger(part: str) -> Trigger:
    phrase = normalised(part)
    if phrase[:1] in _CRON_STARTS:
        try:
            return Cron(phrase)
        except CronError as error:
            raise TriggerError(phrase, str(error)) from None
    match phrase:
        case "continuous":
            return Continuous()
        case "on change" | "on_change" | "on-change":
            return OnChange()
        case "hourly":
            return Every(timedelta(hours=1))
    first, _, rest = phrase.partition(" ")
    if first == "every":
        return _parse_interval(phrase, rest)
    clauses = _PHRASE.fullmatch(phrase)
    if first not in _FREQUENCIES or clauses is None:
        hint = did_you_mean(phrase, _STARTS) or did_you_mean(first, _STARTS)
        raise TriggerError(phrase, f"one like {_examples()}", "" if first in _STARTS else hint)
    hour, minute = _parse_time(phrase, clauses["time"])
    weekday, day, months = _parse_day(phrase, first, clauses["day"])
    if clauses["months"]:
        if months is not None:
            raise TriggerError(phrase, f"months only after daily, weekly or monthly; {first} has its own")
        months = tuple(sorted({_parse_month(phrase, name) for name in clauses["months"].split(" and ")}))
    return At(hour, minute, weekday=weekday, day=day, months=months)


def _examples() -> str:
    return ", ".join(f"'{example}'" for example in EXAMPLES)


def _parse_interval(phrase: str, interval: str) -> Every:
    try:
        return Every(parse_duration(interval if interval[:1].isdigit() else f"1 {interval}"))
    except ValueError as error:
        raise TriggerError(phrase, f"an interval such as 'every 15 minutes' ({error})") from None


def _parse_time(phrase: str, written: str | None) -> tuple[int, int]:
    if written is None:
        return _DEFAULT_HOUR, 0
    digits = _TIME.fullmatch(written)
    if digits is None or int(digits[1]) > 23 or int(digits[2]) > 59:
        raise TriggerError(phrase, "the time of day as HH:MM, between 00:00 and 23:59")
    return int(digits[1]), int(digits[2])


def _parse_day(
    phrase: str, frequency: str, written: str | None
) -> tuple[int | None, int | None, tuple[int, ...] | None]:
    """Weekday, day of the month and months."""
    match frequency:
        case "daily":
            if written is not None:
                raise TriggerError(phrase, "'weekly on monday' or 'monthly on 15': daily is every day")
            return None, None, None
        case "weekly":
            return _index(phrase, written or _WEEKDAYS[0], _WEEKDAYS), None, None
        case "monthly":
            return None, _parse_day_of_month(phrase, written), None
        case "quarterly":
            # The last day of a quarter is in its last month, any other day is counted from the quarter's start.
            if written == "the last day":
                return None, _LAST_DAY, _QUARTER_ENDS
            return None, _parse_day_of_month(phrase, written), _QUARTER_STARTS
    if written == "the last day":
        return None, _LAST_DAY, (12,)
    words = (written or "1 january").replace(" of ", " ").split()
    if len(words) == 1:
        words.append(_MONTHS[0])
    if words[0][0].isalpha():
        words.reverse()
    return None, _parse_day_of_month(phrase, words[0]), (_parse_month(phrase, " ".join(words[1:])),)


def _parse_day_of_month(phrase: str, written: str | None) -> int:
    if written is None:
        return 1
    if written == "the last day":
        return _LAST_DAY
    digits = _DAY_NUMBER.fullmatch(written.removeprefix("the "))
    if digits is None or not 1 <= int(digits[1]) <= 31:
        raise TriggerError(phrase, "a day between 1 and 31, or 'the last day'")
    return int(digits[1])


def _parse_month(phrase: str, written: str) -> int:
    return _index(phrase, written, _MONTHS) + 1


def _index(phrase: str, written: str, names: tuple[str, ...]) -> int:
    """The place of a name, or of its first three letters."""
    for index, name in enumerate(names):
        if written in (name, name[:3]):
            return index
    raise TriggerError(phrase, f"one of {', '.join(names)} for '{written}'", did_you_mean(written, names))


def format_triggers(triggers: Triggers) -> str:
    """The written form of a set, which `parse_triggers` reads back to the same set."""
    return ", ".join(format_trigger(trigger) for trigger in triggers)


def format_trigger(trigger: Trigger) -> str:
    """The written form of one trigger, with every default spelled out."""
    if isinstance(trigger, At):
        return f"{_format_days(trigger)} at {trigger.hour:02}:{trigger.minute:02}"
    if isinstance(trigger, Cron):
        return trigger.expression
    if isinstance(trigger, Every):
        hourly = trigger.interval == timedelta(hours=1)
        return "hourly" if hourly else f"every {format_duration(trigger.interval)}"
    return "continuous" if isinstance(trigger, Continuous) else "on change"


def _format_days(trigger: At) -> str:
    months = trigger.months
    if trigger.day is not None and months is not None:
        if len(months) == 1:
            return f"yearly on {trigger.day} {_MONTHS[months[0] - 1]}"
        if months == (_QUARTER_ENDS if trigger.day == _LAST_DAY else _QUARTER_STARTS):
            return f"quarterly on {_format_day_of_month(trigger.day)}"
    if trigger.weekday is not None:
        days = f"weekly on {_WEEKDAYS[trigger.weekday]}"
    elif trigger.day is not None:
        days = f"monthly on {_format_day_of_month(trigger.day)}"
    else:
        days = "daily"
    return days if months is None else f"{days} in {' and '.join(_MONTHS[month - 1] for month in months)}"


def _format_day_of_month(day: int) -> str:
    return "the last day" if day == _LAST_DAY else str(day)
