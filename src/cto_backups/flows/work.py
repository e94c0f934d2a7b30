"""Work: plan what is due, do it, plan again. All that a worker knows is in the catalog: it may stop at any time."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from cto_backups import clock
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.plan import due, next_due_at
from cto_backups.core.verification import Part
from cto_backups.errors import ApprovalNeededError, BackupsError, BusyError, IncompleteError, VerificationError
from cto_backups.flows.backup import backup
from cto_backups.flows.check_vault import check_vault
from cto_backups.flows.copy import bring
from cto_backups.flows.escalate import escalate_beside
from cto_backups.flows.expire import expire
from cto_backups.flows.expire import plan as plan_expiry
from cto_backups.flows.heartbeat import beat, ping
from cto_backups.flows.installation import Installation
from cto_backups.flows.presence import note as note_presence
from cto_backups.flows.prune import prune
from cto_backups.flows.renew import renew
from cto_backups.flows.repair import repair
from cto_backups.flows.report import report_beside
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.stream import Streams
from cto_backups.flows.verify import verify
from cto_backups.flows.watch import LOOK_SECONDS, Watching
from cto_backups.flows.watch import watching as beginning_to_watch

log = logging.getLogger("cto_backups")

LONGEST_SLEEP = timedelta(minutes=1)
EXPIRY_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class Performed:
    """An action and how it ended; `error` None when it succeeded."""

    action: Action
    error: BackupsError | None
    summary: str = ""


def perform(installation: Installation, action: Action) -> str:
    """Do one action; a sentence about the result. Raises what keeps it from succeeding."""
    match action.kind:
        case ActionKind.BACKUP:
            return _backup(installation, _named(action.source))
        case ActionKind.COPY:
            point = installation.catalog.point(_named(action.point))
            copied = bring(installation, point, _named(action.vault))
            before = f" and {len(copied) - 1} before it" if len(copied) > 1 else ""
            return f"copied {point.id}{before} to {action.vault}"
        case ActionKind.VERIFY:
            return _verify(installation, _named(action.vault))
        case ActionKind.RESTORE_TEST:
            evidence = restore_test(installation, _named(action.source))
            if not evidence.passed:
                raise VerificationError(f"The restore test of '{action.source}' failed", why=evidence.reason)
            return f"proved {evidence.point} from {evidence.vault}"
        case ActionKind.EXPIRE:
            plan = plan_expiry(installation, _named(action.source))
            expire(installation, plan)
            return f"expired {len(plan.removed)} recovery points"
        case ActionKind.PRUNE:
            found = prune(installation, _named(action.vault)).pruned.plan
            return f"deleted {found.deleted_bytes} bytes, will delete {found.freed_bytes}"
        case ActionKind.RENEW:
            renewed = renew(installation, _named(action.vault))
            if renewed.unlocked:
                raise renewed.failure
            return f"renewed {renewed.renewed} of {renewed.files} locks in {renewed.vault}"
        case ActionKind.CHECK:
            checked = check_vault(installation, _named(action.vault))
            if checked.failure is not None:
                raise checked.failure
            return f"tried out {len(checked.told)} rules in {checked.vault}"
        case ActionKind.REPAIR:
            repaired = repair(installation, _named(action.vault))
            if not repaired.passed:
                raise VerificationError(f"Vault '{repaired.vault}' is still damaged", why="; ".join(repaired.left))
            return f"repaired {len(repaired.repaired.damages)} damages of {repaired.vault}"


def _backup(installation: Installation, source: str) -> str:
    result = backup(installation, source)
    if result.changed and result.point.problems:
        raise IncompleteError(
            f"Recovery point {result.point.id} is incomplete", why=f"{len(result.point.problems)} entries are missing"
        )
    return f"made {result.point.id}" if result.changed else f"confirmed {result.point.id}: nothing changed"


def _verify(installation: Installation, vault: str) -> str:
    share = installation.policy.vaults[vault].read_part
    result = verify(installation, vault, part=Part(share=share) if share < 1 else None)
    if not result.passed:
        raise VerificationError(f"Vault '{result.vault}' is damaged", why=result.evidence.reason)
    return f"read {result.verified.bytes_read} of {result.verified.pack_bytes} bytes of {result.vault}"


def _named(name: str | None) -> str:
    if name is None:
        raise AssertionError("the plan makes no action without what it acts on")
    return name


def run_due(
    installation: Installation,
    stop: threading.Event,
    *,
    expiry: bool = True,
    interval: timedelta | None = None,
    name: str = "",
    watching: Watching | None = None,
    sources: Collection[str] | None = None,
) -> Iterator[Performed]:
    """Do what is due now, planning again after each pass until nothing new is due or `stop` is set.

    With `expiry`, retention is applied too, for which every kept point is looked at. With `interval`, a sign of life is
    noted before each action and at the end, and the next is owed after twice as long; `name` tells this worker from
    others, this host's name when left out. What `watching` has noticed by now counts among the facts. With `sources`,
    only what is due for these is done.

    An action that has failed is not tried twice here: its next time is planned with a growing delay.
    """
    tried: set[str] = set()
    began = clock.now()
    while not stop.is_set():
        now = clock.now()
        facts = installation.catalog.facts(now, sources, kept_points=expiry)
        if watching is not None:
            # Not what comes while this goes on: who writes all the time would keep it from ever ending.
            facts = watching.observed(facts, began)
        actions = [action for action in due(installation.policy, facts, now, sources) if action.key not in tried]
        if not actions:
            break
        for action in actions:
            if stop.is_set():
                break
            tried.add(action.key)
            if watching is not None:
                watching.look()
            if interval is not None:
                beat(installation, interval, name or installation.host, action.key)
            yield _attempt(installation, action)
    if interval is not None:
        beat(installation, interval, name or installation.host)


def tell_outside(installation: Installation, performed: Iterable[Performed]) -> str | None:
    """After a pass in which nothing failed, tell the policy's dead man's switch so; a sentence when that went wrong.

    What another process is at (`BusyError`), or somebody has yet to approve, has not failed.
    """
    url = installation.policy.dead_mans_switch
    waiting = (BusyError, ApprovalNeededError)
    failed = any(done.error is not None and not isinstance(done.error, waiting) for done in performed)
    return ping(url) if url is not None and not failed else None


def _attempt(installation: Installation, action: Action) -> Performed:
    try:
        return Performed(action, None, perform(installation, action))
    except BusyError as error:
        log.info("busy", extra={"fields": {"action": action.key, "message": str(error)}})
        return Performed(action, error)
    except BackupsError as error:
        log.warning("failed", extra={"fields": {"action": action.key, "message": str(error)}})
        return Performed(action, error)


def work(
    installation: Installation,
    stop: threading.Event,
    report: Callable[[Performed], None],
    warn: Callable[[str], None] = lambda _sentence: None,
    name: str = "",
) -> None:
    """Do what is due, then sleep until something is, until `stop` is set. An action in progress is finished first.

    The logs of sources that are protected continuously are followed meanwhile, where their kind can be.

    After each pass people are told what is wrong, where the policy names some. `warn` is told what went wrong beside
    the work: that a dead man's switch, or somebody, could not be reached.
    """
    with (
        Streams(installation, name or installation.host, warn) as streams,
        beginning_to_watch(installation, warn) as watching,
    ):
        _work(installation, stop, report, warn, name, watching, streams)


def _work(
    installation: Installation,
    stop: threading.Event,
    report: Callable[[Performed], None],
    warn: Callable[[str], None],
    name: str,
    watching: Watching | None,
    streams: Streams,
) -> None:
    expiry_due = look_due = clock.monotonic()
    while not stop.is_set():
        expiry = clock.monotonic() >= expiry_due
        if expiry:
            expiry_due = clock.monotonic() + EXPIRY_EVERY.total_seconds()
        performed: list[Performed] = []
        for done in run_due(installation, stop, expiry=expiry, interval=LONGEST_SLEEP, name=name, watching=watching):
            performed.append(done)
            report(done)
        if not stop.is_set() and (problem := tell_outside(installation, performed)):
            warn(problem)
        if not stop.is_set() and (problem := escalate_beside(installation)):
            warn(problem)
        if not stop.is_set() and (problem := report_beside(installation)):
            warn(problem)
        if clock.monotonic() >= look_due:
            look_due = clock.monotonic() + LONGEST_SLEEP.total_seconds()
            note_presence(installation)
        now = clock.now()
        facts = installation.catalog.facts(now)
        moments = [next_due_at(installation.policy, source, facts, now) for source in installation.policy.sources]
        waits = [moment - now for moment in moments if moment is not None]
        wait = max(min([*waits, LONGEST_SLEEP]).total_seconds(), 1.0)
        until = clock.monotonic() + wait
        while not stop.wait(LOOK_SECONDS) and clock.monotonic() < until and not streams.need_point():
            if watching is None:
                continue
            watching.look()
            if changed := watching.due():
                for done in run_due(
                    installation,
                    stop,
                    expiry=False,
                    interval=LONGEST_SLEEP,
                    name=name,
                    watching=watching,
                    sources=changed,
                ):
                    report(done)
