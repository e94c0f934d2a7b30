"""The facts that plan and assurance judge by, read so that the cost grows with the sources and not with the points.

Every statement walks the sources (or vaults) and takes one look-up in an index for each; the test suite reads the
query plans and refuses a scan of `points`, `copies`, `evidence` or `runs`. The names asked for are one parameter, a
JSON list, so that a statement's text does not depend on how many there are.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from cto_backups.catalog import alerts, heartbeat, holds, lags, last_runs, marks, retentions, streams
from cto_backups.catalog.database import Connection
from cto_backups.catalog.rows import (
    copy_from_row,
    evidence_from_row,
    moment_from_column,
    moment_to_column,
    point_from_row,
    resource_from_row,
    rung_from_column,
    truth_from_column,
)
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts, TimedRestore, VaultFacts
from cto_backups.core.model import ActionKind, Disappearance, Evidence, RecoveryPoint, Resource
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.vault_check import CHECK
from cto_backups.core.vault_settings import SETTINGS

TIMED_TESTS = 5
"""From how many of its last passed restore tests the time of a source's next restore is forecast."""

# The names asked for, as a table to join with.
_ASKED = "asked (name) AS (SELECT value FROM json_each(:asked))"


class Kept(StrEnum):
    """Which of a source's kept points, as a condition on `points`."""

    ANY = "expired_at IS NULL"
    COMPLETE = "expired_at IS NULL AND complete = 1"
    PROVEN = "expired_at IS NULL AND proven_at IS NOT NULL"


def read(
    connection: Connection,
    names: Sequence[str],
    now: datetime,
    *,
    kept_points: bool,
    former: Sequence[str] = (),
    listed: bool = True,
) -> Facts:
    """The facts of these sources, `listed` with their inventory and that of `former` ones, and of every vault."""
    found = [*names, *former] if listed else ()
    read_points: dict[str, RecoveryPoint] = {}
    newest = _points(connection, names, Kept.COMPLETE, read_points)
    newest_any = _points(connection, names, Kept.ANY, read_points)
    proven = _points(connection, names, Kept.PROVEN, read_points)
    ahead = [name for name, point in newest.items() if point.captured_at > now + CLOCK_TOLERANCE]
    current = _points(connection, ahead, Kept.COMPLETE, read_points, until=now + CLOCK_TOLERANCE) if ahead else {}
    proven_until = _proven_until(connection, names)
    oldest = _oldest(connection, names)
    copies = copies_of(connection, list({point.id for each in (newest, proven, current) for point in each.values()}))
    passed = _passed_tests(connection, names)
    tests = _last_tests(connection, names)
    runs = last_runs.of(connection, names, "source")
    failures = last_runs.failures(connection, names, "source")
    following = streams.read(connection, names)
    behind = lags.read(connection, names)
    rows = _rows(connection, "SELECT * FROM sources WHERE name IN (SELECT value FROM json_each(:asked))", names)
    known = {
        row["name"]: SourceFacts(
            source=row["name"],
            newest=newest.get(row["name"]),
            newest_any=newest_any.get(row["name"]),
            confirmed_at=moment_from_column(row["confirmed_at"]),
            copies=copies.get(newest[row["name"]].id, ()) if row["name"] in newest else (),
            proven=proven.get(row["name"]),
            proven_copies=copies.get(proven[row["name"]].id, ()) if row["name"] in proven else (),
            proven_at=passed[row["name"]][0].finished_at if row["name"] in passed else None,
            proven_until=proven_until.get(row["name"]),
            last_test=tests.get(row["name"]),
            last_runs=runs.get(row["name"], {}),
            failures=failures.get(row["name"], {}),
            point_count=row["point_count"],
            first_seen=moment_from_column(row["first_seen"]),
            restores=tuple(timed for test in passed.get(row["name"], ()) for timed in _timed(test)),
            discovered_at=moment_from_column(row["discovered_at"]),
            oldest_at=oldest.get(row["name"]),
            stream=following.get(row["name"]),
            lags=behind.get(row["name"], {}),
            current=current.get(row["name"]),
            current_copies=copies.get(current[row["name"]].id, ()) if row["name"] in current else (),
        )
        for row in rows
    }
    return Facts(
        sources={**{name: SourceFacts(name) for name in names}, **known},
        vaults=_vaults(connection),
        resources=_resources(connection, found),
        vanished=_vanished(connection, found),
        kept_points=_kept(connection, names) if kept_points else {},
        holds=holds.in_force(connection, names) if kept_points else {},
        verified_copies=_verified_copies(connection, names) if kept_points else {},
        heartbeats=heartbeat.read(connection),
        last_tellings=alerts.last_tellings(connection),
        reached=alerts.reached(connection),
        marks=marks.uncleared(connection, names),
        retentions=retentions.read(connection, names) if kept_points else {},
    )


