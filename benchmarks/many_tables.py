"""`make bench-tables`: a backup of a BigQuery dataset of 10,000 small tables, against its jobs' own time.

    python -m benchmarks.many_tables [--tables 10000] [--jobs 64] [--seconds 1.0] [--latency 0] [--test]

Three jobs for each table (snapshot, sums, extract) take `--seconds` each at a front on this machine, and at most
`--jobs` are under way. What that comes to at best is their own time: 3 x tables x seconds / jobs. The rest of the
command's wall time is overhead; the aim is 5 % of it. Requests are counted by the front, CPU seconds are those of the
command, catalog and vault with it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.many_tables_front import DATASET, PROJECT

AIM = 0.05
JOBS_OF_A_TABLE = 3
JOBS_OF_A_TEST = 2
_SECTION = """
sources:
  many:
    kind: bigquery
    class: contact-database
    project: {project}
    datasets: [{dataset}]
    staging: gs://bucket/way
    credentials: file:account.json
    jobs: {jobs}
    endpoint: {front}
    storage_endpoint: {front}
    tls: none
"""


@dataclass(frozen=True)
class Figures:
    """Of one backup: seconds of wall time, of CPU, and of its jobs at best; requests by kind, jobs at once at most.

    `before` and `after` are the seconds before its first job was begun, and after its last was done.
    """

    wall: float
    cpu: float
    jobs: float
    asked: dict[str, int]
    most: int
    before: float
    after: float

    @property
    def overhead(self) -> float:
        """What is beyond the jobs' own time, as a share of it."""
        return self.wall / self.jobs - 1


@contextmanager
def front(tables: int, seconds: float, latency: float) -> Iterator[str]:
    """The address of a front, for a block."""
    words = [sys.executable, "-m", "benchmarks.many_tables_front", str(tables), str(seconds), str(latency)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def installation(place: Path, address: str, jobs: int) -> Path:
    """A policy with the project as its only source; its file."""
    (place / "data").mkdir(parents=True)
    _run("init", str(place / "home"), "--protect", str(place / "data"), "--business", "acme")
    policy = place / "home" / "backups.yaml"
    text = policy.read_text("utf-8")
    section = _SECTION.format(project=PROJECT, dataset=DATASET, jobs=jobs, front=address)
    policy.write_text(text.replace("\nsources:\n", section, 1), "utf-8")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "project_id": PROJECT, "client_email": "a@b", "private_key": written}
    account |= {"private_key_id": "1", "token_uri": f"{address}/token"}
    file = place / "home" / "account.json"
    file.write_text(json.dumps(account), "utf-8")
    file.chmod(0o600)
    return policy


def measured(place: Path, tables: int, jobs: int, seconds: float, latency: float, *, is_test: bool = False) -> Figures:
    """One backup of a dataset, from nothing; or with `is_test`, one restore test of its point."""
    with front(tables, seconds, latency) as address:
        policy = installation(place, address, jobs)
        if is_test:
            _run("backup", "many", policy=policy)
            with urlopen(f"{address}/forget", timeout=60):
                pass
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        _run("test" if is_test else "backup", "many", policy=policy)
        ended = time.monotonic()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with urlopen(f"{address}/told", timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    own = (JOBS_OF_A_TEST if is_test else JOBS_OF_A_TABLE) * tables * seconds / jobs
    first, last = told["first"] - began, ended - told["last"]
    return Figures(ended - began, cpu, own, told["asked"], told["most"], first, last)


def _run(*words: str, policy: Path | None = None) -> None:
    variables = {**os.environ, **({"CTO_BACKUPS_POLICY": str(policy)} if policy else {})}
    done = subprocess.run(
        [sys.executable, "-m", "cto_backups", *words], env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")


def show(figures: Figures, tables: int) -> None:
    """Print what was measured."""
    print(f"wall {figures.wall:.1f} s, jobs' own time {figures.jobs:.1f} s, overhead {figures.overhead:.1%} (aim 5 %)")
    print(f"{figures.before:.1f} s before the first job, {figures.after:.1f} s after the last")
    print(f"CPU {figures.cpu:.1f} s; at most {figures.most} jobs at once")
    for kind, number in sorted(figures.asked.items(), key=lambda each: -each[1]):
        print(f"  {kind:24} {number:8,}  {number / tables:6.2f} for each table")


def main() -> None:
    """Measure once, print; the exit status is 1 when the aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_tables", description=__doc__)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=64, help="at once (64)")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a job takes (1)")
    parser.add_argument("--latency", type=float, default=0.0, help="of each request, in seconds (0)")
    parser.add_argument("--test", action="store_true", help="measure a restore test instead: a load, and sums, each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-tables-") as scratch:
        given = arguments.tables, arguments.jobs, arguments.seconds, arguments.latency
        figures = measured(Path(scratch), *given, is_test=arguments.test)
    show(figures, arguments.tables)
    raise SystemExit(figures.overhead > AIM)


if __name__ == "__main__":
    main()
