"""What is reported elsewhere, read from the catalog: copies and whether they are verified, restore tests, status."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from cto_backups.catalog.database import Connection, Database
from cto_backups.catalog.rows import evidence_from_row, moment_from_column, moment_to_column
from cto_backups.core.reporting import Row, Told, row_of_test

_AT_ONCE: Final = 2_000
_OVERLAP: Final = timedelta(hours=1)
"""What one process writes may be dated before what another has written; rows that come twice are there once."""

# A copy is verified when all that its vault held was read since, or a restore test of it has passed, and the last
# reading of the vault, and the last test of the copy, found nothing wrong.
_LOGS: Final = """
    SELECT
        p.id AS backup_id, p.source AS "table", c.vault AS destination, p.captured_at AS timestamp,
        p.entry_count AS file_count, p.size_bytes AS total_size_bytes,
        p.kind AS backup_type, p.category AS data_category, p.business AS business_id, c.stored_at, p.expired_at,
        (
            -- when it ended is implied, and bounds the walk along the index, past all readings from before the copy
            EXISTS (SELECT 1 FROM evidence e INDEXED BY evidence_by_vault
                WHERE e.vault = c.vault AND e.kind = 'verify' AND e.finished_at >= c.stored_at
                AND e.started_at >= c.stored_at AND e.read_since IS NOT NULL)
            -- by the vault's index SQLite would walk the tests of all sources for each copy
            OR EXISTS (SELECT 1 FROM evidence e INDEXED BY evidence_by_point
                WHERE e.point = c.point AND e.vault = c.vault AND e.kind = 'restore_test' AND e.passed = 1)
        )
        AND coalesce((SELECT e.passed FROM evidence e WHERE e.vault = c.vault AND e.kind = 'verify'
            AND e.started_at >= c.stored_at ORDER BY e.finished_at DESC, e.id DESC LIMIT 1), 1) = 1
        AND coalesce((SELECT e.passed FROM evidence e INDEXED BY evidence_by_point
            WHERE e.point = c.point AND e.vault = c.vault
            AND e.kind = 'restore_test' ORDER BY e.finished_at DESC, e.id DESC LIMIT 1), 1) = 1 AS verified
    FROM copies c JOIN points p ON p.id = c.point
    WHERE c.to_delete = 0 AND (c.point, c.vault) > (:point, :vault) AND (
        :since IS NULL OR c.stored_at > :since
        OR EXISTS (SELECT 1 FROM evidence e WHERE e.vault = c.vault AND e.kind = 'verify' AND e.finished_at > :since)
        OR EXISTS (SELECT 1 FROM evidence e WHERE e.point = c.point AND e.vault = c.vault AND e.finished_at > :since))
    ORDER BY c.point, c.vault LIMIT :limit
    """
_TESTS: Final = """
    SELECT e.*, coalesce(s.kind, '') AS source_kind, coalesce(s.business, '') AS business
    FROM evidence e LEFT JOIN sources s ON s.name = e.source
    WHERE e.kind = 'restore_test' AND (:since IS NULL OR e.finished_at > :since) AND e.id > :id
    ORDER BY e.id LIMIT :limit
    """
_EXPIRED: Final = """
    SELECT id AS backup_id, expired_at FROM points
    WHERE expired_at IS NOT NULL AND (expired_at, id) > (:since, :id) ORDER BY expired_at, id LIMIT :limit
    """
_STATUS: Final = """
    SELECT
        b.data_category, b.backup_type, b.last_backup_time, b.last_backup_size_bytes, b.last_test_date,
        b.last_test_passed, b.status, b.business_id, b.source, b.last_point, b.last_confirmed_time,
        b.last_passed_test_date, b.copies, s.rpo_seconds
    FROM backup_status b JOIN sources s ON s.name = b.source ORDER BY b.source
    """
_NEWEST: Final = """
    SELECT max(at) FROM (
        SELECT max(stored_at) AS at FROM copies UNION ALL SELECT max(finished_at) FROM evidence
        UNION ALL SELECT finished_at FROM runs WHERE id = (SELECT max(id) FROM runs WHERE finished_at IS NOT NULL)
    ) AS news
    """
_TRUTHS: Final = ("verified", "last_test_passed")


class ReportBook:
    """What there is to report. Raises CatalogError and BusyError as the catalog does."""

    def __init__(self, opened: Database) -> None:
        self._database = opened

    def newest(self) -> datetime | None:
        """When the catalog learned of a copy, a result or a run's end last."""
        with self._database.reading() as connection:
            return moment_from_column(connection.execute(_NEWEST).fetchone()[0])

    def told(self, since: datetime | None) -> Iterator[Told]:
        """What came or changed since a moment, all without one, some at a time; in the end how all sources are."""
        begins = moment_to_column(since - _OVERLAP if since else None)
        point, vault = "", ""
        while True:
            asked = {"since": begins, "point": point, "vault": vault, "limit": _AT_ONCE}
            with self._database.reading() as connection:
                logs = _rows(connection, _LOGS, asked)
            if not logs:
                break
            yield Told(logs=logs)
            point, vault = logs[-1]["backup_id"], logs[-1]["destination"]
        at, last = begins or "", ""
        while True:
            with self._database.reading() as connection:
                expired = _rows(connection, _EXPIRED, {"since": at, "id": last, "limit": _AT_ONCE})
            if not expired:
                break
            yield Told(expired=expired)
            at, last = expired[-1]["expired_at"], expired[-1]["backup_id"]
        last = ""
        while True:
            with self._database.reading() as connection:
                asked = {"since": begins, "id": last, "limit": _AT_ONCE}
                found = connection.execute(_TESTS, asked).fetchall()
            if not found:
                break
            yield Told(
                tests=[row_of_test(evidence_from_row(row), row["source_kind"], row["business"]) for row in found]
            )
            last = found[-1]["id"]
        with self._database.reading() as connection:
            status = _rows(connection, _STATUS, {})
            former = connection.scalars("SELECT name FROM sources WHERE active = 0")
        yield Told(status=status, former=former)


def _rows(connection: Connection, statement: str, asked: Mapping[str, object]) -> list[Row]:
    return [
        {name: _plain(name, row[name]) for name in row.keys()}  # noqa: SIM118 - a row of SQLite is no mapping
        for row in connection.execute(statement, asked)
    ]


def _plain(name: str, value: object) -> object:
    return bool(value) if name in _TRUTHS and value is not None else value
