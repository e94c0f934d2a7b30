"""The worker's heartbeat."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of one row."""
    op.get_bind().exec_driver_sql("""
CREATE TABLE heartbeat (
    id INTEGER NOT NULL,
    at VARCHAR(27) NOT NULL,
    next_by VARCHAR(27) NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    busy_with TEXT NOT NULL,
    PRIMARY KEY (id)
)
""")
