"""Record every attempt at an action, however it ends."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cto_backups import clock
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.objects import Ways
from cto_backups.core.traffic import Traffic
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation

log = logging.getLogger("cto_backups")


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
    """Record a run: running at once, its outcome at the end; an error is recorded and goes on to the caller."""
    catalog = installation.catalog
    run = OpenRun(
        catalog.start_run(
            action, source=source, vault=vault, point=point, now=clock.now(), pid=os.getpid(), host=installation.host
        )
    )
    try:
        yield run
    except BackupsError as error:
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
        travelled = installation.travelled()
        if travelled:
            seen = sum(travelled.values(), Traffic())
            run.figures.update(requests=seen.requests, up_bytes=seen.up_bytes, down_bytes=seen.down_bytes)
        catalog.finish_run(
            run.id,
            outcome=run.outcome,
            now=clock.now(),
            error_code=run.error_code,
            message=run.message,
            figures=run.figures,
        )
        if travelled:
            catalog.traffic.note(action.value, travelled, clock.now())
        fields = {"action": action.value, "source": source, "vault": vault, "point": point}
        ended = {"outcome": run.outcome.value, "message": run.message, **run.figures}
        log.info("run", extra={"fields": fields | ended})
