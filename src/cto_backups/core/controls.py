"""The audit's registry of controls, each a pure function of policy, facts, verdicts and environment."""

from cto_backups.core.cloud_sql_controls import CLOUD_SQL
from cto_backups.core.findings import (
    Audited,
    AuditReport,
    Check,
    Control,
    ControlResult,
    Environment,
    Finding,
    Place,
    Severity,
)
from cto_backups.core.operation import OPERATION
from cto_backups.core.protection import PROTECTION
from cto_backups.core.vault_check_controls import VAULT_CHECKS

__all__ = [
    "CONTROLS",
    "AuditReport",
    "Audited",
    "Check",
    "Control",
    "ControlResult",
    "Environment",
    "Finding",
    "Place",
    "Severity",
]

CONTROLS: tuple[Control, ...] = (*PROTECTION, *OPERATION, *CLOUD_SQL, *VAULT_CHECKS)
"""Every control; ids are for ever, since reports and exceptions refer to them."""
