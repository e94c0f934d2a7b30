"""MySQL's files: the moment between statements of a program that copies them, and a server on what comes back.

The server is MySQL's own. The program is a stand-in for xtrabackup (see `servers.copying_mysql`).
"""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest
from source_contract import captured

from cto_backups.core.comparison import compare
from cto_backups.errors import RefusedError, SourceError
from cto_backups.sources.mysql.connection import Address, version_of
from cto_backups.sources.mysql.relay import relayed
from cto_backups.sources.mysql.server import Server as Known
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.mysql.standstill import Standstill
from servers import copying_mysql, mysql
from servers.mariadb import PASSWORD, Server
from servers.writing import Client, writing

Make = Callable[..., MysqlSource]
RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, PROCESS, LOCK TABLES, REPLICATION CLIENT, BACKUP_ADMIN"


@pytest.fixture(scope="module")
def shop(mysql_programs: Path) -> Iterator[Server]:
    with mysql.server(mysql_programs) as made:
        mysql.fill(made)
        made.do("CREATE USER keeper@localhost IDENTIFIED BY 'kept'", f"GRANT {RIGHTS} ON *.* TO keeper@localhost")
        yield made


@pytest.fixture
def make(shop: Server, mysql_programs: Path, tmp_path: Path, open_place: Path) -> Make:
    ((version,),) = shop.do("SELECT VERSION()")
    series = ".".join(version.split(".")[:2])
    tools = copying_mysql.installed(open_place / "tools", mysql_programs, series)

    def made(name: str = "shop", **options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "keeper", "password": lambda: "kept", "tools": str(tools)}
        return MysqlSource(name, {**given, "method": "physical", **options}, state=tmp_path / "state")

    return made


@pytest.mark.parametrize("engine", ["MyISAM", "InnoDB"])
def test_files_and_rows_are_of_one_moment_however_much_is_written_meanwhile(
    shop: Server, make: Make, tmp_path: Path, engine: str
) -> None:
    """Without tables that are in no snapshot, nobody but us keeps people from committing."""
    shop.do(f"ALTER TABLE `my shop`.my_isam ENGINE = {engine}")
    shop.do("CREATE DATABASE plain", "CREATE TABLE plain.a (n serial, v int)", "CREATE TABLE zoo.b (n serial, v int)")
    equal = Client(
        "plain",
        (
            "INSERT INTO a (v) SELECT seq FROM `my shop`.numbers WHERE seq <= 20",
            "INSERT INTO zoo.b (v) SELECT seq FROM `my shop`.numbers WHERE seq <= 20",
            "UPDATE a SET v = v + 1 WHERE n % 97 = 0",
        ),
        together=True,
    )
    try:
        with writing(shop, equal, Client("my shop", ("INSERT INTO my_isam VALUES (1, 'more')",))):
            point, expected = captured(make())
    finally:
        shop.do("DROP DATABASE plain", "DROP TABLE zoo.b", "DELETE FROM `my shop`.my_isam WHERE w = 'more'")
    notes = make().restore(point, tmp_path / "restored").notes
    assert notes[-1].startswith("prepared: a server of MySQL ")
    file = "data/my@0020shop/order_lines.ibd"
    assert (tmp_path / "restored" / file).stat().st_size == (shop.place / file).stat().st_size, "holes and all"
    assert compare(expected, make().probe(tmp_path / "restored", expected)).differences == ()
    sizes = {sample.key: sample.fields.get("rows") for sample in expected.samples}
    assert sizes["plain: table a"] == sizes["zoo: table b"] != "0"
    (told,) = (sample.fields for sample in expected.samples if sample.key == "server")
    info = point.entries[b"/data/xtrabackup_binlog_info"][1]
    assert info.startswith(f"{told['binlog_file']}\t{told['binlog_position']}\t".encode())


