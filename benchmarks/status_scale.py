"""`cto.backups status` on 1,000 and on 100,000 recovery points of ten sources: it is to cost at most twice as much.

Run it with ``python -m benchmarks.status_scale``. Two things are measured, each as the median of several runs that
alternate between the two catalogs: the whole command, a process of its own; and in one process the reading of the facts
with the judgement on them, and that of the view `backup_status`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cto_backups import clock
from cto_backups.app import starting
from cto_backups.catalog import holdings, rows
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import insertion
from cto_backups.config import load
from cto_backups.core.assurance import judge
from cto_backups.core.model import Copy, Evidence, Fingerprint, RecoveryPoint, Rung

SOURCES = 10
ALLOWED_RATIO = 2.0


def main() -> None:
    """Make the catalogs, measure, print; the exit status is 1 when it does not scale."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.status_scale", description=__doc__)
    parser.add_argument("--points", type=int, nargs=2, default=(1_000, 100_000), metavar=("FEW", "MANY"))
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="status-scale-") as scratch:
        policies = [make(Path(scratch) / str(points), points) for points in arguments.points]
        few, many = (f"{points:,} points" for points in arguments.points)
        print(f"{SOURCES} sources; medians of {arguments.rounds} runs, in ms\n")
        print(f"{'':32} {few:>16} {many:>16}   ratio")
        worst = 0.0
        for title, measure in MEASURES.items():
            seconds = alternate(measure, policies, arguments.rounds)
            ratio = seconds[1] / seconds[0]
            worst = max(worst, ratio)
            print(f"{title:32} {seconds[0] * 1000:16.1f} {seconds[1] * 1000:16.1f}   {ratio:5.2f}")
    print(f"\nAllowed is {ALLOWED_RATIO}: {'kept' if worst <= ALLOWED_RATIO else 'MISSED'}.")
    sys.exit(worst > ALLOWED_RATIO)


