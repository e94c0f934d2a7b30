"""An audit for other programs: SARIF 2.1.0 for those that collect findings, CSV for spreadsheets."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cto_backups import __version__
from cto_backups.cli.audit_changes import standing
from cto_backups.cli.errors import clean
from cto_backups.cli.screen import utc
from cto_backups.core.audit_comparison import FindingKey, keyed
from cto_backups.core.findings import Control, Finding, Severity
from cto_backups.core.frameworks import cited
from cto_backups.flows.audit import Audit

_LEVELS: Mapping[Severity, str] = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
# What GitHub and others sort by: 9.0 and more is critical, 7.0 high, 4.0 medium.
_SCORES: Mapping[Severity, str] = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "2.0",
}
_BASELINE = {"new": "new", "open": "unchanged"}
_COLUMNS = (
    *("at", "control", "title", "severity", "subject", "category", "result", "detail", "remedy", "clauses"),
    *("standing", "since"),
)


def as_sarif(done: Audit, policy_file: str) -> dict[str, Any]:
    """A SARIF 2.1.0 log: controls as rules, findings as results in the policy file, sources out of reach as notes.

    A result's fingerprint is of its control and its subject, so that it is the same one tomorrow. What is fixed is left
    out: collectors that do not know of "absent" would take it for a finding.
    """
    controls = [result.control for result in done.report.results]
    numbers = {control.id: number for number, control in enumerate(controls)}
    results = [
        _result(finding, numbers[finding.control], key, policy_file, standing(done.compared, key))
        for key, finding in keyed(done.report.findings).items()
    ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {"name": "cto.backups", "version": __version__, "rules": [_rule(each) for each in controls]}
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "endTimeUtc": utc(done.now),
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": clean(f"Not looked at: {name}: {error.what}")}}
                    for name, error in done.unreachable.items()
                ],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _rule(control: Control) -> dict[str, Any]:
    tags = [f"{clause.framework} {clause.number}" for clause in control.clauses]
    return {
        "id": control.id,
        "name": "".join(word.capitalize() for word in control.id.split("-")),
        "shortDescription": {"text": f"{control.title}."},
        "fullDescription": {"text": control.rationale},
        "help": {"text": f"{control.rationale} {control.remedy}"},
        "defaultConfiguration": {"level": _LEVELS[control.severity]},
        "properties": {"tags": tags, "severity": control.severity, "security-severity": _SCORES[control.severity]},
    }


def _result(finding: Finding, rule: int, key: FindingKey, policy_file: str, standing: str) -> dict[str, Any]:
    identity = "\0".join((key.control, key.subject, str(key.occurrence)))
    location = {
        "physicalLocation": {"artifactLocation": {"uri": quote(policy_file)}, "region": {"startLine": 1}},
        "logicalLocations": [{"name": clean(finding.subject), "kind": "resource"}],
    }
    return {
        "ruleId": finding.control,
        "ruleIndex": rule,
        "kind": "fail",
        "level": _LEVELS[finding.severity],
        "message": {"text": clean(f"{finding.subject}: {finding.detail}. {finding.remedy}")},
        "locations": [location],
        "partialFingerprints": {
            "controlAndSubject/v1": sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        },
        "properties": {"severity": finding.severity, "category": finding.category},
        **({"baselineState": _BASELINE[standing]} if standing else {}),
    }


def as_csv(done: Audit) -> str:
    """One line for each check, passed ones too, for each control that does not apply, and for what was fixed."""
    keys = {(key.control, key.subject, key.occurrence): key for key in keyed(done.report.findings)}
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for result in done.report.results:
        control = result.control
        failed: Counter[str] = Counter()
        for check in result.checks:
            failed[check.subject] += not check.passed
            key = keys[control.id, check.subject, failed[check.subject]] if not check.passed else None
            about = (check.subject, check.category or "", "passed" if check.passed else "failed", check.detail)
            lines.writerow(_line(done, control, about, key))
        if not result.checks:
            lines.writerow(_line(done, control, ("", "", "not applicable", ""), None))
    controls = {result.control.id: result.control for result in done.report.results}
    for fixed in done.compared.fixed:
        what = (fixed.key.control, fixed.title, fixed.severity, fixed.key.subject, fixed.category or "")
        clauses = cited(controls[fixed.key.control].clauses) if fixed.key.control in controls else ""
        cells = (utc(done.now), *what, "fixed", fixed.detail, "", clauses, "fixed", utc(fixed.since))
        lines.writerow([_cell(str(cell)) for cell in cells])
    return written.getvalue()


def _line(done: Audit, control: Control, check: tuple[str, str, str, str], key: FindingKey | None) -> list[str]:
    compared = done.compared
    since = compared.since.get(key) if key is not None else None
    cells = (
        utc(done.now),
        control.id,
        control.title,
        control.severity,
        *check,
        control.remedy,
        cited(control.clauses),
        standing(compared, key) if key is not None else "",
        utc(since) or "",
    )
    return [_cell(str(cell)) for cell in cells]


def _cell(text: str) -> str:
    """What a spreadsheet shows and does not calculate: a resource may be called =cmd()."""
    text = clean(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
