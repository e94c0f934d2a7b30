"""The tables, indexes and view of the catalog. The sum of the migrations gives exactly this (a test compares)."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Moment(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC text of fixed width, so that it sorts and SQLite's date functions read it."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To text. Raises ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without time zone cannot be stored")
        return value.astimezone(UTC).strftime(_FORMAT)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From text."""
        return None if value is None else datetime.fromisoformat(value)


metadata = MetaData()

sources = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("data_class", Text),
    Column("business", Text, nullable=False),
    Column("rpo_seconds", Integer, nullable=False),
    Column("test_every_seconds", Integer),
    Column("active", Boolean, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("confirmed_at", Moment),
    Column("next_due_at", Moment),
    Column("point_count", Integer, nullable=False, server_default="0"),
    Column("policy_digest", Text, nullable=False),
)

resources = Table(
    "resources",
    metadata,
    Column("source", Text, ForeignKey("sources.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
)

points = Table(
    "points",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, ForeignKey("sources.name"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("business", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("captured_at", Moment, nullable=False),
    Column("finished_at", Moment, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("added_bytes", BigInteger, nullable=False),
    Column("entry_count", BigInteger, nullable=False),
    Column("root", Text, nullable=False),
    Column("paths", JSON, nullable=False),
    Column("fingerprint", JSON, nullable=False),
    Column("policy_digest", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("parent", Text),
    Column("label", Text),
    Column("keep_until", Moment),
    Column("problems", JSON, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("expired_at", Moment),
    Column("expired_because", JSON),
    Index("points_kept", "source", "captured_at", sqlite_where=text("expired_at IS NULL")),
    Index("points_kept_complete", "source", "captured_at", sqlite_where=text("expired_at IS NULL AND complete = 1")),
    Index("points_by_time", "captured_at", sqlite_where=text("expired_at IS NULL")),
)

copies = Table(
    "copies",
    metadata,
    Column("point", Text, ForeignKey("points.id"), primary_key=True),
    Column("vault", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("stored_at", Moment, nullable=False),
    Column("added_bytes", BigInteger, nullable=False),
    Column("to_delete", Boolean, nullable=False, server_default="0"),
    Index("copies_by_vault", "vault", "stored_at"),
    Index("copies_to_delete", "vault", "point", sqlite_where=text("to_delete = 1")),
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source", Text),
    Column("point", Text),
    Column("vault", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("steps", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Index("evidence_by_source", "source", "kind", "finished_at"),
    Index("evidence_passed", "source", "finished_at", sqlite_where=text("passed = 1 AND kind = 'restore_test'")),
    Index("evidence_by_point", "point", "vault", "finished_at"),
    Index("evidence_by_vault", "vault", "kind", "finished_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("action", Text, nullable=False),
    Column("source", Text),
    Column("vault", Text),
    Column("point", Text),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("figures", JSON, nullable=False),
    Index("runs_by_source", "source", "action", "id"),
    Index("runs_by_vault", "vault", "action", "id"),
    Index("runs_running", "host", sqlite_where=text("outcome = 'running'")),
    Index("runs_broken_off", "point", sqlite_where=text("action = 'backup' AND outcome IN ('failed', 'interrupted')")),
)

vaults = Table(
    "vaults",
    metadata,
    Column("name", Text, primary_key=True),
    Column("repository", Text),  # the id of the repository that belongs there
    Column("copy_count", Integer, nullable=False, server_default="0"),
    Column("first_copy_at", Moment),
)

records = Table(
    "records",
    metadata,
    Column("signer", Text, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("subject", Text),  # the recovery point that it is about
    Column("content", LargeBinary, nullable=False),
    Index("records_by_subject", "subject", "kind"),
)

vault_heads = Table(
    "vault_heads",
    metadata,
    Column("vault", Text, primary_key=True),
    Column("signer", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("text", LargeBinary, nullable=False),
    Column("first_seen", Moment, nullable=False),
)

# One row a source, the columns of requirements section 6 first. Each subquery is one look-up in an index, so that the
# view costs what there are sources, not what there are points. The words are those of `core.assurance`.
BACKUP_STATUS = """
CREATE VIEW backup_status AS
SELECT
    facts.category AS data_category,
    facts.kind AS backup_type,
    facts.captured_at AS last_backup_time,
    round((julianday('now') - julianday(facts.captured_at)) * 24, 3) AS hours_since_backup,
    facts.size_bytes AS last_backup_size_bytes,
    facts.test_at AS last_test_date,
    facts.test_passed AS last_test_passed,
    CASE
        WHEN facts.captured_at IS NULL OR facts.copy_count = 0 THEN 'UNPROTECTED'
        WHEN facts.test_passed = 0 THEN 'FAILED_TEST'
        WHEN julianday(facts.fresh_at) > julianday('now') + 300 / 86400.0
            OR (julianday('now') - julianday(facts.fresh_at)) * 86400 > facts.rpo_seconds THEN 'OVERDUE'
        WHEN facts.test_every_seconds IS NOT NULL AND
            (julianday('now') - julianday(coalesce(facts.proven_at, facts.first_seen))) * 86400
                > facts.test_every_seconds THEN 'OVERDUE'
        ELSE 'HEALTHY'
    END AS status,
    facts.business AS business_id,
    facts.name AS source,
    facts.fresh_at AS fresh_at,
    facts.proven_at AS last_proven_date,
    facts.copy_count AS copies
FROM (
    SELECT
        s.name, s.category, s.kind, s.business, s.rpo_seconds, s.test_every_seconds, s.first_seen,
        p.captured_at, p.size_bytes,
        max(p.captured_at, coalesce(s.confirmed_at, p.captured_at)) AS fresh_at,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0) AS copy_count,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC LIMIT 1) AS test_at,
        (SELECT e.passed FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC LIMIT 1) AS test_passed,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test' AND e.passed = 1
            ORDER BY e.finished_at DESC LIMIT 1) AS proven_at
    FROM sources s
    LEFT JOIN points p ON p.id = (
        SELECT n.id FROM points n WHERE n.source = s.name AND n.expired_at IS NULL AND n.complete = 1
        ORDER BY n.captured_at DESC LIMIT 1)
    WHERE s.active = 1
) AS facts
"""
