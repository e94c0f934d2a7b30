"""The story with the catalog on a PostgreSQL server, command by command: one line of the policy is what differs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog import schema, schema_due_times, schema_hosts, schema_traffic
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.alerts import Telling
from cto_backups.core.facts import Heartbeat
from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.postgresql import Server

from .conftest import Home, environment

SECRET = "of-the-catalog-5521"


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs, listen_addresses="127.0.0.1", port="54329") as made:
        made.do(f"CREATE ROLE backups LOGIN PASSWORD '{SECRET}'")
        yield made


@pytest.fixture
def address(server: Server) -> Iterator[str]:
    """Where an empty database is, which the role of the catalog owns."""
    server.do("CREATE DATABASE backups OWNER backups ENCODING 'UTF8' TEMPLATE template0")
    yield f"postgresql://backups@127.0.0.1:{server.port}/backups"
    server.do("DROP DATABASE backups WITH (FORCE)")


def put_on_server(home: Home, address: str) -> None:
    """Change the one line, and say where the secret is."""
    written = home.policy.read_text()
    (home.root / "keys" / "catalog.password").write_text(SECRET)
    (home.root / "keys" / "catalog.password").chmod(0o600)
    line = f"catalog: {address}\ncatalog_password: file:keys/catalog.password\n"
    home.policy.write_text(written.replace("catalog: sqlite:catalog.db\n", line))
    assert home.policy.read_text() != written


def rows(server: Server, statement: str) -> list[Any]:
    return server.do("SET search_path = cto_backups", statement, database="backups")


def test_from_a_backup_to_a_proven_restore_and_back_from_one_vault(home: Home, server: Server, address: str) -> None:
    (home.root / "catalog.db").unlink()
    put_on_server(home, address)
    lost = home("status")
    assert (lost.status, "catalog rebuild" in lost.err) == (ExitStatus.NOT_FOUND, True), lost

    rebuilt = home("catalog", "rebuild", "--json")
    assert rebuilt.status is ExitStatus.SUCCESS, rebuilt
    assert rebuilt.document["new_catalog"] and rebuilt.document["points"], rebuilt

    home.change()
    for command in (["backup"], ["verify"], ["test"], ["audit"], ["expire"], ["points"], ["schedule"]):
        answer = home(*command)
        assert answer.status in (ExitStatus.SUCCESS, ExitStatus.RED) and SECRET not in answer.out + answer.err, answer
    healthy = home.process("status")
    assert healthy.status is ExitStatus.SUCCESS, healthy
    assert healthy.out.splitlines()[-1] == "All 3 sources are HEALTHY."
    assert rows(server, "SELECT DISTINCT status FROM backup_status") == [("HEALTHY",)]

    told = home("catalog", "--json")
    assert told.document["catalog"] == f"postgresql://127.0.0.1:{server.port}/backups"
    assert SECRET not in told.out

    restored = home("restore", "data-files", "--to", "back")
    assert restored.status is ExitStatus.SUCCESS, restored
    (report,) = home.data.parent.glob("back/**/report.txt")
    assert report.read_text() == "other figures\n"

    points = rows(server, "SELECT id FROM points ORDER BY id")
    server.do("DROP SCHEMA cto_backups CASCADE", database="backups")
    shutil.rmtree(home.vault("one"))
    shutil.rmtree(home.vault("three"))
    again = home("catalog", "rebuild", "--from", "two", "--json")
    assert again.status is ExitStatus.SUCCESS, again
    assert rows(server, "SELECT id FROM points ORDER BY id") == points
    schemas = server.do("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'cto%'", database="backups")
    assert schemas == [(1,)], "nothing is left of the making"


def test_a_new_installation_begins_on_a_server_and_takes_nobody_elses_catalog(
    home: Home, tmp_path: Path, server: Server, address: str
) -> None:
    made = Home(tmp_path / "new", home.data)
    words = ("--protect", str(home.data / "files"), "--catalog", address)
    unreachable = made("init", str(made.root), *words[:-1], address.replace(f":{server.port}", ":1"))
    assert (unreachable.status, made.root.exists()) == (ExitStatus.CATALOG, False), unreachable
    assert made("init", str(made.root), *words, PGPASSWORD=SECRET).status is ExitStatus.SUCCESS
    assert made("backup", PGPASSWORD=SECRET).status is ExitStatus.SUCCESS
    assert rows(server, "SELECT count(*) FROM points") == [(1,)]
    wrong = made("status", PGPASSWORD="wrong-8812")
    assert (wrong.status, "refused the login" in wrong.err, "8812" in wrong.err) == (ExitStatus.CATALOG, True, False)
    second = Home(tmp_path / "second", home.data)
    taken = second("init", str(second.root), *words, PGPASSWORD=SECRET)
    assert (taken.status, second.root.exists()) == (ExitStatus.REFUSED, False), taken


IMPATIENT = """
import sys
from cto_backups.catalog.postgresql import server
from cto_backups.cli import main, worker
server.PATIENCE_SECONDS, worker.AWAY_SECONDS = 0.3, 0.5
sys.exit(main.run(["worker"]))
"""


def test_a_worker_waits_for_a_server_that_is_away_and_goes_on_when_it_is_back(
    home: Home, postgresql_programs: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(postgresql.server(postgresql_programs))
        server.do("CREATE DATABASE backups ENCODING 'UTF8' TEMPLATE template0")
        put_on_server(home, f"postgresql://postgres@/backups?host={server.place}")
        assert home("catalog", "move", "--from", "sqlite:catalog.db").status is ExitStatus.SUCCESS

        def signs() -> set[Any]:
            return set(server.do("SELECT at FROM cto_backups.heartbeat", database="backups"))

        worker = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT],
            cwd=home.data.parent,
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until(signs)
            pid = int((server.place / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)
            said = ""
            while "Trying again" not in said:
                said += worker.stdout.readline() if worker.stdout else ""
                assert worker.poll() is None, said
            assert "cannot be reached" in said
            time.sleep(3.0)
            stack.enter_context(postgresql.running(server.bin, server.place))
            before = signs()
            until(lambda: signs() - before)
            worker.send_signal(signal.SIGTERM)
            rest, _ = worker.communicate(timeout=60)
        finally:
            worker.kill()
            worker.communicate()
        assert (worker.returncode, "Traceback" in said + rest) == (0, False), said + rest
        assert (said + rest).count("Trying again") == 1 and "The catalog is there again, after" in rest, said + rest


def test_a_worker_ends_loudly_and_writes_nothing_once_a_newer_release_has_taken_the_catalog(
    home: Home, server: Server, address: str
) -> None:
    """As hosts do that are not upgraded yet; they know nothing of what the newer release makes of the catalog."""
    put_on_server(home, address)
    assert home("catalog", "move", "--from", "sqlite:catalog.db").status is ExitStatus.SUCCESS
    worker = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", "worker"],
        cwd=home.data.parent,
        env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: rows(server, "SELECT 1 FROM runs WHERE outcome = 'succeeded'"))
        rows(server, "UPDATE alembic_version SET version_num = '9999'")
        said, _ = worker.communicate(timeout=120)
    finally:
        worker.kill()
        worker.communicate()
    assert worker.returncode == ExitStatus.CATALOG, said
    assert "has version 9999" in said and "a newer release has written it" in said and "Traceback" not in said, said

    def held() -> dict[str, list[Any]]:
        tables = ("runs", "points", "copies", "evidence", "heartbeat", "claims", "records")
        return {table: sorted(map(repr, rows(server, f"SELECT * FROM {table}"))) for table in tables}

    before = held()
    for command in ("backup", "status", "worker"):
        assert home(command).status is ExitStatus.CATALOG, command
    assert held() == before


def until(there: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something is there."""
    for _ in range(int(seconds * 10)):
        if there():
            return
        time.sleep(0.1)
    pytest.fail("it never came")


