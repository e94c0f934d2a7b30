"""Alerts, every attempt to tell somebody, and how the last ones went."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
CREATE TABLE alerts (
    id TEXT NOT NULL,
    rule TEXT NOT NULL,
    trouble TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    category TEXT,
    raised_at VARCHAR(27) NOT NULL,
    told JSON NOT NULL,
    told_at VARCHAR(27),
    stepped_at VARCHAR(27),
    acknowledged_at VARCHAR(27),
    acknowledged_by TEXT,
    note TEXT,
    closed_at VARCHAR(27),
    cause TEXT,
    PRIMARY KEY (id)
)
""",
    """CREATE UNIQUE INDEX alerts_open ON alerts (rule, subject) WHERE closed_at IS NULL""",
    """CREATE INDEX alerts_by_time ON alerts (raised_at)""",
    """
CREATE TABLE tellings (
    id INTEGER NOT NULL,
    at VARCHAR(27) NOT NULL,
    person TEXT NOT NULL,
    channel TEXT NOT NULL,
    alert TEXT,
    problem TEXT,
    PRIMARY KEY (id)
)
""",
    """CREATE INDEX tellings_by_alert ON tellings (alert, id)""",
    """CREATE INDEX tellings_by_time ON tellings (at)""",
    """
CREATE TABLE last_tellings (
    channel TEXT NOT NULL,
    at VARCHAR(27) NOT NULL,
    person TEXT NOT NULL,
    alert TEXT,
    problem TEXT,
    PRIMARY KEY (channel)
)
""",
    """
CREATE TABLE reached (
    person TEXT NOT NULL,
    at VARCHAR(27) NOT NULL,
    PRIMARY KEY (person)
)
""",
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
