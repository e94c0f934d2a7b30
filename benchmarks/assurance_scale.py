"""`cto.backups status` and `audit` on 1,000, 10,000 and 100,000 sources of 30 recovery points each: the cost is linear.

Run it with ``python -m benchmarks.assurance_scale``. Policy and catalog are fabricated, as rows of the same shape that
single writes make; the commands are processes of their own, on folders that are there. CPU seconds count: they are the
same on a busy machine. Beside each is what it cost for a source, and against the row above.

Then what a worker spends that looks whether people are to be told something: at first, with nothing changed since, and
with so many sources changed.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import status_scale
from cto_backups import app, clock
from cto_backups.app import starting
from cto_backups.catalog import holdings, inventory, rows
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import insertion
from cto_backups.config import load
from cto_backups.core.model import Copy, Resource
from cto_backups.flows import telling, troubles

COMMANDS = {"status": ("status", "--json"), "audit": ("audit", "--format", "json")}
CHANGED = (100, 1_000)
ALLOWED_RATIO = 1.5
"""How much more a source may cost than in the smallest installation: fixed costs are shared by ever more of them."""

BATCH = 2000


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, and the most memory in MiB."""

    wall: float
    cpu: float
    mebibytes: float


def main() -> None:
    """Make the catalogs, measure, print; the exit status is 1 when it is not linear."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assurance_scale", description=__doc__)
    parser.add_argument("--sources", type=int, nargs="+", default=(1_000, 10_000, 100_000))
    parser.add_argument("--points", type=int, default=30, help="of each source")
    parser.add_argument("--make", type=Path, metavar="HOME", help="only make a catalog there, to look at")
    parser.add_argument("--tell", type=Path, metavar="POLICY", help="only measure what telling costs there")
    arguments = parser.parse_args()
    if arguments.tell is not None:
        tell(arguments.tell)
        return
    worst: dict[str, float] = {}
    if arguments.make is not None:
        make(arguments.make, *arguments.sources, arguments.points)
        return
    print(f"{'':8} {'sources':>9} {'points':>11} {'wall s':>8} {'CPU s':>8} {'MiB':>7}  CPU ms, KiB a source")
    for number in sorted(arguments.sources):
        with tempfile.TemporaryDirectory(prefix="assurance-scale-") as scratch:
            policy = _made(Path(scratch), number, arguments.points)
            for name, command in COMMANDS.items():
                cost = measure(policy, command)
                each = cost.cpu / number * 1000
                worst.setdefault(f"{name} first", each)
                worst[name] = each / worst[f"{name} first"]
                print(
                    f"{name:8} {number:9,} {number * arguments.points:11,} {cost.wall:8.1f} {cost.cpu:8.1f} "
                    f"{cost.mebibytes:7.0f} {each:7.2f} {cost.mebibytes * 1024 / number:8.1f}",
                    flush=True,
                )
            tell_in_a_process(policy)
    ratios = {name: worst[name] for name in COMMANDS}
    kept = max(ratios.values()) <= ALLOWED_RATIO
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    print(
        f"\nA source in the largest against one in the smallest: {told}; allowed is {ALLOWED_RATIO}: "
        f"{'kept' if kept else 'MISSED'}."
    )
    sys.exit(not kept)


def _made(home: Path, number: int, points: int) -> Path:
    # In a process of its own: what is measured then begins with the memory of this one, which stays small.
    arguments = [sys.executable, "-m", "benchmarks.assurance_scale", "--make", os.fspath(home)]
    subprocess.run([*arguments, "--sources", str(number), "--points", str(points)], check=True)
    return home / "home" / app.POLICY_NAME


def make(home: Path, number: int, points: int) -> Path:
    """An installation of so many sources, each with so many points; its policy file."""
    data = home / "data"
    data.mkdir(parents=True)
    sources: dict[str, dict[str, object]] = {
        f"source-{index:06}": {"kind": "files", "paths": [str(data)], "class": "configuration", "owner": "ada"}
        for index in range(number)
    }
    policy_file = starting.initialise(home / "home", business="acme", sources=sources)
    configuration = load(policy_file)
    now = clock.now()
    with Catalog.open(configuration.settings.catalog_url, now=now) as catalog:
        catalog.sync_policy(configuration.policy, configuration.text, now)
        vaults = list(configuration.policy.vaults)[:2]
        names = list(sources)
        for begin in range(0, number, BATCH):
            _fill(catalog, names[begin : begin + BATCH], points, now, vaults, data)
        with catalog._writing() as connection:
            connection.execute(
                "UPDATE vaults SET copy_count = :copies, first_copy_at = :first",
                {"copies": number * points, "first": rows.moment_to_column(now - timedelta(days=points))},
            )
    return policy_file


def _fill(catalog: Catalog, sources: list[str], points: int, now: datetime, vaults: list[str], data: Path) -> None:
    """A point a day of each source, its copies and runs, a restore test, and what discovery found."""
    content: dict[str, list[dict[str, Any]]] = {"points": [], "copies": [], "runs": []}
    found = Resource(f"files:{data}", "files", str(data))
    tests = []
    for source in sources:
        made = [
            status_scale.point(source, index, now - timedelta(days=points - 1 - index, hours=1))
            for index in range(points)
        ]
        tests.append(status_scale.test(made[-2 if points > 1 else -1], vaults[0]))
        for point in made:
            content["points"].append(rows.point_to_row(point))
            content["copies"] += [
                rows.copy_to_row(Copy(point.id, vault, "cd" * 32, point.captured_at, 10**6)) for vault in vaults
            ]
            content["runs"] += list(_runs(source, point.id, point.captured_at, vaults))
    with catalog._writing() as connection:
        for table, each in content.items():
            connection.execute_each(insertion(table, each[0]), each)
        for test in tests:
            holdings.add_evidence(connection, test)
        for source in sources:
            inventory.record_resources(connection, source, [found], now)
        connection.execute_each(
            "UPDATE sources SET point_count = :points WHERE name = :source",
            [{"source": source, "points": points} for source in sources],
        )


def _runs(source: str, point: str, at: datetime, vaults: list[str]) -> Iterator[dict[str, Any]]:
    for action, vault in (("backup", None), *(("copy", vault) for vault in vaults[1:])):
        yield status_scale.run(action, source, vault, point, at)


def measure(policy: Path, command: tuple[str, ...]) -> Cost:
    """What a command costs, as a process of its own."""
    arguments = [sys.executable, "-m", "cto_backups", "--policy", os.fspath(policy), *command]
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 4):  # 4: something is red, which is no failure of the command
            said = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
            raise SystemExit(f"{command[0]} ended with {process.returncode}: {said}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def tell_in_a_process(policy: Path) -> None:
    """The same, in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.assurance_scale", "--tell", os.fspath(policy)]
    subprocess.run(arguments, check=True)


def tell(policy: Path) -> None:
    """Measure what it costs to see what people are to be told, and for how long at once a worker does nothing else."""
    with app.opened(policy) as opening:
        known, catalog, now = opening.installation.policy, opening.installation.catalog, clock.now()
        for touched in (None, 0, 1, *(number for number in CHANGED if number <= len(known.sources))):
            for name in list(known.sources)[: touched or 0]:
                catalog.confirm(name, now)
            began, cpu, longest, ends = time.perf_counter(), time.process_time(), 0.0, False
            judging = troubles.Judging(opening.installation)
            while not ends:
                slice_began = time.perf_counter()
                ends = judging.go_on(telling.JUDGE_SECONDS)
                longest = max(longest, time.perf_counter() - slice_began)
            wrong = judging.found
            cpu, wall = time.process_time() - cpu, time.perf_counter() - began
            what = "everything is judged" if touched is None else f"{touched:,} changed"
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"tell     {len(known.sources):9,} {what:>20} {wall:8.2f} {cpu:8.3f} {most:7.0f} "
                f"({len(wrong)} wrong, at most {longest:.2f} s at once)"
            )


if __name__ == "__main__":
    main()
