"""Runs that nothing rests on any more are dropped: they are no records, and what they led to is kept by itself.

What facts are made from stays, however old: the last run of each action, and those since which it has failed in a row.
So does a backup that broke off: it tells what is left of it in a vault from what is another installation's.
"""

import json
from datetime import datetime
from typing import Final

from cto_backups.catalog.database import Connection
from cto_backups.catalog.rows import moment_to_column

AT_ONCE: Final = 1000

# No fact looks beyond a later run of the same that went well. Of copies, that is one into the same vault.
_OLD: Final = """
    SELECT id, started_at < :before AS old, started_at < :before AND outcome <> 'running'
        AND NOT (action = 'backup' AND outcome IN ('failed', 'interrupted'))
        AND CASE WHEN source IS NOT NULL THEN EXISTS (
            SELECT 1 FROM runs later
            WHERE later.source = runs.source AND later.action = runs.action AND later.id > runs.id
                AND later.outcome IN ('succeeded', 'unchanged', 'incomplete')
                AND coalesce(later.vault, '') = coalesce(runs.vault, ''))
        WHEN vault IS NOT NULL THEN EXISTS (
            SELECT 1 FROM runs later
            WHERE later.vault = runs.vault AND later.action = runs.action AND later.id > runs.id
                AND later.outcome IN ('succeeded', 'unchanged', 'incomplete') AND later.source IS NULL)
        ELSE 1 = 1 END AS needless
    FROM runs WHERE id > :after ORDER BY id LIMIT :limit
    """


def thin(connection: Connection, before: datetime, after: int) -> int | None:
    """Drop what began before a moment, of a thousand runs after a number; the last of these, None where none is old."""
    asked = {"before": moment_to_column(before), "after": after, "limit": AT_ONCE}
    rows = connection.execute(_OLD, asked).fetchall()
    needless = [row["id"] for row in rows if row["needless"]]
    if needless:
        connection.execute(
            "DELETE FROM runs WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:needless))",
            {"needless": json.dumps(needless)},
        )
    return rows[-1]["id"] if any(row["old"] for row in rows) else None