def everything(opened: Catalog) -> Any:
    """All rows of all tables, as they are read from either kind."""
    assert schema_traffic.vault_traffic.metadata is schema_due_times.due_times.metadata is schema.metadata
    assert schema_hosts.hosts.metadata is schema.metadata
    with opened.reading() as connection:
        return {
            table.name: sorted(map(repr, map(tuple, connection.execute(f"SELECT * FROM {table.name}"))))
            for table in schema.metadata.sorted_tables
        }


def test_a_catalog_moves_to_the_server_and_back_with_all_that_it_holds(
    home: Home, server: Server, address: str
) -> None:
    assert home("verify").status is ExitStatus.SUCCESS
    file = home.root / "catalog.db"
    with Catalog.open(f"sqlite:{file}", now=clock.now()) as opened:
        opened.alerts.told(None, [Telling(clock.now(), "ada", "mail", None, None)], clock.now())
        before = everything(opened)
    put_on_server(home, address)

    moved = home("catalog", "move", "--from", "sqlite:catalog.db", "--json")
    assert moved.status is ExitStatus.SUCCESS, moved
    assert moved.document["rows"] == sum(map(len, before.values()))
    assert not file.exists() and Path(moved.document["aside"]).is_file()
    with Catalog.open(address, now=clock.now(), password=lambda: SECRET) as opened:
        assert everything(opened) == before
        assert opened.check() == ()
        opened.alerts.told(None, [Telling(clock.now(), "ada", "mail", None, None)], clock.now())  # gets a new number

    again = home("catalog", "move", "--from", "sqlite:catalog.db")
    assert (again.status, "there already" in again.err) == (ExitStatus.REFUSED, True), again
    assert home("backup").status is ExitStatus.SUCCESS

    with Catalog.open(address, now=clock.now(), password=lambda: SECRET) as opened:
        before = everything(opened)
    home.policy.write_text(home.policy.read_text().replace(f"catalog: {address}\n", "catalog: sqlite:catalog.db\n"))
    back = home("catalog", "move", "--from", address)
    assert back.status is ExitStatus.SUCCESS, back
    with Catalog.open(f"sqlite:{file}", now=clock.now()) as opened:
        assert everything(opened) == before
    assert home("status").status in (ExitStatus.SUCCESS, ExitStatus.RED)


def test_a_catalog_at_work_is_not_moved(home: Home, address: str) -> None:
    file = home.root / "catalog.db"
    now = clock.now()
    sign = Heartbeat(now, now + timedelta(minutes=5), "another-host", 77, "", "shop")
    with Catalog.open(f"sqlite:{file}", now=now) as opened:
        opened.beat(sign, lambda pid: True)
    put_on_server(home, address)
    refused = home("catalog", "move", "--from", "sqlite:catalog.db")
    assert (refused.status, "Stop it first" in refused.err) == (ExitStatus.REFUSED, True), refused
    assert file.is_file()
    same = home("catalog", "move", "--from", address)
    assert same.status is ExitStatus.USAGE, same
