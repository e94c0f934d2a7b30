"""When each source and vault is due next, so that a plan reads what is due only. Everything is looked at once first."""

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS = (
    """
CREATE TABLE due_times (
    place TEXT NOT NULL,
    name TEXT NOT NULL,
    next_due_at VARCHAR(27),
    expiry_at VARCHAR(27),
    looked_at VARCHAR(27) NOT NULL,
    touched INTEGER NOT NULL,
    PRIMARY KEY (place, name)
)
    """,
    """CREATE INDEX due_times_next ON due_times (next_due_at)""",
    """CREATE INDEX due_times_looked ON due_times (looked_at)""",
    """
INSERT INTO due_times (place, name, next_due_at, expiry_at, looked_at, touched)
SELECT 'source', name, '1970-01-01T00:00:00.000000Z', '1970-01-01T00:00:00.000000Z', '1970-01-01T00:00:00.000000Z', 0
FROM sources WHERE active = 1
    """,
    """
INSERT INTO due_times (place, name, next_due_at, expiry_at, looked_at, touched)
SELECT 'vault', name, '1970-01-01T00:00:00.000000Z', '1970-01-01T00:00:00.000000Z', '1970-01-01T00:00:00.000000Z', 0
FROM vaults
    """,
    """ALTER TABLE sources DROP COLUMN next_due_at""",
)


def upgrade() -> None:
    """Add the table; the column of the first migration was never used."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
