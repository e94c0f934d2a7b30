"""A vault that writes a log of what it is asked to write, and kills its own process at a chosen write, or stops it.

Wrapped around any vault in a child process, it lets a parent see how far the child came, and stop it at the same place
each time. Each line of the log reaches the kernel before the write goes on, so that it survives ``kill -9``::

    before 7 pack repositories/main/data/ab/abcd… 16777301
    after 7 pack repositories/main/data/ab/abcd… 16777301

A deletion is logged in the same way, under the stage that `stage_of` names with "-delete" behind it.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import StoredFile, Sweeping, Vault

LOG = "CTO_FAULT_LOG"
KILL = "CTO_FAULT_KILL"
FREEZE = "CTO_FAULT_FREEZE"  # not to die at that write, but to be stopped until somebody lets it go on

_STAGES = {
    "data": "pack",
    "index": "index",
    "snapshots": "snapshot",
    "locks": "lock",
    "unlisted": "marks",
    "keys": "key",
    "config": "config",
}


class Moment(StrEnum):
    """When, around one write: `DURING` is with the bytes in a temporary file that is not renamed yet."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True)
class Kill:
    """Die at the `nth` (from 1) write of a stage. As text, in the environment: ``pack:2:during``."""

    stage: str
    nth: int
    moment: Moment

    @classmethod
    def parse(cls, text: str) -> "Kill":
        """From its text."""
        stage, nth, moment = text.split(":")
        return cls(stage, int(nth), Moment(moment))

    def __str__(self) -> str:
        return f"{self.stage}:{self.nth}:{self.moment}"


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    moment: Moment
    number: int
    stage: str
    key: str
    size_bytes: int


def stage_of(key: str) -> str:
    """What a stored file is to the order of commit: a repository's part, else the name of its top folder."""
    for part in key.split("/")[:-1]:
        if part in _STAGES:
            return _STAGES[part]
    return _STAGES.get(key.rpartition("/")[2], key.partition("/")[0])


def read_log(path: Path) -> list[Line]:
    """What a process did before it ended, or was killed."""
    pattern = re.compile(r"^(before|after) (\d+) (\S+) (.*) (\d+)$", re.MULTILINE)
    return [
        Line(Moment(moment), int(number), stage, key, int(size))
        for moment, number, stage, key, size in pattern.findall(path.read_text())
    ]


def in_flight(lines: Sequence[Line]) -> list[str]:
    """The writes that had begun and not ended when the process did."""
    ended = {line.number for line in lines if line.moment is Moment.AFTER}
    return [f"{line.stage} {line.key} ({line.size_bytes} bytes)" for line in lines if line.number not in ended]


class LoggedVault:
    """Logs each write of the vault `inner` to `log`; dies at `kill`. Implements `core.vaults.Vault`."""

    def __init__(self, inner: Vault, log: Path, kill: Kill | None = None) -> None:
        self._inner = inner
        self._kill = kill
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._number = 0
        self._of_stage: dict[str, int] = {}

    @classmethod
    def from_environment(cls, inner: Vault) -> Vault:
        """`inner` itself, unless the environment asks for a log."""
        if LOG not in os.environ:
            return inner
        kill = os.environ.get(KILL)
        return cls(inner, Path(os.environ[LOG]), Kill.parse(kill) if kill else None)

    def __getattr__(self, name: str) -> Any:
        # What a kind of vault offers beyond the port (such as `root`) stays reachable.
        return getattr(self._inner, name)

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def location(self) -> str:
        return self._inner.location

    def check(self) -> None:
        self._inner.check()

    def create(self) -> None:
        self._inner.create()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        number, fate = self._begin(stage_of(key), key, size)
        if fate is Moment.DURING:
            sys.setprofile(_die_at_fsync)  # of this thread alone
        self._inner.put(key, parts, overwrite=overwrite)
        self._end(number, stage_of(key), key, size, fate)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.read(key, offset, length)

    def size(self, key: str) -> int:
        return self._inner.size(key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        stage = stage_of(key) + "-delete"
        number, fate = self._begin(stage, key, 0)
        if fate is Moment.DURING:
            die()
        self._inner.delete(key)
        self._end(number, stage, key, 0, fate)

    def sweep(self) -> int:
        return self._inner.sweep() if isinstance(self._inner, Sweeping) else 0

    def _begin(self, stage: str, key: str, size: int) -> tuple[int, Moment | None]:
        with self._lock:
            self._number += 1
            self._of_stage[stage] = nth = self._of_stage.get(stage, 0) + 1
            number = self._number
            self._write(Line(Moment.BEFORE, number, stage, key, size))
        kill = self._kill
        fate = kill.moment if kill is not None and (kill.stage, kill.nth) == (stage, nth) else None
        if fate is Moment.BEFORE:
            die()
        return number, fate

    def _end(self, number: int, stage: str, key: str, size: int, fate: Moment | None) -> None:
        self._write(Line(Moment.AFTER, number, stage, key, size))
        if fate is not None:
            die()  # also when it should have died during the write, in a vault that makes no temporary file

    def _write(self, line: Line) -> None:
        text = f"{line.moment} {line.number} {line.stage} {line.key} {line.size_bytes}\n"
        os.write(self._log, text.encode())


def _die_at_fsync(frame: object, event: str, function: object) -> None:
    """The bytes are in a temporary file, and its final name is not given yet."""
    if event == "c_call" and function is os.fsync:
        sys.setprofile(None)
        die()


def die() -> None:
    """As by ``kill -9``: nothing is flushed, nothing is cleaned up. Or be stopped, as with a machine's memory."""
    if os.environ.get(FREEZE) is not None:
        if not os.environ[FREEZE]:
            return  # once is enough
        os.environ[FREEZE] = ""
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal may take a moment to end all threads
