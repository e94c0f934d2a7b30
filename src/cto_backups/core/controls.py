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
from cto_backups.core.frameworks import clauses
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
        clauses("CC7.2;A.5.9;A.8.13;CM-8;CP-9;11.1;Art. 12(1);164.308(a)(7)(ii)(A);164.308(a)(7)(ii)(E)"),
    ),
    Control(
        "rpo",
        "Backed up within the RPO",
        Severity.CRITICAL,
        "Whatever happened since the newest complete point is lost with the source.",
        "Run 'cto.backups backup SOURCE', and see that the worker is running.",
        source_controls.check_rpo,
        clauses("A1.2;A.8.13;A.5.30;CP-9;11.2;Art. 12(1);Art. 12(6);164.308(a)(7)(ii)(A)"),
    ),
    Control(
        "restore-test",
        "Restore test fresh and passed",
        Severity.CRITICAL,
        "A backup that was never restored does not work; one that was restored long ago may not any more.",
        "Run 'cto.backups test SOURCE' and act on the step that fails.",
        source_controls.check_restore_test,
        clauses(
            "A1.3;A.8.13;A.5.30;CP-4;CP-9(2);CP-10;11.5;Art. 11;Art. 12(2);164.308(a)(7)(ii)(B);164.308(a)(7)(ii)(D)"
        ),
    ),
    Control(
        "copies",
        "As many copies as the category asks for",
        Severity.HIGH,
        "Each copy is a chance to survive the loss of another.",
        "Name more vaults for the source, and bring back the one that is missing its copy.",
        vault_controls.check_copies,
        clauses("A1.2;A.8.13;A.8.14;CP-9;11.1;Art. 12(1);164.308(a)(7)(ii)(A);164.308(a)(7)(ii)(C)"),
    ),
    Control(
        "storage-types",
        "As many storage types as the category asks for",
        Severity.HIGH,
        "Storage of one type has its faults in common.",
        "Add a vault of another storage type.",
        vault_controls.check_storage_types,
        clauses("A1.2;A.8.13;A.8.14;CP-9(3);11.4;Art. 12(3)"),
    ),
    Control(
        "off-site",
        "A copy off-site",
        Severity.HIGH,
        "A fire, a flood, a theft or a lost account takes everything that is in one place.",
        "Add a vault in another region or with another provider, and declare it off_site.",
        vault_controls.check_off_site,
        clauses("A1.2;A.8.13;A.8.14;CP-6;CP-6(1);CP-9(3);11.4;Art. 12(3);164.308(a)(7)(ii)(B)"),
    ),
    Control(
        "failure-domains",
        "Copies in independent failure domains",
        Severity.HIGH,
        "Folders on one disk are lost together, and with the data when they share its disk: this is not 3-2-1.",
        "Put vaults on other devices, machines, regions or providers.",
        vault_controls.check_failure_domains,
        clauses("A1.2;A.8.14;CP-6(1);CP-9(3);11.4;Art. 12(3);164.308(a)(7)(ii)(B)"),
    ),
    Control(
        "encryption",
        "Encrypted at rest",
        Severity.CRITICAL,
        "Whoever comes by a vault must not come by the data.",
        "Store copies in a repository, or in a vault that encrypts under your key.",
        vault_controls.check_encryption,
        clauses("CC6.1;A.8.13;A.8.24;CP-9(8);SC-28;11.3;Art. 12(3);164.312(a)(2)(iv)"),
    ),
    Control(
        "key-apart",
        "Key not stored beside the data",
        Severity.CRITICAL,
        "A key beside its vault is stolen with it, and lost with it.",
        "Keep the key on another device, in an environment variable, or with a command or a KMS; and a copy on paper.",
        vault_controls.check_key_apart,
        clauses("CC6.1;A.8.24;SC-12;11.3;Art. 12(3);164.312(a)(2)(iv)"),
    ),
    Control(
        "retention",
        "Kept as long as its class asks",
        Severity.HIGH,
        "What was removed early is missing when a regulator, a court or an incident from last year asks for it.",
        "Lengthen the source's retention, or choose the class of data that it really is.",
        source_controls.check_retention,
        clauses("A1.2;A.5.33;A.8.13;SI-12;3.4;Art. 12(1)"),
    ),
    Control(
        "proven-kept",
        "The last proven point is kept",
        Severity.HIGH,
        "It is the only point of which it is known that it comes back.",
        "Run 'cto.backups test SOURCE' to prove a point that is kept.",
        source_controls.check_proven_kept,
        clauses("A1.3;A.8.13;CP-9(2);CP-10;11.5;Art. 12(2);164.308(a)(7)(ii)(D)"),
    ),
    Control(
        "reading",
        "Every stored byte read in time",
        Severity.HIGH,
        "Stored bytes rot silently; damage is repaired from another copy only while there is one.",
        "Run 'cto.backups verify VAULT', and see that the worker is running.",
        vault_controls.check_reading,
        clauses("A1.3;A.8.13;CP-9(1);11.3;Art. 12(2);Art. 12(7);164.312(c)(1)"),
    ),
    Control(
        "point-in-time",
        "Point-in-time recovery where required",
        Severity.HIGH,
        "Business-critical data must come back as it was just before a mistake, not as it was last night.",
        "Add 'continuous', 'on change' or a short interval, and keep every point for at least 7 days.",
        source_controls.check_point_in_time,
        clauses("A1.2;A.5.30;CP-9;CP-10;11.2;Art. 12(6);164.308(a)(7)(ii)(B);164.308(a)(7)(ii)(C)"),
    ),
    Control(
        "complete",
        "The newest point is complete",
        Severity.HIGH,
        "What could not be captured cannot come back.",
        "Read the problems with 'cto.backups points SOURCE'; fix permissions or exclude what does not matter.",
        source_controls.check_complete,
        clauses("A1.2;A.8.13;CP-9;11.2;Art. 12(1);Art. 12(7);164.308(a)(7)(ii)(A)"),
    ),
    Control(
        "failed-runs",
        "No action stands failed",
        Severity.MEDIUM,
        "A failure that nobody clears is the beginning of every lost source.",
        "Read the message, remove its cause, and run the action again.",
        source_controls.check_failed_runs,
        clauses("CC7.2;A.8.13;A.8.16;CP-9;11.2;Art. 12(1)"),
    ),
    Control(
        "vault-runs",
        "Vaults can be verified",
        Severity.MEDIUM,
        "A vault that cannot be verified may not be readable on the bad day either.",
        "Read the message, remove its cause, and run 'cto.backups repair VAULT'.",
        vault_controls.check_vault_runs,
        clauses("CC7.2;A.8.16;CP-9(1);11.3;Art. 12(2)"),
    ),
    Control(
        "exclusions",
        "Exclusions justified and in force",
        Severity.MEDIUM,
        "What is left out on purpose must stay a decision that somebody answers for.",
        "Renew the exclusion with a reason, an owner and an end date, or cover the resource.",
        source_controls.check_exclusions,
        clauses("A.5.9;CP-2;11.1;Art. 12(1);164.308(a)(7)(ii)(E)"),
    ),
    Control(
        "clock",
        "Clocks are right",
        Severity.HIGH,
        "With a wrong clock, old backups look new and retention removes the wrong ones.",
        "Set the clock of the machine that ran it, then back up again.",
        source_controls.check_clock,
        clauses("A.8.17;AU-8;8.4"),
    ),
    Control(
        "owner",
        "Every source has an owner",
        Severity.LOW,
        "On the bad day somebody must know what the data is and whether it came back right.",
        "Name an owner for the source.",
        source_controls.check_owner,
        clauses("CP-2;A.5.9;11.1;164.308(a)(7)(ii)(E)"),
    ),
)
"""Every control; ids are for ever, since reports and exceptions refer to them."""


def audit(
    policy: Policy, facts: Facts, verdicts: Mapping[str, Verdict], now: datetime, environment: Environment
) -> AuditReport:
    """Run every control. `verdicts` has one for each source of the policy. Raises ValueError when `now` is naive."""
    audited = Audited(policy, facts, verdicts, require_aware(now), environment)
    return AuditReport(now, tuple(ControlResult(control, tuple(control.check(audited))) for control in CONTROLS))
