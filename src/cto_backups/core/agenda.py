"""The agenda: what would run within a time from now, if all goes well; pure, from the same rules as the plan."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.model import ActionKind
from cto_backups.core.plan import ORDER, is_running, lead, planned
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.schedule import next_run

LONGEST = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Coming:
    """What would run at a source or in a vault, from `first` to `last`, so many `times`; `why` is told of the first.

    `first` is `now` for what is due. Backups repeat as their triggers ask. Of everything else the next time is told,
    since the one after it depends on how it ends.
    """

    kind: ActionKind
    source: str | None
    vault: str | None
    first: datetime
    last: datetime
    times: int
    why: str


def agenda(policy: Policy, facts: Facts, now: datetime, within: timedelta) -> tuple[Coming, ...]:
    """What would run from now on within a time, the earliest first.

    Expiry is among it only where `facts` hold the kept points; copies are those of the points that there are. Raises
    ValueError when `now` is naive, and for a time that is not between a minute and 31 days.
    """
    if not timedelta(minutes=1) <= within <= LONGEST:
        raise ValueError("an agenda is of a minute to 31 days")
    until = now + within
    found = []
    for action in planned(policy, facts, now):
        at = max(action.due_at, now)
        if at > until:
            continue
        moments = [at]
        if action.kind is ActionKind.BACKUP:
            moments = _backups(policy, policy.sources[action.source or ""], facts, at, until)
        found.append(Coming(action.kind, action.source, action.vault, at, moments[-1], len(moments), action.reason))
    found += _after_running(policy, facts, now, until)
    return tuple(sorted(found, key=lambda each: (each.first, ORDER.index(each.kind), each.source or each.vault or "")))


def _after_running(policy: Policy, facts: Facts, now: datetime, until: datetime) -> list[Coming]:
    """The backups of sources of which one is under way: the plan says nothing of them until it has ended."""
    found = []
    for source in policy.sources.values():
        run = facts.sources.get(source.name, SourceFacts(source.name)).last_runs.get(ActionKind.BACKUP)
        if run is None or not is_running(run):
            continue
        # One that takes longer than its interval is followed by one, not by all that were missed.
        first = max(_following(policy, source, facts, run.started_at), now)
        if first <= until:
            moments = _backups(policy, source, facts, first, until)
            why = "after the one that is under way"
            found.append(Coming(ActionKind.BACKUP, source.name, None, first, moments[-1], len(moments), why))
    return found


def _backups(policy: Policy, source: SourcePolicy, facts: Facts, first: datetime, until: datetime) -> list[datetime]:
    """A first backup, and those that triggers ask for after it."""
    moments = [first]
    while (at := _following(policy, source, facts, moments[-1])) <= until:
        moments.append(at)
    return moments


def _following(policy: Policy, source: SourcePolicy, facts: Facts, last: datetime) -> datetime:
    """When triggers ask for a backup after one."""
    return next_run(
        source.triggers,
        last=last,
        zone=ZoneInfo(policy.timezone),
        rpo=source.category.rpo,
        lead=lead(facts.sources.get(source.name, SourceFacts(source.name))),
        shift=policy.worker.shift(source.name),
    ).at
