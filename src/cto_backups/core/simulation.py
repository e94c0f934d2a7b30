"""Simulate retention: which points a source would have, day by day, if its triggers and its retention stay as they are.

Each run that the triggers ask for makes a complete point, and points expire once a day, as the worker does it. Restore
tests and verifications are taken to keep pace, so that no gate but the newest points and holds keeps anything.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import fmean, median
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.keeping import Hold
from cto_backups.core.model import NO_FINGERPRINT, RecoveryPoint
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.retention import Retention, decide
from cto_backups.core.schedule import Continuous, Every, OnChange, Trigger, Triggers, next_run, rescan_interval

DAY = timedelta(days=1)
MOST_DAYS = 3660
MONTH_DAYS = 365.25 / 12

BUCKETS = (("day", DAY), ("week", 7 * DAY), ("month", 31 * DAY), ("year", 366 * DAY))
"""The age buckets of a summary, each up to this age; the rest is older."""

_MEASURED_GAPS = 20
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class History:
    """What the complete points that are kept say of a source: means in bytes, None where they cannot say it.

    `added_bytes` is that of the points that had one before them; `gap` the median time between the newest points,
    of which retention has removed the fewest.
    """

    points: int
    size_bytes: float | None
    added_bytes: float | None
    gap: timedelta | None


@dataclass(frozen=True, slots=True)
class SimulatedDay:
    """After the expire of a day: how many points there are, and about how many bytes one vault stores for them."""

    at: datetime
    points: int
    stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would be. `kept` are the points at the end, newest first, `made` how many the triggers made until then.

    `triggers` are those it assumes: intervals in place of `on change` and `continuous`.
    """

    source: str
    triggers: Triggers
    history: History
    days: tuple[SimulatedDay, ...]
    kept: tuple[RecoveryPoint, ...]
    made: int

    def by_age(self) -> dict[str, int]:
        """How many points there are at the end in each age bucket, and older."""
        end = self.days[-1].at
        counts = dict.fromkeys([*(name for name, _ in BUCKETS), "older"], 0)
        for point in self.kept:
            age = end - point.captured_at
            counts[next((name for name, limit in BUCKETS if age <= limit), "older")] += 1
        return counts

    def byte_months(self) -> float | None:
        """Bytes times months that one vault stores over the whole time; None without history."""
        stored = [day.stored_bytes for day in self.days if day.stored_bytes is not None]
        return sum(stored) / MONTH_DAYS if stored else None


def simulate(
    source: SourcePolicy,
    kept: Iterable[RecoveryPoint],
    *,
    now: datetime,
    days: int,
    zone: ZoneInfo,
    holds: Iterable[Hold] = (),
) -> Simulation:
    """Go on from the points that are kept now for so many days, with the holds that are in force.

    Raises ValueError when `now` is naive, or for less than a day or more than ten years.
    """
    require_aware(now)
    if not 1 <= days <= MOST_DAYS:
        raise ValueError(f"a simulation takes 1 to {MOST_DAYS} days")
    ordered = sorted(kept, key=_place, reverse=True)
    history = _measured(ordered)
    triggers = _assumed(source, history)
    in_force = tuple(holds)
    last = ordered[0].captured_at if ordered else None
    runs = _runs(triggers, source, last, now, zone)
    template = ordered[0] if ordered else _first(source, now)
    coming, made = next(runs), 0
    course = []
    for number in range(1, days + 1):
        at = now + number * DAY
        while coming <= at:
            made += 1
            ordered.insert(0, _made(template, coming, made))
            coming = next(runs)
        gone = expired(source.retention, ordered, now=at, holds=in_force, zone=zone)
        ordered = [point for point in ordered if point.id not in gone]
        course.append(SimulatedDay(at, len(ordered), _stored(history, len(ordered))))
    return Simulation(source.name, triggers, history, tuple(course), tuple(ordered), made)


