"""Which points were dropped since a moment, among all that ever were."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the index."""
    op.get_bind().exec_driver_sql("CREATE INDEX points_expired ON points (expired_at, id) WHERE expired_at IS NOT NULL")
