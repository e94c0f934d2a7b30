"""Writing what signed records in a vault say, and this catalog lacks: each batch in one transaction, twice is once."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from cto_backups.catalog import holdings
from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import moment_to_column
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import TakenPoint
from cto_backups.evidence.records import Record

_AT_ONCE = 500


def signers(connection: Connection) -> list[str]:
    """Everybody of whom the catalog has records."""
    return connection.scalars("SELECT DISTINCT signer FROM records ORDER BY signer")


def last(connection: Connection, signer: str) -> tuple[int, str | None]:
    """The number and digest of a signer's last record here; 0 and None when there is none."""
    row = connection.execute(
        "SELECT sequence, digest FROM records WHERE signer = :signer ORDER BY sequence DESC LIMIT 1",
        {"signer": signer},
    ).fetchone()
    return (row[0], row[1]) if row else (0, None)


def keep_records(connection: Connection, records: Iterable[Record]) -> None:
    """Keep records as they are; those that are here already stay."""
    for record in records:
        row = {
            "signer": record.signer,
            "sequence": record.sequence,
            "kind": record.kind,
            "digest": record.digest,
            "subject": record.payload.get("id" if record.kind == "recovery-point" else "point"),
            "content": record.to_bytes(),
        }
        connection.execute(f"{insertion('records', row)} ON CONFLICT DO NOTHING", row)


def delivered(connection: Connection, signer: str, kind: str, after: int) -> Sequence[Record]:
    """The next of a signer's records of a kind that some vault is known to have, so many at a time; none at the end."""
    rows = connection.execute(
        """
        SELECT sequence, content FROM records
        WHERE signer = :signer AND kind = :kind AND sequence > :after
            AND sequence <= (SELECT max(sequence) FROM vault_heads WHERE signer = :signer)
        ORDER BY sequence LIMIT :limit
        """,
        {"signer": signer, "kind": kind, "after": after, "limit": _AT_ONCE},
    )
    return [Record.from_bytes(content, name=f"Record {number} in the catalog") for number, content in rows]


def known(connection: Connection, table: str) -> frozenset[str]:
    """The ids in one of `points` and `evidence`, of whatever has expired too; the digests in `policies`."""
    column = "digest" if table == "policies" else "id"
    return frozenset(connection.scalars(f"SELECT {column} FROM {table}"))


def take_point(connection: Connection, taken: TakenPoint, now: datetime) -> None:
    """Show a point with its copies, or keep it as an expired one. A source that is new stays inactive."""
    _know_source(connection, taken, now)
    holdings.add_point(connection, taken.point)
    if taken.expired_at is not None:
        holdings.expire_point(connection, taken.point.id, taken.expired_at, taken.reasons)
    for copy in taken.copies:
        holdings.add_copy(connection, copy)


def _know_source(connection: Connection, taken: TakenPoint, now: datetime) -> None:
    """Sources that policy does not name have points, and nothing that is due."""
    point = taken.point
    category = CATEGORIES.get(point.category)
    row = {
        "name": point.source,
        "kind": point.kind,
        "category": point.category,
        "business": point.business,
        "rpo_seconds": int(category.rpo.total_seconds()) if category else 0,
        "read_within_seconds": int(category.read_within.total_seconds()) if category else 0,
        "active": False,
        "first_seen": moment_to_column(now),
        "policy_digest": point.policy_digest,
    }
    connection.execute(f"{insertion('sources', row)} ON CONFLICT DO NOTHING", row)
    connection.execute(
        "UPDATE sources SET first_seen = min(first_seen, :started_at) WHERE name = :name",
        {"name": point.source, "started_at": moment_to_column(point.started_at)},
    )


def keep_policy(connection: Connection, digest: str, text: bytes, now: datetime) -> None:
    """Keep the text of a policy that was in force once."""
    row = {"digest": digest, "text": text, "first_seen": moment_to_column(now)}
    connection.execute(f"{insertion('policies', row)} ON CONFLICT DO NOTHING", row)
