"""What status shows fits 80 columns and says why: compared with the whole picture."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from cto_backups.cli import status
from cto_backups.cli.options import GlobalOptions
from cto_backups.cli.screen import Screen
from cto_backups.core.assurance import judge
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts, TimedRestore, VaultFacts
from cto_backups.core.model import ActionKind, Copy, Fingerprint, Outcome, Problem, RecoveryPoint, Run, Rung
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers
from cto_backups.errors import ExitStatus
from cto_backups.flows.status import StatusReport

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
VAULTS = ("one", "two", "three")


def source(name: str, category: str, triggers: str) -> SourcePolicy:
    return SourcePolicy(
        name=name,
        kind="files",
        category=CATEGORIES[category],
        triggers=parse_triggers(triggers),
        retention=parse_retention("1 year"),
        test_every=timedelta(days=30),
        vaults=VAULTS,
        data_class="contracts-legal",
    )


def facts(name: str, age: timedelta, *, proven: timedelta | None) -> SourceFacts:
    captured = NOW - age
    point = RecoveryPoint(
        id=f"{name}-20261123T090000Z-1a2b",
        source=name,
        kind="files",
        category="A",
        business="acme",
        started_at=captured,
        captured_at=captured,
        finished_at=captured + timedelta(seconds=5),
        size_bytes=1_234_567_890,
        added_bytes=1000,
        entry_count=52_345,
        root="ab" * 32,
        paths=("/srv",),
        fingerprint=Fingerprint("files/1", {}, {}),
        policy_digest="cd" * 32,
    )
    copies = tuple(
        CopyFacts(Copy(point.id, vault, "12" * 32, captured, 1000), read_at=captured, read_passed=True)
        for vault in VAULTS
    )
    return SourceFacts(
        source=name,
        newest=point,
        newest_any=point,
        copies=copies,
        proven=point if proven else None,
        proven_at=NOW - proven if proven else None,
        point_count=7,
    )


def report(*sources: tuple[SourcePolicy, SourceFacts]) -> StatusReport:
    vaults = {name: VaultPolicy(name, f"file:{name}", "local-disk", "here", "disk") for name in VAULTS}
    policies = {each.name: each for each, _ in sources}
    policy = Policy("acme", "Europe/Berlin", policies, vaults, CATEGORIES, {}, (), "ef" * 32)
    known = Facts(
        sources={each.name: found for each, found in sources},
        vaults={name: VaultFacts(name, read_at=NOW - timedelta(hours=1), read_passed=True) for name in VAULTS},
    )
    return StatusReport(policy, known, judge(policy, known, NOW), NOW)


GOOD = source("contracts", "A", "every 30 minutes")
OLD = source("the-archive-of-everything-that-was-ever-signed", "B", "daily at 02:00")
NEW = source("ledger", "A", "hourly")
REPORT = report(
    (GOOD, facts("contracts", timedelta(minutes=12), proven=timedelta(days=9))),
    (OLD, facts(OLD.name, timedelta(hours=49), proven=timedelta(days=2))),
    (NEW, SourceFacts("ledger")),
)


def shown(given: StatusReport, *, terminal: bool = False, detailed: bool = False) -> str:
    screen = Screen(GlobalOptions())
    screen.zone = ZoneInfo(given.policy.timezone)
    file = io.StringIO()
    screen.__dict__["out"] = Console(
        file=file,
        width=80 if terminal else 400,
        force_terminal=terminal,
        highlight=False,
        markup=False,
        emoji=False,
        color_system=None,
    )
    status.tell(screen, given, detailed=detailed)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def test_status_is_one_line_a_source_then_reasons_then_a_summary() -> None:
    assert shown(REPORT, terminal=True) == (
        "source               cat status      newest/RPO   copies proof       next\n"
        "contracts            A   HEALTHY     12 min / 1 h 3/3    proven 9 d  in 18 min\n"
        "the-archive-of-      B   OVERDUE     49 h / 24 h  3/3    proven 48 h now\n"
        "everything-that-was-\n"
        "ever-signed\n"
        "ledger               A   UNPROTECTED none / 1 h   0/3    declared    now\n"
        "\n"
        "the-archive-of-everything-that-was-ever-signed: newest complete point is 49 h\n"
        "  old; RPO is 24 h.\n"
        "ledger: there is no complete recovery point.\n"
        "\n"
        "3 sources: 1 UNPROTECTED, 1 OVERDUE, 1 HEALTHY."
    )


def test_a_pipe_gets_each_source_and_each_sentence_in_one_line() -> None:
    lines = shown(REPORT).splitlines()
    assert sum(line.startswith("the-archive-of-everything-that-was-ever-signed ") for line in lines) == 1
    assert f"{OLD.name}: newest complete point is 49 h old; RPO is 24 h." in lines


@pytest.mark.parametrize("detailed", [False, True])
def test_everything_fits_80_columns_on_a_terminal(detailed: bool) -> None:
    assert max(map(len, shown(REPORT, terminal=True, detailed=detailed).splitlines())) <= 80


def test_the_details_of_a_source_tell_its_objectives_and_copies() -> None:
    told = shown(report((GOOD, facts("contracts", timedelta(minutes=12), proven=timedelta(days=9)))), detailed=True)
    assert "category A: RPO 1 h, RTO 4 h, 3 copies, rung proven" in told
    assert "1.2 GB" in told
    assert "52,345 entries" in told
    assert told.splitlines()[-1] == "The source is HEALTHY."


def failed(found: SourceFacts, *kinds: ActionKind) -> SourceFacts:
    runs = {
        kind: Run(1, kind, found.source, None, None, NOW, NOW, Outcome.FAILED, "source", "it said no") for kind in kinds
    }
    return replace(found, last_runs=runs)


def test_what_failed_last_is_told_where_everything_is_healthy_all_the_same() -> None:
    """Who reads the last line alone must not think that backups go well."""
    good = facts("contracts", timedelta(minutes=12), proven=timedelta(days=9))
    told = shown(report((GOOD, failed(good, ActionKind.BACKUP))))
    assert "contracts: the last backup failed" in told
    assert told.splitlines()[-1] == "The source is HEALTHY, but failed last: the backup of contracts."
    sources = [source(name, "A", "hourly") for name in ("one", "two", "three", "four")]
    every = [(each, failed(replace(good, source=each.name), ActionKind.BACKUP)) for each in sources]
    assert shown(report(*every)).splitlines()[-1] == (
        "All 4 sources are HEALTHY, but failed last: the backup of one, the backup of two, the backup of three"
        " and 1 other."
    )
    late = (OLD, failed(facts(OLD.name, timedelta(hours=49), proven=timedelta(days=2)), ActionKind.BACKUP))
    two = shown(report((GOOD, failed(good, ActionKind.COPY)), late)).splitlines()[-1]
    assert two == "2 sources: 1 OVERDUE, 1 HEALTHY, but failed last: the copy of contracts."


def test_status_is_red_unless_every_source_is_healthy() -> None:
    good = report((GOOD, facts("contracts", timedelta(minutes=12), proven=timedelta(days=9))))
    assert status.exit_status(good) is ExitStatus.SUCCESS
    assert status.exit_status(REPORT) is ExitStatus.RED


def test_the_status_document_has_a_row_for_each_source_with_its_reasons() -> None:
    document = status.as_document(REPORT)
    assert document["healthy"] is False
    assert [row["status"] for row in document["sources"]] == ["HEALTHY", "OVERDUE", "UNPROTECTED"]
    assert document["sources"][0]["age_seconds"] == 720.0
    assert document["sources"][0]["newest_point"]["captured_at"] == "2026-11-23T09:48:00.000000Z"
    assert document["sources"][2]["newest_point"] is None
    assert all(row["reasons"] for row in document["sources"])


@pytest.fixture
def story() -> StatusReport:
    """A source with a proven copy, an older proven point, a failed run, a gap, and one before it in its category."""
    known = facts("contracts", timedelta(minutes=12), proven=timedelta(days=9))
    assert known.newest is not None
    near = replace(
        known.copies[0],
        read_since=NOW - timedelta(days=3),
        read_evidence="verify-one-20261120T100000Z-1a2b",
        tested_at=NOW - timedelta(days=9),
        test_passed=True,
        test_rung=Rung.PROVEN,
        test_evidence="test-contracts-20261114T100000Z-3c4d",
    )
    older = replace(known.newest, id="contracts-20261101T090000Z-9f9f")
    gap = replace(known.newest, id="contracts-20261123T095500Z-5e5e", problems=(Problem("/srv/x", "permission", "no"),))
    failed = Run(
        1, ActionKind.BACKUP, "contracts", None, None, NOW - timedelta(minutes=9), NOW - timedelta(minutes=8),
        Outcome.FAILED, message="the disk is gone",
    )  # fmt: skip
    known = replace(
        known,
        copies=(near, known.copies[1]),
        proven=older,
        proven_copies=(replace(near, copy=replace(near.copy, point=older.id, vault="three")),),
        newest_any=gap,
        last_runs={ActionKind.BACKUP: failed},
        restores=(TimedRestore("test-1", 60.0, 1_234_567_890, 52_345),),
    )
    first = source("first", "A", "every 30 minutes")
    before = replace(facts("first", timedelta(minutes=5), proven=timedelta(days=1)), restores=known.restores)
    return report((first, before), (GOOD, known))


def test_the_story_of_a_source_tells_each_rung_of_each_copy_with_its_evidence(story: StatusReport) -> None:
    told = [" ".join(line.split()) for line in shown(story, detailed=True).splitlines()]
    told = told[next(n for n, line in enumerate(told) if line.startswith("source contracts ")) :]
    for line in (
        "forecast RTO 30 seconds to 2 minutes (wide: measured by 1 restore test); RTO is 4 h",
        "after 1 minute to 4 minutes (wide: measured by 1 restore test) when all of category A is restored in its "
        "order",
        "restore test monthly; due by 2026-12-14 11:00 (in 21 d)",
        "Newest point contracts-20261123T090000Z-1a2b in one: stands on proven",
        "read holds 2026-11-20 11:00 3 d verify-one-20261120T100000Z-1a2b",
        "proven holds 2026-11-14 11:00 9 d test-contracts-20261114T100000Z-3c4d",
        "Newest point contracts-20261123T090000Z-1a2b in two: stands on stored",
        "Newest point contracts-20261123T090000Z-1a2b in three: not there",
        "Last proven point contracts-20261101T090000Z-9f9f in three: stands on proven",
        "backup 2026-11-23 10:51 1 min failed",
        "backup: the disk is gone",
        "Open problems of contracts-20261123T095500Z-5e5e:",
        "/srv/x: permission (no)",
        "next due why",
    ):
        assert line in told, line


def test_the_story_fits_80_columns_on_a_terminal(story: StatusReport) -> None:
    assert max(map(len, shown(story, terminal=True, detailed=True).splitlines())) <= 80


def test_the_story_of_a_source_in_json(story: StatusReport) -> None:
    plain, detailed = (status.as_document(story, detailed=each)["sources"][1] for each in (False, True))
    assert plain["forecast_rto"] == {"least_seconds": 30.0, "most_seconds": 120.0, "tests": 1, "wide": True}
    assert set(detailed) - set(plain) == {"restored_in_turn", "ladders", "last_runs", "due", "problems", "marks"}
    assert detailed["restored_in_turn"] == {
        "category": "A",
        "least_seconds": 60.0,
        "most_seconds": 240.0,
        "unknown": [],
    }
    assert [(each["vault"], each["rung"], each["stored"]) for each in detailed["ladders"]] == [
        ("one", "proven", True),
        ("two", "stored", True),
        ("three", "recorded", False),
        ("three", "proven", True),
    ]
    assert detailed["ladders"][0]["steps"][3] == {
        "rung": "read",
        "standing": "holds",
        "at": "2026-11-20T10:00:00.000000Z",
        "evidence": "verify-one-20261120T100000Z-1a2b",
        "due_at": None,
    }
    assert [(run["outcome"], run["message"]) for run in detailed["last_runs"]] == [("failed", "the disk is gone")]
    assert {each["action"] for each in detailed["due"]} >= {"backup", "copy", "restore_test"}
    assert detailed["problems"] == [{"path": "/srv/x", "kind": "permission", "detail": "no"}]
