"""How far each vault is behind each source, read at the cost of one look-up where it is not."""

import json
from collections import defaultdict
from collections.abc import Sequence

from cto_backups.catalog.database import Connection
from cto_backups.catalog.rows import moment_from_column
from cto_backups.core.copies import MOST_COUNTED
from cto_backups.core.facts import Lag


def read(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Lag]]:
    """How far each vault is behind each source that is to be copied there."""
    statement = f"""
        WITH asked (name) AS (SELECT value FROM json_each(:asked)),
        places AS (
            SELECT v.source, v.vault, (
                SELECT id FROM points
                WHERE source = v.source AND expired_at IS NULL AND complete = 1
                    AND EXISTS (SELECT 1 FROM copies WHERE point = points.id AND vault = v.vault AND to_delete = 0)
                    AND EXISTS (SELECT 1 FROM vaults WHERE name = v.vault AND copy_count > 0)
                ORDER BY captured_at DESC, id DESC LIMIT 1) AS point
            FROM asked JOIN source_vaults v ON v.source = asked.name)
        SELECT places.source, places.vault, places.point, held.captured_at, copies.stored_at,
            (SELECT count(*) FROM (
                -- by the other index of a source, SQLite would walk all points that there ever were
                SELECT 1 FROM points INDEXED BY points_kept_complete
                WHERE source = places.source AND expired_at IS NULL AND complete = 1
                    AND captured_at > coalesce(held.captured_at, '') LIMIT {MOST_COUNTED}) AS later) AS behind,
            (SELECT finished_at FROM points INDEXED BY points_kept_complete
                WHERE source = places.source AND expired_at IS NULL AND complete = 1
                AND captured_at > coalesce(held.captured_at, '') ORDER BY captured_at LIMIT 1) AS waiting_since
        FROM places LEFT JOIN points held ON held.id = places.point
        LEFT JOIN copies ON copies.point = places.point AND copies.vault = places.vault
        """
    found: dict[str, dict[str, Lag]] = defaultdict(dict)
    for row in connection.execute(statement, {"asked": json.dumps(list(names))}):
        found[row["source"]][row["vault"]] = Lag(
            row["vault"],
            row["point"],
            moment_from_column(row["captured_at"]),
            moment_from_column(row["stored_at"]),
            row["behind"],
            moment_from_column(row["waiting_since"]),
        )
    return found
