"""The hosts of a fleet, as the command tells them; and two machines with one name."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cto_backups import app, clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.facts import Heartbeat
from cto_backups.errors import ExitStatus, RefusedError
from cto_backups.flows import fleet
from cto_backups.flows.fleet import refuse_twins
from servers import postgresql
from servers.postgresql import Server

from .conftest import SOURCES, Home

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs) as made:
        yield made


@pytest.fixture
def shared(home: Home, server: Server) -> Iterator[Home]:
    """The installation with its catalog on a server."""
    server.do("CREATE DATABASE backups TEMPLATE template0 ENCODING 'UTF8'")
    url = f"postgresql://{server.user}@/backups?host={server.place}"
    home.policy.write_text(home.policy.read_text().replace("catalog: sqlite:catalog.db\n", f"catalog: {url}\n"))
    moved = home("catalog", "move", "--from", "sqlite:catalog.db")
    assert moved.status is ExitStatus.SUCCESS, moved
    yield home
    server.do("DROP DATABASE backups WITH (FORCE)")


def sign(home: Home, host: str, *, ago: timedelta = timedelta(), **told: Any) -> None:
    """A worker of a host gives, or gave, a sign of life."""
    from cto_backups.config import load

    configuration = load(home.policy)
    at = clock.now() - ago
    told = {"version": "0.1.0", "running": 1, "most": 2, "policy": configuration.policy.digest, **told}
    url = configuration.settings.catalog_url
    with Catalog.open(url, now=clock.now()) as catalog:
        catalog.beat(Heartbeat(at, at + 2 * MINUTE, host, 77, "", host, **told), lambda _pid: True)


def test_without_a_worker_it_says_how_to_start_one(home: Home) -> None:
    answer = home("hosts")
    assert (answer.status, answer.out.strip()) == (
        ExitStatus.SUCCESS,
        "No worker ever gave a sign of life. Start one: cto.backups worker",
    )


def test_of_many_that_are_gone_a_few_are_named(shared: Home) -> None:
    for number in range(12):
        sign(shared, f"web{number:02}", ago=9 * MINUTE)
    lines = shared("hosts").out.splitlines()
    assert [line.rpartition(" ")[2] for line in lines if "--forget" in line] == ["web00", "web01", "web02"]
    assert lines[-1] == "So with the other 9 that are gone: cto.backups hosts --json names them."


def test_a_worker_that_is_alone_is_a_host_without_a_lane(home: Home) -> None:
    assert home("worker", "--once", "--every", "1 h").status is not ExitStatus.DEFECT
    answer = home("hosts", "--json", CTO_BACKUPS_HOST="elsewhere")
    (host,) = answer.document["hosts"]
    assert (host["gone"], host["sources"], host["vaults"]) == (False, 0, 0)
    assert answer.document["pool"] == {"sources": 3, "vaults": 3}


def test_hosts_are_told_with_what_is_theirs_and_what_is_wrong(shared: Home) -> None:
    written = shared.policy.read_text()
    assert shared.policy.write_text(written.replace("    kind: sqlite\n", "    kind: sqlite\n    on_host: web2\n", 1))
    sign(shared, "web1")
    sign(shared, "web2", ago=9 * MINUTE)
    sign(shared, "web3", policy="another")
    answer = shared("hosts")
    assert answer.status is ExitStatus.RED, answer
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80, answer.out
    by_name = {line.split()[0]: line for line in lines if line}
    assert "1 of 2" in by_name["web1"] and "0.1.0" in by_name["web1"]
    assert "GONE, 9 minutes ago" in by_name["web2"] and "1 source," in by_name["web2"]
    assert "other policy" in by_name["web3"]
    assert "cto.backups worker --forget web2" in answer.out
    assert shared("status").status is ExitStatus.RED
    assert shared("worker", "--forget", "web2").status is ExitStatus.SUCCESS
    (gone,) = [each for each in shared("hosts", "--json").document["hosts"] if each["gone"]]
    assert (gone["host"], gone["last_sign_at"]) == ("web2", None), "its lane is there as long as policy says so"


def test_a_worker_that_is_run_now_and_then_keeps_to_its_lane(shared: Home) -> None:
    """With --once as well: what another host is to capture is left to it."""
    written = shared.policy.read_text()
    shared.policy.write_text(written.replace("    kind: sqlite\n", "    kind: sqlite\n    on_host: web2\n", 1))
    for folder in ("files", "app"):
        (shared.data / folder / "new.txt").write_text("new\n")
    (source,) = [name for name in SOURCES if "ledger" in name]

    def captured(host: str) -> set[str]:
        done = shared("worker", "--once", "--json", CTO_BACKUPS_HOST=host).document["actions"]
        return {each["source"] for each in done if each["action"] == "backup"}

    later = clock.now() + timedelta(days=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        assert captured("web1") == set()
        assert captured(app.host()) == set(SOURCES) - {source}, "whose it was before there was a fleet"
        assert captured("web2") == {source}


def opened(home: Home, stop: Event, monkeypatch: pytest.MonkeyPatch, host: str = "web1") -> None:
    monkeypatch.setenv("CTO_BACKUPS_HOST", host)
    with app.opened(home.policy) as opening:
        refuse_twins(opening.installation, stop)


def test_two_machines_with_one_name_are_refused(shared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(shared, "web1", machine="the other", ago=MINUTE / 6)
    sign(shared, "web2", machine="the other")
    asked: list[float] = []

    class Waiting(Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.append(timeout or 0.0)
            sign(shared, "web1", machine="the other")  # it lives
            return False

    with pytest.raises(RefusedError, match="Another machine is called web1") as caught:
        opened(shared, Waiting(), monkeypatch)
    assert "CTO_BACKUPS_HOST" in caught.value.todo and len(asked) == 1
    opened(shared, Event(), monkeypatch, "web9")


def test_a_machine_that_was_started_anew_has_its_name_back(shared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(shared, "web1", machine="as it was before")
    passed = 0.0
    now = clock.now

    class Waiting(Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal passed
            passed += 30.0
            return False

    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=passed))
    opened(shared, Waiting(), monkeypatch)
    assert 120 <= passed <= 180


def test_a_process_of_this_very_machine_is_no_twin(shared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(shared, "web1", machine=fleet.machine())
    opened(shared, Event(), monkeypatch)
