"""A pooler of connections between the program and the server that keeps its catalog."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.catalog.postgresql import address as addresses
from cto_backups.errors import CatalogError, ExitStatus
from cto_backups.queues.server import ServerQueue
from servers import pgbouncer, postgresql
from servers.postgresql import Server

from .conftest import Home
from .test_catalog_on_server import until

SOURCE = "data-files"


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs) as made:
        yield made


@pytest.fixture
def home_on_server(home: Home, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """The installation's catalog is on the server, which is reached without a pooler."""
    monkeypatch.setattr(addresses, "_DIRECT", set())
    server.do("CREATE DATABASE backups ENCODING 'UTF8' TEMPLATE template0")
    policy = home.policy.read_text()
    home.policy.write_text(policy.replace("catalog: sqlite:catalog.db", f"catalog: {url(server)}"))
    assert home("catalog", "move", "--from", "sqlite:catalog.db").status is ExitStatus.SUCCESS
    yield home
    server.do("DROP DATABASE backups WITH (FORCE)")


def url(server: Server) -> str:
    return f"postgresql://{server.user}@/backups?host={server.place}&port={server.port}"


def through(home: Home, server: Server, pooler: Server) -> None:
    home.policy.write_text(home.policy.read_text().replace(url(server), url(pooler)))


@pytest.mark.parametrize("more", ["", "ignore_startup_parameters = options"])
def test_a_pooler_of_sessions_does(home_on_server: Home, server: Server, pgbouncer_program: Path, more: str) -> None:
    home = home_on_server
    with pgbouncer.pooler(pgbouncer_program, server, "session", more) as pooler:
        through(home, server, pooler)
        before = len(home("points", "--json").document["points"])
        home.change("figures that went through a pooler\n")
        for command in (
            ("backup", SOURCE),
            ("test", SOURCE),
            ("verify",),
            ("evidence", "verify"),
            ("worker", "--once"),
        ):
            answer = home(*command)
            assert answer.status is ExitStatus.SUCCESS, (command, answer)
        assert len(home("points", "--json").document["points"]) == before + 1
        found = server.do(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", database="backups"
        )
        assert found == [(0,)], "all is in its schema"

        one = ServerQueue(url(pooler), None, lanes=("",), policy="x")
        other = ServerQueue(url(pooler), None, lanes=("",), policy="x")
        try:
            one.waiting()
            other._do(lambda opened: opened.rows("SELECT pg_notify('procrastinate_queue_v1#pool', '{}')"))
            until(one._told, 10)
        finally:
            one.close()
            other.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_shares_sessions_is_refused_in_one_sentence(
    home_on_server: Home, server: Server, pgbouncer_program: Path, mode: str
) -> None:
    home = home_on_server
    with pgbouncer.pooler(pgbouncer_program, server, mode, "ignore_startup_parameters = options") as pooler:
        through(home, server, pooler)
        for command in (("backup",), ("status",), ("worker",)):
            answer = home(*command)
            assert answer.status is ExitStatus.CATALOG, (command, answer)
            assert "pooler that shares sessions" in answer.err and "pool_mode=session" in answer.err, answer
        with pytest.raises(CatalogError, match="shares sessions"):
            ServerQueue(url(pooler), None, lanes=("",), policy="x")
