"""Hosts that have a trust domain of their own, and the names that belong to each."""

from alembic import op

revision = "0018"
down_revision = "0017"

STATEMENTS = (
    """
CREATE TABLE hosts (
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    enrolled_at VARCHAR(27) NOT NULL,
    joined_at VARCHAR(27),
    revoked_at VARCHAR(27),
    PRIMARY KEY (name)
)
    """,
    """
CREATE TABLE host_names (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    PRIMARY KEY (kind, name),
    FOREIGN KEY(host) REFERENCES hosts (name)
)
    """,
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
