"""A PostgreSQL server from the policy file to a passed restore test, and what the audit says of its databases."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.sources.postgresql import sums
from integration.cli.conftest import Home
from servers import postgresql
from servers.postgresql import Server

SECTION = """
  shop:
    kind: postgresql
    class: contact-database
    host: {host}
    user: postgres
    databases: [my shop]
"""


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs) as made:
        postgresql.fill(made)
        yield made


@pytest.fixture
def protecting(home: Home, server: Server) -> Home:
    """An installation whose policy names the server too."""
    text = home.policy.read_text()
    home.policy.write_text(text.replace("\nsources:\n", "\nsources:" + SECTION.format(host=server.place), 1))
    return home


def test_from_the_policy_to_a_passed_restore_test_and_back(protecting: Home, server: Server, tmp_path: Path) -> None:
    backed_up = protecting("backup", "shop", "--json")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    proven = protecting("test", "shop", "--json")
    assert proven.status is ExitStatus.SUCCESS, proven
    (test,) = proven.document["tests"]
    assert test["rung"] == "proven"
    figures = next(step["figures"] for step in test["steps"] if step["name"] == "verify_integrity")
    assert figures["row_counts_match"] and figures["checksums_match"] and figures["sample_data_valid"]
    assert protecting("restore", "shop", "--to", str(tmp_path / "dumps")).status is ExitStatus.SUCCESS
    assert sorted(file.name for file in (tmp_path / "dumps").iterdir()) == ["globals.sql", "my%20shop.dump"]
    refused = protecting("restore", "shop", "--in-place", "--yes")
    assert refused.status is ExitStatus.REFUSED, refused
    assert "my shop is there already" in refused.err
    done = protecting("restore", "shop", "--in-place", "--overwrite", "--yes")
    assert done.status is ExitStatus.SUCCESS, done
    assert server.do("SELECT count(*) FROM sales.orders", database="my shop") == [(2000,)]
    assert "-before-restore-" in done.out + done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the server as himself")
def test_what_keeps_a_restore_test_from_running_is_told_with_what_to_do(protecting: Home, tmp_path: Path) -> None:
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    text = protecting.policy.read_text()
    protecting.policy.write_text(text.replace("    user: postgres\n", f"    user: postgres\n    scratch: {closed}\n"))
    tested = protecting("test", "shop")
    assert tested.status is ExitStatus.VERIFICATION, tested
    assert f"no throwaway server could be started in {closed}" in tested.err
    assert "Next: Give the source a `scratch` that every user may enter" in tested.err
    assert "repair" not in tested.err, "nothing is damaged"


def test_the_files_of_a_server_from_the_policy_to_a_passed_restore_test(
    home: Home, postgresql_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last point with `sums: sampled`, of which the test proves less, and says so."""
    monkeypatch.setattr(sums, "_WHOLE_BYTES", 256 << 10)
    monkeypatch.setattr(sums, "_PART_BYTES", 128 << 10)
    with postgresql.server(postgresql_programs, wal_level="logical") as whole:
        postgresql.fill(whole)
        section = SECTION.format(host=whole.place).replace("    databases: [my shop]", "    method: physical")
        home.policy.write_text(home.policy.read_text().replace("\nsources:\n", "\nsources:" + section, 1))
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        whole.do("INSERT INTO twins VALUES ('after the first point')", database="my shop")
        home.policy.write_text(
            home.policy.read_text().replace("method: physical", "method: physical\n    sums: sampled")
        )
        again = home("backup", "shop", "--json")
        assert again.status is ExitStatus.SUCCESS, again
        (backed_up,) = again.document["sources"]
        assert backed_up["added_bytes"] < backed_up["read_bytes"] / 10, "what is the same is not stored again"
    tested = home("test", "shop", "--json")
    assert tested.status is ExitStatus.SUCCESS, tested
    (test,) = tested.document["tests"]
    assert test["rung"] == "restored"
    (told,) = (step["figures"]["not_compared"] for step in test["steps"] if step["name"] == "verify_integrity")
    assert re.fullmatch(r"[1-9][0-9,]* rows of large tables, outside of their samples", told)
    assert "compared only a part of it" in home("status").out
    assert told in home("evidence", "show", test["id"]).out
    refused = home("restore", "shop", "--in-place", "--yes")
    assert refused.status is ExitStatus.REFUSED, refused
    assert "--to FOLDER" in refused.err
    assert home("restore", "shop", "--to", str(tmp_path / "back")).status is ExitStatus.SUCCESS
    assert sorted(file.name for file in (tmp_path / "back").iterdir()) == ["data", "moments.json", "tablespaces", "wal"]


