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
    Column("point_count", Integer, nullable=False, server_default="0"),
    Column("policy_digest", Text, nullable=False),
    Column("expects_change_seconds", Integer),
    Column("host", Text),  # the first that had it
)

source_vaults = Table(
    "source_vaults",
    metadata,
    Column("source", Text, ForeignKey("sources.name"), primary_key=True),
    Column("vault", Text, primary_key=True),
    Column("lag_seconds", Integer),  # how long a point may wait for a vault with a schedule of its own
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
    Column("changed_at", Moment),  # when it was last changed in any way, where that is known
    Column("covered", Boolean, nullable=False, server_default="1"),  # or come upon beside what the source protects
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
    Column("newest_content_at", Moment),  # none where the source has no dates to go by
    Column("change", JSON),  # what it changed; none where that is not known
    Column("suspicions", JSON),  # why it was marked when it was made
    Column("cleared_at", Moment),
    Column("cleared_by", Words),
    Column("cleared_because", Words),
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
    Index("points_of_source", "source", "captured_at", "id"),
    Index("points_expired", "expired_at", "id", sqlite_where=text("expired_at IS NOT NULL")),
    Index("points_with_figures", "source", "captured_at", sqlite_where=text("change IS NOT NULL")),
    Index("points_suspected", "source", "captured_at", "id", sqlite_where=text("suspicions IS NOT NULL")),
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
    Column("away_since", Moment),  # since when a worker finds that it cannot be read; none where it can
    Column("host", Text),  # the first that had it
)

holds = Table(  # released ones included
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

# The rules of governance that were accepted, as canonical JSON; empty: none. By number: a clock may have been wrong.
governing_rules = Table(
    "governing_rules",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("accepted_at", Moment, nullable=False),
    Column("rules", Text, nullable=False),
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

streams = Table(
    "streams",
    metadata,
    Column("source", Text, primary_key=True),
    Column("token", Integer, nullable=False),
    Column("leased_until", Moment),
    Column("reached_at", Moment),
    Column("told", JSON, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("subject", Words, nullable=False),
    Column("detail", Words, nullable=False),
    Column("category", Text),
    Column("raised_at", Moment, nullable=False),
    Column("told", JSON, nullable=False),  # the people whom it concerns by now
    Column("told_at", Moment),
    Column("stepped_at", Moment),
    Column("acknowledged_at", Moment),
    Column("acknowledged_by", Words),
    Column("note", Words),
    Column("closed_at", Moment),
    Column("cause", Words),
    Index("alerts_open", "rule", "subject", unique=True, sqlite_where=text("closed_at IS NULL")),
    Index("alerts_by_time", "raised_at"),
)

# Every attempt to tell somebody, of the last 400 days.
tellings = Table(
    "tellings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("person", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("alert", Text),
    Column("problem", Words),  # none: the channel took it
    Index("tellings_by_alert", "alert", "id"),
    Index("tellings_by_time", "at"),
)

# The last of them on each channel, and the last that reached each person: what is judged by.
last_tellings = Table(
    "last_tellings",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("person", Text, nullable=False),
    Column("alert", Text),
    Column("problem", Words),
)
reached = Table(
    "reached",
    metadata,
    Column("person", Text, primary_key=True),
    Column("at", Moment, nullable=False),
)

# Past audits, the last of each day; and what they found: since which one, and by which one it was fixed.
audits = Table(
    "audits",
    metadata,
    Column("at", Moment, primary_key=True),
    Column("score", Integer, nullable=False),
    Column("counts", JSON, nullable=False),  # findings by severity
)

audit_findings = Table(
    "audit_findings",
    metadata,
    Column("control", Text, primary_key=True),
    Column("subject", Words, primary_key=True),
    Column("occurrence", Integer, primary_key=True),
    Column("since", Moment, primary_key=True),
    Column("title", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("detail", Words, nullable=False),
    Column("category", Text),
    Column("by_look", Boolean, nullable=False),
    Column("fixed_at", Moment),
    Index("audit_findings_fixed", "fixed_at"),
)

policies = Table(
    "policies",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("text", LargeBinary, nullable=False),
    Column("first_seen", Moment, nullable=False),
)
