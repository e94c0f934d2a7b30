"""The facts that plan and assurance judge by, read so that the cost grows with the sources and not with the points.

Every statement walks the sources (or vaults) and takes one look-up in an index for each; the test suite reads the
query plans and refuses a scan of `points`, `copies`, `evidence` or `runs`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, column, func, select, true, values
from sqlalchemy import Text as SqlText

from cto_backups.catalog import schema
from cto_backups.catalog.rows import (
    copy_from_row,
    evidence_from_row,
    point_from_row,
    resource_from_row,
    run_from_row,
)
from cto_backups.core.model import (
    ActionKind,
    CopyFacts,
    Facts,
    Outcome,
    RecoveryPoint,
    Resource,
    Run,
    SourceFacts,
    VaultFacts,
)

# A failed run is followed by another until one of these ends the row of failures.
_GOOD = (Outcome.SUCCEEDED.value, Outcome.UNCHANGED.value, Outcome.INCOMPLETE.value)


def read(connection: Connection, names: Sequence[str], *, kept_points: bool) -> Facts:
    """The facts of these sources, and of every vault that holds anything."""
    newest = _points(connection, names, Kept.COMPLETE)
    newest_any = _points(connection, names, Kept.ANY)
    copies = copies_of(connection, [point.id for point in newest.values()])
    proven = _points(connection, names, Kept.PROVEN)
    passed_at = _passed_at(connection, names)
    tests = _last_tests(connection, names)
    runs = _last_runs(connection, names)
    failures = _failures(connection, names)
    rows = connection.execute(
        select(schema.sources).where(schema.sources.c.name.in_(bindparam("names", expanding=True))), {"names": names}
    ).mappings()
    sources = {
        row["name"]: SourceFacts(
            source=row["name"],
            newest=newest.get(row["name"]),
            newest_any=newest_any.get(row["name"]),
            confirmed_at=row["confirmed_at"],
            copies=copies.get(newest[row["name"]].id, ()) if row["name"] in newest else (),
            proven=proven.get(row["name"]),
            proven_at=passed_at.get(row["name"]),
            last_test=tests.get(row["name"]),
            last_runs=runs.get(row["name"], {}),
            failures=failures.get(row["name"], {}),
            point_count=row["point_count"],
            first_seen=row["first_seen"],
        )
        for row in rows
    }
    return Facts(
        sources=sources,
        vaults=_vaults(connection),
        resources=_resources(connection, names),
        kept_points=_kept(connection, names) if kept_points else {},
    )


def _names(names: Sequence[str]) -> Any:
    """The sources asked for, as a table to join with."""
    return values(column("name", SqlText), name="asked").data([(name,) for name in names] or [("",)]).cte("asked")


class Kept(Enum):
    """Which of a source's kept points."""

    ANY = "any"
    COMPLETE = "complete"
    PROVEN = "proven"


