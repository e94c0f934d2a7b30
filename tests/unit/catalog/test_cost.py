"""Status costs what there are sources, not what there are points: no statement scans a table that grows with time."""

import re

import pytest

from cto_backups.catalog import due_times
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import Connection
from cto_backups.core.looks import Place

GROWING = ("points", "copies", "evidence", "runs", "records")


MANY = """
INSERT INTO points (id, source, kind, category, business, started_at, captured_at, finished_at, size_bytes, added_bytes,
    entry_count, root, paths, fingerprint, policy_digest, domain, problems, complete, expired_at, proven_at)
SELECT 'old-' || n, source, kind, category, business, at, at, at, 1, 1, 1, root, paths, fingerprint, policy_digest,
    domain, problems, 1, CASE WHEN n < 1000 THEN at END, CASE n % 9 WHEN 0 THEN at END
FROM points, (SELECT n, to_char(timestamp '2020-01-01' + n * interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at
    FROM generate_series(1, 3000) n) numbers WHERE id = 'p1';
INSERT INTO copies SELECT id, vault, id, captured_at, 1, 0 FROM points, (VALUES ('near'), ('far')) vaults (vault)
    WHERE id LIKE 'old-%';
INSERT INTO evidence SELECT 'e-' || id, CASE WHEN id LIKE '%0' THEN 'verify' ELSE 'restore_test' END, 'ledger', id,
    'near', captured_at, captured_at, 1, 3, '[]', '', captured_at FROM points WHERE id LIKE 'old-%';
INSERT INTO runs SELECT n, 'backup', 'ledger', NULL, 'old-' || n, 'host', 1, captured_at, NULL, 'succeeded', '', '',
    '{}' FROM points, generate_series(1, 3000) n WHERE id = 'p1';
INSERT INTO runs SELECT 3000 + n, 'copy', 'ledger-' || n % 999, 'far', 'old-' || n, 'host', 1, captured_at, NULL,
    'succeeded', '', '', '{}' FROM points, generate_series(1, 50000) n WHERE id = 'p1';
INSERT INTO due_times SELECT 'source', 's' || n, '2026-03-18T12:00:00.000000Z', NULL, '2026-03-18T12:00:00.000000Z', 0
    FROM generate_series(1, 3000) n;
INSERT INTO records SELECT 'somebody', n, 'copy', '', 'old-' || n, '' FROM generate_series(1, 3000) n;
ANALYZE;
"""
"""From these a planner learns that tables are large: without them it rightly reads from end to end."""


@pytest.fixture(scope="module")
def large_url(catalog_server, build):
    """A catalog on a server that has been in use for a year."""
    url = catalog_server.clone("large")
    with Catalog.open(url, now=build.now) as catalog:
        catalog.sync_policy(build.policy(), b"the policy", build.now)
        catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
        with catalog._writing() as connection:
            for many in MANY.split(";\n")[:-1]:
                connection.execute(many)
    yield url
    catalog_server.drop("large")


@pytest.fixture
def server_url(large_url):
    return large_url


@pytest.fixture
def explained(url, catalog):
    """Gives the steps of the query plan of a statement, as the database tells them."""
    explain = "EXPLAIN QUERY PLAN" if url.startswith("sqlite:") else "EXPLAIN"

    def explained(statement, values=None):
        with catalog.reading() as connection:
            if explain == "EXPLAIN":  # of some thousand rows a planner may choose to read all, of millions not
                connection.execute("SET LOCAL enable_seqscan = off")
            rows = [tuple(row) for row in connection.execute(f"{explain} {statement}", values)]
        if explain != "EXPLAIN":
            return [row[3] for row in rows]
        lines = [row[0].strip() for row in rows]  # the second line of a step says by which condition
        return [" ".join(step) for step in zip(lines, [*lines[1:], ""], strict=True)]

    return explained


@pytest.fixture
def plans(catalog, explained, monkeypatch):
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
        return [(text, explained(text, values)) for text, values in reading]

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
    "later",  # points, counted up to a limit
    "kinds",  # of evidence
    "newest",  # points, up to a limit
    "first",  # point
)


