"""A worker that stays meets bad luck: clocks that jump, a full disk, a damaged catalog. It goes on by itself after."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from children import import_path
from cto_backups.app import opened
from cto_backups.core.model import ActionKind
from cto_backups.errors import ClaimLostError, ExitStatus
from cto_backups.flows.runs import recorded
from integration.cli.conftest import Home
from integration.cli.test_worker_processes import PATIENCE_SECONDS, Place, Worker, until, workers

HOURLY = """\
version: 1
business: acme
keys: {repository: "file:keys/repository.key", evidence: "file:keys/evidence.key"}
vaults:
  one: {url: "file:vaults/one", provider: local-disk, region: here, storage: disk}
  two: {url: "file:vaults/two", provider: disk, region: there, storage: disk, off_site: true}
worker: {actions: 2, nice: 0}
sources:
  hourly:
    kind: command
    class: documentation
    filename: it
    test: none
    triggers: every 1 h
    command: [date, "+%s%N"]
"""


@pytest.fixture
def place(home: Home, tmp_path: Path) -> Place:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    home.policy.write_text(HOURLY)
    return Place(home, meeting)


@pytest.fixture
def worker(place: Place, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    yield from workers(place, tmp_path)


def good(place: Place) -> int:
    return place.runs("hourly").count(("succeeded", ""))


@pytest.fixture
def jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Put the clock of every process that is started by so many hours, now and whenever this is called."""
    shift = tmp_path / "shift"

    def jump(hours: int) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(str(hours * 3600))
        fresh.replace(shift)

    jump(0)
    for name, value in import_path("shifted").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CTO_TEST_CLOCK", str(shift))
    return jump


def test_a_clock_that_jumps_by_hours_makes_one_run_and_lets_nothing_wait(
    place: Place, worker: Callable[[], Worker], jump: Callable[[int], None]
) -> None:
    """Nothing is done five times, and nothing waits until the clock is there again."""
    working = worker()
    until(lambda: good(place) == 1, "the first backup")
    time.sleep(5)  # until it has nothing else to do, and would not look by itself for a minute
    jump(5)
    until(lambda: good(place) == 2, "one after the jump")
    jump(0)
    until(lambda: good(place) == 3, "one after the jump back")
    assert working.stop() == 0
    assert place.runs("hourly") == [("succeeded", "")] * 3


def test_a_worker_goes_on_when_another_process_held_the_catalog_for_too_long(
    place: Place, worker: Callable[[], Worker], jump: Callable[[int], None]
) -> None:
    """One that froze in the middle of writing, say."""
    working = worker()
    until(lambda: good(place) == 1, "the first backup")
    with closing(sqlite3.connect(place.home.root / "catalog.db", isolation_level=None)) as frozen:
        frozen.execute("BEGIN IMMEDIATE")
        jump(2)
        until(lambda: working.said("is in use"), "that somebody holds it is told")
        time.sleep(2)
        assert working.process.poll() is None, "it waits"
        frozen.execute("ROLLBACK")
    until(lambda: good(place) == 2, "it goes on")
    assert working.stop() == 0


@pytest.mark.root
def test_a_worker_goes_on_when_the_catalogs_disk_has_room_again(
    place: Place, worker: Callable[[], Worker], jump: Callable[[int], None], tmp_path: Path
) -> None:
    catalog = place.home.root / "catalog.db"
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.move(catalog, disk / "catalog.db")
        place.home.policy.write_text(f'catalog: "sqlite:{disk}/catalog.db"\n{HOURLY}')
        place.catalog = disk / "catalog.db"
        working = worker()
        until(lambda: good(place) == 1, "the first backup")
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                continue
        jump(2)
        until(lambda: working.said("full") or working.said("space"), "that the disk is full is told")
        ballast.unlink()
        until(lambda: good(place) == 2, "it goes on")
        assert working.process.poll() is None
        assert working.stop() == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_damaged_catalog_is_told_and_made_anew_from_any_vault_and_the_worker_goes_on(
    place: Place, worker: Callable[[], Worker], jump: Callable[[int], None]
) -> None:
    catalog = place.home.root / "catalog.db"
    working = worker()
    until(lambda: good(place) == 1, "the first backup")
    until(lambda: place.home("verify", "two").status is ExitStatus.SUCCESS, "it is copied, and read")
    assert working.stop() == 0
    asked = (("points", "hourly", "--all", "--json"), ("evidence", "list", "--json"))
    before = [shown(place.home(*each).document) for each in asked]
    with catalog.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(catalog.stat().st_size - 100))
    broken = worker()
    assert broken.process.wait(PATIENCE_SECONDS) == ExitStatus.CATALOG
    assert broken.said("catalog rebuild")
    for file in place.home.root.glob("catalog.db*"):
        file.unlink()
    assert place.home("catalog", "rebuild", "--from", "two").status is ExitStatus.SUCCESS
    assert [shown(place.home(*each).document) for each in asked] == before
    jump(2)
    again = worker()
    until(lambda: good(place) == 1, "it goes on")
    assert again.stop() == 0
    assert len(place.home("points", "hourly", "--all", "--json").document["points"]) == 2


def shown(document: Any) -> list[str]:
    """The ids of what is listed."""
    (listed,) = (value for value in document.values() if isinstance(value, list))
    return sorted(each["id"] for each in listed)


def test_who_has_lost_his_claim_deletes_nothing_in_any_vault(home: Home) -> None:
    """Whatever he holds of an installation: the claim is asked for where things are deleted."""
    with opened(home.policy) as opening:
        installation = opening.installation
        vault, store = installation.vault("one"), installation.store("one")
        (point, *_) = installation.catalog.points("data-files")
        stored = {each.key for each in vault.list("")}
        with pytest.raises(ClaimLostError), recorded(installation, ActionKind.EXPIRE, source="data-files"):
            with closing(sqlite3.connect(home.root / "catalog.db")) as catalog, catalog:
                catalog.execute("UPDATE claims SET token = token + 1 WHERE subject = 'source:data-files'")
            reference = next(each.copy.reference for each in installation.catalog.copies(point.id))
            with pytest.raises(ClaimLostError):
                vault.delete(min(stored))
            with pytest.raises(ClaimLostError):
                store.expire([reference])
        assert {each.key for each in vault.list("")} == stored
