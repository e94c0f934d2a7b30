"""What status shows fits 80 columns and says why: compared with the whole picture."""

import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from cto_backups.cli import status
from cto_backups.cli.options import GlobalOptions
from cto_backups.cli.screen import Screen
from cto_backups.core.assurance import judge
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import Copy, CopyFacts, Facts, Fingerprint, RecoveryPoint, SourceFacts, VaultFacts
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
