"""`backup_timeout`: a backup that works at its source for too long is ended there, and nothing of it is kept.

And what a server does when whoever backs it up was killed, stands still, or is gone.
"""

import dataclasses
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from children import import_path
from cto_backups.core.limits import Limit
from cto_backups.core.model import Outcome, Resource
from cto_backups.errors import SourceError
from cto_backups.flows.backup import backup
from cto_backups.flows.limit import TimeLimit
from cto_backups.sources.command import CommandSource
from cto_backups.sources.mysql.left import mark
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.source import PostgresqlSource
from integration.conftest import build
from servers import mariadb, postgresql

pytestmark = pytest.mark.xdist_group("backup_timeout")

PATIENCE_SECONDS = 8.0
"""How long a server may take to notice that it was left: a busy machine included."""

Backup = Callable[..., SourceError]


@pytest.fixture
def ended(tmp_path: Path) -> Backup:
    """Backs a source up within a time that is too short; the error that this ends with."""

    def run(kind: str, seconds: float, **options: Any) -> SourceError:
        workshop = build(tmp_path / "installation", tmp_path, {"it": (kind, options)})
        installation = workshop.installation
        hurried = dataclasses.replace(installation.policy.sources["it"], backup_timeout=timedelta(seconds=seconds))
        policy = dataclasses.replace(installation.policy, sources={"it": hurried})
        began = time.monotonic()
        with pytest.raises(SourceError) as caught:
            backup(dataclasses.replace(installation, policy=policy), "it")
        assert seconds <= time.monotonic() - began < seconds + PATIENCE_SECONDS
        (told,) = workshop.catalog.runs("it")
        assert told.outcome is Outcome.FAILED
        assert "its backup was ended" in told.message
        assert workshop.catalog.latest("it", complete=False) is None
        assert not installation.store("one").committed()
        return caught.value

    return run


def gone(there: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a server has nothing of ours any more."""
    until = time.monotonic() + seconds
    while found := there():
        assert time.monotonic() < until, found
        time.sleep(0.1)


def is_there(there: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a server works for us."""
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)


# -- what is no server -------------------------------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_ended(ended: Backup, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; while :; do echo again; sleep 0.1; done"
    error = ended("command", 0.5, command=("sh", "-c", script), filename="x")
    assert error.why and error.todo
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_files_are_read_no_longer_than_it_takes(ended: Backup, tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    for name in ("one", "two"):
        (place / name).write_bytes(os.urandom(1 << 25))
    ended("files", 0.01, paths=(str(place),), include=(), exclude=(), one_file_system=False)


IN_DISCOVERY = pytest.mark.parametrize("discovers", [True, False], ids=["what is there", "the backup"])
"""Whether it is asked first what is there, which takes as long then; else that is known."""


@IN_DISCOVERY
def test_a_git_server_that_does_not_answer_is_left(
    ended: Backup, monkeypatch: pytest.MonkeyPatch, discovers: bool
) -> None:
    if not discovers:
        monkeypatch.setattr("cto_backups.sources.git.source.GitSource.discover", lambda self, limit: [])
    monkeypatch.setenv("GIT_SSH_COMMAND", "sleep 60;:")
    ended("git", 0.5, url="ssh://git@127.0.0.1/app.git")


@IN_DISCOVERY
def test_a_program_that_keeps_backups_and_does_not_answer_is_left(
    ended: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discovers: bool
) -> None:
    if not discovers:
        known = "cto_backups.sources.elsewhere.source.ElsewhereSource.discover"
        monkeypatch.setattr(known, lambda self, limit: [])
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    ended("pgbackrest", 0.5, stanza="main", program=str(program), repository=str(tmp_path))


def test_a_sqlite_database_is_held_no_longer(ended: Backup, tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (words TEXT)")
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)"
            " INSERT INTO t SELECT hex(randomblob(80)) FROM n"
        )
        connection.commit()
        ended("sqlite", 0.05, path=str(path))
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "nobody reads any more"


def test_what_is_left_of_the_time_is_what_looking_for_what_is_there_did_not_take(
    ended: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(self: CommandSource, limit: Limit) -> list[Resource]:
        time.sleep(1.0)
        assert limit.left()
        return []

    monkeypatch.setattr(CommandSource, "discover", slowly)
    given: list[float | None] = []
    capture = CommandSource.capture
    monkeypatch.setattr(
        CommandSource, "capture", lambda self, limit: given.append(limit.left()) or capture(self, limit)
    )
    ended("command", 1.5, command=("sleep", "60"), filename="x")
    assert given[0] and given[0] <= 0.5


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path) -> Iterator[postgresql.Server]:
    with postgresql.server(
        postgresql_programs, wal_level="logical", listen_addresses="127.0.0.1", port=str(mariadb.free_port())
    ) as made:
        made.do(  # 60 MB on its disk, and 15 GB to sum up
            "CREATE TABLE large (n int, w text COMPRESSION lz4)",
            "INSERT INTO large VALUES (0, repeat('x', 50000000))",
            "INSERT INTO large SELECT g, w FROM large, generate_series(1, 299) g",
        )
        yield made


