"""`make bench-streams`: a PostgreSQL server's log followed while it is written, by us and by pg_receivewal.

    python -m benchmarks.streams [--seconds 20] [--runs 3] [--scale 20]

One server on this machine under two loads: many small commits (pgbench -N, 4 clients), and rows in bulk. Followers take
turns, and nobody follows once in each round. What is in a place where it stays is asked of that place: the names of the
pieces in the vault, the size of the files that pg_receivewal has made durable (--synchronous). The load begins once the
follower is level. cto.backups compresses nothing here, and encrypts. Medians.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cto_backups.app import starting

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from benchmarks import measure  # noqa: E402
from servers import postgresql  # noqa: E402
from servers.postgresql import Server  # noqa: E402

COMMITS, BULK = "small commits", "rows in bulk"
OURS, PEER, NOBODY = "cto.backups", "pg_receivewal", "nobody"
MIB = 1 << 20
_SETTINGS = {"wal_level": "logical", "shared_buffers": "512MB", "max_wal_size": "8GB", "fsync": "on"}
_FILLED = "INSERT INTO bulk SELECT n, md5(n::text), repeat('x', 100) FROM generate_series(1, 100000) n"


@dataclass(frozen=True)
class Figures:
    """Bytes of log and commits or rows a second, bytes behind, seconds to be level afterwards, CPU seconds."""

    log_rate: float
    rate: float
    behind: float
    most_behind: float
    level_after: float
    cpu: float


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="of load in each run (20)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--scale", type=int, default=20, help="of pgbench (20)")
    arguments = parser.parse_args()
    programs = postgresql.programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is not here: make setup")
    found: dict[tuple[str, str], list[Figures]] = {}
    with postgresql.server(programs, **_SETTINGS) as server:
        reach = ["-h", str(server.place), "-U", server.user, "postgres"]
        subprocess.run([server.bin / "pgbench", "-i", "-q", "-s", str(arguments.scale), *reach], check=True)
        version = server.do("SHOW server_version")[0][0]
        print(f"machine: {os.cpu_count()} cores; PostgreSQL {version}; {arguments.seconds} s of load in each run")
        for number in range(arguments.runs):
            followers = [(NOBODY, _nobody), (OURS, _ours), (PEER, _peer)]
            for name, follower in followers if number % 2 == 0 else reversed(followers):
                for load in (COMMITS, BULK):
                    figures = _measured(server, load, follower, arguments.seconds)
                    print(f"  {load}, {name}: {figures}", file=sys.stderr, flush=True)
                    found.setdefault((load, name), []).append(figures)
    print(_table(found))


Position = Callable[[], int]


def _measured(server: Server, load: str, follower: "Callable[[Server], object]", seconds: int) -> Figures:
    server.do("DROP TABLE IF EXISTS bulk", "CREATE TABLE bulk (n int, a text, b text)", "CHECKPOINT")
    measure.settle()
    with follower(server) as (position, spent):  # type: ignore[attr-defined]
        _wait_for(position, _log_at(server))  # what a backup's reading made the server write is no part of the load
        begun_at, cpu, begun = _log_at(server), spent(), time.monotonic()
        behind: list[int] = []
        done = 0
        if load == COMMITS:
            done = _commits(server, seconds, lambda: behind.append(max(_log_at(server) - position(), 0)))
        else:
            while time.monotonic() - begun < seconds:
                server.do(_FILLED)
                done += 100_000
                behind.append(max(_log_at(server) - position(), 0))
        took = time.monotonic() - begun
        ended_at = _log_at(server)
        level = time.monotonic()
        while position() < ended_at and time.monotonic() - level < 120:
            time.sleep(0.01)
        return Figures(
            (ended_at - begun_at) / took,
            done / took,
            median(behind),
            max(behind),
            time.monotonic() - level,
            spent() - cpu,
        )


def _commits(server: Server, seconds: int, look: Callable[[], None]) -> int:
    command = [server.bin / "pgbench", "-n", "-N", "-c", "4", "-j", "2", "-T", str(seconds)]
    running = subprocess.Popen(
        [*command, "-h", str(server.place), "-U", server.user, "postgres"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while running.poll() is None:
        time.sleep(0.25)
        look()
    said = running.stdout.read() if running.stdout else ""
    processed = re.search(r"actually processed: (\d+)", said)
    if processed is None:
        raise SystemExit(f"pgbench failed:\n{said}")
    return int(processed[1])


def _log_at(server: Server) -> int:
    ((at,),) = server.do("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint")
    return int(at)


# -- who follows -------------------------------------------------------------------------------------------------------


@contextmanager
def _nobody(server: Server) -> Iterator[tuple[Position, Callable[[], float]]]:
    yield lambda: _log_at(server), lambda: 0.0


@contextmanager
def _ours(server: Server) -> Iterator[tuple[Position, Callable[[], float]]]:
    home = Path(tempfile.mkdtemp(prefix="bench-stream-"))
    try:
        starting.initialise(
            home / "h",
            business="bench",
            sources={
                "shop": {
                    "kind": "postgresql",
                    "method": "physical",
                    "base_every": "1 day",
                    "triggers": ["daily at 03:00", "continuous"],
                    "class": "user-data",
                    "retention": "1 year",
                    "test": "none",
                    "host": str(server.place),
                    "user": server.user,
                }
            },
            vaults={"one": {"provider": "local-disk", "region": "here", "storage": "disk", "url": "file:vault"}},
        )
        us = [sys.executable, "-m", "cto_backups"]
        policy = ["--policy", str(home / "h" / "backups.yaml")]
        subprocess.run([*us, "backup", "shop", "--quiet", *policy], check=True)
        worker = subprocess.Popen([*us, "worker", *policy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:

            def position() -> int:
                names = (path.stem for path in home.glob("h/vault/streams/main/shop/*/*.sealed"))
                return max((int(name.partition("-")[2], 16) for name in names), default=0)

            yield position, lambda: _spent(worker.pid)
        finally:
            worker.kill()
            worker.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
        _drop_slots(server)


@contextmanager
def _peer(server: Server) -> Iterator[tuple[Position, Callable[[], float]]]:
    folder = Path(tempfile.mkdtemp(prefix="bench-receive-"))
    reach = ["-h", str(server.place), "-U", server.user]
    program = str(server.bin / "pg_receivewal")
    subprocess.run([program, *reach, "--slot=bench", "--create-slot"], check=True)
    command = [program, *reach, "-D", str(folder), "--slot=bench", "--synchronous", "--no-loop"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def position() -> int:
            rows = server.do(
                "SELECT pg_wal_lsn_diff(flush_lsn, '0/0')::bigint FROM pg_stat_replication"
                " WHERE application_name = 'pg_receivewal'"
            )
            return int(rows[0][0] or 0) if rows else 0

        yield position, lambda: _spent(process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.5)
        _drop_slots(server)


def _wait_for(position: Position, at: int) -> None:
    until = time.monotonic() + 120
    while position() < at:
        if time.monotonic() > until:
            raise SystemExit("the log did not arrive in two minutes")
        time.sleep(0.1)


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _drop_slots(server: Server) -> None:
    for (slot,) in server.do("SELECT slot_name FROM pg_replication_slots WHERE NOT active"):
        server.do(f"SELECT pg_drop_replication_slot('{slot}')")


# -- the table ---------------------------------------------------------------------------------------------------------


def _table(found: dict[tuple[str, str], list[Figures]]) -> str:
    lines = [
        "",
        "| Load | Follower | log, MiB/s | commits or rows/s | kB behind, median | most | level after, s | CPU, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (load, name), runs in found.items():

        def middle(what: str, runs: list[Figures] = runs) -> float:
            return median(getattr(each, what) for each in runs)

        cells = [
            f"{middle('rate'):.0f}",
            *(f"{middle(what) / 1000:.0f}" for what in ("behind", "most_behind")),
            *(f"{middle(what):.2f}" for what in ("level_after", "cpu")),
        ]
        lines.append(f"| {load} | {name} | {middle('log_rate') / MIB:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
