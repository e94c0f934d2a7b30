"""When a report is due, what a restore test is in it, and what the audit says of one that does not arrive."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cto_backups.core.controls import CONTROLS, Audited, Environment
from cto_backups.core.facts import Facts
from cto_backups.core.findings import Check
from cto_backups.core.model import Evidence, Rung, Step
from cto_backups.core.policy import Policy, ReportPolicy
from cto_backups.core.reporting import ReportState, due, every, row_of_test

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PLACE = ReportPolicy("bigquery", "acme-ops.backups")
DONE = ReportState(PLACE.name).succeeded(NOW)


def policy(*rpos: timedelta, place: ReportPolicy | None = PLACE) -> Policy:
    sources: Any = {str(rpo): SimpleNamespace(category=SimpleNamespace(rpo=rpo)) for rpo in rpos}
    return Policy("acme", "UTC", sources, {}, {}, {}, (), "0" * 64, report_to=place)


@pytest.mark.parametrize(
    ("rpos", "expected"),
    [((), 60), ((timedelta(days=7),), 60), ((timedelta(days=7), timedelta(hours=1)), 15), ((MINUTE,), 5)],
)
def test_a_report_is_never_older_than_a_quarter_of_the_shortest_rpo(rpos: tuple[timedelta, ...], expected: int) -> None:
    assert every(policy(*rpos)) == expected * MINUTE


@pytest.mark.parametrize(
    ("state", "newest", "after", "expected"),
    [
        (ReportState("x"), None, MINUTE, True),
        (DONE, None, MINUTE, False),
        (DONE, NOW, MINUTE, False),
        (DONE, NOW + MINUTE, 2 * MINUTE, True),
        (DONE, NOW, timedelta(hours=1), True),
        (DONE, NOW, -MINUTE, True),
        (DONE.failed(NOW, "no"), NOW + MINUTE, 2 * MINUTE, False),
        (DONE.failed(NOW, "no"), NOW + MINUTE, 5 * MINUTE, True),
    ],
)
def test_a_report_is_due_when_there_is_something_new_or_the_last_is_old(
    state: ReportState, newest: datetime | None, after: timedelta, expected: bool
) -> None:
    assert due(policy(timedelta(days=1)), state, newest, NOW + after) is expected


def test_a_failure_is_since_the_first_that_failed_and_a_success_ends_it() -> None:
    failed = DONE.failed(NOW + MINUTE, "no route").failed(NOW + 2 * MINUTE, "no login")
    assert (failed.through, failed.failing_since, failed.problem) == (NOW, NOW + MINUTE, "no login")
    assert failed.succeeded(NOW + 3 * MINUTE) == ReportState(PLACE.name, NOW + 3 * MINUTE, NOW + 3 * MINUTE)


def test_a_restore_test_has_its_steps_with_what_they_found() -> None:
    steps = (
        Step("select_backup", NOW, 0.12345, True),
        Step("verify_integrity", NOW, 2, False, "others", {"checksums_match": False, "row_counts_match": True}),
    )
    evidence = Evidence("test-1", "restore_test", "shop", "p", "one", NOW, NOW + MINUTE, False, Rung.RESTORED, steps)
    row = row_of_test(evidence, "bigquery", "acme")
    assert (row["test_id"], row["backup_type"], row["test_date"], row["passed"]) == (
        *("test-1", "bigquery", "2026-11-29T12:01:00+00:00"),
        False,
    )
    assert [step["step"] for step in row["steps"]] == ["select_backup", "verify_integrity"]
    assert row["steps"][0]["duration_seconds"] == 0.123
    found = row["steps"][1]
    assert (found["passed"], found["checksums_match"], found["row_counts_match"]) == (False, False, True)
    assert found["sample_data_valid"] is None


@pytest.mark.parametrize(
    ("state", "passed", "detail"),
    [
        (None, False, "nothing was ever reported"),
        (ReportState(PLACE.name), False, "nothing was ever reported"),
        (ReportState(PLACE.name).failed(NOW - timedelta(hours=3), "no route"), False, "3 h: no route"),
        (ReportState(PLACE.name).succeeded(NOW - timedelta(hours=25)), True, "last report"),
        (ReportState(PLACE.name).succeeded(NOW - timedelta(hours=27)), False, "last report"),
        (ReportState(PLACE.name).succeeded(NOW + timedelta(hours=1)), False, "last report"),
    ],
)
def test_a_report_that_does_not_arrive_is_found(state: ReportState | None, passed: bool, detail: str) -> None:
    (check,) = checks(policy(), state)
    assert (check.subject, check.passed) == (PLACE.name, passed)
    assert detail in check.detail


def test_nothing_is_found_where_nobody_wants_reports() -> None:
    assert checks(policy(place=None), DONE) == []


def checks(asked: Policy, state: ReportState | None) -> list[Check]:
    control = next(each for each in CONTROLS if each.id == "reports")
    return list(control.check(Audited(asked, Facts({}, {}), {}, NOW, Environment(report=state))))