def ours(shop: postgresql.Server) -> list[tuple[Any, ...]]:
    """The sessions, locks and slots that a server has for us."""
    return shop.do(
        "SELECT pid::text, state, left(query, 60) FROM pg_stat_activity WHERE application_name LIKE 'cto.backups%'"
        " UNION ALL SELECT slot_name, slot_type, '' FROM pg_replication_slots"
    )


def test_a_sum_that_takes_too_long_is_ended_on_the_server(ended: Backup, shop: postgresql.Server) -> None:
    with shop.connect() as session:
        session.execute("BEGIN; SELECT txid_current()")  # a dump needs no lock that this has, and no file of a server
        ended("postgresql", 1.5, host=str(shop.place), port=shop.port, user="postgres")
    gone(lambda: ours(shop))


def test_a_dump_that_waits_too_long_is_ended(ended: Backup, shop: postgresql.Server) -> None:
    with shop.connect() as session:
        session.execute("BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE")
        ended("postgresql", 0.7, host=str(shop.place), port=shop.port, user="postgres", lock_seconds=60.0)
        gone(lambda: ours(shop))


def test_a_base_backup_that_takes_too_long_is_ended_and_leaves_no_slot(ended: Backup, shop: postgresql.Server) -> None:
    options = {"method": "physical", "max_rate_kib": 4096, "base_every_seconds": 3600.0}
    ended("postgresql", 1.5, host=str(shop.place), port=shop.port, user="postgres", **options)
    gone(lambda: ours(shop))


def test_a_moment_that_does_not_come_is_waited_for_no_longer(ended: Backup, shop: postgresql.Server) -> None:
    with shop.connect() as session:
        session.execute("BEGIN; SELECT txid_current()")
        ended("postgresql", 3.0, host=str(shop.place), port=shop.port, user="postgres", method="physical")
        gone(lambda: ours(shop))


def test_the_server_of_a_machine_that_is_gone_looks_for_it_within_two_minutes(shop: postgresql.Server) -> None:
    """Else a snapshot would keep it from vacuuming for the two hours after which Linux looks."""
    shop.do("CREATE ROLE watched LOGIN PASSWORD 'watched'")
    address = Address("127.0.0.1", shop.port, "watched", lambda: "watched", sslmode="disable")
    asked = ", ".join(f"current_setting('tcp_keepalives_{name}')::int" for name in ("idle", "interval", "count"))
    with address.connect("postgres") as session:
        ((idle, interval, count),) = session.execute(f"SELECT {asked}").fetchall()
    assert 0 < idle + interval * count <= 120
    told = subprocess.run(
        [shop.bin / "psql", "-XAtc", f"SELECT {asked}", "postgres"],
        env=dict(address.environment().variables),
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == f"{idle}|{interval}|{count}"


@pytest.mark.parametrize("days", [30, 400, 365_000])
def test_a_limit_may_be_longer_than_servers_can_count(
    shop: postgresql.Server, wiki: mariadb.Server, days: int, tmp_path: Path
) -> None:
    limit = TimeLimit(timedelta(days=days))
    try:
        for source in (
            PostgresqlSource("one", {"host": str(shop.place), "port": shop.port, "user": "postgres"}, state=tmp_path),
            MysqlSource("two", access(wiki), state=tmp_path),
        ):
            with source.capture(limit) as capture:
                assert capture.paths == ("/",)
    finally:
        limit.lift()


def child(tmp_path: Path, kind: str, options: str, left: float | None) -> "subprocess.Popen[bytes]":
    """A process that backs a source up, without an end, or whose time has so many seconds left whenever it is asked.

    So the server is told of an end that this process, which is to be killed or stopped before, does not come to by
    itself, however slow the machine is.
    """
    code = f"""
import dataclasses, sys
from datetime import timedelta
from pathlib import Path
from cto_backups.flows.backup import backup
from cto_backups.flows.limit import TimeLimit
from integration.conftest import build
root = Path({str(tmp_path)!r})
installation = build(root / "installation", root, {{"it": ({kind!r}, {options})}}).installation
TimeLimit.left = lambda self: {left}
backup(installation, "it")
"""
    environment = {**os.environ, **import_path("contract")}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)


