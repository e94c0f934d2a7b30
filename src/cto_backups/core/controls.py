"""The audit: a registry of controls, each a pure function of policy, facts, verdicts and environment."""

from collections.abc import Mapping
from datetime import datetime

from cto_backups.core import source_controls, vault_controls
from cto_backups.core.assurance import Verdict
from cto_backups.core.calendar_times import require_aware
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
from cto_backups.core.model import Facts
from cto_backups.core.policy import Policy

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
    "audit",
]

CONTROLS: tuple[Control, ...] = (
    Control(
        "coverage",
        "Everything that exists is covered",
        Severity.CRITICAL,
        "Data that is not backed up does not exist, and what nobody named is not backed up.",
        "Add a source that covers it, or an exclusion with a reason, an owner and an end date.",
        source_controls.check_coverage,
    ),
    Control(
        "rpo",
        "Backed up within the RPO",
        Severity.CRITICAL,
        "Whatever happened since the newest complete point is lost with the source.",
        "Run 'cto.backups backup SOURCE', and see that the worker is running.",
        source_controls.check_rpo,
    ),
    Control(
        "restore-test",
        "Restore test fresh and passed",
        Severity.CRITICAL,
        "A backup that was never restored does not work; one that was restored long ago may not any more.",
        "Run 'cto.backups test SOURCE' and act on the step that fails.",
        source_controls.check_restore_test,
    ),
    Control(
        "rto",
        "Forecast RTO within the RTO",
        Severity.HIGH,
        "A restore that takes longer than the business can wait comes too late, however well it works.",
        "Restore from a nearer or faster vault, divide the source, or agree on a longer RTO; test to measure afresh.",
        source_controls.check_rto,
    ),
    Control(
        "copies",
        "As many copies as the category asks for",
        Severity.HIGH,
        "Each copy is a chance to survive the loss of another.",
        "Name more vaults for the source, and bring back the one that is missing its copy.",
        vault_controls.check_copies,
    ),
    Control(
        "storage-types",
        "As many storage types as the category asks for",
        Severity.HIGH,
        "Storage of one type has its faults in common.",
        "Add a vault of another storage type.",
        vault_controls.check_storage_types,
    ),
    Control(
        "off-site",
        "A copy off-site",
        Severity.HIGH,
        "A fire, a flood, a theft or a lost account takes everything that is in one place.",
        "Add a vault in another region or with another provider, and declare it off_site.",
        vault_controls.check_off_site,
    ),
    Control(
        "failure-domains",
        "Copies in independent failure domains",
        Severity.HIGH,
        "Folders on one disk are lost together, and with the data when they share its disk: this is not 3-2-1.",
        "Put vaults on other devices, machines, regions or providers.",
        vault_controls.check_failure_domains,
    ),
    Control(
        "encryption",
        "Encrypted at rest",
        Severity.CRITICAL,
        "Whoever comes by a vault must not come by the data.",
        "Store copies in a repository, or in a vault that encrypts under your key.",
        vault_controls.check_encryption,
    ),
    Control(
        "key-apart",
        "Key not stored beside the data",
        Severity.CRITICAL,
        "A key beside its vault is stolen with it, and lost with it.",
        "Keep the key on another device, in an environment variable, or with a command or a KMS; and a copy on paper.",
        vault_controls.check_key_apart,
    ),
    Control(
        "retention",
        "Kept as long as its class asks",
        Severity.HIGH,
        "What was removed early is missing when a regulator, a court or an incident from last year asks for it.",
        "Lengthen the source's retention, or choose the class of data that it really is.",
        source_controls.check_retention,
    ),
    Control(
        "proven-kept",
        "The last proven point is kept",
        Severity.HIGH,
        "It is the only point of which it is known that it comes back.",
        "Run 'cto.backups test SOURCE' to prove a point that is kept.",
        source_controls.check_proven_kept,
    ),
    Control(
        "reading",
        "Every stored byte read in time",
        Severity.HIGH,
        "Stored bytes rot silently; damage is repaired from another copy only while there is one.",
        "Run 'cto.backups verify VAULT', and see that the worker is running.",
        vault_controls.check_reading,
    ),
    Control(
        "point-in-time",
        "Point-in-time recovery where required",
        Severity.HIGH,
        "Business-critical data must come back as it was just before a mistake, not as it was last night.",
        "Add 'continuous', 'on change' or a short interval, and keep every point for at least 7 days.",
        source_controls.check_point_in_time,
    ),
    Control(
        "complete",
        "The newest point is complete",
        Severity.HIGH,
        "What could not be captured cannot come back.",
        "Read the problems with 'cto.backups points SOURCE'; fix permissions or exclude what does not matter.",
        source_controls.check_complete,
    ),
    Control(
        "failed-runs",
        "No action stands failed",
        Severity.MEDIUM,
        "A failure that nobody clears is the beginning of every lost source.",
        "Read the message, remove its cause, and run the action again.",
        source_controls.check_failed_runs,
    ),
    Control(
        "vault-runs",
        "Vaults can be verified",
        Severity.MEDIUM,
        "A vault that cannot be verified may not be readable on the bad day either.",
        "Read the message, remove its cause, and run 'cto.backups repair VAULT'.",
        vault_controls.check_vault_runs,
    ),
    Control(
        "exclusions",
        "Exclusions justified and in force",
        Severity.MEDIUM,
        "What is left out on purpose must stay a decision that somebody answers for.",
        "Renew the exclusion with a reason, an owner and an end date, or cover the resource.",
        source_controls.check_exclusions,
    ),
    Control(
        "clock",
        "Clocks are right",
        Severity.HIGH,
        "With a wrong clock, old backups look new and retention removes the wrong ones.",
        "Set the clock of the machine that ran it, then back up again.",
        source_controls.check_clock,
    ),
    Control(
        "worker",
        "The worker is alive",
        Severity.CRITICAL,
        "Without a worker nothing is backed up, copied, read or tested, and nothing says so.",
        "Start 'cto.backups worker' again, see why it stopped, and let the system start it by itself.",
        source_controls.check_worker,
    ),
    Control(
        "owner",
        "Every source has an owner",
        Severity.LOW,
        "On the bad day somebody must know what the data is and whether it came back right.",
        "Name an owner for the source.",
        source_controls.check_owner,
    ),
)
"""Every control; ids are for ever, since reports and exceptions refer to them."""


def audit(
    policy: Policy, facts: Facts, verdicts: Mapping[str, Verdict], now: datetime, environment: Environment
) -> AuditReport:
    """Run every control. `verdicts` has one for each source of the policy. Raises ValueError when `now` is naive."""
    audited = Audited(policy, facts, verdicts, require_aware(now), environment)
    return AuditReport(now, tuple(ControlResult(control, tuple(control.check(audited))) for control in CONTROLS))