def scans(plan):
    """The growing tables that a plan reads from one end to the other, under whatever alias."""
    found = []
    for step in plan:
        match = re.match(r"SCAN (\w+)", step)
        if match and match[1] not in SMALL:
            found.append(step)
        if re.search(rf"Seq Scan on ({'|'.join(GROWING)})\b", step):
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


def test_the_last_runs_are_found_by_source_and_by_vault(catalog, build, plans):
    """And not by walking all runs backwards for one of a kind that there never was."""
    asked = [(text, plan) for text, plan in plans(lambda: catalog.facts(build.now)) if "FROM runs" in text]
    assert len(asked) == 4
    for text, plan in asked:
        of = "runs_by_vault" if "vault = asked.name" in text else "runs_by_source"
        assert any(of in step for step in plan), (text, plan)
        assert not any("Backward using runs_pkey" in step or "SCAN runs" in step for step in plan), (text, plan)


def test_of_the_points_of_a_source_only_those_that_are_kept_are_read(catalog, build, plans):
    """A vault that has no copy yet has all kept points before it, and not all that there were for years."""
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    for text, plan in plans(lambda: catalog.facts(build.now)):
        assert not any("points_of_source" in step for step in plan), (text, plan)


def test_the_copies_of_a_source_are_read_at_the_cost_of_one_source(catalog, build, plans):
    """A vault's index leads to the right test as well, past the tests of every other source."""
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    ((_, plan),) = [each for each in plans(lambda: catalog.facts(build.now)) if "AS test_evidence" in each[0]]
    by_point = r"USING INDEX evidence_by_point \(point=\? AND vault=\?\)|Scan.* using evidence_by_point on evidence"
    assert any(re.search(by_point, step) for step in plan), plan
    by_vault = r"evidence_by_vault \(vault=\? AND kind=\? AND finished_at>\?\)|using evidence_by_vault on evidence"
    assert any(re.search(by_vault, step) for step in plan), plan


def test_the_view_scans_nothing_that_grows(catalog, build, explained):
    plan = explained("SELECT * FROM backup_status")
    assert any("points_kept_complete" in step for step in plan), plan
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


def test_a_plan_pass_reads_what_is_due_and_not_what_exists(url, catalog, build, explained):
    """Of a hundred thousand sources as well: each part of the question walks an index, up to its limit."""
    statements = []

    class Watching:
        def execute(self, statement, values=None):
            statements.append((statement, values))
            return catalog_connection.execute(statement, values)

    with catalog.reading() as catalog_connection:
        due_times.to_look_at(Watching(), build.now, 5, 5, [Place("ledger"), Place("other")])
        due_times.next_look(Watching(), build.now)
    for text, values in statements:
        plan = explained(text, values)
        on_due_times = [step for step in plan if "due_times" in step]
        assert on_due_times
        for step in on_due_times:
            assert re.search(r"USING (COVERING )?INDEX|using due_times_\w+", step), (text, plan)
            assert not re.match(r"SCAN due_times$|.*Seq Scan on due_times", step), (text, plan)


def test_what_was_dropped_since_the_last_report_is_found_among_all_that_ever_were(catalog, build, plans):
    seen = plans(lambda: list(catalog.reports.told(build.now)))
    ((text, plan),) = [(text, plan) for text, plan in seen if "expired_at, id) >" in text]
    assert any("points_expired" in step for step in plan), (text, plan)


def test_what_is_verified_of_one_source_is_read_at_the_cost_of_one_source(url, catalog, build, plans):
    """Not by walking the copies of all sources in a vault, nor all its tests for each copy."""
    if url.startswith("postgresql"):
        pytest.skip("its planner goes by statistics, which a catalog of one point has none of")
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    catalog.add_evidence(build.reading("e1"))
    seen = plans(lambda: catalog.facts(build.now, ["ledger"], kept_points=True))
    ((_, plan),) = [each for each in seen if "CROSS JOIN copies" in each[0]]
    assert not any("copies_by_vault" in step for step in plan), plan
    (_, plan), *_ = [each for each in plans(lambda: list(catalog.reports.told(build.now))) if "AS verified" in each[0]]
    assert sum("evidence_by_point" in step for step in plan) == 3, plan


def test_the_watch_sees_a_scan(catalog, build, plans):
    """The test above can fail."""
    plan = plans(lambda: catalog.points(include_expired=True))[0][1]
    assert scans(plan)
