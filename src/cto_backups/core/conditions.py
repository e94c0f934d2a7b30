"""Which conditions of the policy's alert rules hold now. Pure."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from cto_backups.core.alerts import Alert, AlertRule, Happening, Trouble
from cto_backups.core.assurance import Verdict
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.facts import Facts, SourceFacts, VaultFacts
from cto_backups.core.heartbeat import silent, told_of
from cto_backups.core.model import Run, Status
from cto_backups.core.policy import Policy, SourcePolicy
from cto_backups.core.retries import CLOCK_TOLERANCE, is_quarantined

JUDGED_WITHIN = timedelta(hours=1)
"""Within which time a source is judged again that is well: should something have changed unseen."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """A restore that is under way: of which source, and since when."""

    source: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Scene:
    """All that conditions look at."""

    policy: Policy
    facts: Facts
    verdicts: Mapping[str, Verdict]
    now: datetime
    open_alerts: tuple[Alert, ...] = ()
    recoveries: tuple[Recovery, ...] = ()


def happenings(scene: Scene) -> tuple[Happening, ...]:
    """Each rule's conditions that hold, and each drill that nobody answered. Raises ValueError when `now` is naive."""
    require_aware(scene.now)
    found = (happening for name in scene.policy.sources for happening in of_source(scene, name))
    return in_order(scene.policy, (*found, *beside(scene)))


def in_order(policy: Policy, found: Iterable[Happening]) -> tuple[Happening, ...]:
    """What happens in the order of the rules by which it does; drills come last."""
    places = {rule.name: place for place, rule in enumerate(policy.alerts.rules)}
    return tuple(sorted(found, key=lambda happening: places.get(happening.rule, len(places))))


def of_source(scene: Scene, name: str) -> tuple[Happening, ...]:
    """What holds of one source of the policy, of which there is a verdict, by each rule."""
    source = scene.policy.sources[name]
    rules = (rule for rule in scene.policy.alerts.rules if rule.category in (None, source.category.name))
    return tuple(
        happening
        for rule in rules
        if (condition := _OF_SOURCES.get(rule.when)) is not None
        for happening in condition(scene, rule, source)
    )


def beside(scene: Scene) -> tuple[Happening, ...]:
    """What holds of vaults, workers and channels, and each drill that nobody answered."""
    found = [
        happening
        for rule in scene.policy.alerts.rules
        if (condition := _BESIDE.get(rule.when)) is not None
        for happening in condition(scene, rule)
    ]
    drills = (alert for alert in scene.open_alerts if alert.trouble is Trouble.DRILL and alert.acknowledged_at is None)
    return (*found, *(Happening(drill.rule, drill.subject, drill.detail) for drill in drills))


def well_until(scene: Scene, name: str, found: Collection[Happening]) -> datetime | None:
    """Until when nothing happens to a source (of which this was found) by time alone; None: it is to be judged again.

    Only the lack of a backup comes by time alone. A source that is UNPROTECTED may hide by that word a failed test,
    which shows again when a vault is back: so it is no source to leave alone.
    """
    verdict, source = scene.verdicts[name], scene.policy.sources[name]
    if found or verdict.status is Status.UNPROTECTED or verdict.age is None:
        return None
    limits = [
        rule.after or source.category.rpo
        for rule in scene.policy.alerts.rules
        if rule.when is Trouble.NO_BACKUP and rule.category in (None, source.category.name)
    ]
    latest = scene.now + JUDGED_WITHIN - JUDGED_WITHIN / 2 * _share(name)
    return min((latest, *(scene.now - verdict.age + limit for limit in limits)))


def _share(name: str) -> float:
    """From 0 to below 1, by the name: so that what was judged at once is not all judged again at once."""
    return crc32(name.encode("utf-8", "surrogatepass")) / 2**32


def _without_backup(scene: Scene, rule: AlertRule, source: SourcePolicy) -> Iterator[Happening]:
    limit = rule.after or source.category.rpo
    facts = scene.facts.sources.get(source.name, SourceFacts(source.name))
    verdict = scene.verdicts[source.name]
    detail = None
    if verdict.age is not None:
        if verdict.age > limit:
            detail = (
                f"no backup of source {source.name} for {roughly(verdict.age)}; told after {format_duration(limit)}"
            )
    elif facts.newest is not None:
        detail = f"nobody knows how old the newest backup of source {source.name} is: a clock is or was wrong"
    elif facts.first_seen is None or scene.now - facts.first_seen > limit:
        since = f", declared {roughly(scene.now - facts.first_seen)} ago" if facts.first_seen else ""
        detail = f"source {source.name}{since} has no complete backup at all"
    if detail is not None:
        yield Happening(rule.name, source.name, detail, source.category.name)


