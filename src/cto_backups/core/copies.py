"""When copies come to a vault: with each backup, or on the vault's own schedule, by which it may then lag; pure.

A vault on a schedule is asked for its copies from the oldest point on that waits for it, and not from its last copy on:
so a source that has nothing new asks for nothing, and a new point never puts off those that wait already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.facts import Facts, Lag, SourceFacts
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.schedule import NextRun, format_triggers, longest_gap, next_run
from cto_backups.core.triggers import Calendar, Triggers
from cto_backups.core.wording import counted

LONGEST_GRACE = timedelta(hours=4)
"""How long the copies of a schedule may take at most; otherwise a quarter of the time between two of its runs."""

MOST_COUNTED = 1000
"""How many points that a vault lacks are counted; there may be more."""


@dataclass(frozen=True, slots=True)
class CopyRow:
    """One vault in the `schedule` command: when copies come there, when one last came, when the next is due, and why.

    `triggers` is "" for a vault that gets each point as soon as it is made. `next_run` None: no point waits, and none
    is expected at a certain time.
    """

    vault: str
    triggers: str
    last_copy: datetime | None
    next_run: datetime | None
    why: str


def is_scheduled(policy: Policy, vault: str) -> bool:
    """Whether copies come to a vault on a schedule of its own; no for one that the policy names no longer."""
    known = policy.vaults.get(vault)
    return known is not None and bool(known.copies)


def lag(facts: SourceFacts, vault: str) -> Lag:
    """How far a vault is behind; where nobody has looked, all that is known of the newest point."""
    known = facts.lags.get(vault)
    if known is not None or facts.newest is None:
        return known or Lag(vault)
    newest = facts.newest
    for each in facts.copies:
        if each.copy.vault == vault:
            return Lag(vault, newest.id, newest.captured_at, each.copy.stored_at)
    return Lag(vault, behind=1, waiting_since=newest.finished_at)


def behind(facts: SourceFacts, vault: str) -> timedelta | None:
    """By how much the newest copy in a vault is older than the newest complete point; None where there is no copy."""
    at = lag(facts, vault).captured_at
    return None if at is None or facts.newest is None else max(facts.newest.captured_at - at, timedelta())


def told_lag(facts: SourceFacts, vault: str) -> str:
    """How far a vault is behind, in words: "up to date", "3 points and 2 h behind", "no copy"."""
    held, older = lag(facts, vault), behind(facts, vault)
    if older is None:
        return "no copy"
    if not held.behind:
        return "up to date"
    count = f"{MOST_COUNTED} points or more" if held.behind >= MOST_COUNTED else counted(held.behind, "point")
    return f"{count} and {roughly(older)} behind"


def allowed_lag(triggers: Triggers, rpo: timedelta) -> timedelta:
    """How long a point may wait for a vault on this schedule: until its next run, and while that copies."""
    gap = longest_gap(triggers, rpo)
    return gap + min(gap / 4, LONGEST_GRACE)


def asked(policy: Policy, source: SourcePolicy, facts: SourceFacts, vault: str) -> NextRun | None:
    """When the schedule of a vault asks for the points of a source that wait; None when none waits, or it has none."""
    waiting = lag(facts, vault).waiting_since
    if waiting is None or not is_scheduled(policy, vault):
        return None
    triggers = policy.vaults[vault].copies
    return next_run(triggers, last=waiting, zone=ZoneInfo(policy.timezone), rpo=source.category.rpo)


def why(policy: Policy, facts: SourceFacts, vault: str, newest: RecoveryPoint) -> str:
    """Why a vault gets copies, in a sentence."""
    if not is_scheduled(policy, vault):
        return f"vault {vault} has no copy of the newest complete point {newest.id}"
    waiting = counted(max(lag(facts, vault).behind, 1), "point")
    return f"vault {vault} gets copies {format_triggers(policy.vaults[vault].copies)}; {waiting} to bring"


def late(policy: Policy, source: SourcePolicy, facts: SourceFacts, vault: str, now: datetime) -> str | None:
    """Where points wait longer for a vault than its schedule allows: that, in a sentence; None for one without."""
    waiting = lag(facts, vault).waiting_since
    if waiting is None or not is_scheduled(policy, vault):
        return None
    triggers = policy.vaults[vault].copies
    allowed = allowed_lag(triggers, source.category.rpo)
    if now - waiting <= allowed:
        return None
    standing = f"is {told_lag(facts, vault)}" if lag(facts, vault).point else "has no copy"
    return (
        f"vault {vault} {standing}, and a point has waited for {roughly(now - waiting)}; its schedule "
        f"'{format_triggers(triggers)}' allows {format_duration(allowed)}"
    )


def lagging(policy: Policy, source: SourcePolicy, facts: SourceFacts, now: datetime) -> tuple[str, ...]:
    """The vaults that lack the newest complete point, as their schedules let them: an older one is there."""
    return tuple(
        name
        for name in source.vaults
        if is_scheduled(policy, name)
        and (held := lag(facts, name)).point is not None
        and held.behind
        and late(policy, source, facts, name, now) is None
    )


def copy_timetable(policy: Policy, facts: Facts, now: datetime) -> tuple[CopyRow, ...]:
    """When copies come to each vault that sources use beside their first one, in the policy's order and time zone."""
    zone = ZoneInfo(policy.timezone)
    rows = []
    for vault in policy.vaults.values():
        sources = [source for source in policy.sources.values() if vault.name in source.vaults[1:]]
        if sources:
            rows.append(_row(policy, vault, sources, facts, now, zone))
    return tuple(rows)


def _row(
    policy: Policy, vault: VaultPolicy, sources: list[SourcePolicy], facts: Facts, now: datetime, zone: ZoneInfo
) -> CopyRow:
    known = {source.name: facts.sources.get(source.name, SourceFacts(source.name)) for source in sources}
    lags = [lag(each, vault.name) for each in known.values()]
    last = max((each.stored_at for each in lags if each.stored_at is not None), default=None)
    waiting = sum(1 for each in lags if each.waiting_since is not None)
    said = f"points of {counted(waiting, 'source')} wait" if waiting else "no point waits"
    if not vault.copies:
        at = now if waiting else None
        return CopyRow(vault.name, "", _local(last, zone), _local(at, zone), said)
    runs = [
        run.at for source in sources if (run := asked(policy, source, known[source.name], vault.name)) is not None
    ] or list(_coming(vault.copies, now, zone))
    return CopyRow(
        vault.name, format_triggers(vault.copies), _local(last, zone), _local(min(runs, default=None), zone), said
    )


def _coming(triggers: Triggers, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The next moment of each trigger that has one whether or not a point waits."""
    for trigger in triggers:
        if isinstance(trigger, Calendar):
            yield next_run((trigger,), last=now, zone=zone, rpo=timedelta(days=1)).at


def _local(moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    return None if moment is None else moment.astimezone(zone)
