"""A BigQuery project from the policy file to a passed restore test, a dataset that comes back, and the audit."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home, environment
from servers.bigquery import BASE, PROJECT, Dataset
from servers.bigquery_front import Front
from servers.rough_way import Fault, RoughWay, rough_way

SECTION = """
  sales:
    kind: bigquery
    class: contact-database
    project: {project}
    datasets: [{dataset}]
    staging: gs://{bucket}/way
    credentials: file:account.json
    endpoint: {front}
    storage_endpoint: {store}
    tls: none
"""
FIELDS = [{"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}]
BY_DAY = {"timePartitioning": {"type": "DAY", "field": "day"}}


@pytest.fixture
def shop(bqemulator: Front) -> Iterator[Dataset]:
    made = Dataset.new(bqemulator)
    made.table("orders", FIELDS, [{"id": 1, "day": "2024-01-01"}, {"id": 2, "day": "2024-01-02"}], **BY_DAY)
    yield made
    made.drop()


@pytest.fixture
def protecting(home: Home, bqemulator: Front, shop: Dataset) -> Home:
    """An installation whose policy names the project too."""
    key = home.policy.parent / "account.json"
    key.write_text(bqemulator.store.logins.key_file)
    key.chmod(0o600)
    section = SECTION.format(
        project=PROJECT,
        dataset=shop.name,
        bucket=bqemulator.store.bucket(),
        front=bqemulator.endpoint,
        store=bqemulator.store.endpoint,
    )
    home.policy.write_text(home.policy.read_text().replace("\nsources:\n", f"\nsources:{section}", 1))
    return home


def extracts(front: Front) -> int:
    return sum("extract" in job["configuration"] for job in front.jobs.values())


def test_from_the_policy_to_a_passed_restore_test_and_back(
    protecting: Home, shop: Dataset, bqemulator: Front, tmp_path: Path
) -> None:
    began = extracts(bqemulator)
    backed_up = protecting("backup", "sales", "--json")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    assert extracts(bqemulator) == began + 2
    again = protecting("backup", "sales", "--json")
    assert again.status is ExitStatus.SUCCESS, again
    assert extracts(bqemulator) == began + 2, "nothing changed"
    shop.insert("orders", {"id": 3, "day": "2024-01-02"})
    assert protecting("backup", "sales").status is ExitStatus.SUCCESS
    assert extracts(bqemulator) == began + 3, "one partition changed"
    proven = protecting("test", "sales", "--json")
    assert proven.status is ExitStatus.SUCCESS, proven
    (test,) = proven.document["tests"]
    assert test["rung"] == "proven"
    figures: dict[str, Any] = next(step["figures"] for step in test["steps"] if step["name"] == "verify_integrity")
    assert figures["row_counts_match"] and figures["checksums_match"] and figures["sample_data_valid"]
    assert "BigQuery scanned" in figures["notes"]
    assert protecting("restore", "sales", "--to", str(tmp_path / "files")).status is ExitStatus.SUCCESS
    assert len(list((tmp_path / "files").rglob("*.avro"))) == 2
    for vault in ((), ("--vault", "one")):
        beside = protecting("restore", "sales", "--database", shop.name, "--as", "beside", "--json", *vault)
        assert beside.status is ExitStatus.SUCCESS, beside
        assert beside.document["way"] == ("export" if vault else "time travel")
        back = Dataset(bqemulator, "beside")
        assert back.rows("orders") == shop.rows("orders")
        back.drop()
    shop.sql("DELETE FROM `{}.orders` WHERE TRUE")
    words = ("restore", "sales", "--database", shop.name, "--as", "beside", "--at", "now")
    told = protecting(*words, "--dry-run")
    assert "by time travel" in told.out
    assert "before the one asked for" not in told.err, "it is the very moment"
    assert protecting(*words).status is ExitStatus.SUCCESS
    back = Dataset(bqemulator, "beside")
    assert back.rows("orders") == []
    back.drop()
    from_vault = protecting(*words, "--vault", "one", "--dry-run")
    assert "by the point's files" in from_vault.out
    assert "before the one asked for" in from_vault.err
    other = Dataset.new(bqemulator)
    found = protecting("audit", "--json")
    assert f"{PROJECT}.{other.name}" in found.out
    other.drop()


def test_what_this_login_may_not_do_is_told(protecting: Home, bqemulator: Front) -> None:
    from servers.bigquery_wire import RefusedError

    bqemulator.refuse = lambda method, path, body: (
        RefusedError(403, "accessDenied", "Access Denied: Project proof") if path.endswith("/jobs") else None
    )
    try:
        refused = protecting("backup", "sales")
    finally:
        bqemulator.refuse = lambda method, path, body: None
    assert refused.status is ExitStatus.SOURCE
    assert "bigquery.jobs.create" in refused.err


@pytest.fixture
def way(bqemulator: Front) -> Iterator[RoughWay]:
    with rough_way(bqemulator.store) as made:
        yield made


def test_a_capture_that_is_killed_leaves_nothing_that_the_next_one_does_not_remove(
    protecting: Home, bqemulator: Front, way: RoughWay
) -> None:
    text = protecting.policy.read_text()
    protecting.policy.write_text(text.replace(bqemulator.store.endpoint, way.store.endpoint))
    bucket = text.partition("staging: gs://")[2].partition("/")[0]
    victims: list[subprocess.Popen[bytes]] = []

    def killed() -> None:
        os.kill(victims[-1].pid, signal.SIGKILL)
        victims[-1].wait()

    def at_extract(_method: str, _path: str, body: Any) -> None:
        if body and "extract" in body.get("configuration", {}):
            killed()

    def in_extract(method: str, path: str, _body: Any) -> None:
        last = path.rpartition("/")[2]  # a job; or all that there are, where looking at each would take long
        asked = bqemulator.jobs.values() if last == "jobs" else filter(None, [bqemulator.jobs.get(last)])
        if method == "GET" and any("extract" in job["configuration"] for job in asked):
            killed()

    def reading(method: str, path: str) -> Fault | None:
        if method == "GET" and "alt=media" in path:
            killed()
        return None

    def left() -> tuple[int, int]:
        """How many snapshots there are, and whether there are files."""
        tables = bqemulator.ask("GET", f"{BASE}/datasets/cto_backups_staging_sales/tables").get("tables", ())
        files = bqemulator.store.ask("GET", f"/storage/v1/b/{bucket}/o?prefix=way/").get("items", ())
        return len(tables), len(files)

    def attempt() -> tuple[int, int]:
        command = [sys.executable, "-m", "cto_backups", "backup", "sales"]
        variables = environment(CTO_BACKUPS_POLICY=str(protecting.policy))
        before = set(bqemulator.jobs)
        victims.append(subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        out, _ = victims[-1].communicate(timeout=120)
        assert victims[-1].returncode == -signal.SIGKILL, out
        snapshots = [
            job for name, job in bqemulator.jobs.items() if name not in before and "copy" in job["configuration"]
        ]
        assert len(snapshots) == 1
        return left()

    try:
        bqemulator.refuse = at_extract
        assert attempt()[0] == 1
        bqemulator.refuse, bqemulator.polls = in_extract, 1
        snapshots, files = attempt()
        assert snapshots == 1, "what the one before left is gone"
        assert files
        bqemulator.refuse, bqemulator.polls = lambda method, path, body: None, 0
        way.dice = reading
        snapshots, files = attempt()
        assert snapshots == 1
        assert files
    finally:
        bqemulator.refuse, bqemulator.polls = lambda method, path, body: None, 0
        way.dice = None
    assert protecting("points", "sales", "--json").document["points"] == []
    backed_up = protecting("backup", "sales")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    assert left() == (0, 0)
    assert len(protecting("points", "sales", "--json").document["points"]) == 1
    assert protecting("test", "sales").status is ExitStatus.SUCCESS


def test_a_project_is_tried_out_and_told_line_by_line(protecting: Home, bqemulator: Front) -> None:
    """The emulator lacks what it lacks: what backups rely on of that is marked, and ends with 11."""
    costs = protecting("source", "check", "sales", "--dry-run")
    assert costs.status is ExitStatus.SUCCESS, costs
    assert "At most" in costs.err and "MiB" in costs.err
    told = protecting("source", "check")
    assert told.status is ExitStatus.VERIFICATION, told
    assert "NOT all that backups rely on works" in told.out
    assert "dropped: refused" in told.err
    answer = protecting("source", "check", "sales", "--json").document
    (sales,) = answer["sources"]
    assert sales["passed"] is False
    assert {each["rule"]: each["answer"] for each in sales["rules"]}["load"] == "works"
    assert sales["scanned_bytes"] > 0


def test_a_source_with_nothing_to_try_is_refused_and_sources_are_listed(protecting: Home) -> None:
    listed = protecting("source", "--json").document["sources"]
    (other,) = [each["source"] for each in listed if each["kind"] != "bigquery"][:1]
    assert {"source": "sales", "kind": "bigquery"}.items() <= {
        name: value for each in listed if each["source"] == "sales" for name, value in each.items()
    }.items()
    refused = protecting("source", "check", other)
    assert refused.status is ExitStatus.REFUSED, refused
    assert f"cto.backups test {other}" in refused.err
