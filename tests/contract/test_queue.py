"""The queues, each against the one contract: of a worker that is alone, and of a fleet on a real PostgreSQL."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from queue_contract import FleetContract, QueueContract, Queues, names, offer, put

from cto_backups.queues.embedded import Embedded
from servers import postgresql
from servers.postgresql import Server

numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's server programs (Debian package postgresql)")
    with postgresql.server(programs) as made:
        yield made


class TestEmbedded(QueueContract):
    @pytest.fixture
    def queues(self) -> Queues:
        return Embedded


def test_a_worker_that_is_alone_leaves_out_what_is_of_another_hosts_lane() -> None:
    queue = Embedded(lanes=("", "here"))
    put(queue, offer("ours", "here"), offer("theirs", "there"), offer("anybody's"))
    assert names(queue) == ["ours", "anybody's"]


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    name = f"queue_{next(numbers)}"
    server.do(f"CREATE DATABASE {name}")
    yield f"postgresql://{server.user}@/{name}?host={server.place}&port={server.port}"
    server.do(f"DROP DATABASE {name} WITH (FORCE)")


class TestServer(QueueContract, FleetContract):
    @pytest.fixture
    def queues(self, url: str) -> Iterator[Queues]:
        from cto_backups.queues.server import ServerQueue

        with ExitStack() as stack:

            def made(*lanes: str, policy: str = "the digest of a policy") -> ServerQueue:
                queue = ServerQueue(url, None, lanes=("", *lanes), policy=policy)
                stack.callback(queue.close)
                return queue

            yield made
