"""A soak: workers under load, and bad luck that a seed decides; then whether all is as if there had been none.

`Place` is an installation with many small sources that change all the time, and its workers; `Luck` strikes them. What
is asked at the end is asked of the catalog and of the vaults, with everything stopped.
"""

import json
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from acceptance.workers import Workers, tell
from cto_backups import clock
from cto_backups.app import opened
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.rows import moment_to_column
from cto_backups.errors import ExitStatus
from cto_backups.flows.prune import prune
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify

EVERY = timedelta(minutes=1)
SETTLED_SECONDS = 240.0
POLICY = """\
version: 1
business: acme
timezone: UTC
keys: {{repository: "file:{top}/keys/repository.key", evidence: "file:{top}/keys/evidence.key"}}
catalog: {catalog}
state: state
worker: {{actions: 2, nice: 0, io: normal}}
vaults:
  near: {{url: "file:{top}/near", provider: disk, region: here, storage: disk, on_host: "*"}}
  far: {{url: "file:{top}/far", provider: nfs, region: there, storage: nas, off_site: true, on_host: "*"}}
sources:
"""
SOURCE = """\
  {name}:
    kind: files
    class: documentation
    triggers: every 1 min
    paths: ["{top}/data/{name}"]
    on_host: "*"
    test: {test}
"""


@dataclass
class Place(Workers):
    """Workers that share a catalog, and sources."""

    hosts: Sequence[str]
    catalog: str
    sources: int

    def make(self) -> None:
        """Keys, vaults and catalog, and a policy for each host."""
        names = [f"s{number}" for number in range(self.sources)]
        for name in names:
            (self.top / "data" / name).mkdir(parents=True)
            self.change(name, 0)
        first = self.top / self.hosts[0]
        made = str(self.top / "made")
        self.run(self.hosts[0], "init", made, "--catalog", self.catalog, "--business", "acme", good=(0,))
        (self.top / "made" / "keys").rename(self.top / "keys")
        text = POLICY.format(top=self.top, catalog=self.catalog) + "".join(
            SOURCE.format(name=name, top=self.top, test="daily" if number % 4 == 0 else "none")
            for number, name in enumerate(names)
        )
        for host in self.hosts:
            (self.top / host).mkdir()
            (self.top / host / "backups.yaml").write_text(text)
        assert first.is_dir()
        for vault in ("near", "far"):
            self.run(self.hosts[0], "vault", "init", vault, good=(0,))

    def change(self, name: str, number: int) -> None:
        """Let a source have other content: of one moment, as its program would see to."""
        folder = self.top / "data" / name
        (folder / ".new").write_text(f"{name} has number {number}\n" * 50)
        (folder / ".new").rename(folder / "report.txt")


@dataclass(frozen=True)
class Strike:
    """What strikes whom, so many seconds after the beginning, and for how long."""

    at: float
    what: str
    host: str
    seconds: float


def strikes(dice: random.Random, hosts: Sequence[str], seconds: float, longest_freeze: float) -> Iterator[Strike]:
    """The same ones for the same dice, whatever becomes of those whom they strike."""
    kinds, weights = ("plug", "worker", "freeze", "freeze slot", "server"), (4, 3, 4, 4, 1)
    at = 0.0
    while (at := at + dice.uniform(0.5, 4.0)) < seconds:
        what = dice.choices(kinds, weights)[0]
        lasting = longest_freeze if what.startswith("freeze") else 5.0
        yield Strike(at, what, dice.choice(hosts), dice.uniform(0.1, lasting))


@dataclass
class Luck:
    """Strikes workers, and keeps a record of it."""

    place: Place
    dice: random.Random
    longest_freeze: float
    restart_server: Callable[[], None] | None = None
    frozen: list[tuple[float, str, list[int]]] = field(default_factory=list)
    dead: list[tuple[float, str]] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def run(self, seconds: float) -> None:
        """Go on striking for so long, while all sources change; and let everything go on then."""
        began, number = time.monotonic(), 0
        coming = list(strikes(self.dice, self.place.hosts, seconds, self.longest_freeze))
        while (at := time.monotonic() - began) < seconds:
            number += 1
            self.place.change(f"s{number % self.place.sources}", number)
            self._over(at)
            while coming and coming[0].at <= at:
                self._strike(coming.pop(0), at)
            time.sleep(0.1)
        self._over(float("inf"))

    def _strike(self, strike: Strike, at: float) -> None:
        host = strike.host
        if strike.what == "server":
            if self.restart_server is not None:
                self.restart_server()
                self.struck[strike.what] += 1
            return
        if host not in self.place.workers or any(host == other for _, other, _ in self.frozen):
            return  # it has had its share
        processes = self.place.processes(host)
        if strike.what in ("plug", "worker"):
            # With its plug, all that runs there; a worker alone leaves processes that finish what they are at.
            for pid in processes if strike.what == "plug" else processes[:1]:
                tell(pid, signal.SIGKILL)
            self.place.workers.pop(host).wait()
            self.dead.append((at + strike.seconds, host))
        else:
            some = processes if strike.what == "freeze" else processes[1:][-1:]
            for pid in some:
                tell(pid, signal.SIGSTOP)
            self.frozen.append((at + strike.seconds, host, some))
        self.struck[strike.what] += 1

    def _over(self, at: float) -> None:
        """Let those go on whose time has come."""
        for each in [each for each in self.frozen if each[0] <= at]:
            self.frozen.remove(each)
            for pid in each[2]:
                tell(pid, signal.SIGCONT)
        for each in [each for each in self.dead if each[0] <= at]:
            self.dead.remove(each)
            self.place.work(each[1])


