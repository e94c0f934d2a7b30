"""A fleet: three workers with lanes of their own share a catalog on a server, one is killed, the server restarts."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.workers import Workers
from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.postgresql import Server

HOSTS = ("web1", "web2", "web3")
POLICY = """\
version: 1
business: acme
timezone: UTC
keys: {{repository: file:keys/repository.key, evidence: file:keys/evidence.key}}
catalog: {catalog}
state: state
worker: {{actions: 2, nice: 0, io: normal}}
vaults:
  near: {{url: "file:{top}/near", provider: disk, region: here, storage: disk, on_host: "*"}}
  far: {{url: "file:{top}/far", provider: nfs, region: there, storage: nas, off_site: true, on_host: "*"}}
  attic: {{url: "file:~/attic", provider: disk, region: attic, storage: disk, on_host: web1}}
sources:
"""
SOURCE = """\
  {name}:
    kind: files
    class: documentation
    triggers: every 1 h
    paths: ["~/data/{name}"]
    on_host: {host}
    vaults: [{vaults}]
    probe: [sleep, "2"]
"""


@dataclass
class Machines(Workers):
    """One machine that stands for three hosts: each has a folder of its own with the same policy and keys."""

    server: Server
    stack: ExitStack

    @property
    def url(self) -> str:
        return f"postgresql://{self.server.user}@/backups?host={self.server.place}"

    def restart_server(self, away_seconds: float) -> None:
        """End it without a word to anybody, as a crash does, and start it again after a while."""
        file = self.server.place / "data" / "postmaster.pid"
        os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
        while file.exists():
            time.sleep(0.05)
        time.sleep(away_seconds)
        self.stack.enter_context(postgresql.running(self.server.bin, self.server.place))

    def leader(self) -> str:
        now = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')"
        held = self.rows(f"SELECT holder FROM leases WHERE until > {now}")
        return str(held[0][0]).partition(":")[0] if held else ""

    def failures(self) -> list[str]:
        """What any of the workers told as failed, but for finding that another one still had a claim to it."""
        lines = [line for host in HOSTS for line in (self.top / f"{host}.log").read_text().splitlines()]
        documents = [json.loads(line) for line in lines if line.startswith("{")]
        return [str(each) for each in documents if each.get("passed") is False and each["error"]["code"] != "busy"]

    def gone(self, seen_from: str) -> list[str]:
        found = json.loads(self.run(seen_from, "hosts", "--json").stdout)["hosts"]
        return [host["host"] for host in found if host["gone"]]

    def environment(self, host: str) -> dict[str, str]:
        return {**super().environment(host), "HOME": str(self.top / host)}

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            assert worker.wait(60) == 0
        self.workers = {}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.do("SET search_path = cto_backups, cto_backups_queue", statement, database="backups")

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float = 150.0) -> None:
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, f"{what}:\n{self.logs()}"
            assert all(worker.poll() is None for worker in self.workers.values()), self.logs()
            time.sleep(0.5)


@pytest.fixture
def machines(postgresql_programs: Path, tmp_path: Path) -> Iterator[Machines]:
    top = tmp_path
    with postgresql.server(postgresql_programs) as made:
        made.do("CREATE DATABASE backups TEMPLATE template0 ENCODING 'UTF8'")
        made.do("CHECKPOINT")
        machines = Machines(top, made, ExitStack())
        written = POLICY.format(catalog=machines.url, top=top)
        for host in HOSTS:
            for number in range(3):
                name = f"{host}-{number}"
                folder = top / host / "data" / name
                folder.mkdir(parents=True)
                (folder / "report.txt").write_text(f"the figures of {name}\n" * 1000)
                vaults = "near, far, attic" if host == "web1" else "near, far"
                written += SOURCE.format(name=name, host=host, vaults=vaults)
        first = top / HOSTS[0]
        done = machines.run(HOSTS[0], "init", str(first), "--catalog", machines.url, "--business", "acme")
        assert done.returncode == 0, done.stderr
        for host in HOSTS:
            (top / host / "keys").mkdir(parents=True, exist_ok=True)
            for key in (first / "keys").iterdir():
                (top / host / "keys" / key.name).write_bytes(key.read_bytes())
                (top / host / "keys" / key.name).chmod(0o600)
            (top / host / "backups.yaml").write_text(written)
        for vault in ("near", "far", "attic"):
            assert machines.run(HOSTS[0], "vault", "init", vault).returncode == 0
        with machines.stack:
            yield machines
            machines.end()


def test_three_workers_share_what_is_due_whatever_becomes_of_one_and_of_the_server(machines: Machines) -> None:
    for host in HOSTS:
        machines.work(host)
    machines.wait_for("one leads", lambda: machines.leader() in HOSTS)
    victim = machines.leader()
    other = next(host for host in HOSTS if host != victim)
    under_way = f"SELECT source FROM runs WHERE host = '{victim}' AND action = 'restore_test' AND outcome = 'running'"
    machines.wait_for("it tests something", lambda: bool(machines.rows(under_way)))
    machines.kill(victim)
    killed_at = time.monotonic()
    left = {source for (source,) in machines.rows(under_way)}
    assert left

    machines.restart_server(25)  # longer than anybody waits for it in the middle of something

    proven = "SELECT source FROM evidence WHERE kind = 'restore_test' AND passed = 1"
    machines.wait_for("others do what it was at", lambda: left <= {source for (source,) in machines.rows(proven)})
    assert time.monotonic() - killed_at > 30, "nobody is taken for dead at once"
    machines.wait_for("another one leads", lambda: machines.leader() not in ("", victim))
    machines.wait_for("it is seen to be gone", lambda: machines.gone(other) == [victim])
    assert machines.run(other, "status").returncode == ExitStatus.RED

    machines.work(victim)
    machines.wait_for("all is well", lambda: machines.run(other, "status").returncode == ExitStatus.SUCCESS)
    assert machines.gone(other) == []
    machines.stop()

    hosts = set(machines.rows("SELECT host, source FROM runs WHERE action = 'backup'"))
    assert hosts == {(host, f"{host}-{number}") for host in HOSTS for number in range(3)}, "each by its own host"
    at_home = machines.rows("SELECT DISTINCT host FROM runs WHERE vault = 'attic' AND action <> 'restore_test'")
    assert at_home == [("web1",)], "a folder is its own host's"
    done = "SELECT action, source, vault FROM runs WHERE outcome IN ('succeeded', 'unchanged')"
    twice = {key: count for key, count in Counter(machines.rows(done)).items() if count > 1}
    assert not twice, f"{twice}\n{machines.logs()}"
    assert machines.rows("SELECT count(*), count(DISTINCT source) FROM points") == [(9, 9)]
    assert machines.rows("SELECT count(*) FROM copies") == [(21,)]
    assert machines.rows("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')") == [(0,)]
    assert machines.failures() == []


def test_a_change_is_backed_up_by_the_host_that_sees_it_whoever_leads(machines: Machines) -> None:
    """Whoever plans knows nothing of it, and does not withdraw it either."""
    for host in HOSTS:
        policy = machines.top / host / "backups.yaml"
        changed = "on change\n    category: A\n    retention: 7 days"  # so that one may soon follow another
        policy.write_text(policy.read_text().replace("every 1 h", changed))
    machines.work("web1")
    machines.wait_for("web1 leads", lambda: machines.leader() == "web1")
    machines.work("web2")
    mine = "SELECT count(*) FROM points WHERE source = 'web2-0'"
    waits = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND queue_name <> 'host:web3'"
    machines.wait_for("all is captured", lambda: machines.rows(mine) == [(1,)] and machines.rows(waits) == [(0,)])
    (machines.top / "web2" / "data" / "web2-0" / "report.txt").write_text("other figures\n")
    machines.wait_for("the change is there", lambda: machines.rows(mine) == [(2,)])
    assert machines.leader() == "web1"
