"""Until when each source is known to be well."""

from alembic import op

revision = "0019"
down_revision = "0018"

STATEMENTS = (
    """ALTER TABLE due_times ADD COLUMN judged_at VARCHAR(27)""",
    """ALTER TABLE due_times ADD COLUMN well_until VARCHAR(27)""",
)


def upgrade() -> None:
    """Add the columns."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
