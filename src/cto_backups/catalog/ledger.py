"""The verification ledger: when each pack of a vault was last read and found intact."""

from datetime import UTC, datetime
from functools import lru_cache

from cto_backups.catalog.database import Connection
from cto_backups.core.verification import Ledger, Readings


def read(connection: Connection, vault: str) -> Ledger:
    """What is known of a vault's packs."""
    statement = "SELECT pack, read_at, damaged FROM pack_readings WHERE vault = :vault"
    last_read: dict[bytes, datetime | None] = {}
    damaged = set()
    for row in connection.execute(statement, {"vault": vault}):
        last_read[row["pack"]] = None if row["read_at"] is None else _moment(row["read_at"])
        if row["damaged"]:
            damaged.add(row["pack"])
    return Ledger(last_read, damaged)


@lru_cache(maxsize=64)
def _moment(seconds: int) -> datetime:
    # One object for all packs that one verification read.
    return datetime.fromtimestamp(seconds, UTC)


def note(connection: Connection, vault: str, readings: Readings) -> None:
    """Add what a verification read. Another one that ran meanwhile keeps what it noted of other packs."""
    known = "SELECT pack FROM pack_readings WHERE vault = :vault"
    gone = set(connection.scalars(known, {"vault": vault})).difference(readings.present)
    # Whole seconds, rounded down: nothing is called read later than it was.
    here = {"vault": vault, "at": int(readings.at.timestamp())}
    connection.execute_each(
        "DELETE FROM pack_readings WHERE vault = :vault AND pack = :pack", ({**here, "pack": pack} for pack in gone)
    )
    for packs, read_at, damaged, conflict in (
        (readings.intact, ":at", 0, "DO UPDATE SET read_at = :at, damaged = 0"),
        (readings.damaged, "NULL", 1, "DO UPDATE SET read_at = NULL, damaged = 1"),
        (readings.present, "NULL", 0, "DO NOTHING"),
    ):
        connection.execute_each(
            f"""
            INSERT INTO pack_readings (vault, pack, read_at, damaged) VALUES (:vault, :pack, {read_at}, {damaged})
            ON CONFLICT (vault, pack) {conflict}
            """,
            ({**here, "pack": pack} for pack in sorted(packs)),
        )
