"""A BigQuery project from the policy file to a passed restore test, a dataset that comes back, and the audit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from servers.bigquery import PROJECT, Dataset
from servers.bigquery_front import Front

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
    beside = protecting("restore", "sales", "--database", shop.name, "--as", "beside", "--yes")
    assert beside.status is ExitStatus.SUCCESS, beside
    back = Dataset(bqemulator, "beside")
    assert back.rows("orders") == shop.rows("orders")
    back.drop()
    other = Dataset.new(bqemulator)
    found = protecting("audit", "--json")
    assert f"{PROJECT}.{other.name}" in found.out
    other.drop()


def test_what_this_login_may_not_do_is_told(protecting: Home, bqemulator: Front) -> None:
    from servers.bigquery_front import RefusedError

    bqemulator.refuse = lambda method, path, body: (
        RefusedError(403, "accessDenied", "Access Denied: Project proof") if path.endswith("/jobs") else None
    )
    try:
        refused = protecting("backup", "sales")
    finally:
        bqemulator.refuse = lambda method, path, body: None
    assert refused.status is ExitStatus.SOURCE
    assert "bigquery.jobs.create" in refused.err
