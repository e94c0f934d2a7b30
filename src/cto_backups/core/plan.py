"""The plan: which actions are due, a pure function of policy, facts and the present moment.

Every kind of action has one function here that says what it next does for a source or a vault, and when. What is due
now is what of that lies in the past. A key names an action by source, slot and policy, so that doing one twice is
doing it once; nothing is remembered between two plans.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core import copies
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.expiry import decide_source, needs_approval
from cto_backups.core.facts import Facts, SourceFacts, VaultFacts
from cto_backups.core.heavy_work import held, spare, spare_of_test
from cto_backups.core.model import Action, ActionKind, Outcome, RecoveryPoint, Run
from cto_backups.core.object_locks import locking
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.restore_test_times import next_test, test_preference
from cto_backups.core.retries import BAD, believed, infrastructure_failure, is_quarantined, last_done, retry_at
from cto_backups.core.schedule import AT_ONCE, NextRun, format_trigger, next_run
from cto_backups.core.triggers import Calendar
from cto_backups.core.vault_check import next_check
from cto_backups.core.verification import runs_for_all
from cto_backups.core.watching import for_stream, sooner
from cto_backups.core.wording import counted

ORDER = (
    ActionKind.BACKUP,
    ActionKind.COPY,
    ActionKind.RESTORE_TEST,
    ActionKind.VERIFY,
    ActionKind.CHECK,
    ActionKind.RENEW,
    ActionKind.EXPIRE,
    ActionKind.PRUNE,
)
"""What comes first: new data is saved, then spread, then proven and re-read; vaults are tried out, what lies there is
locked anew, and last of all removed.
"""

LEAD_FACTOR = 2
_KINDS_APART = 10_000_000  # minutes: no RPO is as long
EXPIRE_EVERY = timedelta(days=1)
REREAD_DAMAGED_EVERY = timedelta(days=1)
PRUNE_DAMAGED_AGAIN_AFTER = timedelta(days=1)

_GOOD = (Outcome.SUCCEEDED, Outcome.UNCHANGED, Outcome.INCOMPLETE)


def due(policy: Policy, facts: Facts, now: datetime, sources: Collection[str] | None = None) -> tuple[Action, ...]:
    """Every action that is due, the most urgent first: by kind (`ORDER`), then the smallest RPO, then the longest wait.

    With `sources`, only those of these sources. Raises ValueError when `now` is naive.
    """
    require_aware(now)
    wanted = (action for action in planned(policy, facts, now, sources) if action.due_at <= now)
    return most_urgent(policy, (replace(action, planned_at=now) for action in wanted))


def most_urgent(policy: Policy, actions: Iterable[Action]) -> tuple[Action, ...]:
    """These actions, the most urgent first."""
    return tuple(sorted(actions, key=lambda action: _urgency(policy, action)))


def upcoming(policy: Policy, source: str, facts: Facts, now: datetime) -> tuple[Action, ...]:
    """What is due next of a source and of its vaults, the earliest first; once at most of each kind and place.

    Expiry is among it only where `facts` hold the kept points. Raises ValueError when `now` is naive, KeyError when
    there is no such source.
    """
    require_aware(now)
    vaults = policy.sources[source].vaults
    wanted = (
        action
        for action in planned(policy, facts, now)
        if action.source == source or (action.source is None and action.vault in vaults)
    )
    return tuple(sorted(wanted, key=lambda action: (action.due_at, ORDER.index(action.kind), action.key)))


def priority(policy: Policy, action: Action) -> int:
    """How urgent an action is beside others, more so the higher: by kind, and then by RPO; a 32-bit number."""
    kind, rpo, _, _ = _urgency(policy, action)
    return -(kind * _KINDS_APART + min(rpo // timedelta(minutes=1), _KINDS_APART - 1))


def lead(facts: SourceFacts) -> timedelta:
    """The time to allow for a backup: twice what the last one took."""
    run, newest = facts.last_runs.get(ActionKind.BACKUP), facts.newest_any
    took = timedelta()
    if run is not None and run.outcome in _GOOD and run.finished_at is not None:
        took = run.finished_at - run.started_at
    elif newest is not None:
        took = newest.finished_at - newest.started_at
    return LEAD_FACTOR * max(took, timedelta())


def planned(policy: Policy, facts: Facts, now: datetime, sources: Collection[str] | None = None) -> Iterator[Action]:
    """The next action of each kind at each place, due by now or later, in no order; with `sources`, of these alone."""
    for name in policy.sources if sources is None else sources:
        yield from of_source(policy, policy.sources[name], facts, now)
    for vault in policy.vaults if sources is None else ():
        yield from of_vault(policy, vault, facts, now)


def of_source(policy: Policy, source: SourcePolicy, facts: Facts, now: datetime) -> Iterator[Action]:
    """The next action of each kind at a source; while one is running, what follows it is not known yet."""
    known = facts.sources.get(source.name, SourceFacts(source.name))
    yield from (() if policy.enrolled_host(source.name) else _backup(policy, source, known, now))
    yield from _copy(policy, source, known, now)
    yield from _restore_test(policy, source, known, now)
    yield from (() if policy.enrolled_as else _expire(policy, source, facts, now))


def of_vault(policy: Policy, vault: str, facts: Facts, now: datetime) -> Iterator[Action]:
    """The next action of each kind at a vault."""
    known = facts.vaults.get(vault, VaultFacts(vault))
    yield from _verify(policy, vault, known, now)
    yield from _check(policy, vault, known, now)
    yield from _renew(policy, vault, known, now)
    yield from _prune(policy, vault, known, now)


def _urgency(policy: Policy, action: Action) -> tuple[int, timedelta, datetime, str]:
    if action.source is not None:
        rpo = policy.sources[action.source].category.rpo
    else:
        rpo = min(source.category.rpo for source in _sources_in(policy, action.vault))
    return ORDER.index(action.kind), rpo, action.due_at, action.key


def _sources_in(policy: Policy, vault: str | None) -> list[SourcePolicy]:
    return [source for source in policy.sources.values() if vault in source.vaults]


def _action(
    policy: Policy,
    kind: ActionKind,
    *,
    slot: str,
    reason: str,
    due_at: datetime,
    source: str | None = None,
    vault: str | None = None,
    point: str | None = None,
) -> Action:
    key = ":".join([kind.value, source or "", vault or "", slot, policy.digest[:16]])
    return Action(kind, key, reason, due_at, source=source, vault=vault, point=point)


def is_running(run: Run | None) -> bool:
    """Whether a run has not ended yet."""
    return run is not None and run.outcome is Outcome.RUNNING


def _slot(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


# -- backup -----------------------------------------------------------------------------------------------------------


def last_backup_at(facts: SourceFacts, now: datetime) -> datetime | None:
    """The moment up to which triggers have been served.

    A moment that lies in the future (a clock was wrong) does not count, or the source would wait until it comes.
    """
    run = facts.last_runs.get(ActionKind.BACKUP)
    moments = [
        facts.newest_any.captured_at if facts.newest_any else None,
        facts.confirmed_at,
        run.started_at if run is not None and run.outcome in _GOOD else None,
    ]
    return max((moment for moment in moments if moment is not None and moment <= now), default=None)


def next_backup(policy: Policy, source: SourcePolicy, facts: SourceFacts, now: datetime) -> NextRun:
    """When triggers next ask for a backup, and which."""
    served, zone = last_backup_at(facts, now), ZoneInfo(policy.timezone)
    shift = policy.worker.shift(source.name)
    asked = next_run(source.triggers, last=served, zone=zone, rpo=source.category.rpo, lead=lead(facts), shift=shift)
    if shift and asked.at != AT_ONCE and isinstance(asked.trigger, Calendar):
        asked = replace(
            asked, because=f"trigger '{format_trigger(asked.trigger)}', {roughly(shift)} later to spread the load"
        )
    return for_stream(sooner(asked, source, facts, served), source, facts)


def _backup(policy: Policy, source: SourcePolicy, facts: SourceFacts, now: datetime) -> Iterator[Action]:
    run = facts.last_runs.get(ActionKind.BACKUP)
    if is_running(run):
        return
    asked = next_backup(policy, source, facts, now)
    retry = retry_at(run, facts.failures.get(ActionKind.BACKUP, 0), now)
    due_at = max(asked.at, retry)
    yield _action(
        policy,
        ActionKind.BACKUP,
        source=source.name,
        slot="first" if asked.at == AT_ONCE else _slot(asked.at),
        # A backup that was due from the beginning waits since the source is known.
        due_at=(facts.first_seen or now) if due_at == AT_ONCE else due_at,
        reason=why_backup(asked, retry, facts),
    )


def why_backup(asked: NextRun, retry: datetime, facts: SourceFacts) -> str:
    """Why a backup is due, in a sentence."""
    reason = "no backup yet" if asked.at == AT_ONCE else asked.because or f"trigger '{format_trigger(asked.trigger)}'"
    if asked.changed:
        reason += ", a change was noticed"
    if retry > asked.at:
        run, failures = facts.last_runs.get(ActionKind.BACKUP), max(facts.failures.get(ActionKind.BACKUP, 0), 1)
        if run is not None and is_quarantined(run):
            return f"{reason}; quarantined until then: its process ended in the middle {run.crashes} times"
        return f"{reason}; tried again after {counted(failures, 'failed run')}"
    return reason


# -- copy -------------------------------------------------------------------------------------------------------------


def _copy(policy: Policy, source: SourcePolicy, facts: SourceFacts, now: datetime) -> Iterator[Action]:
    """Copies of the newest point; where that is dated in the future, of the newest of the others as well."""
    run = facts.last_runs.get(ActionKind.COPY)
    running = run.vault if run is not None and is_running(run) else ""
    for point, known in ((facts.newest, facts.copies), (facts.current, facts.current_copies)):
        present = {each.copy.vault for each in known}
        for vault in source.vaults:
            if point is None or not known or vault in present or running in (None, vault):
                continue
            asked = copies.asked(policy, source, facts, vault)
            yield _action(
                policy,
                ActionKind.COPY,
                source=source.name,
                vault=vault,
                point=point.id,
                slot=point.id if asked is None else _slot(asked.at),
                due_at=max(asked.at if asked else point.finished_at, _copy_retry_at(point, run, facts, now)),
                reason=copies.why(policy, facts, vault, point),
            )


def _copy_retry_at(point: RecoveryPoint, run: Run | None, facts: SourceFacts, now: datetime) -> datetime:
    # A new point is tried at once in every vault: a vault that is away must not delay the others' copies.
    if run is None or run.started_at < point.finished_at:
        return AT_ONCE
    return retry_at(run, facts.failures.get(ActionKind.COPY, 0), now)


# -- restore test -----------------------------------------------------------------------------------------------------


def _restore_test(policy: Policy, source: SourcePolicy, facts: SourceFacts, now: datetime) -> Iterator[Action]:
    run = facts.last_runs.get(ActionKind.RESTORE_TEST)
    wanted = next_test(source, facts, now)
    if wanted is None or facts.newest is None or is_running(run):
        return
    at, reason = wanted
    action = _action(
        policy,
        ActionKind.RESTORE_TEST,
        source=source.name,
        vault=min(facts.copies, key=lambda known: test_preference(source, known)).copy.vault,
        point=facts.newest.id,
        slot=_slot(at),
        due_at=max(at, retry_at(run, facts.failures.get(ActionKind.RESTORE_TEST, 0), now)),
        reason=reason,
    )
    yield held(policy, action, now, spare_of_test(source, facts, action.due_at, now))


# -- verify -----------------------------------------------------------------------------------------------------------


def _verify(policy: Policy, vault: str, facts: VaultFacts, now: datetime) -> Iterator[Action]:
    sources = _sources_in(policy, vault)
    if not sources or is_running(facts.last_run) or (facts.read_at is None and facts.first_copy_at is None):
        return
    within = min(source.category.read_within for source in sources)
    part = policy.vaults[vault].read_part
    runs = runs_for_all(part)
    # One turn to spare, so that what is stored just after one reading is still read in time by the next.
    interval = within / (runs + 1)
    read = last_done(facts.read_at, facts.last_run, now)
    last = read or believed(facts.first_copy_at, now) or AT_ONCE
    asked = last + interval
    if facts.read_passed is False:
        asked = min(asked, (read or AT_ONCE) + REREAD_DAMAGED_EVERY)
    elif facts.read_since is not None:
        # However little verifications by hand read meanwhile: what was read first is due after all its turns.
        asked = min(asked, facts.read_since + runs * interval)
    reason = f"every byte is read within {format_duration(within)}"
    if runs > 1:
        reason += f", {part} at a time"
    if facts.read_at is None:
        reason += "; it was never read"
    elif facts.read_passed is False:
        reason += "; the last reading found damage"
    action = _action(
        policy,
        ActionKind.VERIFY,
        vault=vault,
        slot=_slot(asked),
        due_at=max(asked, retry_at(infrastructure_failure(facts, read), facts.failures, now)),
        reason=reason,
    )
    # The turn to spare is for all runs of a reading in parts: each may be late by its share.
    late = min(asked + interval / runs, (facts.read_since or last) + within)
    yield held(policy, action, now, spare(last, asked, late, facts.last_run))


def _check(policy: Policy, vault: str, facts: VaultFacts, now: datetime) -> Iterator[Action]:
    wanted = next_check(policy.vaults[vault], facts, ZoneInfo(policy.timezone), now)
    if wanted is None or is_running(facts.check_run):
        return
    due_at = max(wanted[0], retry_at(facts.check_run, facts.check_failures, now))
    yield _action(policy, ActionKind.CHECK, vault=vault, slot=_slot(wanted[0]), due_at=due_at, reason=wanted[1])


# -- expire -----------------------------------------------------------------------------------------------------------


def expires_after(known: SourceFacts, now: datetime) -> datetime:
    """From when retention may be applied to a source again, whose last expiry is not running."""
    run = known.last_runs.get(ActionKind.EXPIRE)
    if run is None or run.outcome in BAD:
        return retry_at(run, known.failures.get(ActionKind.EXPIRE, 0), now)
    return run.started_at + EXPIRE_EVERY if believed(run.started_at, now) else AT_ONCE


def _expire(policy: Policy, source: SourcePolicy, facts: Facts, now: datetime) -> Iterator[Action]:
    known = facts.sources.get(source.name, SourceFacts(source.name))
    run = known.last_runs.get(ActionKind.EXPIRE)
    if is_running(run):
        return
    again = expires_after(known, now)
    zone = ZoneInfo(policy.timezone)
    decisions = decide_source(source, facts, now=now, zone=zone, approval=needs_approval(policy))
    removable = [decision for decision in decisions if not decision.keep]
    if not removable:
        return
    yield _action(
        policy,
        ActionKind.EXPIRE,
        source=source.name,
        slot=f"{now.astimezone(zone):%Y%m%d}",
        due_at=now if again == AT_ONCE else again,
        reason=f"retention no longer keeps {counted(len(removable), 'point')}",
    )


def _renew(policy: Policy, vault: str, facts: VaultFacts, now: datetime) -> Iterator[Action]:
    """Also where this host may only add: a lock that is renewed takes nothing away."""
    locks, run = locking(policy.vaults[vault]), facts.renew_run
    if locks is None or facts.first_copy_at is None or is_running(run):
        return
    reason = f"locks are looked at every {roughly(locks.renewed_every)}"
    asked = facts.first_copy_at
    if run is not None:
        again = retry_at(run, facts.renew_failures, now)
        after = max(run.started_at, again) if run.outcome in BAD else run.started_at + locks.renewed_every
        asked = after if believed(run.started_at, now) else min(after, asked)
    yield _action(policy, ActionKind.RENEW, vault=vault, slot=_slot(asked), due_at=asked, reason=reason)


# -- prune ------------------------------------------------------------------------------------------------------------


def _prune(policy: Policy, vault: str, facts: VaultFacts, now: datetime) -> Iterator[Action]:
    every, run = policy.prune_every, facts.prune_run
    if every is None or facts.first_copy_at is None or not _sources_in(policy, vault) or is_running(run):
        return
    if policy.append_only(vault):
        return  # its owner prunes it
    reason = f"pruned every {format_duration(every)}"
    first = facts.first_copy_at + every
    if run is None:
        asked = first
    elif run.outcome not in BAD:
        asked = run.started_at + every
    elif run.error_code == "damage":
        # It was left as it is, and stays so until somebody repairs it.
        asked = (run.finished_at or run.started_at) + PRUNE_DAMAGED_AGAIN_AFTER
        reason += "; the last one found damage, and removed nothing"
    else:
        asked = max(run.started_at, retry_at(run, facts.prune_failures, now))
        reason += "; the last one did not end well"
    if run is not None and believed(run.started_at, now) is None:
        asked = min(asked, first)
    action = _action(policy, ActionKind.PRUNE, vault=vault, slot=_slot(asked), due_at=asked, reason=reason)
    yield held(policy, action, now)
