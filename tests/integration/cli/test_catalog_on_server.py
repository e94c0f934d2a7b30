"""The story with the catalog on a PostgreSQL server, command by command: one line of the policy is what differs."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.postgresql import Server

from .conftest import Home

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
