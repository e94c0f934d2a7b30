"""Achieved RPO: what a loss of the source now would cost, told from the data and not from when runs took place; pure.

What was written after the moment up to which a point is known to hold everything is lost with the source. That is at
worst all the time since; unless a look at the source showed that it has not been changed meanwhile.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.retries import CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class AchievedRpo:
    """What would come back of a source, and what would not.

    `point` is the newest that can be returned to: complete, with a copy that policy asks for and that is not known to
    be damaged. It holds all that was written by `holds_until`. `loss` is the longest time of which changes would be
    lost, as of `at` (None: a clock is wrong, so nobody knows). `changed_at` is when the source was last changed, in
    whatever way, and `looked_at` when that was found out (both None: its kind cannot tell without reading everything).
    """

    point: RecoveryPoint
    holds_until: datetime
    loss: timedelta | None
    at: datetime
    changed_at: datetime | None = None
    looked_at: datetime | None = None

    @property
    def content_age(self) -> timedelta | None:
        """How old the newest content is that would come back; None where its source has no dates to go by."""
        newest = self.point.newest_content_at
        return None if newest is None else max(self.at - newest, timedelta())

    @property
    def behind(self) -> bool:
        """Whether the source holds something that is known to be newer than what would come back."""
        return self.changed_at is not None and self.changed_at > self.holds_until


def achieved(policy: Policy, facts: Facts, name: str, now: datetime) -> AchievedRpo | None:
    """The achieved RPO of a source; None when there is nothing to return to.

    Raises ValueError when `now` is naive, KeyError when policy has no such source.
    """
    require_aware(now)
    source, known = policy.sources[name], facts.sources.get(name, SourceFacts(name))
    if known.newest is not None and _usable(source, known.copies):
        point = known.newest
        holds_until = known.fresh_at or point.captured_at
    elif known.proven is not None and known.proven.complete and _usable(source, known.proven_copies):
        point, holds_until = known.proven, known.proven.captured_at
    else:
        return None
    if holds_until > now + CLOCK_TOLERANCE:
        return AchievedRpo(point, holds_until, None, now)
    changed_at, looked_at = _last_change(facts, known)
    since = holds_until
    if changed_at is not None and looked_at is not None and changed_at <= holds_until:
        since = max(holds_until, min(looked_at, now))
    return AchievedRpo(point, holds_until, max(now - since, timedelta()), now, changed_at, looked_at)


def _usable(source: SourcePolicy, copies: tuple[CopyFacts, ...]) -> bool:
    return any(known.copy.vault in source.vaults and known.read_passed is not False for known in copies)


def _last_change(facts: Facts, known: SourceFacts) -> tuple[datetime | None, datetime | None]:
    """When the source was last changed, and when it was looked at; only where each of its resources tells."""
    moments = [resource.changed_at for resource in facts.resources.get(known.source, ())]
    told = [moment for moment in moments if moment is not None]
    if known.discovered_at is None or not told or len(told) < len(moments):
        return None, None
    return max(told), known.discovered_at


def achieved_against_rpo(found: AchievedRpo, rpo: timedelta) -> str:
    """In a sentence: "a loss now would cost at most the changes of the last 3 h; RPO is 24 h; …"."""
    if found.loss is None:
        return f"what would be lost is not known: point {found.point.id} is dated in the future"
    told = [f"a loss now would cost at most the changes of the last {roughly(found.loss)}"]
    told.append(f"RPO is {format_duration(rpo)}")
    if found.behind:
        assert found.changed_at is not None
        told.append(f"the source was changed {roughly(found.at - found.changed_at)} ago, and that would not come back")
    elif found.changed_at is not None:
        told.append("the source was not changed since")
    if found.content_age is not None:
        told.append(f"the newest content that would come back is {roughly(found.content_age)} old")
    return "; ".join(told)
