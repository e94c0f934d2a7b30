"""Writing what there is to return to, and how well it is proven: points, copies, evidence."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from cto_backups.catalog import chain, due_times, holds
from cto_backups.catalog.database import Connection, insertion
from cto_backups.catalog.rows import copy_to_row, evidence_to_row, moment_to_column, point_to_row
from cto_backups.core.log_range import SUMMED_UNTIL
from cto_backups.core.model import Copy, Evidence, RecoveryPoint, Rung
from cto_backups.evidence.records import Head, SigningKey


def add_point(connection: Connection, point: RecoveryPoint) -> None:
    """Show a new point; one that is there already stays as it is."""
    row = point_to_row(point)
    added = connection.execute(f"{insertion('points', row)} ON CONFLICT DO NOTHING", row).rowcount
    if added:
        _count_points(connection, point.source, 1)


def add_copy(connection: Connection, copy: Copy, head: Head | None = None) -> None:
    """Show a copy. One made anew, under another reference, takes the place of the one known before.

    A copy that arrives after its point has expired is one to delete. `head` is how far records came into its vault
    that say so.
    """
    if head is not None:
        chain.advance_head(connection, copy.vault, *head)
    row = copy_to_row(copy)
    known = connection.execute("SELECT reference FROM copies WHERE point = :point AND vault = :vault", row).fetchone()
    if known is not None and known["reference"] == copy.reference:
        return
    due_times.touch_source_of(connection, copy.point)
    row["to_delete"] = connection.scalar("SELECT expired_at FROM points WHERE id = :point", row) is not None
    if known is not None:
        connection.execute(
            """
            UPDATE copies
            SET reference = :reference, stored_at = :stored_at, added_bytes = :added_bytes, to_delete = :to_delete
            WHERE point = :point AND vault = :vault
            """,
            row,
        )
        return
    connection.execute(insertion("copies", row), row)
    connection.execute("INSERT INTO vaults (name) VALUES (:vault) ON CONFLICT DO NOTHING", row)
    first = "UPDATE vaults SET first_copy_at = :stored_at WHERE name = :vault AND first_copy_at IS NULL"
    if connection.execute(first, row).rowcount:
        due_times.touch_vault(connection, copy.vault)
    connection.execute("UPDATE vaults SET copy_count = copy_count + 1 WHERE name = :vault", row)


def forget_copy(connection: Connection, point: str, vault: str) -> None:
    """Note that a vault no longer holds a copy; fine when it was not known to."""
    here = {"point": point, "vault": vault}
    gone = connection.execute("DELETE FROM copies WHERE point = :point AND vault = :vault", here).rowcount
    connection.execute("UPDATE vaults SET copy_count = copy_count - :gone WHERE name = :vault", {**here, "gone": gone})
    due_times.touch_source_of(connection, point)


def add_evidence(connection: Connection, evidence: Evidence) -> None:
    """Show evidence, passed or failed; twice is once. A point's last restore test says whether it is proven.

    That of a point whose fingerprint is of an earlier moment may pass, and proves the point of that moment only.
    """
    row = evidence_to_row(evidence)
    connection.execute(f"{insertion('evidence', row)} ON CONFLICT DO NOTHING", row)
    due_times.touch_either(connection, evidence.source, evidence.vault)
    if evidence.kind == "verify" and not evidence.passed:
        due_times.judge_again(connection, evidence.vault)
    if evidence.kind != "restore_test" or evidence.point is None:
        return
    connection.execute(
        """
        UPDATE points SET proven_at = (
            SELECT CASE WHEN passed = 1 AND (rung >= :proven OR points.fingerprint NOT LIKE :earlier)
                THEN finished_at END FROM evidence
            WHERE point = :point AND kind = 'restore_test' ORDER BY finished_at DESC, id DESC LIMIT 1)
        WHERE id = :point
        """,
        {"point": evidence.point, "proven": int(Rung.PROVEN), "earlier": f'%"{SUMMED_UNTIL}"%'},
    )


def expire_point(
    connection: Connection, point_id: str, now: datetime, reasons: Iterable[str], signer: SigningKey
) -> bool:
    """Sign that a point is dropped, stop showing it, and mark its copies as to be deleted; whether that was done.

    It was not where the point is under a legal hold, or was dropped before.
    """
    because = list(reasons)
    kept = "SELECT source FROM points WHERE id = :point AND expired_at IS NULL"
    source = connection.scalar(kept, {"point": point_id})
    if source is None or holds.covers(connection, source, point_id):
        return False
    chain.append(connection, signer, "expiry", {"point": point_id, "source": source, "reasons": because}, now)
    drop_point(connection, point_id, source, now, because)
    return True


def drop_point(connection: Connection, point_id: str, source: str, now: datetime, reasons: Iterable[str]) -> None:
    """Stop showing a point of which a record says that it was dropped, and mark its copies as to be deleted."""
    expired = {"point": point_id, "now": moment_to_column(now), "reasons": json.dumps(list(reasons))}
    dropped = connection.execute(
        "UPDATE points SET expired_at = :now, expired_because = :reasons WHERE id = :point AND expired_at IS NULL",
        expired,
    )
    if dropped.rowcount:
        connection.execute("UPDATE copies SET to_delete = 1 WHERE point = :point", expired)
        _count_points(connection, source, -1)


def _count_points(connection: Connection, source: str, change: int) -> None:
    connection.execute(
        "UPDATE sources SET point_count = point_count + :change WHERE name = :source",
        {"source": source, "change": change},
    )
    due_times.touch(connection, source)


def strays(connection: Connection, vault: str, found: Mapping[str, str]) -> tuple[str, ...]:
    """Of references in a vault, with the points that they are of, those that nothing stands for or ever will.

    That is what runs stored that could not catalogue it any more: of a point that was never signed, or of one that has
    another copy there, or was expired. What is of other installations, or of a run that goes on, is none.
    """
    here = {"vault": vault}
    listed = set(connection.scalars("SELECT reference FROM copies WHERE vault = :vault", here))
    found = {reference: point for reference, point in found.items() if reference not in listed}
    if not found:
        return ()
    at_work = set(connection.scalars("SELECT point FROM runs WHERE outcome = 'running'"))
    return tuple(
        reference for reference, point in found.items() if point not in at_work and _is_stray(connection, vault, point)
    )


def _is_stray(connection: Connection, vault: str, point: str) -> bool:
    of_it = {"point": point, "vault": vault}
    known = connection.execute("SELECT expired_at FROM points WHERE id = :point", of_it).fetchone()
    if known is not None:
        copied = "SELECT 1 FROM copies WHERE point = :point AND vault = :vault"
        return known["expired_at"] is not None or connection.scalar(copied, of_it) is not None
    broken_off = """
        SELECT 1 FROM runs WHERE point = :point AND action = 'backup' AND outcome IN ('failed', 'interrupted')
        """
    signed = "SELECT 1 FROM records WHERE subject = :point AND kind = 'copy'"  # then it is shown yet
    return connection.scalar(broken_off, of_it) is not None and connection.scalar(signed, of_it) is None
