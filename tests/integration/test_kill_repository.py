"""``kill -9`` at every stage of writing a repository: the next run goes on, and stock restic finds nothing wrong.

A child process backs up a folder; it dies before, during or after the n-th write of a stage (`tests/faults`), or when
its parent, who reads its log, says so. The second run is the same child, left alone.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.logged_vault import KILL, LOG, Kill, Line, Moment, read_log
from stock.product import PREFIX, below, open_store, restore
from stock.restic import Restic
from trees import compare

TESTS = Path(__file__).parent.parent
STAGES = ("lock", "pack", "index", "snapshot", "lock-delete")
OF_CREATION = ("key", "config")
POINTS = [
    Kill(stage, nth, moment)
    for stage, nth in [
        ("lock", 1),
        ("pack", 1),
        ("pack", 5),
        ("index", 1),
        ("index", 2),
        ("snapshot", 1),
        ("lock-delete", 1),
    ]
    for moment in Moment
]


@dataclass(frozen=True)
class Place:
    """A vault, the folder that is backed up to it, and what the folder held at each of the clean backups."""

    root: Path
    restic: Restic

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def log(self) -> Path:
        return self.root / "log"

    def child(self, kill: Kill | None = None) -> "subprocess.Popen[bytes]":
        """A run, with a new log."""
        self.log.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONPATH": os.fspath(TESTS), LOG: os.fspath(self.log)}
        environment.pop(KILL, None)
        if kill is not None:
            environment[KILL] = str(kill)
        return subprocess.Popen(
            [sys.executable, "-m", "faults.store_child", self.vault, self.tree, self.root / "state"], env=environment
        )

    def run(self, kill: Kill | None = None) -> list[Line]:
        """A run to its end, which is as asked for; what it wrote."""
        status = self.child(kill).wait()
        assert status == (-9 if kill else 0)
        return read_log(self.log)


@pytest.fixture(scope="module")
def after_one_backup(tmp_path_factory: pytest.TempPathFactory, stock_restic: Path) -> Place:
    """A place with one backup; its folder was changed since."""
    place = Place(tmp_path_factory.mktemp("kill"), Restic(stock_restic, Path()))
    place.tree.mkdir()
    for number in range(40):
        (place.tree / f"file-{number:02}").write_bytes(f"first {number} ".encode() * 50)
    (place.tree / "large").write_bytes(os.urandom(3 << 20))
    place.run()
    shutil.copytree(place.tree, place.root / "before", symlinks=True)
    for number in range(0, 40, 2):
        (place.tree / f"file-{number:02}").write_bytes(os.urandom(2000))
    (place.tree / "new").write_bytes(os.urandom(9 << 20))
    return place


@pytest.fixture
def place(after_one_backup: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of it; the folder itself is shared, for its name is in the snapshot."""
    for name in ("vault", "state"):
        shutil.copytree(after_one_backup.root / name, tmp_path / name)
    (tmp_path / "tree").symlink_to(after_one_backup.tree)
    yield Place(tmp_path, Restic(after_one_backup.restic.binary, tmp_path / "vault" / PREFIX))
    shutil.rmtree(tmp_path)


def test_the_kill_points_are_all_stages_of_a_run(place: Place) -> None:
    """A new kind of write in the order of commit is a new stage to be killed at."""
    stages = [line.stage for line in place.run()]
    assert set(stages) == set(STAGES) == {kill.stage for kill in POINTS}
    assert stages.count("pack") >= 2 * 5
    assert stages.count("index") >= 2 * 2


@pytest.mark.parametrize("kill", POINTS, ids=str)
def test_a_run_after_a_kill_completes_the_backup(place: Place, after_one_backup: Place, kill: Kill) -> None:
    killed = place.run(kill)
    assert kill.stage in [line.stage for line in killed]  # another thread may have written since
    see_that_all_is_well(place, after_one_backup)


@pytest.mark.parametrize("lines", [1, 4, 9, 14, 19])
def test_a_run_after_its_parent_killed_the_last_one_completes_the_backup(
    place: Place, after_one_backup: Place, lines: int
) -> None:
    child = place.child()
    while not (place.log.exists() and len(read_log(place.log)) >= lines):
        assert child.poll() is None
    child.kill()
    child.wait()
    see_that_all_is_well(place, after_one_backup)


@pytest.mark.parametrize("stage", OF_CREATION)
@pytest.mark.parametrize("moment", list(Moment))
def test_a_repository_whose_making_was_killed_is_made_by_the_next_run(
    tmp_path: Path, stock_restic: Path, stage: str, moment: Moment
) -> None:
    place = Place(tmp_path, Restic(stock_restic, tmp_path / "vault" / PREFIX))
    place.tree.mkdir()
    (place.tree / "file").write_text("content")
    place.run(Kill(stage, 1, moment))
    place.run()
    place.restic.check("--read-data")
    (committed,) = open_store(place.vault).committed()
    restore(open_store(place.vault), committed.reference, tmp_path / "restored")
    assert compare.differences(place.tree, below(tmp_path / "restored", place.tree)) == []


def see_that_all_is_well(place: Place, clean: Place) -> None:
    """Before and after the next run: what is committed is whole, and the run stores nothing that was indexed."""
    what_is_committed_restores(place, clean, "now")
    place.run()
    assert not list((place.vault / PREFIX / "locks").iterdir()), "the dead run's lock should be gone"
    what_is_committed_restores(place, clean, "later")
    checked = place.restic.start("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no errors were found" in checked.stdout
    blobs = place.restic.run("list", "blobs").split("\n")
    assert len(blobs) == len(set(blobs)), "what the killed run had indexed was stored a second time"


def what_is_committed_restores(place: Place, clean: Place, name: str) -> None:
    store = open_store(place.vault)
    assert store.verify().damages == ()
    committed = store.committed()
    assert committed
    contents = [clean.root / "before", *[clean.tree] * (len(committed) - 1)]
    for number, (one, content) in enumerate(zip(committed, contents, strict=True)):
        destination = place.root / f"restored-{name}-{number}"
        restore(store, one.reference, destination)
        restored = below(destination, clean.tree)
        if number:
            assert compare.differences(content, restored) == []
        else:
            assert {path.name: path.read_bytes() for path in restored.iterdir()} == {
                path.name: path.read_bytes() for path in content.iterdir()
            }
