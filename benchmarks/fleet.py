"""`make bench-fleet`: planning, queueing and writing for many sources, on a PostgreSQL server that this starts.

    python -m benchmarks.fleet [--part PART] [--sources 100000] [--minutes 10] [--workers 1 2 4]

**passes**: what a plan pass costs by what exists (1,000, 10,000, 100,000 sources) and by what is due, and a plan of
everything beside it. **commits**: how many transactions a second the one writers' lock lets through. **flow**: all
sources are due hourly, and what is due is planned, queued and done by workers, each a process; actions take half a
second and nothing else, and write what real ones write. **scaling**: the same with all of 2,000 sources due at once,
by workers that do four actions of two seconds each. **idle**: what workers ask that have nothing to do. The server is
durable: each commit is flushed to the disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.plan import due
from cto_backups.core.policy import Policy
from cto_backups.flows.planning import plan

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from benchmarks import fleet_counting  # noqa: E402
from benchmarks.fleet_counting import Cost, costing, cpu_of  # noqa: E402
from benchmarks.fleet_world import HOUR, fill, policy_of, quantile  # noqa: E402
from servers import postgresql  # noqa: E402
from servers.postgresql import Server  # noqa: E402

SETTINGS = {
    "fsync": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "300",
    "shared_preload_libraries": "pg_stat_statements",
}
PARTS = ("passes", "commits", "idle", "scaling", "flow")
DUE = (1, 10, 100, 500)
WRITERS = (1, 2, 4, 8)
WRITING_SECONDS = 5
SETTLING_SECONDS, IDLE_SECONDS = 40, 120
FILLED_A_SECOND = 1000
"""How many sources the catalog is filled with in a second, at least; otherwise some are due before it begins."""
STARTING_SECONDS = 10
"""For about so long workers start their processes."""


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one (all)")
    parser.add_argument("--sources", type=int, default=100_000, help="at most (100000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the flow, with each number of workers (10)")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4], help="how many, one after the other")
    parser.add_argument("--seconds", type=float, default=0.5, help="that an action takes (0.5)")
    parser.add_argument("--slots", type=int, default=48, help="actions at once of each worker (48)")
    arguments = parser.parse_args()
    programs = postgresql.programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is not here: make setup")
    fleet_counting.count()
    with postgresql.server(programs, **SETTINGS) as server:
        version = server.do("SHOW server_version")[0][0]
        print(f"{os.cpu_count()} cores, load {_load()}; PostgreSQL {version}, durable", flush=True)
        parts: dict[str, Callable[[Server, argparse.Namespace], None]] = {
            "passes": passes,
            "commits": commits,
            "idle": idle,
            "scaling": scaling,
            "flow": flow,
        }
        for part in arguments.part or PARTS:
            print(f"\n{part}, at load {_load()}", flush=True)
            parts[part](server, arguments)


def _load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def postmaster(server: Server) -> int:
    """The number of the server's first process."""
    return int((server.place / "data" / "postmaster.pid").read_text().split()[0])


def made(server: Server, name: str) -> str:
    """A new, empty catalog on the server; its URL."""
    server.do(f"CREATE DATABASE {name} TEMPLATE template0")
    url = f"postgresql://{server.user}@/{name}?host={server.place}&port={server.port}"
    Catalog.create(url, now=clock.now()).close()
    return url


# -- passes ------------------------------------------------------------------------------------------------------------


def passes(server: Server, arguments: argparse.Namespace) -> None:
    """A pass by what exists, and by what is due."""
    first, url = postmaster(server), made(server, "passes")
    with Catalog.open(url, now=clock.now()) as catalog:
        for many in sorted({each for each in (1_000, 10_000, arguments.sources) if each <= arguments.sources}):
            now, policy = clock.now(), policy_of(many)
            with costing(first) as cost:
                fill(catalog, policy, now)
            server.do("ANALYZE", database="passes")
            print(f"\n{many:,} sources; brought in with their history: {cost.wall:.0f} s", flush=True)
            _everything(catalog, policy, now, first)
            for number in (0, *DUE):
                now += HOUR / many * number
                with costing(first) as cost:
                    found = plan(policy, catalog, now, at_leisure=0)
                _show(f"a pass: {len(found.looked)} looked at, {len(found.due)} due", cost)
            with costing(first) as cost:
                actions = due(policy, catalog.facts(now), now)
            _show(f"a plan of everything ({len(actions)} due)", cost)


