"""What each point changed, the points under suspicion, and who cleared them."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    "ALTER TABLE points ADD COLUMN change JSON",
    "ALTER TABLE points ADD COLUMN suspicions JSON",
    "ALTER TABLE points ADD COLUMN cleared_at VARCHAR(27)",
    "ALTER TABLE points ADD COLUMN cleared_by TEXT",
    "ALTER TABLE points ADD COLUMN cleared_because TEXT",
    "CREATE INDEX points_of_source ON points (source, captured_at, id)",
    "CREATE INDEX points_with_figures ON points (source, captured_at) WHERE change IS NOT NULL",
    "CREATE INDEX points_suspected ON points (source, captured_at, id) WHERE suspicions IS NOT NULL",
)


def upgrade() -> None:
    """Add the columns; of earlier points nothing is known."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
