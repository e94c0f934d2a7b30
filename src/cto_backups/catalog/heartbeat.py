"""The worker's sign of life: one row, written anew with each."""

from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import heartbeat_from_row, heartbeat_to_row
from cto_backups.core.model import Heartbeat

_THE_ONE = 1


def write(connection: Connection, beat: Heartbeat) -> None:
    """Note a sign of life; the one before it is forgotten."""
    row = {"id": _THE_ONE, **heartbeat_to_row(beat)}
    changed = ", ".join(f"{column} = excluded.{column}" for column in row)
    connection.execute(f"{insertion('heartbeat', row)} ON CONFLICT (id) DO UPDATE SET {changed}", row)


def read(connection: Connection) -> Heartbeat | None:
    """The last sign of life; None when no worker ever gave one."""
    rows = connection.execute("SELECT * FROM heartbeat WHERE id = :id", {"id": _THE_ONE}).fetchall()
    return heartbeat_from_row(rows[0]) if rows else None
