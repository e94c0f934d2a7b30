"""Status costs what there are sources, not what there are points: no statement scans a table that grows with time."""

import re

import pytest

from cto_backups.catalog.database import Connection

GROWING = ("points", "copies", "evidence", "runs", "records")


@pytest.fixture
def plans(catalog, build, monkeypatch):
    """Runs something and gives the query plan of each statement that it used."""

    def watch(do):
        statements = []
        execute = Connection.execute

        def note(connection, statement, values=None):
            statements.append((statement, values))
            return execute(connection, statement, values)

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "execute", note)
            do()
        reading = [(text, values) for text, values in statements if re.match(r"\s*(SELECT|WITH)\b", text)]
        with catalog.reading() as connection:
            return [
                (text, [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)])
                for text, values in reading
            ]

    return watch


SMALL = (
    "sources",
    "s",
    "v",
    "vaults",
    "json_each",
    "actions",
    "source_vaults",
    "heartbeat",
    "last_tellings",
    "reached",
    "places",  # of sources and vaults
    "asked",  # names of vaults
    "kinds",  # of evidence
)


def scans(plan):
    """The growing tables that a plan reads from one end to the other, under whatever alias."""
    found = []
    for step in plan:
        match = re.match(r"SCAN (\w+)", step)
        if match and match[1] not in SMALL:
            found.append(step)
    return [step for step in found if not re.match(r"SCAN (\d )?CONSTANT", step)]


def test_reading_the_facts_scans_nothing_that_grows(catalog, build, plans):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    seen = plans(lambda: catalog.facts(build.now))
    tables = {name for text, _ in seen for name in GROWING if re.search(rf"\b{name}\b", text)}
    assert tables == {"points", "copies", "evidence", "runs"}, "the watch itself must see the statements"
    for text, plan in seen:
        assert scans(plan) == [], text
        assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan if "points" in text), (text, plan)


def test_the_copies_of_a_source_are_read_at_the_cost_of_one_source(catalog, build, plans):
    """A vault's index leads to the right test as well, past the tests of every other source."""
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    ((_, plan),) = [each for each in plans(lambda: catalog.facts(build.now)) if "AS test_evidence" in each[0]]
    assert any("USING INDEX evidence_by_point (point=? AND vault=?)" in step for step in plan), plan
    assert any("evidence_by_vault (vault=? AND kind=? AND finished_at>?)" in step for step in plan), plan


def test_the_view_scans_nothing_that_grows(catalog, build, plans):
    with catalog.reading() as connection:
        query = "EXPLAIN QUERY PLAN SELECT * FROM backup_status"
        plan = [row[3] for row in connection.execute(query)]
    assert any("points_kept_complete" in step for step in plan)
    assert scans(plan) == []


def test_single_look_ups_use_an_index(catalog, build, plans):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))

    def look_up():
        catalog.point("p1")
        catalog.latest("ledger")
        catalog.at("ledger", build.now)
        catalog.after("ledger", build.now)
        catalog.leading_to("ledger", build.now)
        catalog.points("ledger", limit=3)
        catalog.points(limit=3)
        catalog.copies("p1")
        catalog.expired_copies_to_delete()
        catalog.expire_point("p2", build.now, [], build.key)
        catalog.interrupt_dead_runs("host", lambda pid: True, build.now)
        catalog.unshown_points("x")
        catalog.vault_head("near", "x")
        catalog.evidence(source="ledger", kind="restore_test")
        list(catalog.records_after("x", 0))
        catalog.marks.history("ledger", 3)
        catalog.marks.listed(cleared=True)
        catalog.marks.take([])

    for text, plan in plans(look_up):
        assert [step for step in scans(plan) if "USING INDEX" not in step] == [], text


def test_the_watch_sees_a_scan(catalog, build, plans):
    """The test above can fail."""
    plan = plans(lambda: catalog.points(include_expired=True))[0][1]
    assert scans(plan)