def make(home: Path, points: int) -> Path:
    """An installation whose catalog knows this many points; its policy file."""
    data = home / "data"
    data.mkdir(parents=True)
    sources: dict[str, dict[str, object]] = {
        f"source-{number}": {"kind": "files", "paths": [str(data)], "class": "configuration"}
        for number in range(SOURCES)
    }
    policy_file = starting.initialise(home / "home", business="acme", sources=sources)
    configuration = load(policy_file)
    now = clock.now()
    with Catalog.open(configuration.settings.catalog_url, now=now) as catalog:
        catalog.sync_policy(configuration.policy, configuration.text, now)
        vaults = list(configuration.policy.vaults)
        for source in sources:
            fill(catalog, source, points // SOURCES, now, vaults)
    return policy_file


def fill(catalog: Catalog, source: str, points: int, now: datetime, vaults: list[str]) -> None:
    """The history of one source: a point every quarter of an hour, its copies, its runs, a restore test in a hundred.

    Written in bulk, as rows of the same shape that single writes make.
    """
    moments = [now - timedelta(minutes=15 * (points - number)) for number in range(points)]
    made = [point(source, number, moment) for number, moment in enumerate(moments)]
    copies = [Copy(each.id, vault, "cd" * 32, each.captured_at, 10**6) for each in made for vault in vaults]
    tests = [test(each, vaults[0]) for each in made[99::100]]
    runs = [
        run(action, source, vault, each.id, each.captured_at)
        for each in made
        for action, vault in (("backup", None), *(("copy", vault) for vault in vaults[1:]))
    ]
    tables: dict[str, list[dict[str, Any]]] = {
        "points": [rows.point_to_row(each) for each in made],
        "copies": [rows.copy_to_row(copy) for copy in copies],
        "runs": runs,
    }
    counted = {"source": source, "points": points, "first": rows.moment_to_column(moments[0])}
    with catalog._writing() as connection:
        for table, content in tables.items():
            connection.execute_each(insertion(table, content[0]), content)
        connection.execute("UPDATE sources SET point_count = :points WHERE name = :source", counted)
        connection.execute("UPDATE vaults SET copy_count = copy_count + :points, first_copy_at = :first", counted)
        for test in tests:
            holdings.add_evidence(connection, test)


def run(action: str, source: str, vault: str | None, point_id: str, at: datetime) -> dict[str, Any]:
    """The row of a run that went well."""
    return {
        "action": action,
        "source": source,
        "vault": vault,
        "point": point_id,
        "host": "host",
        "pid": 1,
        "started_at": rows.moment_to_column(at),
        "finished_at": rows.moment_to_column(at),
        "outcome": "succeeded",
        "error_code": "",
        "message": "",
        "figures": "{}",
    }


def point(source: str, number: int, at: datetime) -> RecoveryPoint:
    """A point like many others."""
    return RecoveryPoint(
        id=f"{source}-{number:06}",
        source=source,
        kind="files",
        category="B",
        business="acme",
        started_at=at,
        captured_at=at,
        finished_at=at,
        size_bytes=10**9,
        added_bytes=10**6,
        entry_count=1000,
        root="ab" * 32,
        paths=("/data",),
        fingerprint=Fingerprint("files/1", {"content": "ab" * 32}, {"entries": 1000}),
        policy_digest="ab" * 32,
    )


def test(of: RecoveryPoint, vault: str) -> Evidence:
    """A restore test that passed."""
    return Evidence(
        id=f"test-{of.id}",
        kind="restore_test",
        source=of.source,
        point=of.id,
        vault=vault,
        started_at=of.captured_at,
        finished_at=of.captured_at,
        passed=True,
        rung=Rung.PROVEN,
        steps=(),
    )


def reading(vault: str, at: datetime) -> Evidence:
    """A verification of a vault that read every byte and passed."""
    return Evidence(
        id=f"verify-{vault}-{at:%Y%m%dT%H%M%SZ}",
        kind="verify",
        source=None,
        point=None,
        vault=vault,
        started_at=at,
        finished_at=at,
        passed=True,
        rung=Rung.READ,
        steps=(),
        read_since=at,
    )


def alternate(measure: Callable[[Path], float], policies: list[Path], rounds: int) -> list[float]:
    """Medians for each policy file; the first round warms up."""
    taken: list[list[float]] = [[] for _ in policies]
    for _ in range(rounds + 1):
        for index, policy in enumerate(policies):
            taken[index].append(measure(policy))
    return [statistics.median(times[1:]) for times in taken]


def command_cpu(policy: Path) -> float:
    """CPU seconds of the whole command."""
    return _command(policy)[1]


def command_wall(policy: Path) -> float:
    """Wall seconds of the whole command."""
    return _command(policy)[0]


def _command(policy: Path) -> tuple[float, float]:
    arguments = [sys.executable, "-m", "cto_backups", "--policy", os.fspath(policy), "status"]
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        if process.returncode not in (0, 4):  # 4: something is red, which is no failure of the command
            said = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
            raise SystemExit(f"status ended with {process.returncode}: {said}")
    return wall, usage.ru_utime + usage.ru_stime


def facts(policy: Path) -> float:
    """Seconds to read the facts and judge them, the catalog being open."""
    configuration = load(policy)
    now = clock.now()
    with Catalog.open(configuration.settings.catalog_url, now=now) as catalog:
        began = time.perf_counter()
        verdicts = judge(configuration.policy, catalog.facts(now), now)
        taken = time.perf_counter() - began
    if len(verdicts) != SOURCES:
        raise SystemExit("the facts are not those of every source")
    return taken


def view(policy: Path) -> float:
    """Seconds to read the view `backup_status`."""
    with Catalog.open(load(policy).settings.catalog_url, now=clock.now()) as catalog, catalog.reading() as connection:
        began = time.perf_counter()
        found = connection.execute("SELECT * FROM backup_status").fetchall()
        taken = time.perf_counter() - began
    if len(found) != SOURCES:
        raise SystemExit("the view does not show every source")
    return taken


MEASURES: dict[str, Callable[[Path], float]] = {
    "status, wall": command_wall,
    "status, CPU": command_cpu,
    "facts and judgement": facts,
    "view backup_status": view,
}


if __name__ == "__main__":
    main()
