"""The soak: minutes of it here, hours by `make soak` (SOAK_SECONDS, SOAK_SEED). See `acceptance.soak`."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from acceptance.soak import Luck, Place, see_that_nothing_shows, settle
from servers import postgresql

SECONDS = float(os.environ.get("SOAK_SECONDS") or 0)
SEED = int(os.environ.get("SOAK_SEED") or 1)
BRIEF_SECONDS = 25.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def make(hosts: tuple[str, ...], catalog: str, sources: int, machine: str = "") -> Place:
        made.append(Place(tmp_path, hosts, catalog, sources, machine))
        made[-1].make()
        return made[-1]

    yield make
    for each in made:
        each.end()


def soak(luck: Luck, seconds: float, most_tests: int) -> None:
    began = time.monotonic()
    for host in luck.place.hosts:
        luck.place.work(host)
    luck.run(seconds)
    struck = dict(luck.struck)
    assert struck, "nothing was struck"
    settle(luck.place)
    found = see_that_nothing_shows(luck.place, luck.dice, most_tests)
    print(f"\nseed {SEED}, {seconds:.0f} s of {struck}: {found}, in {time.monotonic() - began:.0f} s")


@pytest.mark.timeout(600)
def test_workers_that_are_killed_and_frozen_do_all_that_is_due_and_nothing_twice(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    """Three of one machine, and of one name; their catalog is a file."""
    made = place(("one", "two", "three"), f"sqlite:{tmp_path}/catalog.db", 6, "shop")
    soak(Luck(made, random.Random(SEED), longest_freeze=4.0), BRIEF_SECONDS, most_tests=24)


@pytest.mark.skipif(not SECONDS, reason="takes SOAK_SECONDS: make soak")
@pytest.mark.timeout(int(SECONDS) + 3600)
def test_three_workers_and_a_server_for_as_long_as_is_asked(
    place: Callable[..., Place], postgresql_programs: Path
) -> None:
    with postgresql.server(postgresql_programs) as server, ExitStack() as stack:
        server.do("CREATE DATABASE backups TEMPLATE template0 ENCODING 'UTF8'")

        def restart() -> None:
            file = server.place / "data" / "postmaster.pid"
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
            while file.exists():
                time.sleep(0.05)
            stack.enter_context(postgresql.running(server.bin, server.place))

        url = f"postgresql://{server.user}@/backups?host={server.place}"
        made = place(("web1", "web2", "web3"), url, 30)
        soak(Luck(made, random.Random(SEED), longest_freeze=100.0, restart_server=restart), SECONDS, most_tests=500)
        made.end()
