"""Report: write what the catalog knows where policy wants it, beside the work, which goes on whatever comes of that.

How far a place has got is in a file of the state folder. Where that is lost, all is delivered again, and is there once.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.reporting import ReportState, Told, due
from cto_backups.errors import BackupsError, BusyError, NotFoundError
from cto_backups.evidence.payloads import moment_from_text, moment_to_text
from cto_backups.flows.installation import Installation
from cto_backups.flows.limit import TimeLimit

log = logging.getLogger("cto_backups")

BESIDE: Final = timedelta(seconds=60)
"""How long a report may hold up a command, or a worker, that does something else."""
_FILE: Final = "report.json"
_MOMENTS: Final = ("through", "tried_at", "failing_since")


@dataclass(frozen=True, slots=True)
class Reported:
    """What was delivered: how many copies, restore tests and sources."""

    place: str
    copies: int
    tests: int
    sources: int


def report(installation: Installation, *, again: bool = False, limit: Limit = UNLIMITED) -> Reported:
    """Deliver what is new, or with `again` all that there is. Raises NotFoundError, BusyError, ReportError."""
    asked = installation.policy.report_to
    if asked is None:
        raise NotFoundError(
            "The policy names no place for reports",
            why="it has no section report_to",
            todo="Add one; docs/how-to/report-to-bigquery.md shows how.",
        )
    with installation.exclusive_reports():
        began = clock.now()
        state = known(installation.state, asked.name)
        counts = {"copies": 0, "tests": 0, "sources": 0}

        def counted() -> Iterator[Told]:
            for told in installation.catalog.reports.told(None if again else state.through):
                yield told
                counts["copies"] += len(told.logs)
                counts["tests"] += len(told.tests)
                counts["sources"] += len(told.status)

        try:
            installation.report().deliver(counted(), installation.policy.business, limit)
        except BackupsError as error:
            _note(installation.state, state.failed(began, f"{error.what}: {error.why}" if error.why else error.what))
            raise
        _note(installation.state, state.succeeded(began))
        return Reported(asked.name, **counts)


def report_beside(installation: Installation) -> str | None:
    """The same beside other work, when it is time: what went wrong, in a sentence. Nothing where policy names none."""
    asked = installation.policy.report_to
    if asked is None:
        return None
    limit = TimeLimit(BESIDE)
    try:
        state = known(installation.state, asked.name)
        if due(installation.policy, state, installation.catalog.reports.newest(), clock.now()):
            report(installation, limit=limit)
    except BusyError:
        return None  # whoever is at it delivers the same
    except BackupsError as error:
        log.warning("report failed", extra={"fields": {"message": str(error)}})
        return f"What was done could not be reported; it is delivered with the next report: {error}"
    finally:
        limit.lift()
    return None


def known(folder: Path, place: str) -> ReportState:
    """How reporting to a place has gone, as a state folder has it; where that is lost, it was never tried."""
    try:
        stored = json.loads((folder / _FILE).read_text("utf-8"))
        moments = {name: _moment(stored[name]) for name in _MOMENTS}
        found = ReportState(str(stored["place"]), **moments, problem=str(stored["problem"]))
    except (OSError, ValueError, LookupError, TypeError):
        return ReportState(place)
    return found if found.place == place else ReportState(place)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment_from_text(text)


def _note(folder: Path, state: ReportState) -> None:
    told = {"place": state.place, "problem": state.problem}
    moments = {name: getattr(state, name) for name in _MOMENTS}
    told |= {name: moment and moment_to_text(moment) for name, moment in moments.items()}
    draft = folder / f"{_FILE}.{os.getpid()}"
    try:
        draft.write_text(json.dumps(told), "utf-8")
        draft.replace(folder / _FILE)
    except OSError as error:  # the next report delivers the same once more
        log.warning("report not noted", extra={"fields": {"message": str(error)}})
        draft.unlink(missing_ok=True)
