"""A catalog after years: what its tables take, and what it costs to work with it.

Run it with ``python -m benchmarks.years``: so many sources that were backed up hourly, with a copy each; points kept
for two days hourly and 90 days daily, a restore test a month and a reading of each vault a day. Rows are fabricated,
of the same shape as single writes make; the signed records are not among them.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks import status_scale
from benchmarks.assurance_scale import measure
from cto_backups import app, clock
from cto_backups.app import starting
from cto_backups.catalog import rows
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import insertion
from cto_backups.config import load
from cto_backups.core.assurance import judge
from cto_backups.core.model import Copy, Fingerprint, RecoveryPoint
from cto_backups.evidence.records import SigningKey
from cto_backups.flows import troubles
from cto_backups.flows.planning import plan
from cto_backups.flows.thinning import KEPT

HOURLY, DAILY = timedelta(days=2), timedelta(days=90)


def main() -> None:
    """Make the catalog, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.years", description=__doc__)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--in", dest="folder", type=Path, default=None, help="where to make it; is left there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="years-") as scratch:
        home = arguments.folder or Path(scratch)
        policy = home / "home" / app.POLICY_NAME
        if not policy.exists():
            began = time.perf_counter()
            make(home, arguments.sources, arguments.years)
            print(f"made in {time.perf_counter() - began:.0f} s", flush=True)
        look(policy)


def make(home: Path, number: int, years: int) -> None:
    """An installation whose sources were backed up hourly for years."""
    data = home / "data"
    data.mkdir(parents=True)
    names = [f"source-{index:06}" for index in range(number)]
    sources: dict[str, dict[str, object]] = {
        name: {"kind": "files", "paths": [str(data)], "class": "configuration", "retention": "2 days, 90 daily"}
        for name in names
    }
    policy_file = starting.initialise(home / "home", business="acme", sources=sources)
    configuration = load(policy_file)
    now = clock.now().replace(minute=0, second=0, microsecond=0)
    with Catalog.open(configuration.settings.catalog_url, now=now) as catalog:
        catalog.sync_policy(configuration.policy, configuration.text, now)
        vaults = list(configuration.policy.vaults)[:2]
    with closing(sqlite3.connect(home / "home" / "catalog.db")) as opened, opened:
        opened.execute("PRAGMA synchronous = OFF")
        for name in names:
            _fill(opened, name, now, years, vaults)
        for vault in vaults:
            readings = [status_scale.reading(vault, now - timedelta(days=day, hours=1)) for day in range(365 * years)]
            opened.executemany(
                insertion("evidence", rows.evidence_to_row(readings[0])), map(rows.evidence_to_row, readings)
            )
        # Runs are numbered as they began, whatever their source.
        opened.execute("CREATE TEMP TABLE in_turn AS SELECT * FROM runs ORDER BY started_at, id")
        opened.execute("DELETE FROM runs")
        opened.execute("UPDATE in_turn SET id = rowid")
        opened.execute("INSERT INTO runs SELECT * FROM in_turn ORDER BY rowid")
        opened.execute(
            "UPDATE vaults SET copy_count = (SELECT count(*) FROM copies WHERE vault = name), first_copy_at = :at",
            {"at": rows.moment_to_column(now - timedelta(days=365 * years))},
        )
        opened.execute(
            "UPDATE sources SET point_count = (SELECT count(*) FROM points WHERE source = name AND expired_at IS NULL)"
        )


