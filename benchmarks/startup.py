"""What a command costs before it works: CPU and wall seconds, and memory; medians of several runs.

Run it with ``python -m benchmarks.startup``; ``--imports`` also lists the modules that cost an unchanged backup most.
The installation that the commands open is a new one, of two sources and two vaults; its data does not change.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 9
ALLOWED_SECONDS = 0.3
MIB = 1 << 20
SMALL = (["status"], ["points"], ["backup", "data"], ["verify", "one"])
# As in an installation: Python keeps what it compiled.
SURROUNDINGS = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Cost:
    """Of one run: user and system time, wall time, and the most memory at one time, in MiB.

    Linux counts what this program has when it starts the command, too: it keeps small (some 20 MiB).
    """

    cpu_seconds: float
    seconds: float
    mib: float


def cost(arguments: list[str]) -> Cost:
    """One run of the command line."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=SURROUNDINGS,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    # 4: a source is not protected well enough, which one place for both vaults never is.
    if process.returncode not in (0, 4):
        raise SystemExit(f"cto.backups {' '.join(arguments)} ended with {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss * 1024 / MIB)


def make(folder: Path) -> None:
    """Make an installation of two sources, 16 MiB in one file, and two vaults."""
    from cto_backups.app import starting

    data = folder / "data"
    data.mkdir()
    (data / "large").write_bytes(os.urandom(16 * MIB))
    place = {"provider": "local-disk", "region": "here", "storage": "disk"}
    source = {"kind": "files", "class": "documentation", "vaults": ["one"], "retention": "1 version"}
    starting.initialise(
        folder / "home",
        business="bench",
        sources={name: source | {"paths": [str(data)]} for name in ("data", "other")},
        vaults={name: place | {"url": f"file:vaults/{name}"} for name in ("one", "two")},
    )


def small_installation(folder: Path) -> Path:
    """The policy of a new installation, made by a process of its own and backed up once."""
    subprocess.run([sys.executable, "-m", "benchmarks.startup", "--make", str(folder)], check=True, env=SURROUNDINGS)
    policy = folder / "home" / "backups.yaml"
    cost(["backup", "--policy", str(policy), "--quiet"])
    return policy


def slowest_imports(arguments: list[str], number: int = 25) -> list[str]:
    """The modules whose import costs most, with everything that they import, in milliseconds."""
    command = [sys.executable, "-X", "importtime", "-m", "cto_backups", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=SURROUNDINGS)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    costs = [(int(row[1]), row[2].strip()) for row in rows if row[1].strip().isdigit()]
    return [f"{microseconds / 1000:7.1f} ms  {name}" for microseconds, name in sorted(costs, reverse=True)[:number]]


def tell(name: str, arguments: list[str]) -> None:
    """Measure and print one command."""
    cost(arguments)  # once to warm the caches
    costs = [cost(arguments) for _ in range(ROUNDS)]
    cpu = statistics.median(each.cpu_seconds for each in costs)
    wall = statistics.median(each.seconds for each in costs)
    mib = statistics.median(each.mib for each in costs)
    print(f"cto.backups {name:<14} {cpu:.3f} s of CPU, {wall:.3f} s, {mib:.0f} MiB (medians of {ROUNDS})", flush=True)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]))
        return
    for arguments in (["--help"], ["version"], ["status", "--help"]):
        tell(" ".join(arguments), arguments)
    folder = Path(tempfile.mkdtemp(prefix="startup-"))
    try:
        opening = ["--policy", str(small_installation(folder)), "--quiet"]
        for arguments in SMALL:
            tell(" ".join(arguments), [*arguments, *opening])
        print(f"Each is meant to stay under {ALLOWED_SECONDS} s.")
        if "--imports" in sys.argv[1:]:
            print("\n".join(slowest_imports(["backup", "data", *opening])))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
