"""What retention says of the points of one source of the policy, by all that is known: the rules and their gates."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.model import Facts, Mark, RecoveryPoint, SourceFacts
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.retention import Decision, decide

CLEAN_KEPT = timedelta(days=30)
"""So long before a point under suspicion no clean one expires, until somebody clears it."""


def decide_source(source: SourcePolicy, facts: Facts, *, now: datetime, zone: ZoneInfo) -> tuple[Decision, ...]:
    """Keep or remove, with reasons, for each kept point of the source, newest first; `facts` have the kept points.

    Days begin at midnight in `zone`. Raises ValueError when `now` is naive.
    """
    proven = facts.sources.get(source.name, SourceFacts(source.name)).proven
    return decide(
        source.retention,
        facts.kept_points.get(source.name, ()),
        now=now,
        proven=proven.id if proven else None,
        verified=newest_verified(source, facts),
        holds=facts.holds.get(source.name, ()),
        frozen=clean_before(facts.marks.get(source.name, ()), facts.kept_points.get(source.name, ())),
        zone=zone,
    )


def clean_before(marks: Sequence[Mark], points: Sequence[RecoveryPoint]) -> Mapping[str, str]:
    """The points that are kept because of one under suspicion, by id, with the reason.

    For each mark that nobody has cleared: the newest complete point before it that is not marked itself, and all
    those of the days before it (`CLEAN_KEPT`), because what is noticed one day may have begun earlier.
    """
    marked = {mark.point for mark in marks}
    frozen: dict[str, str] = {}
    for mark in sorted(marks, key=lambda mark: mark.captured_at):
        before = [
            point
            for point in points
            if point.complete and point.id not in marked and point.captured_at < mark.captured_at
        ]
        newest = max(before, key=lambda point: (point.captured_at, point.id), default=None)
        for point in before:
            if point is newest or mark.captured_at - point.captured_at <= CLEAN_KEPT:
                frozen.setdefault(point.id, f"clean before {mark.point}, which is under suspicion and not cleared")
    return frozen


def newest_verified(source: SourcePolicy, facts: Facts) -> str | None:
    """The newest complete kept point with as many verified copies as its category asks for, or else as many as the
    source has vaults; None when no point has.

    While the copies of newer points are not made or not read yet, it is what can be relied on.
    """
    wanted = min(source.category.copies, len(source.vaults))
    kept = facts.kept_points.get(source.name, ())
    for point in sorted(kept, key=lambda point: (point.captured_at, point.id), reverse=True):
        vaults = facts.verified_copies.get(point.id, frozenset()).intersection(source.vaults)
        if point.complete and vaults and len(vaults) >= wanted:
            return point.id
    return None
