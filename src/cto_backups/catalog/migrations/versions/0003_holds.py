"""Legal holds."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
CREATE TABLE holds (
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    point TEXT,
    reason TEXT NOT NULL,
    placed_at VARCHAR(27) NOT NULL,
    placed_by TEXT NOT NULL,
    approver TEXT,
    released_at VARCHAR(27),
    released_by TEXT,
    released_because TEXT,
    PRIMARY KEY (id)
)
""",
    """CREATE INDEX holds_in_force ON holds (source, point) WHERE released_at IS NULL""",
)


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
