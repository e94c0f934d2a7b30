"""A source's log that is followed: on a thread of this process, or by a worker of its own."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cto_backups import clock
from cto_backups.app import opened
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation
from cto_backups.flows.stream import follow
from integration.cli.conftest import Home, environment

PATIENCE_SECONDS = 60.0


def until(happened: Callable[[], Any], what: str) -> Any:
    """What comes of a question once there is something; fails when nothing does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")


@contextmanager
def installed(home: Home) -> Iterator[Installation]:
    with opened(home.policy) as opening:
        yield opening.installation


@contextmanager
def followed(home: Home, holder: str = "here") -> Iterator[Installation]:
    """The log is followed on a thread, until the block ends; what that says is raised then."""
    stop, said = threading.Event(), list[BackupsError]()
    with installed(home) as installation:

        def run() -> None:
            try:
                follow(installation, "shop", holder, stop)
            except BackupsError as error:
                said.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield installation
        finally:
            stop.set()
            thread.join()
    if said:
        raise said[0]


def facts(installation: Installation) -> Any:
    return installation.catalog.facts(clock.now(), ["shop"]).sources["shop"].stream


def worker(home: Home, log: Path, name: str) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "cto_backups", "worker", "--name", name],
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def crash(working: "subprocess.Popen[bytes]") -> None:
    """Kill a worker, and wait until the processes that did its actions have ended: they finish what they are at."""
    slots = list[str]()
    if working.poll() is None:
        working.send_signal(signal.SIGSTOP)  # it begins no other while they are listed
        for thread in Path(f"/proc/{working.pid}/task").iterdir():
            slots += (thread / "children").read_text().split()
    working.kill()
    working.wait()
    until(lambda: not any(_runs(slot) for slot in slots), "what the worker had begun ends")


def _runs(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
