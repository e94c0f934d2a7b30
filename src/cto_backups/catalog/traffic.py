"""What travelled to and from vaults, added up by day and action; and how much lies in each."""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from cto_backups.catalog.database import Connection, Database
from cto_backups.core.traffic import Traffic

_COLUMNS = ("writes", "reads", "deletes", "up_bytes", "down_bytes")


class TrafficBook:
    """What travelled, as runs note it. Raises CatalogError and BusyError as the catalog does."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def note(self, action: str, travelled: Mapping[str, Traffic], now: datetime) -> None:
        """Add what travelled for an action, by vault, to what is known of this day (in UTC)."""
        rows = [
            {"vault": vault, "day": f"{now.astimezone(UTC):%Y-%m-%d}", "action": action}
            | {column: getattr(seen, column) for column in _COLUMNS}
            for vault, seen in travelled.items()
        ]
        added = ", ".join(f"{column} = vault_traffic.{column} + excluded.{column}" for column in _COLUMNS)
        with self._database.writing() as connection:
            connection.execute_each(
                f"""
                INSERT INTO vault_traffic (vault, day, action, {", ".join(_COLUMNS)})
                VALUES (:vault, :day, :action, {", ".join(f":{column}" for column in _COLUMNS)})
                ON CONFLICT (vault, day, action) DO UPDATE SET {added}
                """,
                rows,
            )

    def since(self, moment: datetime) -> Mapping[str, Mapping[str, Traffic]]:
        """What travelled from the day of this moment on, by vault and by action."""
        statement = f"""
            SELECT vault, action, {", ".join(f"sum({column}) AS {column}" for column in _COLUMNS)}
            FROM vault_traffic WHERE day >= :day GROUP BY vault, action ORDER BY vault, action
            """
        found: dict[str, dict[str, Traffic]] = defaultdict(dict)
        with self._database.reading() as connection:
            for row in connection.execute(statement, {"day": f"{moment.astimezone(UTC):%Y-%m-%d}"}):
                found[row["vault"]][row["action"]] = Traffic(*(row[column] for column in _COLUMNS))
        return dict(found)

    def stored(self) -> Mapping[str, int]:
        """How many bytes lie in each vault: what its last verification counted, and what copies added since."""
        with self._database.reading() as connection:
            names = connection.scalars("SELECT name FROM vaults ORDER BY name")
            return {name: _stored(connection, name) for name in list(names)}


def _stored(connection: Connection, vault: str) -> int:
    last = connection.execute(
        """
        SELECT started_at, steps FROM evidence WHERE vault = :vault AND kind = 'verify'
        ORDER BY finished_at DESC, id DESC LIMIT 1
        """,
        {"vault": vault},
    ).fetchone()
    counted = [step.get("figures", {}).get("bytes_stored") for step in json.loads(last["steps"])] if last else []
    known = next((size for size in counted if isinstance(size, int)), None)
    added = connection.scalar(
        "SELECT coalesce(sum(added_bytes), 0) FROM copies WHERE vault = :vault AND stored_at >= :since",
        {"vault": vault, "since": last["started_at"] if last and known is not None else ""},
    )
    return (known or 0) + int(added)
