"""A heartbeat for each worker; the one there was is that of its host."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table anew, keyed by the worker's name."""
    connection = op.get_bind()
    connection.exec_driver_sql("ALTER TABLE heartbeat RENAME TO one_heartbeat")
    connection.exec_driver_sql("""
CREATE TABLE heartbeat (
    name TEXT NOT NULL,
    at VARCHAR(27) NOT NULL,
    next_by VARCHAR(27) NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    busy_with TEXT NOT NULL,
    PRIMARY KEY (name)
)
""")
    connection.exec_driver_sql("""
INSERT INTO heartbeat (name, at, next_by, host, pid, busy_with)
SELECT host, at, next_by, host, pid, busy_with FROM one_heartbeat
""")
    connection.exec_driver_sql("DROP TABLE one_heartbeat")
