"""Writing what signed records in a vault say, and this catalog lacks: each batch in one transaction, twice is once."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

from cto_backups.catalog import chain, due_times, holdings
from cto_backups.catalog.database import Connection, Database, First, insertion
from cto_backups.catalog.rows import hold_to_row, moment_to_column, words_to_column
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import Evidence, TakenPoint
from cto_backups.evidence.payloads import hold_from_payload, moment_from_text
from cto_backups.evidence.records import Record

_AT_ONCE = 500


def delivered(connection: Connection, signer: str, kind: str, after: int, *, all: bool = False) -> Sequence[Record]:
    """The next of a signer's records of a kind that some vault is known to have, so many at a time; none at the end.

    With `all`, those that no vault has yet as well.
    """
    rows = connection.execute(
        """
        SELECT sequence, content FROM records
        WHERE signer = :signer AND kind = :kind AND sequence > :after
            AND (:all = 1 OR sequence <= (SELECT max(sequence) FROM vault_heads WHERE signer = :signer))
        ORDER BY sequence LIMIT :limit
        """,
        {"signer": signer, "kind": kind, "after": after, "limit": _AT_ONCE, "all": all},
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
        holdings.drop_point(connection, taken.point.id, taken.point.source, taken.expired_at, taken.reasons)
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
        "UPDATE sources SET first_seen = :started_at WHERE name = :name AND first_seen > :started_at",
        {"name": point.source, "started_at": moment_to_column(point.started_at)},
    )
    due_times.touch(connection, point.source, kept=True)


def keep_policy(connection: Connection, digest: str, text: bytes, now: datetime) -> None:
    """Keep the text of a policy that was in force once."""
    row = {"digest": digest, "text": text, "first_seen": moment_to_column(now)}
    connection.execute(f"{insertion('policies', row)} ON CONFLICT DO NOTHING", row)


def take_hold(connection: Connection, record: Record) -> bool:
    """Place a legal hold, or release one, as its record tells; whether that was new."""
    payload = record.payload
    if record.kind == "hold":
        row = hold_to_row(hold_from_payload(payload))
        due_times.touch(connection, row["source"], kept=True)
        return connection.execute(f"{insertion('holds', row)} ON CONFLICT DO NOTHING", row).rowcount > 0
    if (source := connection.scalar("SELECT source FROM holds WHERE id = :id", {"id": payload["id"]})) is not None:
        due_times.touch(connection, source, kept=True)
    released = connection.execute(
        """
        UPDATE holds SET released_at = :at, released_by = :by, released_because = :because
        WHERE id = :id AND released_at IS NULL
        """,
        {
            "id": payload["id"],
            "at": moment_to_column(moment_from_text(payload["released_at"])),
            "by": words_to_column(payload["released_by"]),
            "because": words_to_column(payload["reason"]),
        },
    )
    return released.rowcount > 0


class Takeover:
    """Brings into one catalog what records say."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def look_first(self, whom: str, look: Callable[[Collection[str]], Collection[str]]) -> None:
        """Do this before anything is written to a server that may have taken another's place; see `database.First`."""
        self._database.look_first(First(whom, look))

    def last_record(self, signer: str) -> tuple[int, str | None]:
        """The number and digest of a signer's last record here; 0 and None when there is none."""
        with self._database.reading() as connection:
            return chain.last(connection, signer)

    def keep_records(self, records: Iterable[Record]) -> None:
        """Keep records that were read in a vault and found sound."""
        with self._database.writing() as connection:
            for record in records:
                chain.keep(connection, record)

    def delivered_records(self, signer: str, kind: str, *, all: bool = False) -> Iterator[Record]:
        """A signer's records of a kind that some vault is known to have, in order; with `all`, the others too."""
        sequence = 0
        while True:
            with self._database.reading() as connection:
                batch = delivered(connection, signer, kind, sequence, all=all)
            if not batch:
                return
            yield from batch
            sequence = batch[-1].sequence

    def known(self, table: Literal["points", "evidence", "policies"]) -> frozenset[str]:
        """The ids of all points (expired ones too) or evidence, or the digests of all policies."""
        with self._database.reading() as connection:
            return known(connection, table)

    def activate(self, sources: Iterable[str]) -> None:
        """Take sources for ones that the policy had when it was seen last."""
        with self._database.writing() as connection:
            connection.execute_each(
                "UPDATE sources SET active = 1 WHERE name = :name", [{"name": name} for name in sources]
            )
            due_times.review(connection)

    def policy(self, digest: str) -> bytes | None:
        """The text of a policy that was in force once; None for one that is not known."""
        with self._database.reading() as connection:
            text = connection.scalar("SELECT text FROM policies WHERE digest = :digest", {"digest": digest})
            return None if text is None else bytes(text)

    def take_points(self, points: Iterable[TakenPoint], now: datetime) -> None:
        """Show points that records tell of, with their copies: all of these, or none."""
        with self._database.writing() as connection:
            for taken in points:
                take_point(connection, taken, now)

    def take_evidence(self, evidence: Iterable[Evidence]) -> None:
        """Show evidence that records hold: all of it, or none."""
        with self._database.writing() as connection:
            for each in evidence:
                holdings.add_evidence(connection, each)

    def take_holds(self, records: Iterable[Record]) -> int:
        """Place the legal holds that records tell of, and release those that were; how many were not known."""
        with self._database.writing() as connection:
            return sum([take_hold(connection, record) for record in records])

    def keep_policy(self, digest: str, text: bytes, now: datetime) -> None:
        """Keep the text of a policy that was in force once."""
        with self._database.writing() as connection:
            keep_policy(connection, digest, text, now)