SUMS = "state = 'active' AND query LIKE '%large%' AND application_name = 'cto.backups'"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_sum_whose_worker_is_killed_or_stands_still_ends_by_itself(
    shop: postgresql.Server, tmp_path: Path, how: signal.Signals
) -> None:
    """Killed: the server looks every five seconds who waits. Standing still: ten seconds after its time."""
    left = None if how is signal.SIGKILL else 1.0
    options = repr({"host": str(shop.place), "port": shop.port, "user": "postgres"})
    process = child(tmp_path, "postgresql", options, left)
    try:
        is_there(lambda: shop.do(f"SELECT 1 FROM pg_stat_activity WHERE {SUMS}"))
        process.send_signal(how)
        if how is signal.SIGKILL:
            gone(lambda: ours(shop))
        else:
            # Those that hold something; pg_dump lets no server end it, and waits for who reads it.
            held = "application_name = 'cto.backups' AND state IN ('active', 'idle in transaction')"
            gone(lambda: shop.do(f"SELECT pid, state, query FROM pg_stat_activity WHERE {held}"), 11 + PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


# -- MariaDB -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wiki(mariadbd: Path) -> Iterator[mariadb.Server]:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        made.do(
            "CREATE DATABASE wiki",
            # Nothing on its disk, and 1 TB to sum up: no sum ends by itself while a test looks.
            "SET sql_log_bin = 0",
            "CREATE TABLE wiki.large (n int PRIMARY KEY, w longtext AS (REPEAT('x', 10000000)) VIRTUAL)",
            "INSERT INTO wiki.large (n) SELECT seq FROM wiki.seq_1_to_100000",
        )
        yield made


def of_wiki(wiki: mariadb.Server) -> list[tuple[Any, ...]]:
    return wiki.do(
        "SELECT ID, COMMAND, STATE, LEFT(INFO, 2000) FROM information_schema.PROCESSLIST"
        " WHERE ID <> CONNECTION_ID() AND COMMAND NOT IN ('Daemon', 'Killed') AND USER = 'root'"
    )


def sums_of(wiki: mariadb.Server) -> set[int]:
    """The sessions in which rows are summed up: what is there is counted too, but that does not take long."""
    return {row[0] for row in of_wiki(wiki) if re.search(r"/\* cto\.backups .*\blarge\b", str(row[3]), re.DOTALL)}


def access(wiki: mariadb.Server) -> dict[str, Any]:
    return {"host": str(wiki.socket), "user": "root", "password": lambda: mariadb.PASSWORD}


@pytest.mark.parametrize("options", [{}, {"base_every_seconds": 3600.0}], ids=["dump", "log"])
def test_a_mariadb_server_is_let_go_of(ended: Backup, wiki: mariadb.Server, options: dict[str, Any]) -> None:
    ended("mysql", 1.2, **access(wiki), **options)
    gone(lambda: of_wiki(wiki))
    wiki.do("SET lock_wait_timeout = 1", "ALTER TABLE wiki.large COMMENT 'nobody holds it'")


def test_reading_a_mariadb_servers_files_ends_in_time(
    ended: Backup, wiki: mariadb.Server, mariadb_backup: Path
) -> None:
    ended("mysql", 2.0, **access(wiki), method="physical", max_rate_mib=4)
    gone(lambda: of_wiki(wiki))
    wiki.do("SET lock_wait_timeout = 1", "CREATE TABLE wiki.another (n int)", "DROP TABLE wiki.another")


def test_a_sum_whose_worker_is_killed_ends_ten_seconds_after_its_time(wiki: mariadb.Server, tmp_path: Path) -> None:
    """MariaDB does not look who waits for a statement: without a limit it goes on, until another backup begins."""
    options = f"{{'host': {str(wiki.socket)!r}, 'user': 'root', 'password': lambda: {mariadb.PASSWORD!r}}}"
    process = child(tmp_path, "mysql", options, 1.0)
    try:
        is_there(lambda: sums_of(wiki))
    finally:
        process.kill()
        process.wait()
    gone(lambda: of_wiki(wiki), 11.0 + PATIENCE_SECONDS)


def test_what_a_killed_worker_left_to_the_server_is_ended_by_the_next_backup(
    wiki: mariadb.Server, tmp_path: Path
) -> None:
    """And by no other's: not what a process does that lives, nor one of another machine."""
    options = f"{{'host': {str(wiki.socket)!r}, 'user': 'root', 'password': lambda: {mariadb.PASSWORD!r}}}"
    process = child(tmp_path, "mysql", options, None)
    try:
        is_there(lambda: sums_of(wiki))
    finally:
        process.kill()
        process.wait()
    left = sums_of(wiki)
    assert left, "nobody told the server that its client is gone"
    others = [mark(), re.sub(r"backups \w+", f"backups {'0' * 16}", mark()).replace(str(os.getpid()), str(process.pid))]
    assert others[0] != others[1]
    lock = "'what others wait for'"
    with ThreadPoolExecutor() as pool, closing(wiki.connect()) as holder, closing(holder.cursor()) as cursor:
        cursor.execute(f"SELECT GET_LOCK({lock}, 0)")
        waiting = [pool.submit(wiki.do, f"SELECT {whose}GET_LOCK({lock}, 600)") for whose in others]
        is_there(lambda: len([row for row in of_wiki(wiki) if "GET_LOCK" in str(row[3])]) == 2)
        with MysqlSource("it", access(wiki), state=tmp_path / "state").capture():
            assert not left & {row[0] for row in of_wiki(wiki)}
        assert not any(each.done() for each in waiting)
    assert [each.result() for each in waiting] == [[(1,)], [(1,)]], "the lock is given to them once it is free"
    gone(lambda: of_wiki(wiki))
