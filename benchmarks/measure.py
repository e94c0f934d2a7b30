"""One run of one command: wall, CPU and peak memory as the kernel accounts for the finished process tree."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """Seconds, seconds of CPU (user and system), bytes."""

    wall: float
    cpu: float
    peak_bytes: int
    repository_bytes: int = 0


def run(command: list[str], environment: dict[str, str]) -> Figures:
    """Run a command to its end. Raises SystemExit with its words when it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        # As on a user's machine, where Python keeps what it has compiled.
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**surroundings, **environment}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def settle() -> None:
    """Let the disk finish what earlier runs left to it, so that nobody pays for another's writes."""
    os.sync()
