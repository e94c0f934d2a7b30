"""BigQuery tried out in a project: what an emulator does, what it does not, and what goes wrong on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.source_check import Outcome, Tried
from cto_backups.sources.bigquery import trial
from servers.bigquery import PROJECT, Dataset, datasets
from servers.bigquery_front import Front
from servers.bigquery_wire import RefusedError

from .test_bigquery import Make, making

LACKS = {"by-arrival", "bignumeric", "geography", "dropped"}
"""What the emulator of these tests does not do; nor is change history told of rows that SQL adds."""


@pytest.fixture
def make(bqemulator: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    # What the emulator fails at inside is tried again and again, as by a service that may recover.
    monkeypatch.setattr(trial, "TABLES", tuple(each for each in trial.TABLES if each.name != "bignumeric"))
    shop = Dataset.new(bqemulator)
    was = bqemulator.refuse
    yield making(bqemulator, bqemulator.store.bucket(), shop, tmp_path)
    bqemulator.refuse = was
    shop.drop()


def tried(made: Any) -> dict[str, Tried]:
    found = made.try_out()
    assert [each.name for each in found.tried] == [name for name in trial.RULES if name != "bignumeric"]
    return {each.name: each for each in found.tried}


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RULES", {name: title for name, title in trial.RULES.items() if name != "bignumeric"})


def ours(front: Front) -> list[str]:
    return [name for name in datasets(front) if "sales_check" in name]


def test_what_the_emulator_does_is_seen_to_work_and_what_it_lacks_is_told(make: Make, bqemulator: Front) -> None:
    found = tried(make())
    works = {name for name, each in found.items() if each.outcome is Outcome.WORKS}
    assert works == trial.RULES.keys() - LACKS - {"appends"}
    assert found["sums"].detail == "3 rows in 3 partitions"
    assert found["time-travel"].detail == "3 rows, the same", "and not the one that was added since"
    assert (found["appends"].outcome, found["appends"].wanted) == (Outcome.DIFFERS, False)
    assert "0 rows, and one was added" in found["appends"].detail
    assert "does not have a column" in found["by-arrival"].detail
    assert ours(bqemulator) == []


def test_history_that_tells_of_the_row_is_seen_to_work(make: Make, bqemulator: Front) -> None:
    def noting(method: str, path: str, body: Any) -> None:
        query = ((body or {}).get("configuration") or {}).get("query") or {}
        if method == "POST" and query.get("query", "").endswith("VALUES (4, DATE '2024-02-29', [])"):
            _, dataset, table = query["query"].split("`")[1].split(".")
            at = f"/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables/{table}/insertAll"
            bqemulator.history.note("POST", at, {"rows": [{"json": {"id": 4, "day": "2024-02-29", "tags": []}}]})

    bqemulator.refuse = noting
    found = tried(make(appended=("*.*",)))
    assert (found["appends"].outcome, found["appends"].wanted) == (Outcome.WORKS, True)


def test_what_policy_asks_for_is_relied_on(make: Make) -> None:
    found = tried(make(keep_snapshots_seconds=86_400.0))
    assert found["snapshot-back"].wanted


@pytest.mark.parametrize(
    ("job", "rule", "rest"),
    [
        ("extract", "extract", {"load", "appends", "time-travel", "snapshot-back", "dropped"}),
        ("load", "load", set()),
    ],
)
def test_a_right_that_is_missing_is_named_and_what_rests_on_it_is_not_tried(
    make: Make, bqemulator: Front, job: str, rule: str, rest: set[str]
) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        if method == "POST" and job in ((body or {}).get("configuration") or {}):
            return RefusedError(403, "accessDenied", f"Permission bigquery.tables.{job} denied")
        return None

    bqemulator.refuse = refuse
    found = tried(make())
    assert found[rule].outcome is Outcome.REFUSED
    assert not found[rule].passed
    assert f"bigquery.tables.{job}" in found[rule].detail
    assert {name for name, each in found.items() if each.outcome is Outcome.NOT_TRIED} == rest
    assert found["removed"].outcome is Outcome.WORKS
    assert ours(bqemulator) == []


def test_a_dataset_that_may_not_be_made_is_told_first(make: Make, bqemulator: Front) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        if method == "POST" and path.endswith("/datasets"):
            return RefusedError(403, "accessDenied", "no")
        return None

    bqemulator.refuse = refuse
    found = tried(make())
    assert "bigquery.datasets.create" in found["tables"].detail
    assert found["snapshot"].outcome is Outcome.NOT_TRIED


def test_what_fails_between_two_things_is_told_of_the_next(make: Make, bqemulator: Front) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        query = ((body or {}).get("configuration") or {}).get("query") or {}
        if "CURRENT_TIMESTAMP" in query.get("query", ""):
            return RefusedError(403, "accessDenied", "Permission bigquery.jobs.create denied")
        return None

    bqemulator.refuse = refuse
    found = tried(make())
    assert found["tables"].outcome is Outcome.WORKS
    assert found["snapshot"].outcome is Outcome.REFUSED
    assert "bigquery.jobs.create" in found["snapshot"].detail
    assert found["sums"].outcome is Outcome.NOT_TRIED
    assert ours(bqemulator) == []


def test_a_row_that_cannot_be_added_keeps_no_way_back_from_being_tried(make: Make, bqemulator: Front) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        query = ((body or {}).get("configuration") or {}).get("query") or {}
        if "VALUES (4," in query.get("query", ""):
            return RefusedError(403, "accessDenied", "Permission bigquery.tables.updateData denied")
        return None

    bqemulator.refuse = refuse
    found = tried(make())
    assert "bigquery.tables.updateData" in found["appends"].detail
    assert found["time-travel"].outcome is Outcome.WORKS


def test_rows_that_come_back_otherwise_are_told(make: Make, bqemulator: Front) -> None:
    """A load that brings rows of its own."""
    seen: list[str] = []

    def adding(method: str, path: str, body: Any) -> None:
        load = ((body or {}).get("configuration") or {}).get("load")
        if method == "POST" and load and load["destinationTable"]["tableId"] == "back_load":
            target = ".".join(load["destinationTable"].values())
            seen.append(target)
            bqemulator.sql(PROJECT, f"INSERT INTO `{target}` (id, tags) VALUES (9, [])")

    bqemulator.refuse = adding
    found = tried(make())
    assert seen
    assert found["load"].outcome is Outcome.DIFFERS
    assert "__NULL__ (2 rows, 1 expected)" in found["load"].detail


def test_what_cannot_be_removed_is_told(make: Make, bqemulator: Front) -> None:
    def refuse(method: str, path: str, body: Any) -> RefusedError | None:
        if method == "DELETE" and "/tables/" not in path and "cto_backups_staging_sales_check" in path:
            return RefusedError(403, "accessDenied", "no")
        return None

    bqemulator.refuse = refuse
    found = tried(make())
    assert found["removed"].outcome is Outcome.DIFFERS
    assert "cto_backups_staging_sales_check" in found["removed"].detail
    bqemulator.refuse = lambda method, path, body: None
    assert tried(make())["removed"].outcome is Outcome.WORKS
