"""What is reported is what the catalog knows: each copy, test and dropped point once, and verified only if it is so."""

from datetime import timedelta

import pytest

from cto_backups.catalog import reports
from cto_backups.core.model import Step


def told(catalog, since=None):
    """All that is reported, joined: copies by point and vault, and the ids of tests and of dropped points."""
    parts = list(catalog.reports.told(since))
    logs = [(row["backup_id"], row["destination"], row["verified"]) for part in parts for row in part.logs]
    tests = [row["test_id"] for part in parts for row in part.tests]
    return logs, tests, [row["backup_id"] for part in parts for row in part.expired]


def verified(catalog):
    return {vault: proven for _, vault, proven in told(catalog)[0]}


def test_a_copy_is_verified_once_it_was_read_or_came_back_and_no_longer_than_that_is_true(catalog, build):
    stored = build.ago(hours=9)
    catalog.add_point_with_copy(build.point("p1", stored), build.copy("p1", stored_at=stored))
    catalog.add_copy(build.copy("p1", "far", stored_at=stored))
    assert verified(catalog) == {"near": False, "far": False}
    catalog.add_evidence(build.reading("before", "near", build.ago(hours=10)))
    assert not verified(catalog)["near"], "it was not there yet"
    catalog.add_evidence(build.reading("part", "near", build.ago(hours=8), read_since=None))
    assert not verified(catalog)["near"], "not all of it was read"
    catalog.add_evidence(build.reading("all", "near", build.ago(hours=7)))
    assert verified(catalog) == {"near": True, "far": False}
    catalog.add_evidence(build.test("elsewhere", "p2", build.ago(hours=6), vault="far"))
    assert not verified(catalog)["far"], "another point came back"
    catalog.add_evidence(build.test("t1", "p1", build.ago(hours=6), vault="far"))
    assert verified(catalog) == {"near": True, "far": True}
    catalog.add_evidence(build.reading("damage", "near", build.ago(hours=5), passed=False))
    assert verified(catalog) == {"near": False, "far": True}
    catalog.add_evidence(build.reading("again", "near", build.ago(hours=4)))
    assert verified(catalog)["near"]
    catalog.add_evidence(build.test("t2", "p1", build.ago(hours=3), vault="far", passed=False))
    assert verified(catalog) == {"near": True, "far": False}


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_nothing_is_left_out_however_much_there_is(catalog, build, monkeypatch, at_once):
    monkeypatch.setattr(reports, "_AT_ONCE", at_once)
    for number in range(5):
        at = build.ago(hours=20 - number)
        catalog.add_point_with_copy(build.point(f"p{number}", at), build.copy(f"p{number}", stored_at=at))
        catalog.add_copy(build.copy(f"p{number}", "far", stored_at=at))
        catalog.add_evidence(build.test(f"t{number}", f"p{number}", at + timedelta(minutes=1)))
    for number in range(3):
        catalog.expire_point(f"p{number}", build.now, [], build.key)
    logs, tests, dropped = told(catalog)
    assert [row[:2] for row in logs] == [("p3", "far"), ("p3", "near"), ("p4", "far"), ("p4", "near")]
    assert tests == [f"t{number}" for number in range(5)]
    assert dropped == ["p0", "p1", "p2"]


def test_what_came_since_is_told_with_an_hour_to_spare_and_what_it_changes_of_older_copies(catalog, build):
    long_ago, then = build.ago(days=9), build.ago(hours=5)
    catalog.add_point_with_copy(build.point("old", long_ago), build.copy("old", stored_at=long_ago))
    catalog.add_copy(build.copy("old", "far", stored_at=long_ago))
    late = build.ago(hours=5, minutes=50)
    catalog.add_point_with_copy(build.point("late", late), build.copy("late", stored_at=late))
    catalog.add_evidence(build.test("early", "late", build.ago(hours=5, minutes=40)))
    catalog.add_evidence(build.test("too-early", "late", build.ago(hours=6, minutes=10)))
    assert told(catalog, then) == ([("late", "near", True)], ["early"], []), "another process was a little slow"
    catalog.add_evidence(build.reading("now", "near", build.ago(hours=1)))
    logs, _, _ = told(catalog, then)
    assert ("old", "near", True) in logs and ("old", "far", False) not in logs
    assert catalog.reports.newest() == build.ago(hours=1)
    catalog.expire_point("old", build.now, [], build.key)
    assert told(catalog, then)[2] == ["old"]
    assert told(catalog, build.now + timedelta(hours=2)) == ([], [], [])


def test_the_last_part_tells_how_every_source_is_and_which_are_no_more(catalog, build):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    *_, last = catalog.reports.told(None)
    assert [(row["source"], row["last_point"], row["copies"]) for row in last.status] == [("ledger", "p1", 1)]
    catalog.sync_policy(build.policy(build.source("other"), digest="d2"), b"without it", build.now)
    *_, last = catalog.reports.told(None)
    assert [row["source"] for row in last.status] == ["other"]
    assert last.former == ["ledger"]


def test_a_failed_test_is_reported_as_one_with_the_step_that_failed(catalog, build):
    steps = (
        Step("restore", build.now, 2.5, True, "", {}),
        Step("verify_integrity", build.now, 0.5, False, "rows differ", {"row_counts_match": False}),
    )
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    catalog.add_evidence(build.test("t1", "p1", passed=False, steps=steps))
    (row,) = [row for part in catalog.reports.told(None) for row in part.tests]
    assert (row["passed"], row["backup_id"], row["destination"], row["business_id"]) == (False, "p1", "near", "acme")
    assert [(step["step"], step["passed"], step["row_counts_match"]) for step in row["steps"]] == [
        ("restore", True, None), ("verify_integrity", False, False)
    ]  # fmt: skip
