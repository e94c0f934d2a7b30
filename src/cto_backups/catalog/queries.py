"""Look-ups in the catalog for people: points by id, by source, by moment; evidence; runs."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cto_backups.catalog.database import EVERYTHING, Connection
from cto_backups.catalog.rows import (
    evidence_from_row,
    moment_from_column,
    moment_to_column,
    point_from_row,
    run_from_row,
)
from cto_backups.core.log_range import LOG_SAMPLE, reaching
from cto_backups.core.model import ActionKind, Copy, Evidence, RecoveryPoint, Run
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import NotFoundError
from cto_backups.evidence.payloads import copy_from_payload, point_from_payload
from cto_backups.evidence.records import Record

_NAMED_AT_MOST = 5
_AT_ONCE = 100
_CLOCKS_DIFFER = timedelta(days=1)


def point(connection: Connection, name: str) -> RecoveryPoint:
    """A kept point by its id, or a unique beginning of one. Raises NotFoundError."""
    row = connection.execute("SELECT * FROM points WHERE id = :name", {"name": name}).fetchone()
    if row is not None:
        if expired_at := moment_from_column(row["expired_at"]):
            because = "; ".join(json.loads(row["expired_because"] or "[]"))
            raise NotFoundError(
                f"Recovery point {name} has expired",
                why=f"it was dropped on {expired_at:%Y-%m-%d}" + (f": {because}" if because else ""),
                todo="See 'cto.backups points' for those that are kept.",
            )
        return point_from_row(row)
    # A range instead of LIKE: it uses the index, and the name needs no quoting.
    found = connection.execute(
        """
        SELECT * FROM points WHERE id BETWEEN :name AND :name || :last AND expired_at IS NULL
        ORDER BY id DESC LIMIT :limit
        """,
        {"name": name, "last": "\U0010ffff", "limit": _NAMED_AT_MOST},
    ).fetchall()
    # A mistyped source is no wish for the one point that it happens to have.
    found = [row for row in found if len(name) > len(row["source"]) + len("-")]
    if len(found) == 1:
        return point_from_row(found[0])
    if found:
        raise NotFoundError(
            f"'{name}' is the beginning of more than one recovery point",
            why=f"among them {', '.join(row['id'] for row in found)}",
            todo="Give more of the id.",
        )
    raise NotFoundError(
        f"There is no recovery point '{name}'{_near_source(connection, name)}",
        why=_closest(connection, name),
        todo="See 'cto.backups points' for those there are.",
    )


def _near_source(connection: Connection, name: str) -> str:
    """A source stands for its newest point wherever a point is asked for, so it may be what was meant."""
    return did_you_mean(name, connection.scalars("SELECT name FROM sources")) if name else ""


def _closest(connection: Connection, name: str) -> str:
    import difflib

    newest = connection.scalars("SELECT id FROM points WHERE expired_at IS NULL ORDER BY captured_at DESC LIMIT 500")
    close = difflib.get_close_matches(name, newest, n=3)
    return f"closest are {', '.join(close)}" if close else ""


def points(
    connection: Connection, source: str | None, *, limit: int | None, include_expired: bool
) -> tuple[RecoveryPoint, ...]:
    """Points, newest first."""
    wanted = {"source = :source": source is not None, "expired_at IS NULL": not include_expired}
    statement = f"SELECT * FROM points {_where(wanted)} ORDER BY captured_at DESC, id DESC LIMIT :limit"
    rows = connection.execute(statement, {"source": source, "limit": EVERYTHING if limit is None else limit})
    return tuple(point_from_row(row) for row in rows)


def _where(wanted: Mapping[str, bool]) -> str:
    """Those of the conditions that are wanted."""
    conditions = [condition for condition, is_wanted in wanted.items() if is_wanted]
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def newest(connection: Connection, source: str, *, complete: bool, at: datetime | None = None) -> RecoveryPoint | None:
    """The newest kept point of a source, captured at or before `at` when it is given."""
    wanted = {
        "source = :source": True,
        "expired_at IS NULL": True,
        "complete = 1": complete,
        "captured_at <= :at": at is not None,
    }
    statement = f"SELECT * FROM points {_where(wanted)} ORDER BY captured_at DESC, id DESC LIMIT 1"
    row = connection.execute(statement, {"source": source, "at": moment_to_column(at)}).fetchone()
    return None if row is None else point_from_row(row)


def following(connection: Connection, source: str, moment: datetime) -> RecoveryPoint | None:
    """The oldest kept point of a source that was captured after a moment."""
    row = connection.execute(
        """
        SELECT * FROM points WHERE source = :source AND expired_at IS NULL AND captured_at > :moment
        ORDER BY captured_at, id LIMIT 1
        """,
        {"source": source, "moment": moment_to_column(moment)},
    ).fetchone()
    return None if row is None else point_from_row(row)


def leading_to(connection: Connection, source: str, moment: datetime) -> RecoveryPoint | None:
    """Of the kept points of a source whose log holds a moment, by the source's clock, the one whose log ends first.

    A log ends when its point is captured; the two clocks are taken to differ by less than a day.
    """
    after = (moment_to_column(moment - _CLOCKS_DIFFER), "")
    while True:
        rows = connection.execute(
            """
            SELECT * FROM points
            WHERE source = :source AND expired_at IS NULL AND captured_at >= :at AND (captured_at, id) > (:at, :id)
                AND fingerprint LIKE :log
            ORDER BY captured_at, id LIMIT :limit
            """,
            {"source": source, "at": after[0], "id": after[1], "log": f'%"{LOG_SAMPLE}"%', "limit": _AT_ONCE},
        ).fetchall()
        for point in map(point_from_row, rows):
            if reaching([point], moment) is not None:
                return point
        if len(rows) < _AT_ONCE:
            return None
        after = (rows[-1]["captured_at"], rows[-1]["id"])


def unshown_points(connection: Connection, signer: str) -> tuple[tuple[RecoveryPoint, Copy], ...]:
    """What the records of broken-off backups call safe, and `points` does not have."""
    rows = connection.execute(
        """
        SELECT of_point.content, of_copy.content FROM runs
        JOIN records of_point ON of_point.subject = runs.point AND of_point.kind = 'recovery-point'
        JOIN records of_copy ON of_copy.subject = runs.point AND of_copy.kind = 'copy'
        WHERE runs.action = 'backup' AND runs.outcome IN ('failed', 'interrupted')
            AND of_point.signer = :signer AND of_copy.signer = :signer
            AND NOT EXISTS (SELECT 1 FROM points WHERE points.id = runs.point)
        """,
        {"signer": signer},
    )
    return tuple(
        (
            point_from_payload(Record.from_bytes(point_content).payload),
            copy_from_payload(Record.from_bytes(copy_content).payload),
        )
        for point_content, copy_content in rows
    )


def signed(connection: Connection, signer: str, point: str) -> tuple[RecoveryPoint | None, Copy | None]:
    """What a signer's first records of a point say: the point, and its first copy; None for what was never signed."""
    rows = connection.execute(
        """
        SELECT kind, content FROM records
        WHERE subject = :point AND kind IN ('recovery-point', 'copy') AND signer = :signer ORDER BY sequence DESC
        """,
        {"point": point, "signer": signer},
    )
    said = {kind: Record.from_bytes(content).payload for kind, content in rows}
    return (
        point_from_payload(said["recovery-point"]) if "recovery-point" in said else None,
        copy_from_payload(said["copy"]) if "copy" in said else None,
    )


