"""The audit: every control, over all that is known."""

from collections.abc import Mapping
from datetime import datetime

from cto_backups.core.assurance import Verdict
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.controls import CONTROLS
from cto_backups.core.findings import Audited, AuditReport, ControlResult, Environment
from cto_backups.core.model import Facts
from cto_backups.core.policy import Policy


def audit(
    policy: Policy, facts: Facts, verdicts: Mapping[str, Verdict], now: datetime, environment: Environment
) -> AuditReport:
    """Run every control. `verdicts` has one for each source of the policy. Raises ValueError when `now` is naive."""
    audited = Audited(policy, facts, verdicts, require_aware(now), environment)
    return AuditReport(now, tuple(ControlResult(control, tuple(control.check(audited))) for control in CONTROLS))
