"""Writing what there is to return to, and how well it is proven: points, copies, evidence."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, func, literal, select, update
from sqlalchemy.dialects.sqlite import insert

from cto_backups.catalog import schema
from cto_backups.catalog.rows import copy_to_row, evidence_to_row, point_to_row
from cto_backups.core.model import Copy, Evidence, RecoveryPoint


def add_point(connection: Connection, point: RecoveryPoint) -> None:
    """Show a new point; one that is there already stays as it is."""
    added = connection.execute(insert(schema.points).values(point_to_row(point)).on_conflict_do_nothing()).rowcount
    if added:
        _count_points(connection, point.source, 1)


def add_copy(connection: Connection, copy: Copy) -> None:
    """Show a copy. One made anew, under another reference, takes the place of the one known before.

    A copy that arrives after its point has expired is one to delete.
    """
    copies, vaults, points = schema.copies, schema.vaults, schema.points
    here = (copies.c.point == copy.point, copies.c.vault == copy.vault)
    known = connection.execute(select(copies.c.reference).where(*here)).first()
    if known is not None and known.reference == copy.reference:
        return
    expired = connection.execute(select(points.c.expired_at).where(points.c.id == copy.point)).scalar() is not None
    row = {**copy_to_row(copy), "to_delete": expired}
    if known is not None:
        connection.execute(update(copies).where(*here).values(row))
        return
    connection.execute(insert(copies).values(row))
    connection.execute(insert(vaults).values(name=copy.vault).on_conflict_do_nothing())
    connection.execute(
        update(vaults)
        .where(vaults.c.name == copy.vault)
        .values(
            copy_count=vaults.c.copy_count + 1,
            first_copy_at=func.coalesce(vaults.c.first_copy_at, literal(copy.stored_at, schema.Moment())),
        )
    )


def forget_copy(connection: Connection, point: str, vault: str) -> None:
    """Note that a vault no longer holds a copy; fine when it was not known to."""
    copies, vaults = schema.copies, schema.vaults
    gone = connection.execute(copies.delete().where(copies.c.point == point, copies.c.vault == vault)).rowcount
    connection.execute(update(vaults).where(vaults.c.name == vault).values(copy_count=vaults.c.copy_count - gone))


def add_evidence(connection: Connection, evidence: Evidence) -> None:
    """Show evidence, passed or failed; twice is once. A point's last restore test says whether it is proven."""
    table, points = schema.evidence, schema.points
    connection.execute(insert(table).values(evidence_to_row(evidence)).on_conflict_do_nothing())
    if evidence.kind != "restore_test" or evidence.point is None:
        return
    last = connection.execute(
        select(table.c.passed, table.c.finished_at)
        .where(table.c.point == evidence.point, table.c.kind == "restore_test")
        .order_by(table.c.finished_at.desc(), table.c.id.desc())
        .limit(1)
    ).one()
    proven_at = last.finished_at if last.passed else None
    connection.execute(update(points).where(points.c.id == evidence.point).values(proven_at=proven_at))


def expire_point(connection: Connection, point_id: str, now: datetime, reasons: Iterable[str]) -> None:
    """Stop showing a point, and mark its copies as to be deleted; fine when that was done before."""
    points, copies = schema.points, schema.copies
    source = connection.execute(
        select(points.c.source).where(points.c.id == point_id, points.c.expired_at.is_(None))
    ).scalar()
    if source is None:
        return
    connection.execute(
        update(points).where(points.c.id == point_id).values(expired_at=now, expired_because=list(reasons))
    )
    connection.execute(update(copies).where(copies.c.point == point_id).values(to_delete=True))
    _count_points(connection, source, -1)


def _count_points(connection: Connection, source: str, change: int) -> None:
    sources = schema.sources
    connection.execute(
        update(sources).where(sources.c.name == source).values(point_count=sources.c.point_count + change)
    )