def test_a_moment_between_two_points_comes_back(home: Home, postgresql_programs: Path, tmp_path: Path) -> None:
    with postgresql.server(postgresql_programs, wal_level="logical") as whole:
        postgresql.fill(whole)
        settings = "    method: physical\n    base_every: 1 day"
        section = SECTION.format(host=whole.place).replace("    databases: [my shop]", settings)
        home.policy.write_text(home.policy.read_text().replace("\nsources:\n", "\nsources:" + section, 1))
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        whole.do("INSERT INTO twins VALUES ('kept')", database="my shop")
        ((moment,),) = whole.do("SELECT clock_timestamp()")
        whole.do("DELETE FROM twins", database="my shop")
        again = home("backup", "shop", "--json")
        assert again.status is ExitStatus.SUCCESS, again
        (added,) = again.document["sources"]
        assert added["read_bytes"] < 20 << 20, "the log, and no more"
        audited = home("audit", "--json", "--no-save").document
        assert [each["checks"] for each in audited["passed"] if each["control"] == "retained-log"] == [1]
        table = ("--database", "my shop", "--table", "twins", "--as", "twins then")
        beside = home("restore", "shop", "--at", moment.isoformat(), *table, "--json")
        assert beside.status is ExitStatus.SUCCESS, beside
        assert (beside.document["name"], beside.document["tables"]) == ("twins then", ["twins"])
        kept = "SELECT count(*) FROM twins WHERE word = 'kept'"
        assert whole.do(kept, database="twins then") == [(1,)]
        assert whole.do(kept, database="my shop") == [(0,)]
    proven = home("test", "shop", "--json")
    assert proven.document["tests"][0]["rung"] == "proven", proven
    newest, base = home("points", "shop", "--json").document["points"]
    assert base["log"]["since"] == base["log"]["until"]
    assert newest["log"]["since"] < moment.isoformat() < newest["log"]["until"]
    with tempfile.TemporaryDirectory(prefix="pg-at-") as folder:
        place = Path(folder) / "back"
        done = home("restore", "shop", "--at", moment.isoformat(), "--to", str(place))
        assert done.status is ExitStatus.SUCCESS, done
        assert newest["id"] in done.err + done.out, "the point that came after it, whose log leads there"
        place.parent.chmod(0o755)
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place) as back:
            assert back.do("SELECT word FROM twins WHERE word = 'kept'", database="my shop") == [("kept",)]


def test_one_database_comes_beside_at_once_and_in_place_once_it_is_approved(protecting: Home, server: Server) -> None:
    policy = protecting.policy.read_text().rstrip("\n")
    protecting.policy.write_text(f"{policy}\n\ngovernance:\n  approvals: {{restore: anyone}}\n")
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    one = ("restore", "shop", "--database", "my shop")
    before = server.do("SELECT datname FROM pg_database ORDER BY 1")
    planned = protecting(*one, "--dry-run")
    assert planned.status is ExitStatus.SUCCESS and "my shop_restored_" in planned.out, planned
    assert server.do("SELECT datname FROM pg_database ORDER BY 1") == before
    beside = protecting(*one)
    assert beside.status is ExitStatus.SUCCESS, beside
    (name,) = re.findall(r"as database (my shop_restored_\d{8}_\d{6}) on", beside.out)
    assert server.do("SELECT count(*) FROM sales.orders", database=name) == [(2000,)]
    server.do(f'DROP DATABASE "{name}"')
    assert protecting(*one, "--in-place", "--overwrite").status is ExitStatus.REFUSED, "nobody said yes"
    over = (*one, "--in-place", "--overwrite", "--yes")
    refused = protecting(*over)
    assert refused.status is ExitStatus.REFUSED and "needs an approval" in refused.err, refused
    (asked,) = re.findall(r"approval-\w+-\w+", refused.err.partition("cto.backups approve ")[2])
    assert protecting("approve", asked, "--reason", "the order table is gone").status is ExitStatus.SUCCESS
    done = protecting(*over, "--json")
    assert done.status is ExitStatus.SUCCESS, done
    assert done.document["kept_as"].startswith("my shop-before-restore-")
    server.do(f'DROP DATABASE "{done.document["kept_as"]}"')


