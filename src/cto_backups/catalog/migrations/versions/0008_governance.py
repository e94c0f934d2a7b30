"""Approvals, the accepted versions of governing documents, and the retentions that policy gave each source."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    """
CREATE TABLE approvals (
    id TEXT NOT NULL,
    action TEXT NOT NULL,
    parameters JSON NOT NULL,
    digest TEXT NOT NULL,
    summary TEXT NOT NULL,
    who TEXT NOT NULL,
    requested_at VARCHAR(27) NOT NULL,
    requested_by JSON NOT NULL,
    expires_at VARCHAR(27) NOT NULL,
    decided_at VARCHAR(27),
    decided_by JSON,
    granted BOOLEAN DEFAULT '0' NOT NULL,
    reason TEXT NOT NULL,
    used_at VARCHAR(27),
    used_by JSON,
    PRIMARY KEY (id)
)
""",
    """CREATE INDEX approvals_unused ON approvals (action, expires_at) WHERE used_at IS NULL""",
    """
CREATE TABLE governing_documents (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    accepted_at VARCHAR(27) NOT NULL,
    PRIMARY KEY (name)
)
""",
    """
CREATE TABLE retentions (
    source TEXT NOT NULL,
    since VARCHAR(27) NOT NULL,
    retention TEXT NOT NULL,
    settled BOOLEAN NOT NULL,
    approved BOOLEAN NOT NULL,
    PRIMARY KEY (source, since)
)
""",
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
