"""Points under suspicion in the catalog, kept or expired, and the history by which a new point is judged."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from cto_backups.catalog import chain, due_times
from cto_backups.catalog.database import Connection, Database
from cto_backups.catalog.rows import mark_from_row, moment_to_column, point_from_row, words_to_column
from cto_backups.core.keeping import Mark
from cto_backups.core.model import RecoveryPoint
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.evidence.payloads import clearance_to_payload, moment_from_text
from cto_backups.evidence.records import Record, SigningKey


def history(connection: Connection, source: str, limit: int) -> tuple[RecoveryPoint, ...]:
    """A source's newest points that are not under suspicion, expired ones too, and its first that has figures.

    The first holds all that the source had then, which no later one does again.
    """
    unsuspected = "source = :source AND (suspicions IS NULL OR cleared_at IS NOT NULL)"
    rows = connection.execute(
        f"""
        SELECT * FROM (
            SELECT * FROM points WHERE {unsuspected} ORDER BY captured_at DESC, id DESC LIMIT :limit) AS newest
        UNION
        SELECT * FROM (
            SELECT * FROM points WHERE {unsuspected} AND change IS NOT NULL ORDER BY captured_at LIMIT 1) AS first
        ORDER BY captured_at DESC, id DESC
        """,
        {"source": source, "limit": limit},
    )
    return tuple(point_from_row(row) for row in rows)


def uncleared(connection: Connection, sources: Sequence[str]) -> dict[str, tuple[Mark, ...]]:
    """The points of these sources that nobody has cleared, by source, oldest first."""
    statement = """
        WITH asked (name) AS (SELECT value FROM json_each(:asked))
        SELECT points.* FROM asked JOIN points ON points.source = asked.name
        WHERE points.suspicions IS NOT NULL AND points.cleared_at IS NULL
        """
    found: dict[str, list[Mark]] = defaultdict(list)
    for row in connection.execute(statement, {"asked": json.dumps(list(sources))}):
        found[row["source"]].append(mark_from_row(row))
    return {
        source: tuple(sorted(marks, key=lambda mark: (mark.captured_at, mark.point))) for source, marks in found.items()
    }


def clear(
    connection: Connection, name: str, by: str, because: str, signer: SigningKey, now: datetime
) -> tuple[Mark, ...]:
    """Sign and note that the change of a point (its id or a unique beginning of one) was meant; or of all of a source.

    The marks as they are then. Raises NotFoundError, and RefusedError when it was cleared before.
    """
    cleared = []
    for mark in _named(connection, name):
        chain.append(connection, signer, "clearance", clearance_to_payload(mark, by, because, now), now)
        note(connection, mark.point, by, because, now)
        cleared.append(mark.point)
    rows = (connection.execute("SELECT * FROM points WHERE id = :id", {"id": point}).fetchone() for point in cleared)
    return tuple(mark_from_row(row) for row in rows)


def note(connection: Connection, point: str, by: str, because: str, at: datetime) -> bool:
    """Note a clearance; whether it was not known."""
    done = connection.execute(
        """
        UPDATE points SET cleared_at = :at, cleared_by = :by, cleared_because = :because
        WHERE id = :point AND suspicions IS NOT NULL AND cleared_at IS NULL
        """,
        {
            "point": point,
            "at": moment_to_column(at),
            "by": words_to_column(by),
            "because": words_to_column(because),
        },
    )
    due_times.touch_source_of(connection, point, kept=True)
    return done.rowcount > 0


def take(connection: Connection, record: Record) -> bool:
    """Note the clearance that a record tells of; whether it was not known."""
    payload = record.payload
    at = moment_from_text(payload["cleared_at"])
    return note(connection, payload["point"], payload["cleared_by"], payload["reason"], at)


def _named(connection: Connection, name: str) -> Sequence[Mark]:
    """The uncleared marks that a name stands for: all of a source, or a point."""
    if marks := uncleared(connection, [name]).get(name):
        return marks
    rows = connection.execute(
        """
        SELECT * FROM points WHERE id BETWEEN :name AND :name || :last AND suspicions IS NOT NULL
        ORDER BY id LIMIT 20
        """,
        {"name": name, "last": "\U0010ffff"},
    ).fetchall()
    # A mistyped source is no wish to clear the one point that it happens to have.
    named = [row for row in rows if len(name) > len(row["source"]) + len("-")]
    exact = [row for row in rows if row["id"] == name] or named
    if len(exact) != 1 or not name:
        raise NotFoundError(
            f"No point under suspicion is named '{name}'",
            why=f"several begin so: {', '.join(row['id'] for row in named)}" if name and named else "",
            todo="See 'cto.backups anomaly' for those there are.",
        )
    mark = mark_from_row(exact[0])
    if mark.cleared_at is not None:
        raise RefusedError(
            f"Point {mark.point} was cleared before",
            why=f"by {mark.cleared_by} on {mark.cleared_at:%Y-%m-%d}: {mark.cleared_because}",
            todo="Nothing is left to do; 'cto.backups anomaly' shows what is under suspicion.",
        )
    return [mark]


class Marks:
    """The points under suspicion of one catalog."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def history(self, source: str, limit: int) -> tuple[RecoveryPoint, ...]:
        """By what a new point of a source is judged: its newest unsuspected points, and the first with figures."""
        with self._database.reading() as connection:
            return history(connection, source, limit)

    def listed(self, *, cleared: bool = False) -> tuple[Mark, ...]:
        """The points under suspicion, or with those that were cleared, the newest first."""
        which = "" if cleared else " AND cleared_at IS NULL"
        statement = f"SELECT * FROM points WHERE suspicions IS NOT NULL{which} ORDER BY captured_at DESC, id DESC"
        with self._database.reading() as connection:
            return tuple(mark_from_row(row) for row in connection.execute(statement))

    def clear(self, name: str, *, by: str, because: str, signer: SigningKey, now: datetime) -> tuple[Mark, ...]:
        """Sign and note that a point's change was meant, or of all of a source. Raises NotFoundError, RefusedError."""
        with self._database.writing() as connection:
            return clear(connection, name, by, because, signer, now)

    def take(self, records: Sequence[Record]) -> int:
        """Note the clearances that records tell of; how many were not known."""
        with self._database.writing() as connection:
            return sum([take(connection, record) for record in records])
