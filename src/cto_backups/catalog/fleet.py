"""A fleet in the catalog: which host has what, who plans for all, and what the dead had begun."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from cto_backups.catalog import due_times
from cto_backups.catalog.database import Connection, Database
from cto_backups.catalog.rows import moment_from_column, moment_to_column
from cto_backups.core.lanes import Homes
from cto_backups.core.model import Action, Outcome

# Who backed a source up last has it; else who asks first and has what it is read from. The same of a vault.
_OF_SOURCES = """
    UPDATE sources SET host = coalesce((
        SELECT r.host FROM runs r WHERE r.source = sources.name AND r.action = 'backup'
        ORDER BY r.id DESC LIMIT 1), CASE WHEN name IN (SELECT value FROM json_each(:names)) THEN :host END)
    WHERE active = 1 AND host IS NULL
    """
_OF_VAULTS = """
    UPDATE vaults SET host = coalesce((
        SELECT r.host FROM runs r WHERE r.vault = vaults.name ORDER BY r.id DESC LIMIT 1), (
        SELECT r.host FROM runs r JOIN copies c ON c.point = r.point
            WHERE c.vault = vaults.name AND r.action = 'backup' ORDER BY r.id DESC LIMIT 1),
        CASE WHEN name IN (SELECT value FROM json_each(:names)) THEN :host END)
    WHERE host IS NULL
    """
_FORMER = timedelta(days=1)
_FREE = """
    SELECT 1 FROM sources WHERE active = 1 AND host IS NULL UNION ALL SELECT 1 FROM vaults WHERE host IS NULL LIMIT 1
    """


class FleetBook:
    """What the hosts of a fleet know of each other. Raises CatalogError and BusyError as the catalog does."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    @property
    def is_one(self) -> bool:
        """Whether workers of several hosts can come together here: not in a file."""
        return self._database.shared

    def homes(self) -> Homes:
        """Which host has each source and vault; nothing while there is no fleet."""
        if not self.is_one:
            return Homes()
        with self._database.reading() as connection:
            return Homes(_known(connection, "sources"), _known(connection, "vaults"))

    def adopt(self, host: str, sources: Iterable[str], vaults: Iterable[str]) -> None:
        """Let who had them last have those that no host has yet, or else this host, of these alone."""
        if not self.is_one:
            return
        with self._database.reading() as connection:
            if connection.scalar(_FREE) is None:
                return
        with self._database.writing() as connection:
            connection.execute(_OF_SOURCES, {"host": host, "names": json.dumps(list(sources))})
            connection.execute(_OF_VAULTS, {"host": host, "names": json.dumps(list(vaults))})

    def lead(self, name: str, holder: str, now: datetime, lasting: timedelta) -> bool:
        """Take or keep a lease for so long; no while another one has it."""
        given = {"name": name, "holder": holder, "until": moment_to_column(now + lasting)}
        with self._database.reading() as connection:  # those who wait for the lead keep nobody from writing
            if _is_held(connection, name, holder, now, lasting):
                return False
        with self._database.writing() as connection:
            if _is_held(connection, name, holder, now, lasting):
                return False
            former = {"before": moment_to_column(now - _FORMER)}
            connection.execute("DELETE FROM leases WHERE until < :before", former)  # of policies that are no more
            connection.execute(
                """
                INSERT INTO leases (name, holder, until) VALUES (:name, :holder, :until)
                ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                """,
                given,
            )
            return True

    def yield_lead(self, name: str, holder: str) -> None:
        """Give a lease back."""
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM leases WHERE name = :name AND holder = :holder", {"name": name, "holder": holder}
            )

    def interrupt(self, action: Action, now: datetime) -> None:
        """Note that whoever was at an action gives no sign of life, so that the plan waits for it no longer."""
        with self._database.writing() as connection:
            connection.execute(
                """
                UPDATE runs SET outcome = :outcome, finished_at = :now, message = 'its worker gave no sign of life'
                WHERE outcome = 'running' AND action = :action AND coalesce(source, '') = :source
                    AND (:vault = '' OR vault IS NULL OR vault = :vault)
                """,
                {
                    "outcome": Outcome.INTERRUPTED.value,
                    "now": moment_to_column(now),
                    "action": action.kind.value,
                    "source": action.source or "",
                    "vault": action.vault or "",
                },
            )
            due_times.touch_either(connection, action.source, action.vault)


def _is_held(connection: Connection, name: str, holder: str, now: datetime, lasting: timedelta) -> bool:
    """Whether another one has a lease. One that lasts longer than any is from a clock that was wrong."""
    row = connection.execute("SELECT holder, until FROM leases WHERE name = :name", {"name": name}).fetchone()
    until = None if row is None or row["holder"] == holder else moment_from_column(row["until"])
    return until is not None and now < until <= now + lasting


def _known(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.execute(f"SELECT name, host FROM {table} WHERE host IS NOT NULL")
    return {row["name"]: row["host"] for row in rows}
