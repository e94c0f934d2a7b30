"""The soak: minutes of it here, hours by `make soak` (SOAK_SECONDS, SOAK_SEED). See `acceptance.soak`."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.soak import Luck, Place, see_that_nothing_shows, settle
from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.postgresql import Server

SECONDS = float(os.environ.get("SOAK_SECONDS") or 0)
OUTAGE_SECONDS = float(os.environ.get("SOAK_OUTAGE_SECONDS") or 0)
SEED = int(os.environ.get("SOAK_SEED") or 1)
BRIEF_SECONDS = 25.0
PATIENT_SECONDS = 120.0
"""After how long without a server whatever was under way has been given up."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def make(hosts: tuple[str, ...], catalog: str, sources: int, machine: str = "") -> Place:
        made.append(Place(tmp_path, hosts, catalog, sources, machine=machine))
        made[-1].make()
        return made[-1]

    yield make
    for each in made:
        each.end()


@dataclass
class AServer:
    """A PostgreSQL server that can be ended without a word to anybody, as a crash does, and begun again."""

    server: Server
    stack: ExitStack

    @property
    def url(self) -> str:
        return f"postgresql://{self.server.user}@/backups?host={self.server.place}"

    def stop(self) -> None:
        file = self.server.place / "data" / "postmaster.pid"
        os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
        while file.exists():
            time.sleep(0.05)

    def start(self) -> None:
        self.stack.enter_context(postgresql.running(self.server.bin, self.server.place))

    def restart(self) -> None:
        self.stop()
        self.start()


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


@contextmanager
def a_server(programs: Path) -> Iterator[AServer]:
    """A server with a database for a catalog; it ends with the block, however often it was ended and begun before."""
    with postgresql.server(programs) as server, ExitStack() as stack:
        server.do("CREATE DATABASE backups TEMPLATE template0 ENCODING 'UTF8'")
        yield AServer(server, stack)


@pytest.mark.skipif(not SECONDS, reason="takes SOAK_SECONDS: make soak")
@pytest.mark.timeout(int(SECONDS) + 3600)
def test_three_workers_and_a_server_for_as_long_as_is_asked(
    place: Callable[..., Place], postgresql_programs: Path
) -> None:
    with a_server(postgresql_programs) as server:
        made = place(("web1", "web2", "web3"), server.url, 30)
        luck = Luck(made, random.Random(SEED), longest_freeze=100.0, restart_server=server.restart)
        soak(luck, SECONDS, most_tests=500)
        made.end()


@pytest.mark.skipif(not OUTAGE_SECONDS, reason="takes SOAK_OUTAGE_SECONDS: make soak")
@pytest.mark.timeout(int(OUTAGE_SECONDS) + 3600)
def test_a_server_that_is_away_for_as_long_as_is_asked(place: Callable[..., Place], postgresql_programs: Path) -> None:
    """What comes due meanwhile is done once, when it is back; until then workers wait, and say little."""
    with a_server(postgresql_programs) as server:
        made = place(("web1", "web2", "web3"), server.url, 12)
        for host in made.hosts:
            made.work(host)
        began = time.monotonic()
        for number in range(63):  # so that some are at something
            made.change(f"s{number % made.sources}", number)
            time.sleep(1.0)
        server.stop()
        away = time.monotonic()
        quiet = min(PATIENT_SECONDS, OUTAGE_SECONDS / 2)
        found = outage(made, until=away + OUTAGE_SECONDS, after=away + quiet)
        server.start()
        back = time.monotonic()
        settle(made)
        found |= {"settled_seconds": round(time.monotonic() - back)}
        found |= see_that_nothing_shows(made, random.Random(SEED), most_tests=500)
        print(f"\n{OUTAGE_SECONDS:.0f} s without the server: {found}, in {time.monotonic() - began:.0f} s")
        made.end()


def outage(made: Place, until: float, after: float) -> dict[str, Any]:
    """Let all sources change while the server is away; what workers cost and say, and what is told to whoever asks."""
    lines = {host: 0 for host in made.hosts}
    spent = dict.fromkeys(made.hosts, 0.0)
    number, told, begun = 0, [], 0.0
    while (at := time.monotonic()) < until:
        number += 1
        made.change(f"s{number % made.sources}", number)
        if not begun and at >= after:
            begun = at
            lines = {host: count_lines(made, host) for host in made.hosts}
            spent = {host: made.cpu_seconds(host) for host in made.hosts}
        if number % 300 == 1:
            asked = time.monotonic()
            answer = made.run("web2", "status", "--json", good=(ExitStatus.CATALOG,))
            assert json.loads(answer.stdout)["error"]["code"] == "catalog-away", answer.stdout
            told.append(round(time.monotonic() - asked, 1))
        assert all(worker.poll() is None for worker in made.workers.values()), made.logs()
        time.sleep(1.0)
    seconds = time.monotonic() - begun
    said = {host: count_lines(made, host) - lines[host] for host in made.hosts}
    cpu = {host: round(made.cpu_seconds(host) - spent[host], 2) for host in made.hosts}
    assert max(said.values()) <= 10 + seconds / 60, f"{said}\n{made.logs()}"
    assert max(cpu.values()) <= 2 + seconds * 0.02, cpu
    return {"lines": said, "cpu_seconds": cpu, "in_seconds": round(seconds), "status_took": told}


def count_lines(made: Place, host: str) -> int:
    return made.log(host).read_bytes().count(b"\n")
