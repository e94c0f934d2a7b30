"""Look-ups in the catalog for people: points by id, by source, by moment; evidence; runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, exists, select, text, true

from cto_backups.catalog import schema
from cto_backups.catalog.rows import evidence_from_row, point_from_row, run_from_row
from cto_backups.core.model import Copy, Evidence, RecoveryPoint, Run
from cto_backups.errors import NotFoundError
from cto_backups.evidence.payloads import copy_from_payload, point_from_payload
from cto_backups.evidence.records import Record

_NAMED_AT_MOST = 5


def point(connection: Connection, name: str) -> RecoveryPoint:
    """A kept point by its id, or a unique beginning of one. Raises NotFoundError."""
    table = schema.points
    row = connection.execute(select(table).where(table.c.id == name)).mappings().first()
    if row is not None:
        if row["expired_at"] is not None:
            because = "; ".join(row["expired_because"] or ())
            raise NotFoundError(
                f"Recovery point {name} has expired",
                why=f"it was dropped on {row['expired_at']:%Y-%m-%d}" + (f": {because}" if because else ""),
                todo="See 'cto.backups points' for those that are kept.",
            )
        return point_from_row(row)
    # A range instead of LIKE: it uses the index, and the name needs no quoting.
    begins = table.c.id.between(name, name + "\U0010ffff")
    found = list(
        connection.execute(
            select(table).where(begins, table.c.expired_at.is_(None)).order_by(table.c.id.desc()).limit(_NAMED_AT_MOST)
        ).mappings()
    )
    if len(found) == 1 and name:
        return point_from_row(found[0])
    if found and name:
        raise NotFoundError(
            f"'{name}' is the beginning of more than one recovery point",
            why=f"among them {', '.join(row['id'] for row in found)}",
            todo="Give more of the id.",
        )
    raise NotFoundError(
        f"There is no recovery point '{name}'",
        why=_closest(connection, name),
        todo="See 'cto.backups points' for those there are.",
    )


def _closest(connection: Connection, name: str) -> str:
    import difflib

    table = schema.points
    statement = select(table.c.id).where(table.c.expired_at.is_(None)).order_by(table.c.captured_at.desc()).limit(500)
    close = difflib.get_close_matches(name, list(connection.execute(statement).scalars()), n=3)
    return f"closest are {', '.join(close)}" if close else ""


def points(
    connection: Connection, source: str | None, *, limit: int | None, include_expired: bool
) -> tuple[RecoveryPoint, ...]:
    """Points, newest first."""
    table = schema.points
    statement = select(table).order_by(table.c.captured_at.desc(), table.c.id.desc())
    if source is not None:
        statement = statement.where(table.c.source == source)
    if not include_expired:
        statement = statement.where(table.c.expired_at.is_(None))
    if limit is not None:
        statement = statement.limit(limit)
    return tuple(point_from_row(row) for row in connection.execute(statement).mappings())


def newest(connection: Connection, source: str, *, complete: bool, at: datetime | None = None) -> RecoveryPoint | None:
    """The newest kept point of a source, captured at or before `at` when it is given."""
    table = schema.points
    statement = select(table).where(table.c.source == source, table.c.expired_at.is_(None))
    if complete:
        statement = statement.where(table.c.complete == true())
    if at is not None:
        statement = statement.where(table.c.captured_at <= at)
    statement = statement.order_by(table.c.captured_at.desc(), table.c.id.desc())
    row = connection.execute(statement.limit(1)).mappings().first()
    return None if row is None else point_from_row(row)


def unshown_points(connection: Connection, signer: str) -> tuple[tuple[RecoveryPoint, Copy], ...]:
    """What the records of broken-off backups call safe, and `points` does not have."""
    records, runs = schema.records, schema.runs
    of_point, of_copy = records.alias("of_point"), records.alias("of_copy")
    statement = (
        select(of_point.c.content, of_copy.c.content)
        .select_from(
            runs.join(of_point, and_(of_point.c.subject == runs.c.point, of_point.c.kind == "recovery-point")).join(
                of_copy, and_(of_copy.c.subject == runs.c.point, of_copy.c.kind == "copy")
            )
        )
        .where(
            text("runs.action = 'backup' AND runs.outcome IN ('failed', 'interrupted')"),
            of_point.c.signer == signer,
            of_copy.c.signer == signer,
            ~exists().where(schema.points.c.id == runs.c.point),
        )
    )
    return tuple(
        (
            point_from_payload(Record.from_bytes(point_content).payload),
            copy_from_payload(Record.from_bytes(copy_content).payload),
        )
        for point_content, copy_content in connection.execute(statement)
    )


def evidence(
    connection: Connection, *, point: str | None, source: str | None, kind: str | None, limit: int
) -> tuple[Evidence, ...]:
    """Evidence, newest first."""
    table = schema.evidence
    statement = select(table).order_by(table.c.finished_at.desc(), table.c.id.desc()).limit(limit)
    wanted: dict[str, Any] = {"point": point, "source": source, "kind": kind}
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(table.c[name] == value)
    return tuple(evidence_from_row(row) for row in connection.execute(statement).mappings())


def runs(connection: Connection, source: str | None, limit: int) -> tuple[Run, ...]:
    """The last runs, newest first."""
    table = schema.runs
    statement = select(table).order_by(table.c.id.desc()).limit(limit)
    if source is not None:
        statement = statement.where(table.c.source == source)
    return tuple(run_from_row(row) for row in connection.execute(statement).mappings())
