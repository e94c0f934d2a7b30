"""Servers with enough in them to be in the middle of, and installations that protect them, by every method."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from integration.cli.conftest import Home, environment
from servers import mariadb, postgresql

SECRET = "S3cr3t-of-the-keeper"
VARIABLE = "SHOP_PASSWORD"
METHODS = (
    "postgresql 15, logical",
    "postgresql 15, physical",
    "postgresql 18, logical",
    "postgresql 18, physical",
    "mariadb, logical",
    "mariadb, physical",
)
PATIENCE_SECONDS = 60.0
_MARIADB_RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE"


@dataclass
class Database:
    """A server with two tables, `busy` and `bulk`, in a database `shop`, and the source that protects it.

    `section` is that source in a policy, as a role that may do no more than the how-to pages say. `program` is what
    reads the data as a process of its own; nothing does with PostgreSQL's files. `broken` kills what the server has
    for one backup, or the server, and has it run again. `is_free` says whether nobody reads, and nothing is kept for
    one.
    """

    method: str
    section: str
    program: str
    do: Callable[..., Any]
    connect: Callable[[str], Any]
    being_read: Callable[[], int]
    is_free: Callable[[], bool]
    broken: Callable[[], None]
    there: "threading.Lock" = field(default_factory=threading.Lock)
    """Held while somebody connects: a driver leaves a socket open at which nobody answers."""

    @property
    def into_server(self) -> bool:
        """Whether a point, or a database of it, is restored into a server that runs."""
        return self.method != "mariadb, physical"

    def names(self) -> set[str]:
        """The databases of the server."""
        query = "SELECT datname FROM pg_database" if self.method.startswith("postgresql") else "SHOW DATABASES"
        return {str(name) for (name,) in self.do(query)}

    def restored_by(self, home: Home) -> tuple[str, ...]:
        """The words that restore it, into the server where that can be; and what that takes."""
        if self.method.startswith("postgresql"):
            self.do("ALTER ROLE keeper CREATEDB", "DROP DATABASE IF EXISTS beside")
            return "restore", "shop", "--database", "shop", "--as", "beside"
        if self.into_server:
            self.do("GRANT ALL ON *.* TO keeper@localhost WITH GRANT OPTION", "DROP DATABASE shop")
            return "restore", "shop", "--in-place", "--yes"
        return "restore", "shop", "--to", str(home.root / "restored")

    def added(self, home: Home) -> Home:
        """The installation, whose policy names the server too."""
        text = home.policy.read_text()
        home.policy.write_text(text.replace("\nsources:\n", "\nsources:" + self.section, 1))
        return home


@contextmanager
def running(method: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A server for a method."""
    begin = _mariadb if method.startswith("mariadb") else _postgresql
    with begin(method, request) as made:
        yield made


