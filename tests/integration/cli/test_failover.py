"""A standby takes the place of the server that keeps the catalog: one that has all, and one that does not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.postgresql import Server

from .conftest import Answer, Home, environment
from .test_catalog_on_server import IMPATIENT, until

SOURCE = "data-files"


@dataclass
class Pair:
    """A server, and one that follows it; both are named in the address."""

    primary: Server
    standby: Server

    @property
    def address(self) -> str:
        places = f"{self.primary.place},{self.standby.place}"
        return f"postgresql://postgres@/backups?host={places}&target_session_attrs=read-write"

    def follow(self) -> None:
        """From now on, let nothing be confirmed that the standby has not."""
        self.primary.do("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.do("SELECT pg_reload_conf()")
        until(lambda: self.primary.do("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def cut(self) -> None:
        """Let the standby receive nothing more, and nobody notice."""
        sent = self.primary.do("SELECT pg_current_wal_lsn()")[0][0]
        until(lambda: self.standby.do(f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{sent}'"))
        self.standby.do("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.do("SELECT pg_reload_conf()")
        until(lambda: not self.standby.do("SELECT 1 FROM pg_stat_wal_receiver"))

    def fail_over(self) -> None:
        """The one ends without a word, and the other takes its place."""
        file = self.primary.place / "data" / "postmaster.pid"
        os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
        while file.exists():
            time.sleep(0.02)
        assert self.standby.do("SELECT pg_promote(true, 60)") == [(True,)]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.standby.do("SET search_path = cto_backups", statement, database="backups")


@pytest.fixture
def pair(home: Home, postgresql_programs: Path) -> Iterator[Pair]:
    """The installation's catalog is on the first."""
    with postgresql.server(postgresql_programs) as primary:
        primary.do("CREATE DATABASE backups ENCODING 'UTF8' TEMPLATE template0")
        with postgresql.standby(primary) as standby:
            pair = Pair(primary, standby)
            policy = home.policy.read_text()
            home.policy.write_text(policy.replace("catalog: sqlite:catalog.db", f"catalog: {pair.address}"))
            assert home("catalog", "move", "--from", "sqlite:catalog.db").status is ExitStatus.SUCCESS
            yield pair


def points(home: Home) -> list[str]:
    return [point["id"] for point in home("points", "--all", "--json").document["points"]]


def test_a_standby_that_has_all_takes_over_in_the_middle_and_nothing_is_lost_or_done_twice(
    home: Home, pair: Pair
) -> None:
    pair.follow()
    home.change("the figures before\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    before = points(home)
    with Catalog.open(pair.address, now=clock.now()) as catalog, catalog._writing() as connection:
        connection.execute("INSERT INTO vaults (name) VALUES ('first')")
        pair.fail_over()
        connection.execute("INSERT INTO vaults (name) VALUES ('second')")
    added = pair.rows("SELECT name FROM vaults WHERE name IN ('first', 'second') ORDER BY 1")
    assert added == [("first",), ("second",)]

    home.change("the figures after\n")
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    assert len(points(home)) == len(before) + 1 and set(before) < set(points(home))
    for command in (("evidence", "verify"), ("verify",)):
        answer = home(*command)
        assert answer.status is ExitStatus.SUCCESS, answer
    noted = pair.rows("SELECT name FROM writes WHERE at = 'infinity' AND name LIKE 'timeline 00000002 %'")
    assert len(noted) == 3, "nobody needs to look again"


def test_a_standby_that_lacks_what_was_confirmed_is_noticed_before_anything_contradicts_it(
    home: Home, pair: Pair
) -> None:
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    log = home.root / "worker.log"
    with log.open("wb") as said:
        worker = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT],
            cwd=home.data.parent,
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            stdout=said,
            stderr=said,
        )
    try:
        until(lambda: "Working for" in log.read_text())
        before = points(home)
        pair.cut()
        home.change("the figures that were confirmed\n")
        assert backed_up(home).status is ExitStatus.SUCCESS
        (lost,) = set(points(home)) - set(before)
        pair.fail_over()
        assert points(home) == before, "nothing has been noticed yet"
        stored = files(home)
        for command in (("status",), ("status", SOURCE)):
            told = home(*command, "--json")
            assert told.status is ExitStatus.RED and told.document["healthy"] is False
            assert told.document["catalog_behind"]["code"] == "catalog-behind"
            assert "catalog rebuild" in told.document["catalog_behind"]["todo"]
        audited = home("audit", "--json", "--fail-on", "critical")
        assert audited.status is ExitStatus.RED
        assert "catalog-behind" in [finding["control"] for finding in audited.document["findings"]]
        assert audited.document["not_kept"]["code"] == "catalog-behind"

        answer = backed_up(home)
        assert answer.status is ExitStatus.CATALOG, answer
        error = answer.document["sources"][0]["error"]
        assert error["code"] == "catalog-behind", answer
        assert "catalog rebuild" in error["todo"]
        assert "records of this installation that it lacks" in error["why"]
        assert (files(home), points(home)) == (stored, before), "nothing was written"
        until(lambda: "gone back in time" in log.read_text())
        assert worker.poll() is None, log.read_text()

        rebuilt = home("catalog", "rebuild", "--json")
        assert rebuilt.status is ExitStatus.SUCCESS, rebuilt
        assert set(points(home)) == {*before, lost}
        signs = set(pair.rows("SELECT at FROM heartbeat"))
        until(lambda: set(pair.rows("SELECT at FROM heartbeat")) - signs)
        home.change("the figures of the day after\n")
        assert backed_up(home).status is ExitStatus.SUCCESS
        assert len(points(home)) == len(before) + 2
        assert home("status", "--json").document["catalog_behind"] is None
    finally:
        worker.terminate()
        worker.wait(60)
    assert worker.returncode == 0, log.read_text()
    for command in (("evidence", "verify"), ("verify",)):
        answer = home(*command)
        assert answer.status is ExitStatus.SUCCESS, answer
    twice = "SELECT source, vault, reference FROM copies c JOIN points p ON p.id = c.point GROUP BY 1, 2, 3"
    assert pair.rows(f"{twice} HAVING count(*) > 1") == []


def backed_up(home: Home) -> Answer:
    """By hand, as soon as the worker is not at it."""
    while (answer := home("backup", SOURCE, "--json")).status is ExitStatus.BUSY:
        time.sleep(0.5)
    return answer


def files(home: Home) -> set[str]:
    top = home.root / "vaults"
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and "locks" not in path.parts}
