"""One run of one command: wall, CPU and peak memory of the whole process tree, as the kernel accounts for it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
_SETTLED_KIB = 1024
_BUSY_SHARE = 0.1
_USED_BEFORE = 3 << 30


@dataclass(frozen=True)
class Figures:
    """Seconds, seconds of CPU (user and system), bytes.

    The peak is that of the largest process, or of several together where more than that was seen (20 looks a second).
    """

    wall: float
    cpu: float
    peak_bytes: int
    repository_bytes: int = 0

    def then(self, other: "Figures") -> "Figures":
        """This, and another run after it, as one."""
        peak = max(self.peak_bytes, other.peak_bytes)
        return Figures(self.wall + other.wall, self.cpu + other.cpu, peak, other.repository_bytes)


def run(command: list[str], environment: dict[str, str]) -> Figures:
    """Run a command to its end. Raises SystemExit with its words when it fails."""
    # As on a user's machine, where Python keeps what it has compiled.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output, open(reading, "rb") as report:  # noqa: PTH123 - a descriptor
        try:
            launched = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCH), str(writing), *command],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**surroundings, **environment},
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        said = report.read()
        launched.wait()
        figures = json.loads(said) if said else {"status": "no figures"}
        if figures.pop("status") != 0:
            output.seek(0)
            words = output.read().decode("utf-8", "replace")
            raise SystemExit(f"{' '.join(command)} failed:\n{words[-2000:]}")
    return Figures(**figures)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_through(*folders: Path) -> None:
    """Read every file below these folders, so that their content is in the page cache, if it fits there."""
    buffer = bytearray(1 << 20)
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place, name)
                if path.is_symlink():
                    continue
                with path.open("rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass


def settle(patience: float = 5.0) -> None:
    """Let the disk finish what earlier runs left to it, so that nobody pays for another's writes and deletions.

    Waits up to `patience` seconds until nothing waits to be written and the kernel is idle (a large deletion goes on
    after `sync`, and has cost the next restore half a minute of system time). Then memory is used once: on a virtual
    machine, whoever first fills memory that its host has to find first pays for that (3 GiB: two seconds and more).
    """
    os.sync()
    _wait(patience)
    # A process of its own, so that the memory is free again. Large pages: where the host has it all, this is quick.
    subprocess.run([sys.executable, "-c", _USE.format(min(_USED_BEFORE, _free_bytes() // 2))], check=True)


_USE = """
import mmap
room = mmap.mmap(-1, {0}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
try:
    room.madvise(mmap.MADV_HUGEPAGE)
except OSError:
    pass
for start in range(0, {0}, 4096):
    room[start] = 1
"""


def _wait(patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = _kernel_seconds()
        time.sleep(0.25)
        if _unwritten_kib() < _SETTLED_KIB and _kernel_seconds() - before < 0.25 * _BUSY_SHARE:
            return


def _unwritten_kib() -> int:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("Dirty", "Writeback"))


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _kernel_seconds() -> float:
    """System time and time waiting for disks, of all cores."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[3]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
