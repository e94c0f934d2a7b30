"""Memory to read into: of this process alone, and none of it taken before it is written to."""

import resource
import subprocess
import sys
from pathlib import Path

from cto_backups.repository.fetch import Room
from cto_backups.repository.memory import fresh


def test_memory_that_is_not_written_to_costs_nothing() -> None:
    """Told by a process of its own; not by what it used at most, in which Linux counts whoever started it."""
    code = (
        "from pathlib import Path; from cto_backups.repository.memory import fresh; kept = fresh(1 << 30); "
        "kept[5] = 1; assert kept[5] == 1 and kept[6] == 0; print(Path('/proc/self/status').read_text('ascii'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert int(told["VmHWM"].split()[0]) < 256 << 10


def test_memory_is_not_of_the_kind_that_could_be_shared() -> None:
    """The kernel takes half as long again to give such: it is a file of its own, of which each page is looked up."""

    def shared_kib() -> int:
        told = Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()
        return sum(int(line.split()[1]) for line in told if line.startswith("Pss_Shmem:"))

    before = shared_kib()
    memory = fresh(8 << 20)
    for start in range(0, len(memory), resource.getpagesize()):
        memory[start] = 1
    assert shared_kib() - before < 4 << 10


def test_a_room_is_kept_for_what_is_a_little_longer() -> None:
    room = Room()
    first = room.of(1 << 20)
    first[0] = 7
    assert room.of(3 << 19)[0] == 7
    assert room.of(2 << 20)[0] == 0
