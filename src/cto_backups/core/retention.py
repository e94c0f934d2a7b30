"""How long points are kept, with reasons. The written form: "90 days, 7 daily, 5 weekly, 12 monthly, 7 yearly"."""

import re
from dataclasses import dataclass
from datetime import timedelta

from cto_backups.core.duration import LONGEST, format_duration, parse_duration
from cto_backups.core.wording import counted, did_you_mean

ALLOWED = (
    "'permanent', a duration ('7 years'), '30 versions', or counts ('7 daily', '5 weekly', '12 monthly', '7 yearly')"
)

_COUNTS = ("versions", "daily", "weekly", "monthly", "yearly")
_RULE = re.compile(r"(\d+) ?([a-z]+)", re.ASCII)
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Rules that each keep points; a point that any of them keeps is kept.

    `keep_for` by age, `permanent` for ever, `versions` the newest so many, the others grandfather-father-son:
    the last point of each of the newest so many days, weeks, months, years that have one.
    Raises ValueError when no rule is given, or one that keeps nothing.
    """

    keep_for: timedelta | None = None
    permanent: bool = False
    versions: int | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        counts = (self.daily, self.weekly, self.monthly, self.yearly)
        if min(counts) < 0 or (self.versions is not None and self.versions < 1):
            raise ValueError("a retention keeps at least one version, and no negative number of points")
        if self.keep_for is not None and not timedelta() < self.keep_for <= LONGEST:
            raise ValueError("a retention keeps for more than no time, and for at most 1000 years")
        if not (self.permanent or self.keep_for or self.versions or any(counts)):
            raise ValueError(f"a retention needs a rule: {ALLOWED}")


def parse_retention(text: str) -> Retention:
    """The retention that a comma-separated text names.

    Raises ValueError with the offending part, what is allowed, and the closest correct word.
    """
    rules: dict[str, timedelta | int] = {}
    parts = [" ".join(part.lower().split()) for part in text.split(",")]
    if parts == ["permanent"]:
        return Retention(permanent=True)
    for part in parts:
        if part == "permanent":
            raise ValueError(f"'{text}': 'permanent' keeps everything, so it stands alone")
        name, value = _parse_rule(part)
        if name in rules:
            raise ValueError(f"'{text}': '{part}' says again how {_AGAIN[name]} are kept; say it once")
        rules[name] = value
    return Retention(**rules)  # type: ignore[arg-type]


_AGAIN = {
    "keep_for": "long points",
    "versions": "many versions",
    **{count: f"many {count} points" for count in _COUNTS[1:]},
}


def _parse_rule(part: str) -> tuple[str, timedelta | int]:
    rule = _RULE.fullmatch(part)
    word = rule[2] if rule else part
    name = "versions" if word == "version" else word
    if rule is not None and name in _COUNTS:
        if len(rule[1]) > 6 or not 1 <= int(rule[1]) <= _MOST:
            raise ValueError(f"'{part}': the number of points must be between 1 and {_MOST}")
        return name, int(rule[1])
    try:
        return "keep_for", parse_duration(part)
    except ValueError:
        hint = did_you_mean(word, ("permanent", *_COUNTS, "days", "weeks", "months", "years"))
        raise ValueError(f"'{part}' is no retention: write {ALLOWED}{hint}") from None


def format_retention(retention: Retention) -> str:
    """The written form, which `parse_retention` reads back to the same rules."""
    if retention.permanent:
        return "permanent"
    rules = [
        format_duration(retention.keep_for) if retention.keep_for else "",
        counted(retention.versions, "version") if retention.versions else "",
        *(f"{count} {name}" for name in _COUNTS[1:] if (count := getattr(retention, name))),
    ]
    return ", ".join(filter(None, rules))
