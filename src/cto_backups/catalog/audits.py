"""Past audits: the last of each day, and of each finding since when it was open and until when.

A finding that stays open is one row however many audits find it, so what is kept grows with what changes.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import Row, moment_from_column, moment_to_column, readable_row, words_to_column
from cto_backups.core.audit_comparison import KEPT_FOR, FindingKey, KeptAudit, KeptFinding, compare
from cto_backups.core.findings import Severity


def last(connection: Connection, at: datetime | None = None) -> KeptAudit | None:
    """The last audit that is kept, of those until `at` where it is given."""
    statement = "SELECT * FROM audits WHERE :at IS NULL OR at <= :at ORDER BY at DESC LIMIT 1"
    rows = connection.execute(statement, {"at": moment_to_column(at)}).fetchall()
    return _audit_from_row(rows[0]) if rows else None


def findings_of(connection: Connection, audit: KeptAudit) -> tuple[KeptFinding, ...]:
    """What an audit that is kept found, and what was open then though that audit did not look at it."""
    statement = """
        SELECT * FROM audit_findings WHERE since <= :at AND (fixed_at IS NULL OR fixed_at > :at)
        ORDER BY since, control, subject, occurrence
        """
    rows = connection.execute(statement, {"at": moment_to_column(audit.at)})
    return tuple(_finding_from_row(row) for row in rows)


def history(connection: Connection) -> tuple[KeptAudit, ...]:
    """The audits that are kept, the last first."""
    return tuple(_audit_from_row(row) for row in connection.execute("SELECT * FROM audits ORDER BY at DESC"))


def keep(connection: Connection, audit: KeptAudit, findings: Sequence[KeptFinding], looked: Sequence[str]) -> None:
    """Keep an audit: open what is new, close what is fixed, and forget what is too old. An older one is not kept."""
    previous = last(connection)
    if previous is not None and previous.at >= audit.at:
        return
    before = findings_of(connection, previous) if previous is not None else ()
    compared = compare(findings, previous, before, looked)
    now = moment_to_column(audit.at)
    rows = [_finding_to_row(finding) for finding in findings if finding.key not in compared.since]
    if rows:
        connection.execute_each(insertion("audit_findings", rows[0]), rows)
    connection.execute_each(
        """
        UPDATE audit_findings SET fixed_at = :fixed_at
        WHERE control = :control AND subject = :subject AND occurrence = :occurrence AND fixed_at IS NULL
        """,
        [{**_finding_to_row(finding), "fixed_at": now} for finding in compared.fixed],
    )
    day = {"day": f"{now}"[: len("2026-01-02")], "oldest": moment_to_column(audit.at - KEPT_FOR)}
    connection.execute("DELETE FROM audits WHERE substr(at, 1, 10) = :day OR at < :oldest", day)
    connection.execute("DELETE FROM audit_findings WHERE fixed_at < :oldest", day)
    row = _audit_to_row(audit)
    connection.execute(insertion("audits", row), row)


def _audit_to_row(audit: KeptAudit) -> dict[str, Any]:
    counts = {severity.value: number for severity, number in audit.counts.items()}
    return {"at": moment_to_column(audit.at), "score": audit.score, "counts": json.dumps(counts)}


@readable_row
def _audit_from_row(row: Row) -> KeptAudit:
    counts = {Severity(name): int(number) for name, number in json.loads(row["counts"]).items()}
    return KeptAudit(_moment(row["at"]), int(row["score"]), counts)


def _finding_to_row(finding: KeptFinding) -> dict[str, Any]:
    return {
        "control": finding.key.control,
        "subject": words_to_column(finding.key.subject),
        "occurrence": finding.key.occurrence,
        "since": moment_to_column(finding.since),
        "title": finding.title,
        "severity": finding.severity.value,
        "detail": words_to_column(finding.detail),
        "category": finding.category,
        "by_look": finding.by_look,
    }


@readable_row
def _finding_from_row(row: Row) -> KeptFinding:
    return KeptFinding(
        FindingKey(row["control"], row["subject"], row["occurrence"]),
        row["title"],
        Severity(row["severity"]),
        row["detail"],
        row["category"],
        _moment(row["since"]),
        bool(row["by_look"]),
    )


def _moment(stored: Any) -> datetime:
    moment = moment_from_column(stored)
    if moment is None:
        raise ValueError("a moment is missing")
    return moment
