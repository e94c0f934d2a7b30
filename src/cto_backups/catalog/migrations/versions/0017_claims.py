"""Who has claimed what: a source, a copy of one in a vault, or a vault."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the table."""
    op.get_bind().exec_driver_sql(
        """
CREATE TABLE claims (
    subject TEXT NOT NULL,
    token INTEGER NOT NULL,
    run INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    leased_until VARCHAR(27),
    doubted BOOLEAN NOT NULL,
    PRIMARY KEY (subject)
)
        """
    )