def _everything(catalog: Catalog, policy: Policy, now: datetime, first: int) -> None:
    looked, passes = 0, 0
    with costing(first) as cost:
        while found := plan(policy, catalog, now, limit=0).looked:
            looked, passes = looked + len(found), passes + 1
    _show(f"all looked at, in {passes} slices", cost)
    here, there = (seconds / max(looked, 1) * 1e6 for seconds in (cost.cpu, cost.server))
    print(f"    for each of {looked:,}: {here:,.0f} us CPU here, {there:,.0f} us there", flush=True)


def _show(what: str, cost: Cost) -> None:
    print(f"  {what:36} {cost}", flush=True)


# -- commits -----------------------------------------------------------------------------------------------------------


def commits(server: Server, arguments: argparse.Namespace) -> None:
    """Transactions a second through the writers' lock, by how many write at once; and without it."""
    url, first = made(server, "commits"), postmaster(server)
    with Catalog.open(url, now=clock.now()) as catalog:
        catalog.sync_policy(policy_of(1000), b"", clock.now())
    for kind in ("runs", "records", "chains", "batches", "unlocked"):
        for writers in WRITERS:
            with costing(first) as cost:
                words = [sys.executable, "-m", "benchmarks.fleet_writer", url, kind]
                told = _all([[*words, str(number), str(WRITING_SECONDS)] for number in range(writers)])
            done = sum(each["done"] for each in told)
            waits = [wait for each in told for wait in each["waits"]]
            here, there = (seconds / done * 1e6 for seconds in (sum(each["cpu"] for each in told), cost.server))
            print(
                f"  {kind:9} {writers} at once: {done / WRITING_SECONDS:6.0f} a second, each "
                f"{quantile(waits, 0.5) * 1000:5.1f} ms, p99 {quantile(waits, 0.99) * 1000:6.1f} ms; "
                f"{here:5.0f} us CPU each here, {there:5.0f} us there; load {_load()}",
                flush=True,
            )


def _all(commands: list[list[str]]) -> list[dict[str, Any]]:
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process of the benchmark has failed")
    return [json.loads(each) for each in told]


# -- idle --------------------------------------------------------------------------------------------------------------


def idle(server: Server, arguments: argparse.Namespace) -> None:
    """What workers ask that have nothing to do: real ones, of an installation with one source."""
    server.do("CREATE DATABASE idle TEMPLATE template0")
    server.do("CREATE EXTENSION pg_stat_statements", database="idle")
    url = f"postgresql://{server.user}@/idle?host={server.place}&port={server.port}"
    with tempfile.TemporaryDirectory(prefix="fleet-") as scratch:
        (Path(scratch) / "data").mkdir()
        words = [sys.executable, "-m", "cto_backups"]
        home = Path(scratch) / "home"
        begin = [*words, "init", str(home), "--protect", f"{scratch}/data", "--business", "acme", "--catalog", url]
        subprocess.run(begin, check=True, capture_output=True)
        policy = ["--policy", str(home / "backups.yaml")]
        subprocess.run([*words, *policy, "backup"], check=False, capture_output=True)
        for workers in (1, 2, 4):
            started = [
                subprocess.Popen([*words, *policy, "worker", "--name", f"w{number}"], stdout=subprocess.DEVNULL)
                for number in range(workers)
            ]
            time.sleep(SETTLING_SECONDS)
            server.do("SELECT pg_stat_statements_reset()", database="idle")
            with costing(postmaster(server)) as cost:
                cpu = sum(map(cpu_of, (each.pid for each in started)))
                time.sleep(IDLE_SECONDS)
                cpu = sum(map(cpu_of, (each.pid for each in started))) - cpu
            asked = "SELECT sum(calls), sum(calls) FILTER (WHERE query LIKE 'COMMIT%') FROM pg_stat_statements"
            ((calls, commits),) = server.do(asked, database="idle")
            for each in started:
                each.terminate()
            for each in started:
                each.wait()
            print(
                f"  {workers} worker(s) for {IDLE_SECONDS} s: {int(calls) / IDLE_SECONDS:.1f} statements a second, "
                f"{int(commits or 0) / IDLE_SECONDS:.2f} commits; CPU {cpu / IDLE_SECONDS:.1%} of the workers, "
                f"{cost.server / IDLE_SECONDS:.1%} of the server; load {_load()}",
                flush=True,
            )


