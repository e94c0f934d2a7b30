"""Resources that a source comes upon beside what it protects: a server's databases that nobody named."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; all that is known was found by the source that covers it."""
    op.get_bind().exec_driver_sql("ALTER TABLE resources ADD COLUMN covered BOOLEAN DEFAULT '1' NOT NULL")