@contextmanager
def _postgresql(method: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    of_debian = method.startswith("postgresql 15")
    bin: Path = request.getfixturevalue("postgresql_programs" if of_debian else "newer_postgresql_programs")
    port = str(mariadb.free_port())
    with postgresql.server(bin, wal_level="logical", listen_addresses="127.0.0.1", port=port) as server:
        with (server.place / "data" / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 scram-sha-256\n")
        server.do(
            "SELECT pg_reload_conf()",
            f"CREATE ROLE keeper LOGIN REPLICATION BYPASSRLS PASSWORD '{SECRET}'",
            "GRANT pg_read_all_data TO keeper",
            "CREATE DATABASE shop",
        )
        server.do(
            "CREATE TABLE busy (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text)",
            "CREATE TABLE bulk AS SELECT n, md5(n::text) || md5((-n)::text) AS word FROM generate_series(1, 150000) n",
            "CREATE INDEX ON bulk (n)",
            "CHECKPOINT",
            database="shop",
        )
        how = "role_passwords: false" if method.endswith("logical") else "method: physical"
        section = f"""
  shop:
    kind: postgresql
    class: contact-database
    host: 127.0.0.1
    port: {port}
    sslmode: disable
    user: keeper
    password: env:{VARIABLE}
    {how}
    tools: {bin}
"""
        find = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'cto.backups%' AND query ~ 'COPY.*bulk'"
        if method.endswith("physical"):
            find = "SELECT pid FROM pg_stat_progress_basebackup WHERE backup_streamed > 8000000"

        def being_read() -> int:
            found = server.do(find)
            return int(found[0][0]) if found else 0

        def is_free() -> bool:
            sessions = "SELECT 1 FROM pg_stat_activity WHERE usename = 'keeper'"
            return not server.do(f"{sessions} UNION ALL SELECT 1 FROM pg_replication_slots")

        def broken() -> None:
            """All of its processes end with the one that served the backup, and the server starts anew."""
            if pid := being_read():
                os.kill(pid, signal.SIGKILL)
            for _ in range(600):
                with suppress(psycopg.Error):
                    server.do("SELECT 1")
                    return
                time.sleep(0.05)

        program = "pg_dump" if method.endswith("logical") else ""
        yield Database(method, section, program, server.do, server.connect, being_read, is_free, broken)


@contextmanager
def _mariadb(method: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    mariadbd: Path = request.getfixturevalue("mariadbd")
    if method.endswith("physical"):
        request.getfixturevalue("mariadb_backup")
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as server:
        server.do(
            f"CREATE USER keeper@localhost IDENTIFIED BY '{SECRET}'",
            f"GRANT {_MARIADB_RIGHTS} ON *.* TO keeper@localhost",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.busy (n bigint AUTO_INCREMENT PRIMARY KEY, word text)",
            "CREATE TABLE shop.bulk (n int PRIMARY KEY, word varchar(200))",
        )
        server.do("INSERT INTO bulk SELECT seq, CONCAT(MD5(seq), MD5(-seq)) FROM seq_1_to_80000", database="shop")
        how = "" if method.endswith("logical") else "\n    method: physical"
        section = f"""
  shop:
    kind: mysql
    class: contact-database
    host: {server.socket}
    user: keeper
    password: env:{VARIABLE}{how}
"""
        started: list[subprocess.Popen[bytes]] = []

        program = "mariadb-dump" if method.endswith("logical") else "mariadb-backup"
        try:

            def is_free() -> bool:
                return not server.do("SELECT 1 FROM information_schema.PROCESSLIST WHERE USER = 'keeper'")

            made = Database(method, section, program, server.do, server.connect, lambda: 0, is_free, lambda: None)

            def broken() -> None:
                nonlocal server
                with made.there:
                    started.append(mariadb.killed_and_started_again(server))
                server = replace(server, pid=started[-1].pid)

            made.broken = broken
            yield made
        finally:
            for process in started:
                process.kill()
                process.wait(30)


class Writer:
    """Commits rows all the time, in one session; in another one when the server went away."""

    def __init__(self, database: Database) -> None:
        self.written = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._database.do("DELETE FROM busy", database="shop")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            with suppress(psycopg.Error, pymysql.MySQLError):
                with self._database.there:
                    session = self._database.connect("shop")
                with closing(session), closing(session.cursor()) as cursor:
                    while not self._stop.wait(0.005):
                        cursor.execute(f"INSERT INTO busy (word) VALUES ('row {self.written}')")
                        self.written += 1


def begun(home: Home, *arguments: str) -> "subprocess.Popen[bytes]":
    """A command that runs, and what it says in the file `said` beside the policy."""
    with (home.policy.parent / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "cto_backups", *arguments],
            cwd=home.data.parent,
            env=environment(CTO_BACKUPS_POLICY=str(home.policy), **{VARIABLE: SECRET}),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )


def said(home: Home) -> str:
    """What the last of them said, in one line."""
    return " ".join((home.policy.parent / "said").read_text().split())


def descendants(first: int) -> dict[int, str]:
    """The processes below one, and itself, with their names.

    Of other processes nothing is read: who looks again and again would take more of the machine than what is looked at.
    """
    found: dict[int, str] = {}
    waiting = [first]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    waiting += map(int, (thread / "children").read_text().split())
    return found


def in_the_middle(database: Database, process: "subprocess.Popen[bytes]") -> int:
    """Wait until the data is being read; the program that does so, or else the command itself."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before anything could happen to it"
        if not database.program and database.being_read():
            return process.pid
        for pid, name in descendants(process.pid).items():
            if database.program and name == database.program:
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
                    given = next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
                    if given > 1_000_000:
                        return pid
        time.sleep(0.005)
    raise AssertionError("nothing was read")
