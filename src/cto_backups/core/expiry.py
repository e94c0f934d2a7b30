"""What retention says of the points of one source of the policy, by all that is known: the rules and their gates.

A retention that was shortened waits: what the one before it keeps is not removed until `WAIT` after the new one was
first seen and, where policy says so, somebody has approved it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.governance import Governed
from cto_backups.core.keeping import Mark, RetentionSeen, RetentionTold
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.retention import Decision, Retention, decide, format_retention, keeps_at_least, parse_retention

WAIT = timedelta(hours=72)
"""How long a retention that was shortened waits, from when it was first seen."""

CLEAN_KEPT = timedelta(days=30)
"""So long before a point under suspicion no clean one expires, until somebody clears it."""


def decide_source(
    source: SourcePolicy, facts: Facts, *, now: datetime, zone: ZoneInfo, approval: bool = False
) -> tuple[Decision, ...]:
    """Keep or remove, with reasons, for each kept point of the source, newest first; `facts` have the kept points.

    `approval` says that a shortened retention needs one. Days begin at midnight in `zone`. Raises ValueError when
    `now` is naive.
    """
    decisions = _decide(source.retention, source, facts, now, zone)
    for before in waiting(source, facts, now, approval=approval):
        kept = {each.point.id for each in _decide(parse_retention(before.text), source, facts, now, zone) if each.keep}
        last = _seen(source, facts, now)[-1]
        reason = _why_wait(last, before, now, zone, approval=approval)
        decisions = tuple(
            Decision(each.point, True, (reason,)) if not each.keep and each.point.id in kept else each
            for each in decisions
        )
    return decisions


def overstayed(
    source: SourcePolicy, facts: Facts, *, since: datetime, zone: ZoneInfo, approval: bool = False
) -> tuple[RecoveryPoint, ...]:
    """The kept points that retention and all its gates let go at `since` already, newest first.

    None while the retention in the policy is so new that what it removes could not have been removed by then.
    `facts` and `approval` as for `decide_source`. Raises ValueError when `since` is naive.
    """
    kept = facts.kept_points.get(source.name, ())
    peers = tuple(point for point in kept if point.captured_at <= since)
    noted = facts.retentions.get(source.name, ())
    if noted and noted[-1].since + WAIT > since:
        return ()
    then = replace(facts, kept_points={source.name: peers})
    decisions = decide_source(source, then, now=since, zone=zone, approval=approval)
    return tuple(decision.point for decision in decisions if not decision.keep)


def all_young(retention: Retention, oldest_at: datetime, now: datetime) -> bool:
    """Whether retention keeps all points of a source whose oldest is this old, which is seen without looking at each.

    False says nothing.
    """
    return retention.permanent or (retention.keep_for is not None and oldest_at + retention.keep_for >= now)


def needs_approval(policy: Policy) -> bool:
    """Whether a retention that was shortened waits for an approval as well."""
    governance = policy.governance
    return governance is not None and governance.approved_by(Governed.SHORTER_RETENTION) is not None


def settles_by_time(policy: Policy) -> bool:
    """Whether a shortened retention needs nothing but its wait: no approval, and no document that is read before."""
    governance = policy.governance
    return not needs_approval(policy) and (governance is None or not governance.governing(Governed.SHORTER_RETENTION))


def waiting(source: SourcePolicy, facts: Facts, now: datetime, *, approval: bool = False) -> tuple[RetentionSeen, ...]:
    """The retentions that applied before, and still bind: the newest first. None where nothing was shortened."""
    seen = _seen(source, facts, now)
    ends = [*(each.since for each in seen[1:]), now]
    for place in reversed(range(len(seen))):
        # One that was replaced before its wait was over never settled anything.
        if seen[place].settled or has_waited(seen[place], ends[place], approval=approval):
            return tuple(reversed(seen[place:-1]))
    return tuple(reversed(seen[:-1]))


def history(told: Iterable[RetentionTold], noted: Sequence[RetentionSeen] = ()) -> tuple[RetentionSeen, ...]:
    """The retentions of a source after those noted from the last settled one on, by what records tell.

    One that is shorter waits from when it was first there. What somebody else signed is believed where it keeps more.
    """
    seen, new = list(noted), []
    for each in sorted(told, key=lambda each: each.since):
        if seen and (each.since <= seen[-1].since or each.text == seen[-1].text):
            continue
        retention = parse_retention(each.text)
        longer = all(keeps_at_least(retention, parse_retention(before.text)) for before in seen)
        if not longer and not each.believed:
            continue
        new.append(RetentionSeen(each.text, each.since, longer, each.approved))
        seen = [new[-1]] if longer else [*seen, new[-1]]
    return tuple(new)


def has_waited(seen: RetentionSeen, until: datetime, *, approval: bool) -> bool:
    """Whether a shortened retention that applied until then has settled: it waited, and has the approval it needs."""
    return until >= seen.since + WAIT and (seen.approved or not approval)


def succeeds(source: SourcePolicy, noted: tuple[RetentionSeen, ...], now: datetime) -> RetentionSeen | None:
    """The retention that policy gives the source, as it is first seen now, after those noted from the last settled one
    on; None where it is the last of them.

    It is settled at once where it keeps all that they keep: it is no shorter one.
    """
    text = format_retention(source.retention)
    if noted and noted[-1].text == text:
        return None
    longer = all(keeps_at_least(source.retention, parse_retention(each.text)) for each in noted)
    return RetentionSeen(text, now, settled=longer)


def _seen(source: SourcePolicy, facts: Facts, now: datetime) -> tuple[RetentionSeen, ...]:
    """The retentions of the source, that in the policy among them, even where nobody has noted it yet."""
    noted = facts.retentions.get(source.name, ())
    new = succeeds(source, noted, now)
    return (*noted, new) if new is not None else noted


def _decide(
    retention: Retention, source: SourcePolicy, facts: Facts, now: datetime, zone: ZoneInfo
) -> tuple[Decision, ...]:
    proven = facts.sources.get(source.name, SourceFacts(source.name)).proven
    return decide(
        retention,
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


def _why_wait(last: RetentionSeen, before: RetentionSeen, now: datetime, zone: ZoneInfo, *, approval: bool) -> str:
    until = last.since + WAIT
    parts = [f"kept by the retention before, '{before.text}'"]
    if now < until:
        parts.append(f"one that was shortened waits until {until.astimezone(zone):%Y-%m-%d %H:%M}")
    if approval and not last.approved:
        parts.append("one that was shortened needs an approval")
    return "; ".join(parts)


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