def evidence(
    connection: Connection, *, point: str | None, source: str | None, kind: str | None, limit: int
) -> tuple[Evidence, ...]:
    """Evidence, newest first."""
    values: dict[str, Any] = {"point": point, "source": source, "kind": kind}
    wanted = {f"{name} = :{name}": value is not None for name, value in values.items()}
    statement = f"SELECT * FROM evidence {_where(wanted)} ORDER BY finished_at DESC, id DESC LIMIT :limit"
    return tuple(evidence_from_row(row) for row in connection.execute(statement, {**values, "limit": limit}))


def evidence_for(
    connection: Connection, source: str | None, *, failed: bool, limit: int | None
) -> tuple[Evidence, ...]:
    """Evidence that concerns a source or any: verifications of whole vaults concern every source. Newest first."""
    wanted = {"(source = :source OR source IS NULL)": source is not None, "passed = 0": failed}
    statement = f"SELECT * FROM evidence {_where(wanted)} ORDER BY finished_at DESC, id DESC LIMIT :limit"
    rows = connection.execute(statement, {"source": source, "limit": EVERYTHING if limit is None else limit})
    return tuple(evidence_from_row(row) for row in rows)


def one_evidence(connection: Connection, name: str) -> Evidence:
    """Evidence by its id, or a unique beginning of one. Raises NotFoundError."""
    statement = "SELECT * FROM evidence WHERE substr(id, 1, length(:name)) = :name ORDER BY id LIMIT 3"
    found = [evidence_from_row(row) for row in connection.execute(statement, {"name": name})] if name else []
    exact = [each for each in found if each.id == name] or found
    if len(exact) != 1:
        raise NotFoundError(
            f"There is no evidence with the id '{name}'",
            why=f"several begin like this: {', '.join(each.id for each in found)}, …" if found else "",
            todo="'cto.backups evidence list' lists what there is.",
        )
    return exact[0]


def last_figure(connection: Connection, action: ActionKind, vault: str, name: str) -> int:
    """A figure of the last run of an action in a vault that has it; 0 without one."""
    statement = "SELECT * FROM runs WHERE action = :action AND vault = :vault ORDER BY id DESC"
    for row in connection.execute(statement, {"action": action.value, "vault": vault}):
        if (figure := run_from_row(row).figures.get(name)) is not None:
            return int(figure)
    return 0


def runs(connection: Connection, source: str | None, limit: int) -> tuple[Run, ...]:
    """The last runs, newest first."""
    statement = f"SELECT * FROM runs {_where({'source = :source': source is not None})} ORDER BY id DESC LIMIT :limit"
    return tuple(run_from_row(row) for row in connection.execute(statement, {"source": source, "limit": limit}))
