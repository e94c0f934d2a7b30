"""The audit: every control, over all that is known."""

from collections.abc import Mapping
from datetime import datetime

from cto_backups.core.assurance import Verdict
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.controls import CONTROLS
from cto_backups.core.facts import Facts
from cto_backups.core.findings import Audited, AuditReport, ControlResult, Environment, PointsOf
from cto_backups.core.policy import Policy


def audit(
    policy: Policy,
    facts: Facts,
    verdicts: Mapping[str, Verdict],
    now: datetime,
    environment: Environment,
    points_of: PointsOf | None = None,
) -> AuditReport:
    """Run every control. `verdicts` has one for each source of the policy. Raises ValueError when `now` is naive.

    `points_of` gives the facts of a source with its kept points where `facts` have none.
    """
    audited = Audited(policy, facts, verdicts, require_aware(now), environment, points_of)
    return AuditReport(now, tuple(ControlResult(control, tuple(control.check(audited))) for control in CONTROLS))