def _rows(connection: Connection, statement: str, asked: Sequence[str]) -> Any:
    return connection.execute(statement, {"asked": json.dumps(list(asked))})


def _points(
    connection: Connection,
    names: Sequence[str],
    which: Kept,
    read_points: dict[str, RecoveryPoint],
    until: datetime | None = None,
) -> dict[str, RecoveryPoint]:
    """The newest such point of each source; `read_points` by id, since it is mostly the same one for each `which`."""
    dated = "" if until is None else " AND captured_at <= :until"
    statement = f"""
        WITH {_ASKED}
        SELECT points.* FROM asked JOIN points ON points.id = (
            SELECT id FROM points WHERE source = asked.name AND {which}{dated}
            ORDER BY captured_at DESC, id DESC LIMIT 1)
        """
    found = {}
    asked = {"asked": json.dumps(list(names))} | ({} if until is None else {"until": moment_to_column(until)})
    for row in connection.execute(statement, asked):
        if row["id"] not in read_points:
            read_points[row["id"]] = point_from_row(row)
        found[row["source"]] = read_points[row["id"]]
    return found


def _proven_until(connection: Connection, names: Sequence[str]) -> dict[str, datetime | None]:
    """Up to when restore tests prove each source: a test of a point says nothing of what came after that point.

    The next point may have expired by now. Ids begin with their source and their moment, so it is found by its id; one
    that is called otherwise (another program made it) only while it is kept. Where nothing is appended to a column, it
    would be found by another index than that of the ids.
    """
    statement = f"""
        WITH {_ASKED}
        SELECT tested.source, tested.proven_at, (
                SELECT next.captured_at FROM points next
                WHERE next.id > tested.id AND next.id < tested.source || '-:' AND next.source || '' = tested.source
                    AND next.complete = 1 AND next.captured_at || '' > tested.captured_at
                ORDER BY next.id LIMIT 1), (
                SELECT next.captured_at FROM points next INDEXED BY points_kept_complete
                WHERE next.source = tested.source AND next.expired_at IS NULL AND next.complete = 1
                    AND next.captured_at > tested.captured_at
                ORDER BY next.captured_at LIMIT 1)
        FROM asked JOIN points tested ON tested.id = (
            SELECT id FROM points WHERE source = asked.name AND {Kept.PROVEN}
            ORDER BY captured_at DESC, id DESC LIMIT 1)
        """
    return {
        source: moment_from_column(min(moment for moment in moments if moment is not None))
        for source, *moments in _rows(connection, statement, names)
    }


def _oldest(connection: Connection, names: Sequence[str]) -> dict[str, datetime | None]:
    """The moment of the oldest kept point of each source."""
    statement = f"""
        WITH {_ASKED}
        SELECT asked.name, (
            SELECT captured_at FROM points WHERE source = asked.name AND {Kept.ANY} ORDER BY captured_at LIMIT 1)
        FROM asked
        """
    return {source: moment_from_column(at) for source, at in _rows(connection, statement, names)}


def _last_tests(connection: Connection, names: Sequence[str]) -> dict[str, Evidence]:
    statement = f"""
        WITH {_ASKED}
        SELECT evidence.* FROM asked JOIN evidence ON evidence.id = (
            SELECT id FROM evidence WHERE source = asked.name AND kind = 'restore_test'
            ORDER BY finished_at DESC, id DESC LIMIT 1)
        """
    return {row["source"]: evidence_from_row(row) for row in _rows(connection, statement, names)}


def _passed_tests(connection: Connection, names: Sequence[str]) -> dict[str, list[Evidence]]:
    """The last restore tests that each source passed, newest first."""
    statement = f"""
        WITH {_ASKED}
        SELECT evidence.* FROM asked JOIN evidence ON evidence.id IN (
            SELECT id FROM evidence WHERE source = asked.name AND kind = 'restore_test' AND passed = 1
            ORDER BY finished_at DESC, id DESC LIMIT {TIMED_TESTS})
        """
    found: dict[str, list[Evidence]] = defaultdict(list)
    for row in _rows(connection, statement, names):
        found[row["source"]].append(evidence_from_row(row))
    for tests in found.values():
        tests.sort(key=lambda test: (test.finished_at, test.id), reverse=True)
    return dict(found)


