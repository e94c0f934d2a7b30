"""A worker that stays: several actions at once, each in a process of its own, under the policy as it becomes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cto_backups
from integration.cli.conftest import Home, environment

PATIENCE_SECONDS = 150

COMMANDS = """\
version: 1
business: acme
keys: {{repository: "file:keys/repository.key", evidence: "file:keys/evidence.key"}}
vaults:
  one: {{url: "file:vaults/one", provider: local-disk, region: here, storage: disk}}
worker: {worker}
sources:
{sources}
"""


def until(happened: Callable[[], Any], what: str) -> Any:
    """What it gives, as soon as it gives something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Place:
    """An installation whose sources are what shell scripts print, and the folder where these meet."""

    home: Home
    meeting: Path
    sources: dict[str, str] = field(default_factory=dict)
    catalog: Path | None = None

    def policy(self, worker: str = "{actions: 2, nice: 0}", **scripts: str) -> None:
        """Let the policy have these sources, by their scripts, which run in the folder for meetings."""
        sources = "".join(
            f"  {name}:\n    kind: command\n    class: documentation\n    filename: it\n    test: none\n"
            f"    triggers: every 7 days\n    command: {json.dumps(['sh', '-c', f'cd {self.meeting}; {script}'])}\n"
            for name, script in scripts.items()
        )
        self.home.policy.write_text(COMMANDS.format(worker=worker, sources=sources))

    def runs(self, source: str) -> list[tuple[str, str]]:
        """How the backups of a source went: outcome and error code, in order."""
        with closing(
            sqlite3.connect(self.catalog or self.home.root / "catalog.db", timeout=PATIENCE_SECONDS)
        ) as catalog:
            rows = catalog.execute(
                "SELECT outcome, error_code FROM runs WHERE source = ? AND action = 'backup' ORDER BY id", (source,)
            )
            return [tuple(row) for row in rows]

    def succeeded(self, source: str) -> bool:
        return ("succeeded", "") in self.runs(source)


@pytest.fixture
def place(home: Home, tmp_path: Path) -> Place:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    return Place(home, meeting)


class Worker:
    """A worker as a process of its own, and what it says."""

    def __init__(self, place: Place, log: Path, **variables: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cto_backups", "worker"],
                env=environment(CTO_BACKUPS_POLICY=str(place.home.policy), **variables),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self, words: str) -> bool:
        return words in self._log.read_text()

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