def expired(
    retention: Retention, ordered: list[RecoveryPoint], *, now: datetime, holds: tuple[Hold, ...], zone: ZoneInfo
) -> frozenset[str]:
    """The ids of the points that `decide` removes, of points newest first; it looks at fewer where that is the same.

    Points that age alone keeps need no judgement: of them, those stay that the others' places are counted by.
    """
    if retention.permanent:
        return frozenset()
    shown = ordered
    if retention.keep_for is not None and retention.versions is None:
        shown = _telling(ordered, now - retention.keep_for, zone)
    decisions = decide(retention, shown, now=now, proven=None, holds=holds, zone=zone)
    return frozenset(decision.point.id for decision in decisions if not decision.keep)


def _telling(ordered: list[RecoveryPoint], aged: datetime, zone: ZoneInfo) -> list[RecoveryPoint]:
    """The points superseded before `aged`, and of the others what decides on those: the last point of each day, and
    what superseded each; nothing when none was superseded so long ago.
    """
    chosen: dict[str, RecoveryPoint] = {}
    any_old = False
    for group in (ordered, [point for point in ordered if point.complete]):
        newer: RecoveryPoint | None = None
        day = None
        for point in group:
            if newer is not None and newer.captured_at < aged:
                any_old = True
                chosen[newer.id] = newer
                chosen[point.id] = point
            elif (its_day := point.captured_at.astimezone(zone).date()) != day:
                day = its_day
                chosen[point.id] = point
            newer = point
    return sorted(chosen.values(), key=_place, reverse=True) if any_old else []


def _place(point: RecoveryPoint) -> tuple[datetime, str]:
    return point.captured_at, point.id


def _measured(ordered: list[RecoveryPoint]) -> History:
    complete = [point for point in ordered if point.complete]
    grown = [point.added_bytes for point in complete[:-1]]
    gaps = [
        (newer.captured_at - older.captured_at).total_seconds()
        for newer, older in pairwise(complete[: _MEASURED_GAPS + 1])
    ]
    return History(
        points=len(complete),
        size_bytes=fmean(point.size_bytes for point in complete) if complete else None,
        added_bytes=fmean(grown) if grown else None,
        gap=timedelta(seconds=median(gaps)) if gaps else None,
    )


def _assumed(source: SourcePolicy, history: History) -> Triggers:
    """The triggers with an interval in place of what depends on changes: as often as was measured, or can be."""
    assumed: list[Trigger] = []
    for trigger in source.triggers:
        if isinstance(trigger, OnChange | Continuous):
            shortest = max(rescan_interval(trigger, source.category.rpo), _SHORTEST)
            assumed.append(Every(max(history.gap or shortest, shortest)))
        else:
            assumed.append(trigger)
    return tuple(assumed)


def _runs(
    triggers: Triggers, source: SourcePolicy, last: datetime | None, now: datetime, zone: ZoneInfo
) -> Iterator[datetime]:
    """When points are made from now on, without end; what is due already is made now."""
    while True:
        moment = max(next_run(triggers, last=last, zone=zone, rpo=source.category.rpo).at, now)
        yield moment
        last = moment


def _first(source: SourcePolicy, now: datetime) -> RecoveryPoint:
    return RecoveryPoint(
        id="",
        source=source.name,
        kind=source.kind,
        category=source.category.name,
        business="",
        started_at=now,
        captured_at=now,
        finished_at=now,
        size_bytes=0,
        added_bytes=0,
        entry_count=0,
        root="",
        paths=(),
        fingerprint=NO_FINGERPRINT,
        policy_digest="",
    )


def _made(template: RecoveryPoint, at: datetime, number: int) -> RecoveryPoint:
    return replace(
        template,
        id=f"simulated-{number:08d}",
        started_at=at,
        captured_at=at,
        finished_at=at,
        keep_until=None,
        label=None,
        problems=(),
    )


def _stored(history: History, points: int) -> int | None:
    """One whole content, and what each further point adds."""
    if history.size_bytes is None:
        return None
    return round(history.size_bytes + (history.added_bytes or 0) * max(points - 1, 0))