def test_words_that_exclude_each_other_are_told(home: Home) -> None:
    for words, said in (
        (("--table", "a"), "needs --database"),
        (("--as", "a"), "needs --database"),
        (("--database", "a", "--only", "b"), "--only exclude"),
        (("--database", "a", "--to", "b", "--in-place"), "--to exclude"),
        (("--database", "a", "--to", "b", "--as", "c"), "--to exclude"),
        (("--database", "a", "--table", "b", "--in-place"), "--table exclude"),
        (("--database", "a", "--to", "b", "--verify"), "--verify and --to exclude"),
        (("--database", "a", "--trust-times", "--overwrite"), "--trust-times exclude"),
    ):
        refused = home("restore", "data-files", *words)
        assert refused.status is ExitStatus.USAGE, words
        assert said in refused.err, words


def test_other_sources_have_no_databases_to_choose_from(home: Home) -> None:
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    refused = home("restore", "data-files", "--database", "a")
    assert refused.status is ExitStatus.USAGE
    assert "kind files" in refused.err and "--only" in refused.err


def test_a_database_that_nobody_named_is_a_finding(protecting: Home, server: Server) -> None:
    server.do("CREATE DATABASE newcomer")
    try:

        def uncovered() -> set[str]:
            findings = protecting("audit", "--json").document["findings"]
            return {each["subject"] for each in findings if each["control"] == "coverage"}

        red = uncovered()
        assert f"postgresql:{server.place}/newcomer" in red
        assert not {subject for subject in red if subject.endswith("/my shop")}
        text = protecting.policy.read_text()
        protecting.policy.write_text(text.replace("databases: [", "databases: [newcomer, "))
        assert uncovered() == red - {f"postgresql:{server.place}/newcomer"}, "until the policy names it"
    finally:
        server.do("DROP DATABASE newcomer")


def test_a_server_that_is_down_is_a_failed_backup_and_never_a_point(protecting: Home, server: Server) -> None:
    protecting.policy.write_text(protecting.policy.read_text().replace(str(server.place), "/nowhere"))
    failed = protecting("backup", "shop")
    assert failed.status is not ExitStatus.SUCCESS
    assert "shop" in failed.err and "/nowhere" in failed.err
    assert protecting("points", "shop", "--json").document["points"] == []


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_a_server_in_which_there_is_nothing_gets_no_point_that_would_prove_at_once(
    home: Home, postgresql_programs: Path, method: str
) -> None:
    with postgresql.server(postgresql_programs, wal_level="logical") as empty:
        section = SECTION.format(host=empty.place).replace("databases: [my shop]", f"method: {method}")
        home.policy.write_text(home.policy.read_text().replace("\nsources:\n", "\nsources:" + section, 1))
        failed = home("backup", "shop")
        assert failed.status is ExitStatus.SOURCE, failed
        assert "There is no table on the server (1 database)" in " ".join(failed.err.split())
        assert home("points", "shop", "--json").document["points"] == []
        empty.do("CREATE TABLE first (n int)", "INSERT INTO first VALUES (1)")
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        empty.do("DELETE FROM first")
        failed = home("backup", "shop")
        assert failed.status is ExitStatus.SOURCE, failed
        assert "holds 1 row Next" in " ".join(failed.err.split())
