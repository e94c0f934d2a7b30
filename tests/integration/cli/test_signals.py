"""Stopping: a worker finishes its action, a second signal breaks it off, and nothing is lost either way."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus

Process = subprocess.Popen[str]


@contextmanager
def started(home: Any, *arguments: str) -> Iterator[Process]:
    """A command in the background; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", *arguments],
        env={**os.environ, "CTO_BACKUPS_POLICY": str(home.policy), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        _end_waiting_keys(home)


def _end_waiting_keys(home: Any) -> None:
    """End what `slow_source` started and a killed program could not end; nothing of it may be left otherwise."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if b"echo waiting" in command and os.fsencode(home.root) in command:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(place.name), signal.SIGKILL)


def left(home: Any) -> list[str]:
    """The keys' commands of this installation that still run."""
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in running if "echo waiting" in line and str(home.root) in line]


def slow_source(home: Any, fifo: Path) -> None:
    """Give the installation a key that is read by a command which waits for a reader of `fifo`: a run in progress."""
    os.mkfifo(fifo)
    key = home.root / "keys" / "repository.key"
    text = home.policy.read_text()
    command = f"sh -c 'echo waiting > {fifo}; cat {fifo}.go > /dev/null; cat {key}'"
    os.mkfifo(f"{fifo}.go")
    home.policy.write_text(text.replace("repository: file:keys/repository.key", f'repository: "command:{command}"'))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_stops_at_the_first_signal(home: Any, number: signal.Signals) -> None:
    assert home("test").status is ExitStatus.SUCCESS
    with started(home, "worker") as process:
        assert process.stdout is not None
        assert "Working for 3 sources" in process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == ExitStatus.SUCCESS, (out, err)
        assert "Stopped." in err


def read_or_gone(fifo: Path) -> None:
    """Read what may be written there, for as long as the test lasts that it belongs to."""
    with contextlib.suppress(FileNotFoundError):
        fifo.read_text()


def test_a_worker_finishes_the_action_in_progress(home: Any, tmp_path: Path) -> None:
    fifo = tmp_path / "reached"
    slow_source(home, fifo)
    home.change("due\n")
    with started(home, "worker") as process:
        # The first backup opens the repository, asks for its key, and waits.
        assert fifo.read_text() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "what is in progress is finished first" in process.stderr.readline()
        release = threading.Thread(target=Path(f"{fifo}.go").write_text, args=("",), daemon=True)
        release.start()
        drain = threading.Thread(target=read_or_gone, args=(fifo,), daemon=True)
        drain.start()
        out, err = process.communicate(timeout=60)
        assert process.returncode == ExitStatus.SUCCESS, (out, err)
        assert len([line for line in out.splitlines() if " backup " in line or " restore test " in line]) == 1


def test_a_second_signal_breaks_the_action_off_and_nothing_is_lost(home: Any, tmp_path: Path) -> None:
    fifo = tmp_path / "reached"
    slow_source(home, fifo)
    home.change("due\n")
    with started(home, "worker") as process:
        assert fifo.read_text() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitStatus.INTERRUPTED
        assert not left(home)
        assert "nothing is lost" in err.lower()


def test_an_interrupted_backup_ends_with_130_and_is_due_again(home: Any, tmp_path: Path) -> None:
    fifo = tmp_path / "reached"
    original = home.policy.read_text()
    slow_source(home, fifo)
    home.change("due\n")
    with started(home, "backup", "data-files") as process:
        assert fifo.read_text() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitStatus.INTERRUPTED
        assert not left(home)
        assert "nothing is lost" in err.lower()
    home.policy.write_text(original)
    again = home("backup", "data-files")
    assert again.status is ExitStatus.SUCCESS, again
    assert home("verify").status is ExitStatus.SUCCESS
