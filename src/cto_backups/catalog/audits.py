"""Past audits: the last of each day, and of each finding since when it was open and until when.

A finding that stays open is one row however many audits find it, so what is kept grows with what changes. So do the
signed records that bring it back: one for the first audit of a day, and for each that found or missed something.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cto_backups.catalog import chain
from cto_backups.catalog.database import Connection, Database, insertion
from cto_backups.catalog.rows import Row, moment_from_column, moment_to_column, readable_row, words_to_column
from cto_backups.config.redaction import redact
from cto_backups.core.audit_comparison import KEPT_FOR, FindingKey, KeptAudit, KeptFinding, compare
from cto_backups.core.findings import Severity
from cto_backups.evidence.audits import ToldAudit, audit_to_payload
from cto_backups.evidence.records import SigningKey


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


def keep(
    connection: Connection,
    audit: KeptAudit,
    findings: Sequence[KeptFinding],
    looked: Sequence[str],
    *,
    policy: str,
    by: str,
    signer: SigningKey,
) -> bool:
    """Keep an audit, and sign what it changed, if anything or if it is the day's first; whether it was signed.

    An older one than the last is not kept.
    """
    previous = last(connection)
    if previous is not None and previous.at >= audit.at:
        return False
    before = findings_of(connection, previous) if previous is not None else ()
    compared = compare(findings, previous, before, looked)
    told = ToldAudit(
        audit,
        policy,
        by,
        tuple(looked),
        previous.at if previous is not None else None,
        tuple(finding for finding in findings if finding.key not in compared.since),
        tuple(finding.key for finding in compared.fixed),
    )
    _apply(connection, told)
    if previous is not None and _day(previous) == _day(audit) and not told.new and not told.fixed:
        return False
    if before and not _told_before(connection, signer):
        fixed = set(told.fixed)
        told = replace(told, still_open=tuple(finding for finding in before if finding.key not in fixed))
    chain.append(connection, signer, "audit", audit_to_payload(told, redact), audit.at)
    return True


def take(connection: Connection, told: ToldAudit) -> bool:
    """Keep an audit that a signed record tells of, if it is later than the last one here; whether it was."""
    previous = last(connection)
    if previous is not None and previous.at >= told.audit.at:
        return False
    _apply(connection, told)
    return True


def _apply(connection: Connection, told: ToldAudit) -> None:
    """Open what is new, close what is fixed, and forget what is too old."""
    now = moment_to_column(told.audit.at)
    rows = [_finding_to_row(finding) for finding in (*told.still_open, *told.new)]
    if rows:
        # Records may tell twice of a finding that is open: with a new key, and where a list was cut off.
        statement = f"""
            INSERT INTO audit_findings ({", ".join(rows[0])}) SELECT {", ".join(f":{name}" for name in rows[0])}
            WHERE NOT EXISTS (
                SELECT 1 FROM audit_findings
                WHERE control = :control AND subject = :subject AND occurrence = :occurrence AND fixed_at IS NULL)
            ON CONFLICT DO NOTHING
            """
        connection.execute_each(statement, rows)
    connection.execute_each(
        """
        UPDATE audit_findings SET fixed_at = :fixed_at
        WHERE control = :control AND subject = :subject AND occurrence = :occurrence AND fixed_at IS NULL
        """,
        [{**_key_to_row(key), "fixed_at": now} for key in told.fixed],
    )
    day = {"day": _day(told.audit), "oldest": moment_to_column(told.audit.at - KEPT_FOR)}
    connection.execute("DELETE FROM audits WHERE substr(at, 1, 10) = :day OR at < :oldest", day)
    connection.execute("DELETE FROM audit_findings WHERE fixed_at < :oldest", day)
    row = _audit_to_row(told.audit)
    connection.execute(insertion("audits", row), row)


def _day(audit: KeptAudit) -> str:
    """The day of an audit, in UTC."""
    return f"{moment_to_column(audit.at)}"[: len("2026-01-02")]


def _told_before(connection: Connection, signer: SigningKey) -> bool:
    statement = "SELECT 1 FROM records WHERE signer = :signer AND kind = 'audit' ORDER BY sequence DESC LIMIT 1"
    return connection.scalar(statement, {"signer": signer.signer}) is not None


class Audits:
    """The audits that one catalog keeps."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def last(self, at: datetime | None = None) -> tuple[KeptAudit, tuple[KeptFinding, ...]] | None:
        """The last audit that is kept (of those until `at`), and what it found; None when there is none."""
        with self._database.reading() as connection:
            found = last(connection, at)
            return None if found is None else (found, findings_of(connection, found))

    def history(self) -> tuple[KeptAudit, ...]:
        """All audits that are kept, the last first."""
        with self._database.reading() as connection:
            return history(connection)

    def keep(
        self,
        audit: KeptAudit,
        findings: Sequence[KeptFinding],
        looked: Sequence[str],
        *,
        policy: str,
        by: str,
        signer: SigningKey,
    ) -> bool:
        """Keep an audit and what it found, for those that follow; sign what it changed, or that a day began.

        `policy` is the digest of the one that it was by, `by` who ran it. Whether it was signed. See
        `core.audit_comparison`.
        """
        with self._database.writing() as connection:
            return keep(connection, audit, findings, looked, policy=policy, by=by, signer=signer)

    def take(self, told: Sequence[ToldAudit]) -> int:
        """Keep the audits that signed records tell of, the oldest first, and that are later than the last one here;
        how many there were."""
        with self._database.writing() as connection:
            return sum([take(connection, each) for each in told])


def _audit_to_row(audit: KeptAudit) -> dict[str, Any]:
    counts = {severity.value: number for severity, number in audit.counts.items()}
    return {"at": moment_to_column(audit.at), "score": audit.score, "counts": json.dumps(counts)}


@readable_row
def _audit_from_row(row: Row) -> KeptAudit:
    counts = {Severity(name): int(number) for name, number in json.loads(row["counts"]).items()}
    return KeptAudit(_moment(row["at"]), int(row["score"]), counts)


def _key_to_row(key: FindingKey) -> dict[str, Any]:
    return {"control": key.control, "subject": words_to_column(key.subject), "occurrence": key.occurrence}


def _finding_to_row(finding: KeptFinding) -> dict[str, Any]:
    return {
        **_key_to_row(finding.key),
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
