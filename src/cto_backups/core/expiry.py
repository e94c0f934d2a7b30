"""What retention says of the points of one source of the policy, by all that is known: the rules and their gates."""

from datetime import datetime
from zoneinfo import ZoneInfo

from cto_backups.core.model import Facts, SourceFacts
from cto_backups.core.policy import SourcePolicy
from cto_backups.core.retention import Decision, decide


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
        zone=zone,
    )


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
