"""Legal holds in the catalog: placed and released together with the signed record that says so."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from cto_backups.catalog import chain, due_times
from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.naming import row_named
from cto_backups.catalog.rows import hold_from_row, hold_to_row, moment_to_column, words_to_column
from cto_backups.core.keeping import Hold
from cto_backups.errors import RefusedError
from cto_backups.evidence.payloads import hold_to_payload, release_to_payload
from cto_backups.evidence.records import SigningKey


def place(connection: Connection, hold: Hold, signer: SigningKey) -> None:
    """Sign and keep a new hold. Raises RefusedError when its point was dropped meanwhile."""
    if hold.point is not None:
        kept = "SELECT 1 FROM points WHERE id = :point AND expired_at IS NULL"
        if connection.scalar(kept, {"point": hold.point}) is None:
            raise RefusedError(
                f"Recovery point {hold.point} cannot be held",
                why="it was dropped while the hold was being placed",
                todo="See 'cto.backups points' for those that are kept.",
            )
    chain.append(connection, signer, "hold", hold_to_payload(hold), hold.placed_at)
    row = hold_to_row(hold)
    connection.execute(insertion("holds", row), row)
    due_times.touch(connection, hold.source, kept=True)


def release(connection: Connection, name: str, by: str, because: str, signer: SigningKey, now: datetime) -> Hold:
    """Sign and note that a hold, by its id or a unique beginning of one, is released; the hold as it is then.

    Raises NotFoundError, and RefusedError when it was released before.
    """
    hold = _named(connection, name)
    if hold.released_at is not None:
        raise RefusedError(
            f"Hold {hold.id} was released before",
            why=f"by {hold.released_by} on {hold.released_at:%Y-%m-%d}: {hold.released_because}",
            todo="Nothing is left to do; 'cto.backups hold list' shows the holds in force.",
        )
    chain.append(connection, signer, "release", release_to_payload(hold, by, because, now), now)
    connection.execute(
        "UPDATE holds SET released_at = :at, released_by = :by, released_because = :because WHERE id = :id",
        {
            "id": hold.id,
            "at": moment_to_column(now),
            "by": words_to_column(by),
            "because": words_to_column(because),
        },
    )
    due_times.touch(connection, hold.source, kept=True)
    return _named(connection, hold.id)


def _named(connection: Connection, name: str) -> Hold:
    row = row_named(
        connection,
        "holds",
        name,
        "hold",
        why="no hold, in force or released, has an id that begins so",
        todo="See 'cto.backups hold list --all' for those there are.",
    )
    return hold_from_row(row)


def listed(connection: Connection, *, released: bool) -> tuple[Hold, ...]:
    """The holds in force, or with the released ones, in the order they were placed."""
    which = "" if released else "WHERE released_at IS NULL"
    rows = connection.execute(f"SELECT * FROM holds {which} ORDER BY placed_at, id")
    return tuple(hold_from_row(row) for row in rows)


def in_force(connection: Connection, sources: Sequence[str]) -> dict[str, tuple[Hold, ...]]:
    """The holds in force on these sources and on their points, by source."""
    asked = set(sources)
    found: dict[str, list[Hold]] = defaultdict(list)
    for hold in listed(connection, released=False):
        if hold.source in asked:
            found[hold.source].append(hold)
    return {source: tuple(holds) for source, holds in found.items()}


def covers(connection: Connection, source: str, point: str) -> bool:
    """Whether a hold in force is on this point, or on all of its source."""
    statement = """
        SELECT count(*) FROM holds
        WHERE source = :source AND (point IS NULL OR point = :point) AND released_at IS NULL
        """
    return bool(connection.scalar(statement, {"source": source, "point": point}))