def _with_failed_test(scene: Scene, rule: AlertRule, source: SourcePolicy) -> Iterator[Happening]:
    verdict = scene.verdicts[source.name]
    if verdict.status is Status.FAILED_TEST:
        yield Happening(rule.name, source.name, f"source {source.name}: {verdict.reasons[0]}", source.category.name)


def _late_recovery(scene: Scene, rule: AlertRule, source: SourcePolicy) -> Iterator[Happening]:
    recovery = {recovery.source: recovery for recovery in scene.recoveries}.get(source.name)
    limit = rule.after or source.category.rto
    if recovery is not None and scene.now - recovery.started_at > limit:
        detail = (
            f"the recovery of source {source.name} has taken {roughly(scene.now - recovery.started_at)} and is not "
            f"done; told after {format_duration(limit)}"
        )
        yield Happening(rule.name, source.name, detail, source.category.name)


def _under_suspicion(scene: Scene, rule: AlertRule, source: SourcePolicy) -> Iterator[Happening]:
    marks = scene.facts.marks.get(source.name, ())
    if marks:
        last = marks[-1]
        detail = f"source {source.name} changed as under an attack: {last.suspicions[0]} ({last.point})"
        yield Happening(rule.name, source.name, detail, source.category.name)


def _quarantined(scene: Scene, rule: AlertRule, source: SourcePolicy) -> Iterator[Happening]:
    facts = scene.facts.sources.get(source.name, SourceFacts(source.name))
    for kind, run in facts.last_runs.items():
        if is_quarantined(run):
            detail = _left_alone(run, f"source {source.name}")
            yield Happening(rule.name, f"{source.name} {kind.value}", detail, source.category.name)


def _damaged_vaults(scene: Scene, rule: AlertRule) -> Iterator[Happening]:
    away = scene.facts.vaults_away or {}
    for name in scene.policy.vaults:
        known = scene.facts.vaults.get(name)
        if known is not None and known.read_passed is False:
            yield Happening(rule.name, name, f"the last reading of vault {name} found damage")
        elif known is not None and known.copy_count and name in away:
            yield Happening(rule.name, name, f"vault {name} cannot be read now: {away[name]}")


def _silent_worker(scene: Scene, rule: AlertRule) -> Iterator[Happening]:
    alone = len(scene.facts.heartbeats) == 1
    for last in silent(scene.policy, scene.facts, scene.now):
        yield Happening(rule.name, last.name, told_of(last, scene.now, alone=alone))


def _quarantined_vaults(scene: Scene, rule: AlertRule) -> Iterator[Happening]:
    for name in scene.policy.vaults if rule.category is None else ():
        known = scene.facts.vaults.get(name, VaultFacts(name))
        for last in (known.last_run, known.prune_run, known.renew_run, known.check_run):
            if last is not None and is_quarantined(last):
                yield Happening(rule.name, f"{name} {last.action.value}", _left_alone(last, f"vault {name}"))


def _left_alone(run: Run, where: str) -> str:
    kind = run.action.value.replace("_", " ")
    return f"{kind} of {where} is quarantined, and tried once a day: {run.message}"


def _failed_channels(scene: Scene, rule: AlertRule) -> Iterator[Happening]:
    for name in scene.policy.alerts.channels:
        last = scene.facts.last_tellings.get(name)
        if last is not None and last.problem is not None and last.at <= scene.now + CLOCK_TOLERANCE:
            yield Happening(rule.name, name, f"channel {name} did not reach {last.person}: {last.problem}")


_OF_SOURCES: Mapping[Trouble, Callable[[Scene, AlertRule, SourcePolicy], Iterator[Happening]]] = {
    Trouble.NO_BACKUP: _without_backup,
    Trouble.TEST_FAILED: _with_failed_test,
    Trouble.RECOVERY_LATE: _late_recovery,
    Trouble.SUSPICION: _under_suspicion,
    Trouble.QUARANTINED: _quarantined,
}
_BESIDE: Mapping[Trouble, Callable[[Scene, AlertRule], Iterator[Happening]]] = {
    Trouble.VAULT_DAMAGED: _damaged_vaults,
    Trouble.WORKER_SILENT: _silent_worker,
    Trouble.QUARANTINED: _quarantined_vaults,
    Trouble.CHANNEL_FAILED: _failed_channels,
}
