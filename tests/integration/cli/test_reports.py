"""What is known, reported to BigQuery: by commands that make facts, once however often, and never in their way."""

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.sources.bigquery.report_tables import LOGS, STATUS, TESTS, ReportTable, status_view
from integration.cli.conftest import Home
from servers.bigquery import BASE, PROJECT, Dataset
from servers.bigquery_front import Front
from servers.bigquery_wire import RefusedError

SECTION = """
report_to:
  bigquery:
    dataset: {project}.reports
    credentials: file:account.json
    endpoint: {front}
    tls: none
"""
DASHBOARD = """
SELECT source, status, hours_since_backup, last_test_passed, reported_at
FROM `{}.backup_status` WHERE business_id = '%s' AND status != 'HEALTHY'
ORDER BY CASE status WHEN 'UNPROTECTED' THEN 0 WHEN 'FAILED_TEST' THEN 1 ELSE 2 END, hours_since_backup DESC
"""


@pytest.fixture
def reporting(home: Home, bqemulator: Front) -> Iterator[Home]:
    """An installation that reports, to a dataset that nobody has made."""
    key = home.policy.parent / "account.json"
    key.write_text(bqemulator.store.logins.key_file)
    key.chmod(0o600)
    section = SECTION.format(project=PROJECT, front=bqemulator.endpoint)
    home.policy.write_text(home.policy.read_text().replace("\nsources:\n", f"{section}\nsources:\n", 1))
    yield home
    bqemulator.refuse = lambda method, path, body: None
    bqemulator.ask("DELETE", f"{BASE}/datasets/reports?deleteContents=true")


def plain(rows: list[Any]) -> list[list[Any]]:
    return [[cell["v"] for cell in row["f"]] for row in rows]