# -- flow --------------------------------------------------------------------------------------------------------------


def flow(server: Server, arguments: argparse.Namespace) -> None:
    """All sources due hourly, for some minutes, with so many workers."""
    for workers in arguments.workers:
        seconds = arguments.minutes * 60
        _flow(server, workers, arguments.sources, seconds, arguments.seconds, arguments.slots, timedelta())


def scaling(server: Server, arguments: argparse.Namespace) -> None:
    """More is due than workers can do, whose actions only take time."""
    for workers in arguments.workers:
        _flow(server, workers, 2000, 60.0, 2.0, 4, 2 * HOUR)


def _flow(
    server: Server, workers: int, sources: int, seconds: float, takes: float, slots: int, behind: timedelta
) -> None:
    url, policy = made(server, "flow"), policy_of(sources)
    # Filled as of when it will be filled: nothing has come due until then.
    begins = clock.now() + (-behind or timedelta(seconds=sources / FILLED_A_SECOND))
    with Catalog.open(url, now=clock.now()) as catalog:
        fill(catalog, policy, begins)
        server.do("ANALYZE", database="flow")
        while not behind and plan(policy, catalog, clock.now(), limit=0).looked:
            pass
    time.sleep(max((begins - clock.now()).total_seconds() - STARTING_SECONDS, 0.0))
    # By -c: the processes of its actions would import what runs as a module by -m once more.
    worker = "from benchmarks.fleet_worker import main; main()"
    words = [sys.executable, "-c", worker, url, str(sources), str(seconds), str(takes), str(slots)]
    with costing(postmaster(server)) as cost:
        told = _all([[*words, str(number), str(workers)] for number in range(workers)])
    _flowed(workers, seconds, told, cost)
    server.do("DROP DATABASE flow WITH (FORCE)")


def _flowed(workers: int, seconds: float, told: list[dict[str, Any]], cost: Cost) -> None:
    kinds: dict[str, int] = {}
    for each in told:
        for kind, number in each["done"].items():
            kinds[kind] = kinds.get(kind, 0) + number
    done = ", ".join(f"{number / seconds:.1f} {kind}" for kind, number in sorted(kinds.items()))
    waits = [wait for each in told for wait in each["waits"]]
    print(
        f"  {workers} worker(s), {seconds:.0f} s, load {_load()}: {done} a second\n"
        f"    from due to begun: p50 {quantile(waits, 0.5):.2f} s, p99 {quantile(waits, 0.99):.2f} s\n"
        f"    planning {sum(each['planning'] for each in told) / seconds:.1%} of a worker's time, "
        f"{sum(each['looked'] for each in told) / seconds:.0f} looks a second; "
        f"{sum(each['trips'] for each in told) / seconds:.0f} round trips a second\n"
        f"    CPU: {sum(each['cpu'] for each in told) / seconds:.2f} cores of the workers, "
        f"{cost.server / seconds:.2f} of the server",
        flush=True,
    )


if __name__ == "__main__":
    main()
