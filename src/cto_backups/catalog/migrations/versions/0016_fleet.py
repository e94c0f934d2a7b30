"""A fleet: which host has each source and vault, what else a worker says of itself, and who leads."""

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS = (
    """ALTER TABLE sources ADD COLUMN host TEXT""",
    """ALTER TABLE vaults ADD COLUMN host TEXT""",
    """ALTER TABLE heartbeat ADD COLUMN told JSON DEFAULT '{}' NOT NULL""",
    """
CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    until VARCHAR(27) NOT NULL,
    PRIMARY KEY (name)
)
""",
)


def upgrade() -> None:
    """Add the columns and the table."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
