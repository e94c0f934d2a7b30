"""An audit for other programs: SARIF 2.1.0 for those that collect findings, CSV for spreadsheets."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cto_backups import __version__
from cto_backups.cli.errors import clean
from cto_backups.cli.screen import utc
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
_COLUMNS = ("at", "control", "title", "severity", "subject", "category", "result", "detail", "remedy", "clauses")


def as_sarif(done: Audit, policy_file: str) -> str:
    """A SARIF 2.1.0 log: controls as rules, findings as results in the policy file, sources out of reach as notes.

    A result's fingerprint is of its control and its subject, so that it is the same one tomorrow.
    """
    controls = [result.control for result in done.report.results]
    numbers = {control.id: number for number, control in enumerate(controls)}
    seen: Counter[tuple[str, str]] = Counter()
    results = []
    for finding in done.report.findings:
        seen[finding.control, finding.subject] += 1
        place = numbers[finding.control], seen[finding.control, finding.subject], policy_file
        results.append(_result(finding, *place))
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
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


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


def _result(finding: Finding, rule: int, occurrence: int, policy_file: str) -> dict[str, Any]:
    identity = "\0".join((finding.control, finding.subject, str(occurrence)))
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
    }


def as_csv(done: Audit) -> str:
    """One line for each check, passed ones too, and one for each control that does not apply."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for result in done.report.results:
        control = result.control
        checks = [
            (each.subject, each.category or "", "passed" if each.passed else "failed", each.detail)
            for each in result.checks
        ] or [("", "", "not applicable", "")]
        for check in checks:
            cells = (
                utc(done.now),
                control.id,
                control.title,
                control.severity,
                *check,
                control.remedy,
                cited(control.clauses),
            )
            lines.writerow([_cell(str(cell)) for cell in cells])
    return written.getvalue()


def _cell(text: str) -> str:
    """What a spreadsheet shows and does not calculate: a resource may be called =cmd()."""
    text = clean(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