def test_backups_tests_and_status_arrive_once_and_what_failed_arrives_later(reporting: Home, bqemulator: Front) -> None:
    reports = Dataset(bqemulator, "reports")

    with sqlite3.connect(next(reporting.data.rglob("*.db"))) as database:
        database.execute("CREATE TABLE new (id INTEGER)")

    # A place that refuses fails no backup: it is a note, and a finding.
    bqemulator.refuse = lambda method, path, body: (
        RefusedError(403, "accessDenied", "Access Denied: Project") if path.endswith("/jobs") else None
    )
    backed_up = reporting("backup", "ledger-database")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    point = reporting("points", "ledger-database", "--limit", "1", "--json").document["points"][0]["id"]

    def logs() -> list[list[Any]]:
        asked = "SELECT destination, verified, file_count > 0 FROM `{}.backup_logs` WHERE backup_id = '%s'"
        return plain(reports.sql(f"{asked % point} ORDER BY destination"))

    assert "could not be reported" in backed_up.err and "bigquery.jobs.create" in backed_up.err
    refused = reporting("report", "--json")
    assert refused.status is ExitStatus.CHANNEL
    assert json.loads(refused.out)["error"]["code"] == "report"
    assert finding(reporting, passed=False)

    # What was missing is delivered with the next report, which nothing has to remember but the catalog.
    bqemulator.refuse = lambda method, path, body: None
    everything = reporting("report", "--json").document["copies"]
    assert everything >= 9
    assert logs() == [[vault, "false", "true"] for vault in ("one", "three", "two")]
    assert finding(reporting, passed=True)
    columns = [
        each["name"]
        for each in reports.front.ask("GET", f"{BASE}/datasets/reports/tables/backup_logs")["schema"]["fields"]
    ]
    assert columns[:7] == [
        *("backup_id", "table", "destination", "timestamp", "file_count", "total_size_bytes", "verified"),
    ]

    # Commands report by themselves; a copy is verified only once it was read, or came back.
    assert reporting("test", "ledger-database", "--vault", "two").status is ExitStatus.SUCCESS
    assert logs() == [["one", "false", "true"], ["three", "false", "true"], ["two", "true", "true"]]
    assert reporting("verify", "one").status is ExitStatus.SUCCESS
    assert logs()[0] == ["one", "true", "true"]
    pack = next(path for path in (reporting.vault("two") / "repositories/main/data").rglob("*") if path.is_file())
    pack.chmod(0o600)
    pack.write_bytes(bytes(len(pack.read_bytes())))
    assert reporting("verify", "two").status is ExitStatus.DAMAGE
    assert logs() == [["one", "true", "true"], ["three", "false", "true"], ["two", "false", "true"]]

    # Once more, all of it: nothing is there twice.
    assert reporting("report", "--again", "--json").document["copies"] == everything
    assert plain(reports.sql("SELECT COUNT(*) FROM `{}.backup_logs`")) == [[str(everything)]]
    asked = f"SELECT backup_type, steps, passed FROM `{{}}.backup_tests` WHERE backup_id = '{point}'"
    ((backup_type, steps, passed),) = plain(reports.sql(asked))
    assert (backup_type, passed) == ("sqlite", "true")
    rows = [[cell["v"] for cell in step["v"]["f"]] for step in steps]
    assert [step[0] for step in rows] == ["select_backup", "restore", "verify_integrity", "cleanup"]
    assert rows[2][4:] == ["true", "true", "true"]
    assert all(float(step[1]) >= 0 and step[2] == "true" for step in rows)

    # The dashboard, and the very columns that were asked for first.
    told = reporting("status", "--json").document["sources"]
    expected = {each["source"]: each["status"] for each in told if each["status"] != "HEALTHY"}
    assert expected["ledger-database"] == "FAILED_TEST"
    business = re.search(r"(?m)^business: (\S+)", reporting.policy.read_text())
    assert business is not None
    found = {row[0]: row[1] for row in plain(reports.sql(DASHBOARD % business[1]))}
    assert found == expected
    answer = bqemulator.ask(
        "POST",
        f"{BASE}/queries",
        {"query": f"SELECT * FROM `{PROJECT}.reports.backup_status`", "useLegacySql": False},
    )
    assert [each["name"] for each in answer["schema"]["fields"]][:9] == [
        *("data_category", "backup_type", "last_backup_time", "hours_since_backup", "last_backup_size_bytes"),
        *("last_test_date", "last_test_passed", "status", "business_id"),
    ]

    # What was healthy when it was reported grows old by itself; who leaves the policy leaves the status.
    reports.sql(
        "UPDATE `{}.backup_status_reported` SET status = 'HEALTHY',"
        " last_confirmed_time = TIMESTAMP '2024-01-01 00:00:00+00' WHERE source = 'ledger-database'"
    )
    aged = "SELECT status, hours_since_backup < 1 FROM `{}.backup_status` WHERE source = 'ledger-database'"
    assert plain(reports.sql(aged)) == [["OVERDUE", "true"]]
    without = re.sub(r"(?m)^  app-repository:\n(?:(?:    .*| *|  #.*)\n)*", "", reporting.policy.read_text())
    reporting.policy.write_text(without)
    left = reporting("report")
    assert left.status is ExitStatus.SUCCESS, left
    left_over = plain(reports.sql("SELECT source FROM `{}.backup_status` ORDER BY source"))
    assert left_over == [["data-files"], ["ledger-database"]]


def finding(home: Home, *, passed: bool) -> bool:
    """Whether the control of reports passes, or not, as it should."""
    found = [each for each in home("audit", "--json").document["findings"] if each["control"] == "reports"]
    return not found if passed else len(found) == 1


@pytest.mark.parametrize("table", [LOGS, TESTS, STATUS], ids=lambda table: table.name)
def test_rows_are_read_as_the_columns_have_them_by_googles_own_analyzer(
    bigquery_emulator: Front, table: ReportTable
) -> None:
    made = Dataset.new(bigquery_emulator)
    made.table(table.name, list(table.fields))
    rows = [{table.keys[0]: "a", "steps": [{"step": "restore", "duration_seconds": 1.5, "passed": True}]}]
    columns = ", ".join(f"`{field['name']}`" for field in table.fields)
    place = f"`{PROJECT}.{made.name}.{table.name}`"
    query = {
        "query": f"INSERT INTO {place} ({columns}) {table.rows()}",
        "useLegacySql": False,
        "parameterMode": "NAMED",
        "queryParameters": [
            {"name": "rows", "parameterType": {"type": "STRING"}, "parameterValue": {"value": json.dumps(rows)}}
        ],
    }
    answer = bigquery_emulator.ask("POST", f"{BASE}/queries", query)
    assert not answer.get("errors"), answer
    assert plain(made.sql(f"SELECT {table.keys[0]} FROM {place}")) == [["a"]]
    if table is STATUS:
        made.view("backup_status", status_view(f"{PROJECT}.{made.name}"))
        assert len(made.sql("SELECT * FROM `{}.backup_status`")) == 1
    made.drop()
