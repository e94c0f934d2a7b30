"""A restore into a MariaDB server that is killed half way: what is there is no database, and the next one completes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Answer, Home
from integration.cli.databases import begun, descendants, said
from servers import mariadb
from servers.mariadb import Server

TABLE = "cto_backups_restore_unfinished"
PATIENCE_SECONDS = 120
SECTION = """
  shop:
    kind: mysql
    class: contact-database
    host: {host}
    user: root
    password: file:shop.password
    accounts: {accounts}
"""


@pytest.fixture(scope="module")
def server(mariadbd: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd) as made:
        mariadb.fill(made)
        made.do("CREATE DATABASE bulk", "CREATE TABLE bulk.a (n int PRIMARY KEY, word varchar(80))")
        made.do("INSERT INTO bulk.a SELECT seq, CONCAT(MD5(seq), MD5(-seq)) FROM seq_1_to_1000", database="bulk")
        yield made


@pytest.fixture
def protecting(home: Home, server: Server) -> Home:
    (home.policy.parent / "shop.password").write_text(mariadb.PASSWORD)
    (home.policy.parent / "shop.password").chmod(0o600)
    section = SECTION.format(host=server.socket, accounts="true")
    home.policy.write_text(home.policy.read_text().replace("\nsources:\n", "\nsources:" + section, 1))
    return home


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def words(answer: Answer) -> str:
    return " ".join((answer.out + answer.err).split())


def tables(server: Server, database: str) -> set[str]:
    found = server.do(f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}'")
    return {name for (name,) in found}


def loading(server: Server) -> int | None:
    """The session of the program that loads."""
    ((number,),) = server.do("SELECT IS_USED_LOCK('cto.backups restore loads')")
    return number


def is_held(server: Server) -> bool:
    """Whether the program that loads waits until it may make a function."""
    return bool(
        server.do(
            "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK('cto.backups restore loads')"
            " AND STATE LIKE 'Waiting for table %lock' AND INFO LIKE '%FUNCTION%'"
        )
    )


def test_a_restore_that_was_killed_half_way_is_told_and_the_next_completes(protecting: Home, server: Server) -> None:
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    server.do("DROP DATABASE bulk", "DROP DATABASE `my shop`", "DROP DATABASE zoo", "DROP USER 'shop keeper'@localhost")
    with closing(server.connect()) as session, closing(session.cursor()) as cursor:
        cursor.execute("LOCK TABLES mysql.proc READ")  # functions, which come after their tables, wait
        process = begun(protecting, "restore", "shop", "--in-place", "--yes")
        until(lambda: is_held(server), "it is half way")
        (program,) = (pid for pid, name in descendants(process.pid).items() if name == "mariadb")
        os.kill(program, signal.SIGSTOP)
    try:
        another = protecting("restore", "shop", "--in-place", "--yes")
        assert another.status is ExitStatus.REFUSED and "another restore to this server" in words(another)
        assert process.poll() is None, said(protecting)
        process.kill()
        process.wait()
        left = loading(server)
        assert left is not None, "the program that it started is there still"
        assert {TABLE} < tables(server, "bulk") and tables(server, "zoo") == {TABLE}, "all say that they are not whole"

        refused = protecting("backup", "shop")
        assert refused.status is ExitStatus.SOURCE and "not whole" in words(refused), refused
        assert "bulk, my shop and zoo" in words(refused) and f"DROP TABLE `zoo`.{TABLE}" in words(refused)
        planned = protecting("restore", "shop", "--in-place", "--dry-run")
        assert planned.status is ExitStatus.SUCCESS, planned
        assert "did not finish bulk, my shop, zoo" in words(planned), planned

        process = begun(protecting, "restore", "shop", "--in-place", "--yes")
        until(lambda: loading(server) != left, "what was left running is ended")
    finally:
        os.kill(program, signal.SIGKILL)
    assert process.wait(PATIENCE_SECONDS) == ExitStatus.SUCCESS, said(protecting)
    assert server.do("SELECT COUNT(*) FROM bulk.a") == [(1000,)]
    assert server.do("SELECT COUNT(*) FROM orders", database="my shop") == [(1502,)]
    assert not any(TABLE in tables(server, name) for name in ("bulk", "my shop", "zoo"))
    ((grants,),) = server.do("SELECT COUNT(*) FROM mysql.procs_priv WHERE User = 'shop keeper'")
    assert grants == 1, "an account that the first one made has its rights"
    assert protecting("restore", "shop", "--in-place", "--yes").status is ExitStatus.REFUSED, (
        "whole ones are left alone"
    )
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS


def test_one_that_was_killed_as_it_began_a_database_is_gone_on_with(protecting: Home, server: Server) -> None:
    """Between two statements a database is there that does not say yet that it is not whole: nothing is in it."""
    section = protecting.policy.read_text().replace("accounts: true", "accounts: false\n    databases: [zoo]")
    protecting.policy.write_text(section)
    assert protecting("backup", "shop").status is ExitStatus.SUCCESS
    server.do("DROP DATABASE zoo", "CREATE DATABASE zoo CHARACTER SET utf8mb4")
    done = protecting("restore", "shop", "--in-place", "--yes")
    assert done.status is ExitStatus.SUCCESS, done
    assert server.do("SELECT COUNT(*) FROM zoo.names") == [(200,)]
    ((charset,),) = server.do(
        "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='zoo'"
    )
    assert charset == "latin1", "as the point says"
