"""The benchmark of many small tables: what it counts, on a few of them; its times mean nothing here."""

from pathlib import Path

from benchmarks import many_tables

TABLES = 12


def test_a_backup_asks_so_much_for_each_table_and_no_more(tmp_path: Path) -> None:
    figures = many_tables.measured(tmp_path, TABLES, jobs=4, seconds=0.1, latency=0.0)
    asked = figures.asked
    assert asked["jobs.insert"] == 3 * TABLES + 3, "snapshot, sums, extract; and the clock, and partitions twice"
    assert asked["tables.get"] == 2 * TABLES, "each table, and its snapshot"
    assert asked["jobs.getQueryResults"] == TABLES + 3
    for kind in ("rowAccessPolicies.list", "objects.get", "objects.delete", "tables.delete"):
        assert asked[kind] == TABLES
    assert asked["objects.list"] == TABLES + 2
    looks = asked.get("jobs.list", 0) + asked.get("jobs.get", 0)
    assert looks <= 2 * asked["jobs.insert"], "jobs are looked at together, and an answer is waited for in one request"
    assert figures.most <= 4
    assert figures.jobs == 3 * TABLES * 0.1 / 4
    assert figures.wall > figures.jobs


def test_a_restore_test_asks_so_much_for_each_table_and_no_more(tmp_path: Path) -> None:
    figures = many_tables.measured(tmp_path, TABLES, jobs=4, seconds=0.1, latency=0.0, is_test=True)
    asked = figures.asked
    assert asked["jobs.insert"] == 2 * TABLES, "load, and sums"
    for kind in ("tables.insert", "tables.get", "objects.insert", "objects.delete", "jobs.getQueryResults"):
        assert asked[kind] == TABLES
    assert asked["objects.list"] == TABLES + 1
    assert asked.get("jobs.list", 0) + asked.get("jobs.get", 0) <= 2 * asked["jobs.insert"]
    assert figures.most <= 4
    assert figures.jobs == 2 * TABLES * 0.1 / 4
