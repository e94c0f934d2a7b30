"""The tables and indexes of the catalog. The sum of the migrations gives exactly this (a test compares).

Only tests load this: statements are SQL (`facts`, `queries` and the others), and `rows` knows how values are stored.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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

Moment = String(27)  # UTC text of fixed width
Words = Text  # may name a file whose name is no text: what UTF-8 cannot say is stored as an escape

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
    Column("read_within_seconds", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("confirmed_at", Moment),
    Column("discovered_at", Moment),
    Column("next_due_at", Moment),
    Column("point_count", Integer, nullable=False, server_default="0"),
    Column("policy_digest", Text, nullable=False),
)

# The vaults that policy names for a source.
source_vaults = Table(
    "source_vaults",
    metadata,
    Column("source", Text, ForeignKey("sources.name"), primary_key=True),
    Column("vault", Text, primary_key=True),
)

resources = Table(
    "resources",
    metadata,
    Column("source", Text, ForeignKey("sources.name"), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("location", Words, nullable=False),
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
    Column("proven_at", Moment),  # when its last restore test passed; none when that failed
    Index("points_kept", "source", "captured_at", "id", sqlite_where=text("expired_at IS NULL")),
    Index(
        "points_kept_complete",
        "source",
        "captured_at",
        "id",
        sqlite_where=text("expired_at IS NULL AND complete = 1"),
    ),
    Index(
        "points_kept_proven",
        "source",
        "captured_at",
        "id",
        sqlite_where=text("expired_at IS NULL AND proven_at IS NOT NULL"),
    ),
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
    Column("reason", Words, nullable=False),
    Column("read_since", Moment),
    Index("evidence_by_source", "source", "kind", "finished_at", "id"),
    Index(
        "evidence_passed",
        "source",
        "finished_at",
        "id",
        sqlite_where=text("passed = 1 AND kind = 'restore_test'"),
    ),
    Index("evidence_by_point", "point", "vault", "finished_at", "id"),
    Index("evidence_by_vault", "vault", "kind", "finished_at", "id"),
    Index("evidence_read", "vault", "read_since", sqlite_where=text("read_since IS NOT NULL")),
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
    Column("message", Words, nullable=False),
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

# Legal holds, released ones included.
holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("point", Text),  # none: everything of the source
    Column("reason", Words, nullable=False),
    Column("placed_at", Moment, nullable=False),
    Column("placed_by", Words, nullable=False),
    Column("approver", Words),
    Column("released_at", Moment),
    Column("released_by", Words),
    Column("released_because", Words),
    Index("holds_in_force", "source", "point", sqlite_where=text("released_at IS NULL")),
)

# What somebody has to approve, or had to: one row for each request, with what was decided and when it was used.
approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("digest", Text, nullable=False),
    Column("summary", Words, nullable=False),
    Column("who", Text, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("requested_by", JSON, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("decided_at", Moment),
    Column("decided_by", JSON),
    Column("granted", Boolean, nullable=False, server_default="0"),
    Column("reason", Words, nullable=False),
    Column("used_at", Moment),
    Column("used_by", JSON),
    Index("approvals_unused", "action", "expires_at", sqlite_where=text("used_at IS NULL")),
)

# Which version of each governing document was accepted last.
governing_documents = Table(
    "governing_documents",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("accepted_at", Moment, nullable=False),
)

# The retentions that policy gave each source, and whether what applied before one still binds.
retentions = Table(
    "retentions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("since", Moment, primary_key=True),
    Column("retention", Text, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("approved", Boolean, nullable=False),
)

# The verification ledger: when each pack of a vault's repository was last read and found intact. About 55 bytes a row.
pack_readings = Table(
    "pack_readings",
    metadata,
    Column("vault", Text, primary_key=True),
    Column("pack", LargeBinary, primary_key=True),  # its name, 32 bytes
    Column("read_at", Integer),  # seconds since 1970; none when it was not found intact yet
    Column("damaged", Boolean, nullable=False),  # whether it was damaged when it was last read
    sqlite_with_rowid=False,
)

records = Table(
    "records",
    metadata,
    Column("signer", Text, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("subject", Text),  # the recovery point that it is about, or the approval
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

# One row: the last sign of life of the worker.
heartbeat = Table(
    "heartbeat",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("next_by", Moment, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("busy_with", Text, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("text", LargeBinary, nullable=False),
    Column("first_seen", Moment, nullable=False),
)