def test_nobody_commits_from_the_question_where_the_logs_are_until_the_program_lets_go(
    shop: Server, mysql_programs: Path
) -> None:
    """Asked by MySQL's own client, whose statements come in packets of their own kind."""
    shop.do("CREATE TABLE IF NOT EXISTS zoo.c (n int)", "ALTER TABLE `my shop`.my_isam ENGINE = InnoDB")
    address = Address(host=str(shop.socket), user="root", password=lambda: PASSWORD)
    known = Known("shop", address, (), True, str(mysql_programs), 60.0)
    asked: list[str] = []

    def commits() -> bool:
        """Whether somebody can, within a moment."""
        with shop.connect("zoo") as session, session.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 1")
            try:
                cursor.execute("INSERT INTO c VALUES (1)")
            except pymysql.OperationalError as error:
                assert error.args[0] == 1205
                return False
            return True

    with closing(address.connect()) as control, ThreadPoolExecutor(1) as pool:
        still = Standstill(known, control, pool, version_of(control)[0], {})

        def ask(statement: str) -> None:
            still.asked(statement)
            asked.append(statement)

        with relayed(address.host, ask) as relay:
            client = subprocess.Popen(
                [mysql_programs / "mysql", "--no-defaults", "--unbuffered", "-N", "-uroot", f"--socket={relay.path}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"MYSQL_PWD": PASSWORD, "PATH": "/usr/bin:/bin"},
                text=True,
            )
            assert client.stdin is not None and client.stdout is not None

            def say(statement: str) -> None:
                assert client.stdin is not None and client.stdout is not None
                client.stdin.write(f"{statement};\nSELECT 'done';\n")
                client.stdin.flush()
                while "done" not in client.stdout.readline():
                    assert client.poll() is None

            try:
                status = "SELECT local FROM performance_schema.log_status"
                for statement in ("LOCK INSTANCE FOR BACKUP", status, "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS"):
                    say(statement)
                    assert commits() and still.captured_at is None
                say(status)
                assert relay.failure is None and still.captured_at is not None
                assert not commits()
                say("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
                assert not commits()
                say("UNLOCK INSTANCE")
                assert commits()
            finally:
                client.stdin.close()
                client.wait(30)
                client.stdout.close()
        fingerprint = still.fingerprint()
        still.close()
    assert next(sample for sample in fingerprint.samples if sample.key == "zoo: table c").fields["rows"] == "3"
    assert "LOCK INSTANCE FOR BACKUP" in asked, "and not what comes before it in its packet"


def test_tables_in_no_snapshot_that_the_program_did_not_hold_are_no_point(shop: Server) -> None:
    shop.do("ALTER TABLE `my shop`.my_isam ENGINE = MyISAM")
    address = Address(host=str(shop.socket), user="root", password=lambda: PASSWORD)
    with closing(address.connect()) as control, ThreadPoolExecutor(1) as pool:
        still = Standstill(Known("shop", address, (), True, "", 60.0), control, pool, version_of(control)[0], {})
        still.asked("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        with pytest.raises(SourceError, match="of one moment") as raised:
            still.asked("SELECT * FROM performance_schema.log_status")
        assert "my_isam" in raised.value.why
        with pytest.raises(SourceError, match="of one moment") as raised:
            still.fingerprint()
        assert "xtrabackup ended without a standstill" in raised.value.why
        still.close()


def test_without_the_program_of_the_series_it_says_so(
    make: Make, shop: Server, mysql_programs: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as raised:
        captured(make(tools=str(mysql_programs)))
    assert "xtrabackup is not in" in raised.value.why and "Percona" in raised.value.todo
    older = copying_mysql.installed(tmp_path / "older", mysql_programs, "2.4")
    with pytest.raises(SourceError) as raised:
        captured(make(tools=str(older)))
    assert "is of MySQL 2.4" in raised.value.why
    point, _ = captured(make())
    with pytest.raises(RefusedError) as refused:
        make(tools=str(older)).restore(point, tmp_path / "restored")
    assert "--only /data" in refused.value.todo and not (tmp_path / "restored").exists()


def test_files_that_lie_elsewhere_are_refused(shop: Server, make: Make) -> None:
    apart = shop.place / "apart"
    apart.mkdir()
    shop.do("CREATE TABLESPACE own ADD DATAFILE 'own.ibd'", "CREATE TABLE zoo.in_own (n int) TABLESPACE own")
    captured(make())  # in the data directory
    with pytest.raises(SourceError) as raised:
        captured(make(user="root", password=lambda: "wrong"))
    assert raised.value.why
    shop.do("DROP TABLE zoo.in_own", "DROP TABLESPACE own")
