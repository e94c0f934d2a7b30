"""Reports: what the catalog knows, written where a business looks at it; which columns, how often, and when too late.

The tables are `backup_logs`, `backup_tests` and `backup_status`; docs/reference/formats.md has their columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from cto_backups.core.limits import Limit
from cto_backups.core.model import Evidence
from cto_backups.core.policy import Policy

Row = Mapping[str, Any]
"""Values by the names of columns; a moment is ISO 8601 text in UTC, as the catalog stores it."""

LONGEST: Final = timedelta(hours=1)
"""How old a report gets at most while a worker runs."""
SHORTEST: Final = timedelta(minutes=5)
AGAIN_AFTER: Final = timedelta(minutes=5)
"""How long a report that failed is not tried again by the way."""
_PARTS: Final = ("checksums_match", "row_counts_match", "sample_data_valid")


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be delivered: a part of the logs and tests, or the status of every source.

    `logs` are copies of recovery points, `expired` points that are dropped, by `backup_id` with `expired_at`, `tests`
    restore tests, `status` rows of the view `backup_status`; `former` names sources that policy has no more.
    """

    logs: Sequence[Row] = ()
    tests: Sequence[Row] = ()
    expired: Sequence[Row] = ()
    status: Sequence[Row] = ()
    former: Sequence[str] = ()


class Report(Protocol):
    """A place that is reported to. Whatever is delivered twice is there once."""

    @property
    def name(self) -> str:
        """Where it is, for people."""

    def deliver(self, told: Iterator[Told], business: str, limit: Limit) -> None:
        """Make what is missing there, and write these rows. Raises ReportError."""


@dataclass(frozen=True, slots=True)
class ReportState:
    """How reporting to one place has gone; `through` is up to when all that the catalog knew is there."""

    place: str
    through: datetime | None = None
    tried_at: datetime | None = None
    failing_since: datetime | None = None
    problem: str = ""

    def succeeded(self, at: datetime) -> "ReportState":
        """After a report that began at a moment."""
        return ReportState(self.place, through=at, tried_at=at)

    def failed(self, at: datetime, problem: str) -> "ReportState":
        """After one that failed."""
        return ReportState(self.place, self.through, at, self.failing_since or at, problem)


def every(policy: Policy) -> timedelta:
    """How old a report may get while a worker runs: a quarter of the shortest RPO, within bounds."""
    shortest = min((source.category.rpo for source in policy.sources.values()), default=4 * LONGEST)
    return max(SHORTEST, min(LONGEST, shortest / 4))


def due(policy: Policy, state: ReportState, newest: datetime | None, now: datetime) -> bool:
    """Whether it is time to report: there is something new since, or the last report is too old.

    `newest` is when the catalog learned something last. One that failed has to wait a little.
    """
    if state.failing_since is not None and state.tried_at is not None and now - state.tried_at < AGAIN_AFTER:
        return False
    if state.through is None or now - state.through >= every(policy) or state.through > now:
        return True
    return newest is not None and newest > state.through


def row_of_test(evidence: Evidence, kind: str, business: str) -> Row:
    """A restore test as a row of `backup_tests`."""
    return {
        "test_id": evidence.id,
        "backup_type": kind,
        "test_date": evidence.finished_at.isoformat(),
        "steps": [
            {
                "step": step.name,
                "duration_seconds": round(step.seconds, 3),
                "passed": step.passed,
                "detail": step.detail,
                **{name: step.figures.get(name) for name in _PARTS},
            }
            for step in evidence.steps
        ],
        "passed": evidence.passed,
        "backup_id": evidence.point,
        "source": evidence.source,
        "destination": evidence.vault,
        "business_id": business,
    }