def _timed(test: Evidence) -> Iterator[TimedRestore]:
    """What its restore took, where it says so."""
    for step in test.steps:
        if step.name == "restore":
            size, entries = step.figures.get("size_bytes"), step.figures.get("entries")
            if isinstance(size, int) and isinstance(entries, int):
                yield TimedRestore(test.id, step.seconds, size, entries)


_COPIES = """
    SELECT copies.*, read.finished_at AS read_at, read.passed AS read_passed, read.read_since AS read_since,
        read.id AS read_evidence,
        test.finished_at AS tested_at, test.passed AS test_passed, test.rung AS test_rung, test.id AS test_evidence
    FROM copies
    LEFT JOIN evidence read ON read.id = (
        SELECT id FROM evidence
        WHERE vault = copies.vault AND kind = 'verify' AND started_at >= copies.stored_at
            AND finished_at >= copies.stored_at -- implied, and bounds the walk along the index
        ORDER BY finished_at DESC, id DESC LIMIT 1)
    LEFT JOIN evidence test ON test.id = (
        -- by the vault's index SQLite would walk the tests of all sources for each copy
        SELECT id FROM evidence INDEXED BY evidence_by_point
        WHERE point = copies.point AND vault = copies.vault AND kind = 'restore_test'
        ORDER BY finished_at DESC, id DESC LIMIT 1)
    WHERE copies.point IN (SELECT value FROM json_each(:asked)) AND copies.to_delete = 0
    ORDER BY copies.stored_at
    """


def copies_of(connection: Connection, point_ids: Sequence[str]) -> dict[str, tuple[CopyFacts, ...]]:
    """The copies of these points, each with the last reading of its vault after it was stored, and its last test."""
    if not point_ids:
        return {}
    found: dict[str, list[CopyFacts]] = defaultdict(list)
    for row in _rows(connection, _COPIES, point_ids):
        found[row["point"]].append(
            CopyFacts(
                copy_from_row(row),
                moment_from_column(row["read_at"]),
                truth_from_column(row["read_passed"]),
                moment_from_column(row["tested_at"]),
                truth_from_column(row["test_passed"]),
                moment_from_column(row["read_since"]),
                rung_from_column(row["test_rung"]),
                row["read_evidence"],
                row["test_evidence"],
            )
        )
    return {point: tuple(facts) for point, facts in found.items()}


_VAULTS = """
    SELECT vaults.*, read.finished_at AS read_at, read.passed AS read_passed,
        (SELECT max(read_since) FROM evidence WHERE vault = vaults.name AND read_since IS NOT NULL) AS read_since
    FROM vaults
    LEFT JOIN evidence read ON read.id = (
        SELECT id FROM evidence WHERE vault = vaults.name AND kind = 'verify'
        ORDER BY finished_at DESC, id DESC LIMIT 1)
    """


_CHECKS = f"""
    WITH kinds (kind) AS (VALUES ('{CHECK}'), ('{SETTINGS}'))
    SELECT evidence.* FROM json_each(:asked) asked CROSS JOIN kinds JOIN evidence ON evidence.id = (
        SELECT id FROM evidence WHERE vault = asked.value AND kind = kinds.kind
        ORDER BY finished_at DESC, id DESC LIMIT 1)
    """


def _vaults(connection: Connection) -> dict[str, VaultFacts]:
    rows = connection.execute(_VAULTS).fetchall()
    names = [row["name"] for row in rows]
    if not names:
        return {}
    runs = last_runs.of(connection, names, "vault")
    failures = last_runs.failures(connection, names, "vault")
    checks = {(row["vault"], row["kind"]): evidence_from_row(row) for row in _rows(connection, _CHECKS, names)}
    return {
        row["name"]: VaultFacts(
            vault=row["name"],
            read_at=moment_from_column(row["read_at"]),
            read_passed=truth_from_column(row["read_passed"]),
            read_since=moment_from_column(row["read_since"]),
            last_run=runs.get(row["name"], {}).get(ActionKind.VERIFY),
            failures=failures.get(row["name"], {}).get(ActionKind.VERIFY, 0),
            prune_run=runs.get(row["name"], {}).get(ActionKind.PRUNE),
            prune_failures=failures.get(row["name"], {}).get(ActionKind.PRUNE, 0),
            renew_run=runs.get(row["name"], {}).get(ActionKind.RENEW),
            renew_failures=failures.get(row["name"], {}).get(ActionKind.RENEW, 0),
            check_run=runs.get(row["name"], {}).get(ActionKind.CHECK),
            check_failures=failures.get(row["name"], {}).get(ActionKind.CHECK, 0),
            check=checks.get((row["name"], CHECK)),
            settings=checks.get((row["name"], SETTINGS)),
            copy_count=row["copy_count"],
            first_copy_at=moment_from_column(row["first_copy_at"]),
        )
        for row in rows
    }


