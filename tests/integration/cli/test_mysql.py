"""A MariaDB server from the policy file to a passed restore test, and what the audit says of its databases."""

import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from servers import mariadb
from servers.mariadb import Server

SECTION = """
  shop:
    kind: mysql
    class: contact-database
    host: {host}
    user: root
    password: file:shop.password
    databases: [my shop, zoo]
"""


def password(home: Home, value: str) -> None:
    file = home.policy.parent / "shop.password"
    file.write_text(value)
    file.chmod(0o600)


@pytest.fixture(scope="module")
def server(mariadbd: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        mariadb.fill(made)
        yield made


@pytest.fixture
def protecting(home: Home, server: Server) -> Home:
    """An installation whose policy names the server too."""
    password(home, mariadb.PASSWORD)
    text = home.policy.read_text()
    home.policy.write_text(text.replace("\nsources:\n", "\nsources:" + SECTION.format(host=server.socket), 1))
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
    files = ["database-my%20shop.sql", "database-zoo.sql", "grants.sql", "users.sql", "views.sql"]
    assert sorted(file.name for file in (tmp_path / "dumps").iterdir()) == files
    for how in ((), ("--overwrite",)):
        refused = protecting("restore", "shop", "--in-place", "--yes", *how)
        assert refused.status is ExitStatus.REFUSED, refused
        assert "my shop, zoo is there already" in refused.err
    server.do("DROP DATABASE `my shop`", "DROP DATABASE zoo")
    done = protecting("restore", "shop", "--in-place", "--yes")
    assert done.status is ExitStatus.SUCCESS, done
    assert server.do("SELECT COUNT(*) FROM orders", database="my shop") == [(1502,)]


def test_a_moment_within_the_log_of_a_point_comes_back(protecting: Home, server: Server, tmp_path: Path) -> None:
    text = protecting.policy.read_text()
    protecting.policy.write_text(text.replace("    databases: [my shop, zoo]\n", "    base_every: 1 day\n"))
    server.do("CREATE TABLE zoo.moments (n int PRIMARY KEY)")
    try:
        for number in range(3):
            backed_up = protecting("backup", "shop", "--json")
            assert backed_up.status is ExitStatus.SUCCESS, backed_up
            if number == 1:
                time.sleep(1.1)
                ((at,),) = server.do("SELECT UTC_TIMESTAMP()")
            server.do(f"INSERT INTO zoo.moments VALUES ({number})")
            time.sleep(1.1)
        assert protecting("test", "shop").status is ExitStatus.SUCCESS
        newest = protecting("points", "shop", "--json").document["points"][0]
        assert newest["log"]["since"] < f"{at:%Y-%m-%dT%H:%M:%S}" < newest["log"]["until"]
        early = at - timedelta(seconds=1)
        done = protecting("restore", "shop", "--at", f"{early:%Y-%m-%dT%H:%M:%S}Z", "--to", str(tmp_path / "then"))
        assert done.status is ExitStatus.SUCCESS, done
        pieces = sorted((tmp_path / "then").glob("binlog-*"))
        told = subprocess.run(["mariadb-binlog", "-v", *pieces], capture_output=True, text=True, check=True).stdout
        assert "@1=0" in told and "@1=1" not in told and "@1=2" not in told
    finally:
        server.do("DROP TABLE zoo.moments")


def test_a_database_that_nobody_named_is_a_finding(protecting: Home, server: Server) -> None:
    server.do("CREATE DATABASE newcomer")
    try:

        def uncovered() -> set[str]:
            findings = protecting("audit", "--json").document["findings"]
            return {each["subject"] for each in findings if each["control"] == "coverage"}

        red = uncovered()
        assert f"mysql:{server.socket}/newcomer" in red
        assert not {subject for subject in red if subject.endswith("/my shop")}
        text = protecting.policy.read_text()
        protecting.policy.write_text(text.replace("databases: [", "databases: [newcomer, "))
        assert uncovered() == red - {f"mysql:{server.socket}/newcomer"}, "until the policy names it"
    finally:
        server.do("DROP DATABASE newcomer")


def test_a_wrong_password_is_a_failed_backup_that_shows_none(protecting: Home) -> None:
    password(protecting, "S3cr3t of mine")
    failed = protecting("backup", "shop")
    assert failed.status is not ExitStatus.SUCCESS
    assert "shop" in failed.err and "Access denied" in failed.err
    assert "S3cr3t" not in failed.out + failed.err
    assert protecting("points", "shop", "--json").document["points"] == []


@pytest.mark.parametrize("method", ["logical", "physical"])
def test_a_server_whose_rows_are_gone_gets_no_point(
    home: Home, mariadbd: Path, mariadb_backup: Path, method: str
) -> None:
    assert mariadb_backup
    with mariadb.server(mariadbd) as emptied:
        password(home, mariadb.PASSWORD)
        section = SECTION.format(host=emptied.socket).replace("databases: [my shop, zoo]", f"method: {method}")
        home.policy.write_text(home.policy.read_text().replace("\nsources:\n", "\nsources:" + section, 1))
        emptied.do("CREATE DATABASE zoo")
        failed = home("backup", "shop")
        assert failed.status is ExitStatus.SOURCE and "There is no table" in " ".join(failed.err.split()), failed
        emptied.do("CREATE TABLE zoo.first (n int)", "INSERT INTO zoo.first VALUES (1), (2)")
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        emptied.do("DELETE FROM zoo.first")
        failed = home("backup", "shop")
        assert failed.status is ExitStatus.SOURCE and "holds 2 rows" in " ".join(failed.err.split()), failed
        assert len(home("points", "shop", "--json").document["points"]) == 1