def newest_points(names: Sequence[str], which: Kept) -> Select[Any]:
    """The statement for the newest such point of each source."""
    asked = _names(names)
    points = schema.points
    wanted = and_(points.c.source == asked.c.name, points.c.expired_at.is_(None))
    if which is Kept.COMPLETE:
        wanted = and_(wanted, points.c.complete == true())
    if which is Kept.PROVEN:
        wanted = and_(wanted, points.c.proven_at.is_not(None))
    newest = (
        select(points.c.id)
        .where(wanted)
        .order_by(points.c.captured_at.desc(), points.c.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    return select(points).select_from(asked.join(points, points.c.id == newest))


def _points(connection: Connection, names: Sequence[str], which: Kept) -> dict[str, RecoveryPoint]:
    rows = connection.execute(newest_points(names, which)).mappings()
    return {row["source"]: point_from_row(row) for row in rows}


def _last_evidence(asked: Any, *, passed_only: bool) -> Any:
    evidence = schema.evidence
    wanted = and_(evidence.c.source == asked.c.name, evidence.c.kind == "restore_test")
    if passed_only:
        wanted = and_(wanted, evidence.c.passed == true())
    return (
        select(evidence.c.id)
        .where(wanted)
        .order_by(evidence.c.finished_at.desc(), evidence.c.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )


def last_tests(names: Sequence[str], *, passed_only: bool = False) -> Select[Any]:
    """The statement for the last (passed) restore test of each source."""
    asked = _names(names)
    return select(schema.evidence).select_from(
        asked.join(schema.evidence, schema.evidence.c.id == _last_evidence(asked, passed_only=passed_only))
    )


def _last_tests(connection: Connection, names: Sequence[str]) -> dict[str, Any]:
    return {row["source"]: evidence_from_row(row) for row in connection.execute(last_tests(names)).mappings()}


def _passed_at(connection: Connection, names: Sequence[str]) -> dict[str, datetime]:
    rows = connection.execute(last_tests(names, passed_only=True)).mappings()
    return {row["source"]: row["finished_at"] for row in rows}


def _each_action(names: Sequence[str]) -> tuple[Any, Any]:
    asked = _names(names)
    actions = (
        values(column("action", SqlText), name="actions").data([(kind.value,) for kind in ActionKind]).cte("actions")
    )
    return asked, actions


def last_runs(names: Sequence[str], key: str = "source") -> Select[Any]:
    """The statement for the last run of each action kind of each source (or vault)."""
    asked, actions = _each_action(names)
    runs = schema.runs
    last = (
        select(func.max(runs.c.id))
        .where(runs.c[key] == asked.c.name, runs.c.action == actions.c.action)
        .correlate(asked, actions)
        .scalar_subquery()
    )
    return select(runs).select_from(asked.join(actions, true()).join(runs, runs.c.id == last))


def _last_runs(connection: Connection, names: Sequence[str]) -> dict[str, dict[ActionKind, Run]]:
    found: dict[str, dict[ActionKind, Run]] = defaultdict(dict)
    for row in connection.execute(last_runs(names)).mappings():
        run = run_from_row(row)
        found[row["source"]][run.action] = run
    return found


def failed_in_a_row(names: Sequence[str], key: str = "source") -> Select[Any]:
    """The statement that counts, for each source (or vault) and action, the failures since the last good run."""
    asked, actions = _each_action(names)
    runs = schema.runs
    good, bad = runs.alias("good"), runs.alias("bad")
    last_good = (
        select(good.c.id)
        .where(good.c[key] == asked.c.name, good.c.action == actions.c.action, good.c.outcome.in_(_GOOD))
        .order_by(good.c.id.desc())
        .limit(1)
        .correlate(asked, actions)
        .scalar_subquery()
    )
    count = (
        select(func.count())
        .select_from(bad)
        .where(
            bad.c[key] == asked.c.name,
            bad.c.action == actions.c.action,
            bad.c.id > func.coalesce(last_good, 0),
            bad.c.outcome == Outcome.FAILED.value,
        )
        .correlate(asked, actions)
        .scalar_subquery()
    )
    return select(asked.c.name, actions.c.action, count.label("failures")).select_from(asked.join(actions, true()))


def _failures(connection: Connection, names: Sequence[str], key: str = "source") -> dict[str, dict[ActionKind, int]]:
    found: dict[str, dict[ActionKind, int]] = defaultdict(dict)
    for name, action, failures in connection.execute(failed_in_a_row(names, key)):
        if failures:
            found[name][ActionKind(action)] = failures
    return found


def copies_of(connection: Connection, point_ids: Sequence[str]) -> dict[str, tuple[CopyFacts, ...]]:
    """The copies of these points, each with the last reading of its vault after it was stored, and its last test."""
    if not point_ids:
        return {}
    copies, evidence = schema.copies, schema.evidence
    read_id = (
        select(evidence.c.id)
        .where(
            evidence.c.vault == copies.c.vault,
            evidence.c.kind == "verify",
            evidence.c.started_at >= copies.c.stored_at,
        )
        .order_by(evidence.c.finished_at.desc(), evidence.c.id.desc())
        .limit(1)
        .correlate(copies)
        .scalar_subquery()
    )
    test_id = (
        select(evidence.c.id)
        .where(
            evidence.c.point == copies.c.point,
            evidence.c.vault == copies.c.vault,
            evidence.c.kind == "restore_test",
        )
        .order_by(evidence.c.finished_at.desc(), evidence.c.id.desc())
        .limit(1)
        .correlate(copies)
        .scalar_subquery()
    )
    read, test = evidence.alias("read"), evidence.alias("test")
    statement = (
        select(
            copies,
            read.c.finished_at.label("read_at"),
            read.c.passed.label("read_passed"),
            test.c.finished_at.label("tested_at"),
            test.c.passed.label("test_passed"),
        )
        .select_from(copies.outerjoin(read, read.c.id == read_id).outerjoin(test, test.c.id == test_id))
        .where(copies.c.point.in_(bindparam("ids", expanding=True)), copies.c.to_delete.is_(False))
        .order_by(copies.c.stored_at)
    )
    found: dict[str, list[CopyFacts]] = defaultdict(list)
    for row in connection.execute(statement, {"ids": list(point_ids)}).mappings():
        found[row["point"]].append(
            CopyFacts(copy_from_row(row), row["read_at"], row["read_passed"], row["tested_at"], row["test_passed"])
        )
    return {point: tuple(facts) for point, facts in found.items()}


def _vaults(connection: Connection) -> dict[str, VaultFacts]:
    names = list(connection.execute(select(schema.vaults.c.name)).scalars())
    if not names:
        return {}
    evidence = schema.evidence
    asked = _names(names)
    last = (
        select(evidence.c.id)
        .where(evidence.c.vault == asked.c.name, evidence.c.kind == "verify")
        .order_by(evidence.c.finished_at.desc(), evidence.c.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    readings = {
        row["vault"]: row
        for row in connection.execute(
            select(evidence).select_from(asked.join(evidence, evidence.c.id == last))
        ).mappings()
    }
    runs = {
        row["vault"]: run_from_row(row)
        for row in connection.execute(last_runs(names, "vault")).mappings()
        if row["action"] == ActionKind.VERIFY.value
    }
    failures = _failures(connection, names, "vault")
    return {
        row["name"]: VaultFacts(
            vault=row["name"],
            read_at=readings[row["name"]]["finished_at"] if row["name"] in readings else None,
            read_passed=readings[row["name"]]["passed"] if row["name"] in readings else None,
            last_run=runs.get(row["name"]),
            failures=failures.get(row["name"], {}).get(ActionKind.VERIFY, 0),
            copy_count=row["copy_count"],
            first_copy_at=row["first_copy_at"],
        )
        for row in connection.execute(select(schema.vaults)).mappings()
    }


def _resources(connection: Connection, names: Sequence[str]) -> dict[str, tuple[Resource, ...]]:
    # What the last discovery did not find any more stays in the table as history, with its last moment.
    resources, sources = schema.resources, schema.sources
    statement = (
        select(resources)
        .join(sources, sources.c.name == resources.c.source)
        .where(sources.c.name.in_(bindparam("names", expanding=True)), resources.c.last_seen == sources.c.discovered_at)
        .order_by(resources.c.source, resources.c.name)
    )
    found: dict[str, list[Resource]] = defaultdict(list)
    for row in connection.execute(statement, {"names": list(names)}).mappings():
        found[row["source"]].append(resource_from_row(row))
    return {source: tuple(resources) for source, resources in found.items()}


def _kept(connection: Connection, names: Sequence[str]) -> dict[str, tuple[RecoveryPoint, ...]]:
    statement = (
        select(schema.points)
        .where(schema.points.c.source.in_(bindparam("names", expanding=True)), schema.points.c.expired_at.is_(None))
        .order_by(schema.points.c.captured_at.desc(), schema.points.c.id.desc())
    )
    found: dict[str, list[RecoveryPoint]] = defaultdict(list)
    for row in connection.execute(statement, {"names": list(names)}).mappings():
        found[row["source"]].append(point_from_row(row))
    return {source: tuple(kept) for source, kept in found.items()}
