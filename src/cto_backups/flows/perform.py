"""Perform: do one action of the plan, and say how it ended."""

import logging
import os
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups import clock
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.verification import Part
from cto_backups.errors import BackupsError, BusyError, CrashError, IncompleteError, VerificationError
from cto_backups.flows.backup import backup
from cto_backups.flows.check_vault import check_vault
from cto_backups.flows.copy import bring
from cto_backups.flows.expire import expire
from cto_backups.flows.expire import plan as plan_expiry
from cto_backups.flows.installation import Installation
from cto_backups.flows.prune import prune
from cto_backups.flows.renew import renew
from cto_backups.flows.repair import repair
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.runs import doing
from cto_backups.flows.verify import verify

log = logging.getLogger("cto_backups")


@dataclass(frozen=True)
class Performed:
    """An action and how it ended; `error` None when it succeeded. `pid` is the process that did it, since `began`."""

    action: Action
    error: BackupsError | None
    summary: str = ""
    pid: int = field(default_factory=os.getpid)
    began: datetime | None = None


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
            if renewed.failure is not None:
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
    told = f"made {result.point.id}" if result.changed else f"confirmed {result.point.id}: nothing changed"
    return told if result.after_failed is None else f"{told}; but {result.after_failed}"


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


def attempt(installation: Installation, action: Action) -> Performed:
    """Do one action; how it ended, whatever goes wrong. A defect of this program is told as a `CrashError`."""
    fields = {"action": action.key}
    began = clock.now()
    log.info("begins", extra={"fields": {**fields, "reason": action.reason}})
    try:
        with doing(action):
            return Performed(action, None, perform(installation, action))
    except BusyError as error:
        log.info("busy", extra={"fields": {**fields, "message": str(error)}})
        return Performed(action, error, began=began)
    except BackupsError as error:
        log.warning("failed", extra={"fields": {**fields, "message": str(error)}})
        return Performed(action, error, began=began)
    except Exception as error:  # what one stumbles over must not keep the others from going on
        log.exception("defect", extra={"fields": fields})
        return Performed(action, crash(action, f"a defect of this program ({type(error).__name__})"), began=began)


def crash(action: Action, why: str) -> CrashError:
    """That an action came to its end in the middle, and why."""
    what = f"{action.kind.value.replace('_', ' ')} of {action.source or action.vault or 'everything'}"
    return CrashError(
        f"The {what} ended in the middle",
        why=why,
        todo="It is tried again. Run it by hand with --verbose, and report what that shows.",
    )
