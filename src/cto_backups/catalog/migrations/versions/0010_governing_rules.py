"""The rules of governance that were accepted."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table."""
    op.get_bind().exec_driver_sql("""
CREATE TABLE governing_rules (
    number INTEGER NOT NULL,
    accepted_at VARCHAR(27) NOT NULL,
    rules TEXT NOT NULL,
    PRIMARY KEY (number)
)
""")
