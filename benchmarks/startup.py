"""What ``cto.backups --help`` costs: CPU seconds (user and system), the median of several runs.

Run it with ``python -m benchmarks.startup``; ``--imports`` also lists the modules that cost most.
"""

import os
import statistics
import subprocess
import sys

ROUNDS = 9
ALLOWED_SECONDS = 0.3


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one run of the command line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"cto.backups {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def slowest_imports(number: int = 15) -> list[str]:
    """The modules whose import costs most, with everything that they import, in milliseconds."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cto_backups", "--help"], capture_output=True, text=True, check=True
    )
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    costs = [(int(row[1]), row[2].strip()) for row in rows if row[1].strip().isdigit()]
    return [f"{microseconds / 1000:7.1f} ms  {name}" for microseconds, name in sorted(costs, reverse=True)[:number]]


def main() -> None:
    """Measure and print."""
    for arguments in (["--help"], ["version"], ["status", "--help"]):
        cpu_seconds(arguments)  # once to warm the caches
        seconds = statistics.median(cpu_seconds(arguments) for _ in range(ROUNDS))
        print(f"cto.backups {' '.join(arguments):<14} {seconds:.3f} s of CPU (median of {ROUNDS})")
    print(f"--help is meant to stay under {ALLOWED_SECONDS} s.")
    if "--imports" in sys.argv[1:]:
        print("\n".join(slowest_imports()))


if __name__ == "__main__":
    main()
