"""What work on a catalog costs: wall time, CPU here and at its server, and round trips to the server."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cto_backups.catalog.postgresql.transaction import Transaction

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """How often the server was asked; a transaction asks twice beside its statements."""

    statements: int = 0
    transactions: int = 0

    @property
    def round_trips(self) -> int:
        """All of it."""
        return self.statements + 2 * self.transactions


asked = Asked()
_counting = threading.Lock()


def count() -> None:
    """From now on, count what this process asks."""
    begin: Callable[[Transaction], None] = Transaction._begin
    do: Callable[[Transaction, Any], Any] = Transaction._do

    def begun(self: Transaction) -> None:
        with _counting:
            asked.transactions += 1
        begin(self)

    def done(self: Transaction, step: Any) -> Any:
        with _counting:
            asked.statements += 1
        return do(self, step)

    Transaction._begin = begun  # type: ignore[method-assign]
    Transaction._do = done  # type: ignore[method-assign,assignment]


def server_cpu(postmaster: int) -> float:
    """The CPU seconds of a server: of those of its processes that are there, and those it has waited for."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            own = int(fields[11]) + int(fields[12])
            if int(folder.name) == postmaster:
                total += own + int(fields[13]) + int(fields[14])
            elif int(fields[1]) == postmaster:
                total += own
    return total / _TICKS


def cpu_of(process: int) -> float:
    """The CPU seconds of another process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def own_cpu() -> float:
    """The CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Cost:
    """Seconds of wall time, of CPU here and at the server; round trips."""

    wall: float = 0.0
    cpu: float = 0.0
    server: float = 0.0
    round_trips: int = 0

    def __str__(self) -> str:
        return (
            f"{self.wall * 1000:10,.1f} ms wall {self.cpu * 1000:9,.1f} ms CPU here "
            f"{self.server * 1000:8,.0f} there {self.round_trips:5,} round trips"
        )


@contextmanager
def costing(postmaster: int) -> Iterator[Cost]:
    """What the block costs."""
    cost, began = Cost(), time.perf_counter()
    cpu, server, trips = own_cpu(), server_cpu(postmaster), asked.round_trips
    yield cost
    cost.wall, cost.cpu = time.perf_counter() - began, own_cpu() - cpu
    cost.server, cost.round_trips = server_cpu(postmaster) - server, asked.round_trips - trips