def _resources(connection: Connection, names: Sequence[str]) -> dict[str, tuple[Resource, ...]]:
    if not names:
        return {}
    # What the last discovery did not find any more stays in the table as history, with its last moment.
    statement = """
        SELECT resources.* FROM sources CROSS JOIN resources
        WHERE resources.source = sources.name AND resources.last_seen = sources.discovered_at
            AND sources.name IN (SELECT value FROM json_each(:asked)) ORDER BY sources.name, resources.name
        """
    found: dict[str, list[Resource]] = defaultdict(list)
    for row in _rows(connection, statement, names):
        found[row["source"]].append(resource_from_row(row))
    return {source: tuple(resources) for source, resources in found.items()}


def _vanished(connection: Connection, names: Sequence[str]) -> dict[str, tuple[Disappearance, ...]]:
    """What the last discovery of each source did not find any more, by the discovery that last did."""
    if not names:
        return {}
    statement = """
        SELECT resources.* FROM resources JOIN sources ON sources.name = resources.source
        WHERE sources.name IN (SELECT value FROM json_each(:asked)) AND resources.last_seen < sources.discovered_at
        ORDER BY resources.source, resources.last_seen DESC, resources.name
        """
    gone: dict[tuple[str, str], list[Resource]] = defaultdict(list)
    for row in _rows(connection, statement, names):
        gone[row["source"], row["last_seen"]].append(resource_from_row(row))
    if not gone:
        return {}
    before = """
        SELECT count(*) FROM resources
        WHERE source = :source AND first_seen <= :last_seen AND last_seen >= :last_seen
        """
    found: dict[str, list[Disappearance]] = defaultdict(list)
    for (source, last_seen), resources in gone.items():
        there = connection.scalar(before, {"source": source, "last_seen": last_seen})
        moment = moment_from_column(last_seen)
        assert moment is not None
        found[source].append(Disappearance(moment, tuple(resources), there))
    return {source: tuple(each) for source, each in found.items()}


def _kept(connection: Connection, names: Sequence[str]) -> dict[str, tuple[RecoveryPoint, ...]]:
    statement = """
        SELECT * FROM points WHERE source IN (SELECT value FROM json_each(:asked)) AND expired_at IS NULL
        ORDER BY captured_at DESC, id DESC
        """
    found: dict[str, list[RecoveryPoint]] = defaultdict(list)
    for row in _rows(connection, statement, names):
        found[row["source"]].append(point_from_row(row))
    return {source: tuple(kept) for source, kept in found.items()}


def _verified_copies(connection: Connection, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The vaults that hold each complete kept point, verified: by the last verification, which judges a whole vault."""
    statement = """
        SELECT points.id, copies.vault FROM points INDEXED BY points_kept_complete
        CROSS JOIN copies -- after the points: by the vault's index SQLite would walk the copies of all sources
        JOIN (
            SELECT evidence.vault, evidence.started_at FROM vaults JOIN evidence ON evidence.id = (
                SELECT id FROM evidence WHERE vault = vaults.name AND kind = 'verify'
                ORDER BY finished_at DESC, id DESC LIMIT 1)
            WHERE evidence.passed = 1 AND evidence.read_since IS NOT NULL) read
        ON read.vault = copies.vault AND read.started_at >= copies.stored_at
        WHERE points.source IN (SELECT value FROM json_each(:asked))
            AND points.expired_at IS NULL AND points.complete = 1
            AND copies.point = points.id AND copies.to_delete = 0
        """
    found: dict[str, set[str]] = defaultdict(set)
    for point, vault in _rows(connection, statement, names):
        found[point].add(vault)
    return {point: frozenset(vaults) for point, vaults in found.items()}