def settle(place: Place) -> None:
    """Wait until every due thing has been done: each source was looked at after the last strike, and all is well."""
    until, calm = time.monotonic() + SETTLED_SECONDS, time.time()
    while True:
        answer = place.run(place.hosts[0], "status", "--json")
        found = json.loads(answer.stdout) if answer.returncode in (ExitStatus.SUCCESS, ExitStatus.RED) else {}
        ages = [source["age_seconds"] for source in found.get("sources", ())]
        healthy = found and all(source["status"] == "HEALTHY" for source in found["sources"])
        if healthy and None not in ages and max(ages) <= time.time() - calm and is_done(place, calm):
            break
        assert time.monotonic() < until, f"{answer.stdout}\n{answer.stderr}\n{place.logs()}"
        time.sleep(1.0)
    for worker in place.workers.values():
        worker.send_signal(signal.SIGTERM)
    for host, worker in place.workers.items():
        # One that has only just begun is interrupted, for it is at nothing yet.
        assert worker.wait(120) in (0, ExitStatus.INTERRUPTED), f"{host}\n{place.logs()}"
    place.workers = {}


def is_done(place: Place, calm: float) -> bool:
    """Whether nothing that was begun before a moment is still to end, or to be taken over, or to be copied."""
    began = moment_to_column(datetime.fromtimestamp(calm, UTC))
    with Catalog.open(place.catalog, now=clock.now(), write=False) as catalog:
        with catalog.reading() as connection:
            begun = "SELECT count(*) FROM runs WHERE outcome = 'running' AND started_at < :began"
            if connection.scalar(begun, {"began": began}):
                return False
        newest = [catalog.latest(f"s{number}") for number in range(place.sources)]
        copied = [{facts.copy.vault for facts in catalog.copies(point.id)} for point in newest if point is not None]
        return len(copied) == place.sources and all(vaults == {"near", "far"} for vaults in copied)


def see_that_nothing_shows(place: Place, dice: random.Random, most_tests: int) -> dict[str, Any]:
    """No point is there twice, nothing is claimed, chains and vaults are whole, and points come back from vaults."""
    place.run(place.hosts[0], "evidence", "verify", good=(0,))
    with opened(place.top / place.hosts[0] / "backups.yaml") as opening:
        installation, catalog = opening.installation, opening.installation.catalog
        with catalog.reading() as connection:
            held = connection.scalar("SELECT count(*) FROM claims WHERE leased_until IS NOT NULL")
            running = connection.scalar("SELECT count(*) FROM runs WHERE outcome = 'running'")
        assert (held, running) == (0, 0), f"{held} claims, {running} runs\n{place.logs()}"
        points = catalog.points()
        by_source: dict[str, list[datetime]] = defaultdict(list)
        for point in points:
            by_source[point.source].append(point.started_at)
        assert set(by_source) == set(installation.policy.sources)
        for source, begun in by_source.items():
            begun.sort()
            gaps = [after - before for before, after in pairwise(begun)]
            assert min(gaps, default=EVERY) >= EVERY - timedelta(seconds=5), (
                f"{source}: two points for one time, {begun}"
            )
        held_copies = [(point, facts.copy.vault) for point in points for facts in catalog.copies(point.id)]
        shown = {(point.id, vault) for point, vault in held_copies}
        newest = [point.id for source in by_source if (point := catalog.latest(source)) is not None]
        assert {(point, vault) for point in newest for vault in ("near", "far")} <= shown
        for vault in ("near", "far"):
            prune(installation, vault)
            stored = sorted(one.reference for one in installation.store(vault).committed())
            assert stored == sorted(copy.reference for copy in catalog.copies_in(vault)), "a snapshot for each copy"
            result = verify(installation, vault)
            assert result.passed, result.evidence.reason
        tested = held_copies if len(held_copies) <= most_tests else dice.sample(held_copies, most_tests)
        for point, vault in tested:
            evidence = restore_test(installation, point.source, point=point, vault=vault)
            assert evidence.passed, f"{point.id} from {vault}: {evidence.reason}"
        return {"points": len(points), "copies": len(held_copies), "restored": len(tested)}