def workers(place: Place, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """What begins a worker; all of them are killed in the end, and what works for them."""
    begun: list[Worker] = []

    def begin(**variables: str) -> Worker:
        begun.append(Worker(place, tmp_path / f"log-{len(begun)}", **variables))
        return begun[-1]

    yield begin
    for each in begun:
        children = each.children() if each.process.poll() is None else []
        each.process.kill()
        each.process.wait()
        for child in children:
            os.kill(child, signal.SIGKILL)


@pytest.fixture
def worker(place: Place, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    yield from workers(place, tmp_path)


MEET = "touch {here}; for i in $(seq 1200); do test -e {there} && echo met && exit 0; sleep 0.1; done; exit 1"


def test_two_sources_are_backed_up_at_once_each_in_a_process_of_its_own(place: Place, worker: Any) -> None:
    """Each waits for the other: one after the other, none would ever end well."""
    scripts = {"left": MEET.format(here="left", there="right"), "right": MEET.format(here="right", there="left")}
    place.policy("{nice: 1}", **scripts)
    working = worker()
    until(lambda: place.succeeded("left") and place.succeeded("right"), "both are backed up")
    with closing(sqlite3.connect(place.home.root / "catalog.db")) as catalog:
        pids = {pid for (pid,) in catalog.execute("SELECT pid FROM runs WHERE source IN ('left', 'right')")}
    assert len(pids) == 2 and working.process.pid not in pids
    nice = [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids]
    assert nice == [max(1, os.getpriority(os.PRIO_PROCESS, working.process.pid))] * 2, "they stand back for others"
    assert working.stop() == 0


def test_no_more_is_done_at_once_than_the_policy_says(place: Place, worker: Any) -> None:
    alone = "mkdir busy || exit 3; sleep 0.5; rmdir busy; echo {name}"
    place.policy("{actions: 1, nice: 0}", **{name: alone.format(name=name) for name in ("first", "second", "third")})
    working = worker()
    until(lambda: all(map(place.runs, ("first", "second", "third"))), "all three have run")
    assert working.stop() == 0
    assert [place.runs(name) for name in ("first", "second", "third")] == [[("succeeded", "")]] * 3


def test_what_takes_its_process_down_fails_alone_and_is_noted(place: Place, worker: Any) -> None:
    """The command kills the process that runs it, as running out of memory would; the others go on."""
    place.policy(poison="kill -9 $PPID; sleep 60", sound="echo sound")
    working = worker()
    until(lambda: place.succeeded("sound") and ("failed", "crash") in place.runs("poison"), "both have ended")
    assert working.said("ended by SIGKILL")
    assert working.stop() == 0
    assert place.runs("sound") == [("succeeded", "")]


def test_after_three_times_it_is_left_alone_for_a_day(place: Place, worker: Any) -> None:
    place.policy(poison="kill -9 $PPID; sleep 60", sound="echo sound")
    working = worker()
    for times in (1, 2, 3):
        crashes = [("failed", "crash")] * times
        until(lambda crashes=crashes: place.runs("poison") == crashes, f"it has failed {times} times")
        with closing(sqlite3.connect(place.home.root / "catalog.db", timeout=PATIENCE_SECONDS)) as catalog, catalog:
            # As if two hours had passed since: what has failed is tried again after an hour at most.
            catalog.execute("UPDATE runs SET finished_at = ? WHERE source = 'poison'", (_hours_ago(2),))
    (row,) = [row for row in place.home("schedule", "--json").document["sources"] if row["source"] == "poison"]
    assert "quarantined" in row["why"] and "due now" not in row["why"]
    assert working.stop() == 0
    assert place.succeeded("sound")


def _hours_ago(hours: int) -> str:
    return f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S.%fZ}"


def test_what_is_in_progress_is_finished_before_a_worker_stops(place: Place, worker: Any) -> None:
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done", other="echo other")
    working = worker()
    until(lambda: (place.meeting / "begun").exists(), "the backup has begun")
    working.process.send_signal(signal.SIGTERM)
    until(lambda: working.said("Stopping"), "the worker has heard")
    assert place.runs("slow") == [("running", "")]
    (place.meeting / "go").touch()
    assert working.process.wait(PATIENCE_SECONDS) == 0
    assert place.runs("slow") == [("succeeded", "")]


def test_a_second_signal_breaks_off_what_is_in_progress(place: Place, worker: Any) -> None:
    place.policy(slow="touch begun; exec sleep 600")
    working = worker()
    until(lambda: (place.meeting / "begun").exists(), "the backup has begun")
    working.process.send_signal(signal.SIGTERM)
    until(lambda: working.said("Stopping"), "the worker has heard")
    working.process.send_signal(signal.SIGTERM)
    assert working.process.wait(PATIENCE_SECONDS) != 0
    assert place.runs("slow") == [("interrupted", "")]


def test_processes_end_with_a_worker_that_was_killed_once_they_are_done(place: Place, worker: Any) -> None:
    """What they did is in the catalog, so it is not done twice."""
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done")
    working = worker()
    until(lambda: (place.meeting / "begun").exists(), "the backup has begun")
    (child,) = working.children()
    working.process.kill()
    working.process.wait()
    (place.meeting / "go").touch()
    until(lambda: place.succeeded("slow"), "it is finished")
    until(lambda: not Path(f"/proc/{child}").exists(), "the process is gone")


def test_a_source_that_comes_into_the_policy_is_backed_up_by_the_worker_that_runs(place: Place, worker: Any) -> None:
    """Also while an action under the policy as it was is in progress, which goes on."""
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done")
    working = worker()
    until(lambda: (place.meeting / "begun").exists(), "the backup has begun")
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done", new="echo new")
    until(lambda: place.succeeded("new"), "the new one is backed up")
    assert place.runs("slow") == [("running", "")]
    (place.meeting / "go").touch()
    until(lambda: place.succeeded("slow"), "what was in progress is done")
    assert working.stop() == 0


def test_a_policy_with_mistakes_is_told_and_the_one_before_goes_on(place: Place, worker: Any) -> None:
    place.policy(first="echo first")
    working = worker()
    until(lambda: place.succeeded("first"), "the first is backed up")
    place.policy("{actions: none}", first="echo first", second="echo second")
    until(lambda: working.said("actions must be") and working.said("as it was before"), "the mistake is told")
    assert working.process.poll() is None
    place.policy(first="echo first", third="echo third")
    working.process.send_signal(signal.SIGHUP)
    until(lambda: place.succeeded("third"), "the file is put right")
    assert place.runs("second") == []
    assert working.stop() == 0


def test_a_worker_whose_program_is_replaced_finishes_and_begins_nothing_by_the_new_one(
    place: Place, worker: Any, tmp_path: Path
) -> None:
    """Its processes would be of the new release, and the two need not understand each other."""
    installed = Path(cto_backups.__file__).parent
    package = tmp_path / "packages" / installed.name
    package.mkdir(parents=True)
    for each in installed.iterdir():
        if each.name not in ("__init__.py", "__pycache__"):
            (package / each.name).symlink_to(each)
    text = (installed / "__init__.py").read_text()
    (package / "__init__.py").write_text(text)
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done")
    working = worker(PYTHONPATH=str(package.parent))
    until(lambda: (place.meeting / "begun").exists(), "the backup has begun")
    (package / "__init__.py").write_text(text.replace(f'"{cto_backups.__version__}"', '"99.0"'))
    until(lambda: working.said("installed is 99.0"), "it has noticed")
    place.policy(slow="touch begun; while ! test -e go; do sleep 0.1; done; echo done", new="echo new")
    working.process.send_signal(signal.SIGTERM)  # as `systemctl restart` sends: the first one breaks nothing off
    until(lambda: working.said("Stopping"), "the worker has heard")
    (place.meeting / "go").touch()
    assert working.process.wait(PATIENCE_SECONDS) == 0
    assert (place.runs("slow"), place.runs("new")) == ([("succeeded", "")], [])
