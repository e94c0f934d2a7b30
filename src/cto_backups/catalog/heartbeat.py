"""The workers' signs of life: one row for each, written anew with each sign."""

from collections.abc import Callable
from dataclasses import replace

from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import heartbeat_from_row, heartbeat_to_row
from cto_backups.core.facts import Heartbeat
from cto_backups.core.heartbeat import name_for


def write(connection: Connection, sign: Heartbeat, alive: Callable[[int], bool]) -> None:
    """Note a sign of life of a worker, under the name that it has or gets; its sign before is forgotten."""
    row = heartbeat_to_row(replace(sign, name=name_for(sign, read(connection), alive)))
    changed = ", ".join(f"{column} = excluded.{column}" for column in row)
    connection.execute(f"{insertion('heartbeat', row)} ON CONFLICT (name) DO UPDATE SET {changed}", row)


def read(connection: Connection) -> tuple[Heartbeat, ...]:
    """The last sign of life of each worker, by name."""
    return tuple(heartbeat_from_row(row) for row in connection.execute("SELECT * FROM heartbeat ORDER BY name"))


def forget(connection: Connection, name: str) -> bool:
    """Forget a worker; false when there is none of this name."""
    return connection.execute("DELETE FROM heartbeat WHERE name = :name", {"name": name}).rowcount > 0