def _fill(opened: sqlite3.Connection, source: str, now: datetime, years: int, vaults: list[str]) -> None:
    moments = [now - timedelta(hours=hour, minutes=20) for hour in range(24 * 365 * years)]
    first = rows.point_to_row(status_scale.point(source, 0, now))
    first["fingerprint"] = rows.point_to_row(_like_a_real_one(source, now))["fingerprint"]
    points, copies, runs, tests = [], [], [], []
    for at in reversed(moments):
        age, moment = now - at, rows.moment_to_column(at)
        kept = age <= HOURLY or (age <= DAILY and at.hour == 0)
        point = f"{source}-{at:%Y%m%dT%H%M%SZ}-1a2b"
        expired = None if kept else rows.moment_to_column(at + (DAILY if at.hour == 0 else HOURLY))
        because = None if kept else '["no rule keeps it"]'
        same = {"id": point, "started_at": moment, "captured_at": moment, "finished_at": moment}
        points.append({**first, **same, "expired_at": expired, "expired_because": because})
        if kept:
            copies += [rows.copy_to_row(Copy(point, vault, "cd" * 32, at, 10**6)) for vault in vaults]
        runs.append(status_scale.run("backup", source, None, point, at))
        runs.append(status_scale.run("copy", source, vaults[-1], point, at))
        if at.hour == 0:
            runs.append(status_scale.run("expire", source, None, None, at))
        if at.hour == 0 and (age.days == 1 or age.days % 30 == 1):
            tested = status_scale.test(status_scale.point(source, 0, at), vaults[0])
            tests.append({**rows.evidence_to_row(tested), "id": f"test-{point}", "point": point})
            runs.append(status_scale.run("restore_test", source, vaults[0], point, at))
            points[-1]["proven_at"] = moment
        else:
            points[-1]["proven_at"] = None
    for table, content in {"points": points, "copies": copies, "runs": runs, "evidence": tests}.items():
        opened.executemany(insertion(table, content[0]), content)


def _like_a_real_one(source: str, at: datetime) -> RecoveryPoint:
    content = Fingerprint("files/1", {"content": "ab" * 32}, {"entries": 1000})
    return replace(status_scale.point(source, 0, at), fingerprint=content)


def look(policy_file: Path) -> None:
    """Measure what there is."""
    configuration = load(policy_file)
    policy, now = configuration.policy, clock.now()
    database = policy_file.parent / "catalog.db"
    print(f"catalog: {database.stat().st_size / 2**30:.2f} GiB")
    with closing(sqlite3.connect(database)) as opened:
        for table in ("points", "copies", "runs", "evidence"):
            print(f"  {table:9} {opened.execute(f'SELECT count(*) FROM {table}').fetchone()[0]:12,} rows")
    for command in (("status", "--json"), ("audit", "--format", "json")):
        cost = measure(policy_file, command)
        print(f"{command[0]:32} {cost.wall:8.2f} s wall {cost.cpu:8.2f} s CPU {cost.mebibytes:6.0f} MiB", flush=True)
    name = next(iter(policy.sources))
    with Catalog.open(configuration.settings.catalog_url, now=now) as catalog:
        taken("facts and judgement of all", lambda: judge(policy, catalog.facts(now), now))
        taken("facts with kept points of one", lambda: catalog.facts(now, [name], kept_points=True))
        taken("what people are to be told", lambda: list(troubles.of_sources(policy, catalog, {}, now)))
        taken("a plan pass of what is due", lambda: plan(policy, catalog, now))
        taken("a plan pass, nothing due", lambda: plan(policy, catalog, now))
        taken("the view backup_status", lambda: view(catalog))
        taken("what is new to report", catalog.reports.newest)
        taken("a report of the last hour", lambda: list(catalog.reports.told(now - timedelta(hours=1))))
        taken("points of one source", lambda: catalog.points(name, limit=50))
        point = catalog.points(name)[-1].id
        taken("a point is expired", lambda: catalog.expire_point(point, now, ["old"], SigningKey(bytes(32))))
        began = time.perf_counter()
        last, cpu = catalog.thin_runs(now - KEPT), time.process_time()
        while last is not None:
            last = catalog.thin_runs(now - KEPT, last)
        print(f"runs thinned out: {time.perf_counter() - began:.1f} s wall, {time.process_time() - cpu:.1f} s CPU")
        with catalog.reading() as connection:
            left = connection.scalar("SELECT count(*) FROM runs")
        print(f"runs left: {left:,}")


def view(catalog: Catalog) -> int:
    """How many rows the view has."""
    with catalog.reading() as connection:
        return len(connection.execute("SELECT * FROM backup_status").fetchall())


def taken(what: str, do: Callable[[], object]) -> None:
    """Print what something takes."""
    began, cpu = time.perf_counter(), time.process_time()
    do()
    print(
        f"{what:32} {(time.perf_counter() - began) * 1000:8.1f} ms wall "
        f"{(time.process_time() - cpu) * 1000:8.1f} ms CPU",
        flush=True,
    )


if __name__ == "__main__":
    main()
