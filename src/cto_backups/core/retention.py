"""How long points are kept, with reasons. The written form: "90 days, 7 daily, 5 weekly, 12 monthly, 7 yearly".

Each kept and each removed point has its reasons. Whatever the rules say, the gates hold: the newest complete point,
the newest of all, the last proven one, the newest that has the verified copies policy asks for, held ones, the clean
ones before a point under suspicion and those with a later date of their own are never removed. A point's age counts
from when a newer one superseded it, so content that is still current does not age, and neither does anything while a
source is idle or failing. An incomplete point never supersedes, and never takes the place of, a complete one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import LONGEST, format_duration, parse_duration, roughly
from cto_backups.core.keeping import Hold
from cto_backups.core.model import RecoveryPoint
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


def keeps_at_least(after: Retention, before: Retention) -> bool:
    """Whether `after` keeps, of whatever points and at any time, all that `before` keeps.

    That is so where every single rule keeps as much; where it is not said to be so, it may still be.
    """
    if after.permanent:
        return True
    rules = ("keep_for", "versions", "daily", "weekly", "monthly", "yearly")
    return not before.permanent and all(
        not (was := getattr(before, rule)) or ((now := getattr(after, rule)) is not None and now >= was)
        for rule in rules
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a point is kept, and every reason."""

    point: RecoveryPoint
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A point among its peers (complete points for a complete one, all points for an incomplete one).

    `rank` 1 is the newest; `slots` holds, for each calendar rule that the retention has, its place among the last
    points of each day, week … or None where a later point is in the same one.
    """

    rank: int
    superseded_at: datetime | None
    slots: tuple[int | None, ...]


_CALENDAR: tuple[tuple[str, str, Callable[[date], object]], ...] = (
    ("daily", "day", lambda day: day),
    ("weekly", "week", lambda day: day.isocalendar()[:2]),
    ("monthly", "month", lambda day: (day.year, day.month)),
    ("yearly", "year", lambda day: day.year),
)


def decide(
    retention: Retention,
    points: Iterable[RecoveryPoint],
    *,
    now: datetime,
    proven: str | None,
    verified: str | None = None,
    holds: Iterable[Hold] = (),
    frozen: Mapping[str, str] | None = None,
    zone: ZoneInfo,
) -> tuple[Decision, ...]:
    """What retention says of each kept point of one source, newest first.

    `proven` is the id of the newest point with a passed restore test, `verified` that of the
    newest complete one with as many verified copies as policy asks for, `holds` the legal holds, released ones
    included, `frozen` the points that must not go now, by id, with the reason; days begin at midnight in `zone`.
    Raises ValueError when `now` is naive.
    """
    require_aware(now)
    ordered = sorted(points, key=lambda point: (point.captured_at, point.id), reverse=True)
    complete = [point for point in ordered if point.complete]
    places = _places(retention, ordered, zone)
    if len(complete) < len(ordered):
        places |= _places(retention, complete, zone)
    newest = {
        id(group[0]): words
        for group, words in ((ordered, "newest point"), (complete, "newest complete point"))
        if group
    }
    in_force = [hold for hold in holds if hold.released_at is None]
    decisions = []
    for point in ordered:
        gates = [newest[id(point)]] if id(point) in newest else []
        if point.id == proven:
            gates.append("last proven point")
        if point.id == verified:
            gates.append("newest point with the verified copies that policy asks for")
        gates.extend(_under(hold, zone) for hold in in_force if hold.covers(point))
        if frozen and point.id in frozen:
            gates.append(frozen[point.id])
        if point.keep_until is not None and now < point.keep_until:
            gates.append(f"kept until {point.keep_until.astimezone(zone):%Y-%m-%d %H:%M}")
        kept, removed = _apply(retention, places[point.id], now)
        keep = bool(gates or kept)
        decisions.append(Decision(point, keep, (*gates, *kept) if keep else removed))
    return tuple(decisions)


def _under(hold: Hold, zone: ZoneInfo) -> str:
    since = f"{hold.placed_at.astimezone(zone):%Y-%m-%d}"
    return f"under legal hold {hold.id} since {since} by {hold.placing}: {hold.reason}"


def _places(retention: Retention, ordered: list[RecoveryPoint], zone: ZoneInfo) -> dict[str, _Place]:
    rules = [(period_of, set[object]()) for rule, _, period_of in _CALENDAR if getattr(retention, rule)]
    places = {}
    superseded_at: datetime | None = None
    for rank, point in enumerate(ordered, start=1):
        slots: list[int | None] = []
        if rules:
            day = point.captured_at.astimezone(zone).date()
            for period_of, seen in rules:
                period = period_of(day)
                slots.append(None if period in seen else len(seen) + 1)
                seen.add(period)
        places[point.id] = _Place(rank, superseded_at, tuple(slots))
        superseded_at = point.captured_at
    return places


def _apply(retention: Retention, place: _Place, now: datetime) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why the rules keep a point in this place, and why the other rules do not."""
    kept: list[str] = []
    removed: list[str] = []
    for keeps, reason in _judge_by_rules(retention, place, now):
        (kept if keeps else removed).append(reason)
    return tuple(kept), tuple(removed)


def _judge_by_rules(retention: Retention, place: _Place, now: datetime) -> Iterator[tuple[bool, str]]:
    if retention.permanent:
        yield True, "kept permanently"
    if retention.keep_for is not None:
        yield _judge_by_age(retention.keep_for, place.superseded_at, now)
    if retention.versions is not None:
        keeps = place.rank <= retention.versions
        yield keeps, f"version {place.rank}; the newest {counted(retention.versions, 'is', 'are')} kept"
    rules = [(rule, period, number) for rule, period, _ in _CALENDAR if (number := getattr(retention, rule))]
    for (rule, period, number), slot in zip(rules, place.slots, strict=True):
        if slot is None:
            yield False, f"{rule}: not the last point of its {period}"
        else:
            yield slot <= number, f"{rule}: last point of its {period}, number {slot}; {number} kept"


def _judge_by_age(keep_for: timedelta, superseded_at: datetime | None, now: datetime) -> tuple[bool, str]:
    allowed = format_duration(keep_for)
    if superseded_at is None:
        return True, f"current content; kept for {allowed} once it is superseded"
    age = now - superseded_at
    if age < timedelta():
        return True, f"superseded at a moment that is yet to come; kept for {allowed} after it"
    return age <= keep_for, f"superseded {roughly(age)} ago; kept for {allowed}"
