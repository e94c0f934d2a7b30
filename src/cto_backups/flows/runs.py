"""Record every attempt at an action, however it ends."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups import clock
from cto_backups.core.claims import Claim, Outdone
from cto_backups.core.model import Action, ActionKind, Outcome
from cto_backups.core.objects import Ways
from cto_backups.core.traffic import Traffic
from cto_backups.errors import BackupsError, ClaimLostError
from cto_backups.flows import claims
from cto_backups.flows.installation import Installation
from cto_backups.flows.processes import process_alive

log = logging.getLogger("cto_backups")

_doing: ContextVar[Action | None] = ContextVar("doing", default=None)


@dataclass
class OpenRun:
    """A run in progress; the flow sets how it ends and its figures."""

    id: int
    outcome: Outcome = Outcome.SUCCEEDED
    message: str = ""
    error_code: str = ""
    figures: dict[str, int | float | str | bool] = field(default_factory=dict)


def note_ways(run: OpenRun, ways: Ways | None) -> None:
    """Note which way contents came into a vault that holds them as they are."""
    if ways is not None and (ways.copied or ways.passed):
        run.figures.update(
            copied_within=ways.copied,
            copied_within_bytes=ways.copied_bytes,
            passed_through=ways.passed,
            passed_through_bytes=ways.passed_bytes,
        )
        if ways.reasons:
            run.figures["not_copied_within"] = "; ".join(ways.reasons)


@contextmanager
def recorded(
    installation: Installation,
    action: ActionKind,
    *,
    source: str | None = None,
    vault: str | None = None,
    point: str | None = None,
) -> Iterator[OpenRun]:
    """Record a run under a claim of what it is at: running at once, its outcome at the end.

    An error is recorded and goes on to the caller. Raises BusyError while another run has the claim; ClaimLostError,
    and records nothing, when another has taken it over.
    """
    planned_at = _planned_at(action, source, vault)
    begun = installation.catalog.start_run(
        action,
        source=source,
        vault=vault,
        point=point,
        now=clock.now(),
        pid=os.getpid(),
        host=installation.host,
        alive=process_alive,
        planned_at=planned_at,
    )
    assert begun.claim is not None
    lost = False
    with claims.held(installation, begun.claim):
        run = OpenRun(begun.run)
        try:
            if begun.outdone is not None:
                _take_over(installation, run, begun.outdone, planned=planned_at is not None)
            yield run
        except ClaimLostError as error:
            lost = True  # who took over has noted how it ended
            log.warning("claim lost", extra={"fields": {"action": action.value, "message": str(error)}})
            raise
        except BackupsError as error:
            if run.outcome is not Outcome.INTERRUPTED:
                run.outcome, run.error_code, run.message = Outcome.FAILED, error.code, str(error)
            raise
        except KeyboardInterrupt:
            run.outcome, run.message = Outcome.INTERRUPTED, "stopped by a signal"
            raise
        except BaseException as error:
            # A defect of ours: recorded by its type only, since its text may hold anything.
            run.outcome, run.error_code, run.message = Outcome.FAILED, "defect", type(error).__name__
            raise
        finally:
            if not lost:
                _end(installation, run, begun.claim, action)
                fields = {"action": action.value, "source": source, "vault": vault, "point": point}
                ended = {"outcome": run.outcome.value, "message": run.message, **run.figures}
                log.info("run", extra={"fields": fields | ended})


@contextmanager
def doing(action: Action) -> Iterator[None]:
    """Do what was planned: its run does not begin where another has done the same since. Copies see that themselves."""
    before = _doing.set(action)
    try:
        yield
    finally:
        _doing.reset(before)


def _planned_at(kind: ActionKind, source: str | None, vault: str | None) -> datetime | None:
    action = _doing.get()
    if action is None or kind is ActionKind.COPY or (action.kind, action.source) != (kind, source):
        return None
    # Of a source it is the same whatever vault a plan says: a restore test takes the copy whose turn it is by then.
    return action.planned_at if source is not None or action.vault == vault else None


def _take_over(installation: Installation, run: OpenRun, outdone: Outdone, *, planned: bool) -> None:
    """Clear up behind who gave no sign of life. Raises BusyError where that leaves nothing to do of what was planned.

    Who asks for a backup by hand gets one of what there is now.
    """
    from cto_backups.flows import takeover

    nothing = takeover.clear(installation, outdone)
    if nothing is not None and planned:
        run.outcome, run.message = Outcome.INTERRUPTED, nothing.why
        raise nothing


def _end(installation: Installation, run: OpenRun, claim: Claim, action: ActionKind) -> None:
    travelled = installation.travelled()
    if travelled:
        seen = sum(travelled.values(), Traffic())
        run.figures.update(requests=seen.requests, up_bytes=seen.up_bytes, down_bytes=seen.down_bytes)
    installation.catalog.finish_run(
        run.id,
        outcome=run.outcome,
        now=clock.now(),
        error_code=run.error_code,
        message=run.message,
        figures=run.figures,
        claim=claim,
    )
    if travelled:
        installation.catalog.traffic.note(action.value, travelled, clock.now())
