"""The timetable: when every source last ran and next runs, and why; pure, from the same rules as the plan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import roughly
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.heavy_work import begins, spare_of_test
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.plan import is_running, last_backup_at, next_backup, of_vault, why_backup
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.restore_test_times import next_test
from cto_backups.core.retries import retry_at
from cto_backups.core.schedule import AT_ONCE, format_triggers


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One source in the `schedule` command: its triggers as written, when its backup last ran and next runs, and why.

    `test_last` and `test_next` are the same for its restore test (`test_next` None: none is required, or no point
    yet; `test_why` is "" then).
    """

    source: str
    triggers: str
    last_run: datetime | None
    next_run: datetime
    why: str
    test_last: datetime | None
    test_next: datetime | None
    test_why: str


def timetable(
    policy: Policy, facts: Facts, now: datetime, zone: ZoneInfo, sources: Iterable[str] | None = None
) -> tuple[ScheduleRow, ...]:
    """When every source (or these) last ran and next runs, its moments in `zone`, in the policy's order."""
    names = policy.sources if sources is None else sources
    return tuple(_row(policy, policy.sources[name], facts, now, zone) for name in names)


def upkeep_of_vaults(policy: Policy, facts: Facts, now: datetime) -> Iterator[Action]:
    """What is due next of each vault, in the policy's order, the earliest first.

    Raises ValueError when `now` is naive.
    """
    require_aware(now)
    for vault in policy.vaults:
        yield from sorted(of_vault(policy, vault, facts, now), key=lambda action: action.due_at)


def _row(policy: Policy, source: SourcePolicy, facts: Facts, now: datetime, zone: ZoneInfo) -> ScheduleRow:
    known = facts.sources.get(source.name, SourceFacts(source.name))
    run = known.last_runs.get(ActionKind.BACKUP)
    asked = next_backup(policy, source, known, now)
    retry = retry_at(run, known.failures.get(ActionKind.BACKUP, 0), now)
    at = max(asked.at, retry)
    why = why_backup(asked, retry, known)
    if is_running(run):
        why = "running now"
    elif at == AT_ONCE:
        at = now
    elif at <= now:
        why = f"{why}; due now" if now - at < timedelta(minutes=1) else f"{why}; due for {roughly(now - at)}"
    last = run.started_at if run is not None else last_backup_at(known, now)
    test_next, test_why = _test(policy, source, known, now)
    tested = known.last_test.finished_at if known.last_test else None
    return ScheduleRow(
        source=source.name,
        triggers=format_triggers(source.triggers),
        last_run=last.astimezone(zone) if last else None,
        next_run=at.astimezone(zone),
        why=why,
        test_last=tested.astimezone(zone) if tested else None,
        test_next=test_next.astimezone(zone) if test_next else None,
        test_why=test_why,
    )


def _test(policy: Policy, source: SourcePolicy, known: SourceFacts, now: datetime) -> tuple[datetime | None, str]:
    wanted = next_test(source, known, now)
    if wanted is None:
        return None, ""
    at, reason = wanted
    at, because = begins(policy, at, now, spare_of_test(source, known, at, now))
    return at, f"{reason}; {because}" if because else reason
