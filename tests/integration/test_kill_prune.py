"""``kill -9`` at every write and deletion of a prune: no snapshot loses a blob, and the next prune finishes."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.logged_vault import KILL, LOG, Kill, Line, Moment, read_log
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, below, new_store, open_store, restore
from stock.restic import Restic
from trees import compare

TESTS = Path(__file__).parent.parent
LATER = 25  # hours
STAGES = {"lock", "lock-delete", "pack", "index", "index-delete", "marks"}
LATER_STAGES = {"lock", "lock-delete", "pack-delete", "marks-delete"}


@dataclass(frozen=True)
class Place:
    """A vault whose repository has something to prune, and the folder that its only snapshot holds."""

    vault: Path
    tree: Path
    restic: Restic

    def prune(self, log: Path, *, hours: float = 0, kill: Kill | None = None) -> list[Line]:
        """A prune to its end, which is as asked for; what it wrote."""
        log.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONPATH": os.fspath(TESTS), LOG: os.fspath(log)}
        environment.pop(KILL, None)
        if kill is not None:
            environment[KILL] = str(kill)
        child = [sys.executable, "-m", "faults.prune_child", self.vault, str(hours)]
        status = subprocess.run(child, env=environment, check=False).returncode
        lines = read_log(log)
        if kill and status == 0:  # threads fill packs as they come, and a run may have fewer of them
            assert kill.stage in ("pack", "index", "index-delete", "pack-delete")
            assert kill.nth > sum(line.stage == kill.stage and line.moment is Moment.BEFORE for line in lines)
        else:
            assert status == (-9 if kill else 0)
        return lines

    def copy(self, to: Path) -> "Place":
        shutil.copytree(self.vault, to)
        return Place(to, self.tree, self.restic.elsewhere(to / PREFIX))

    def see_that_all_is_there(self, at: Path) -> None:
        store = open_store(self.vault)
        assert store.verify().damages == ()
        (committed,) = store.committed()
        restore(store, committed.reference, at)
        assert compare.differences(self.tree, below(at, self.tree)) == []
        shutil.rmtree(at)


@pytest.fixture(scope="module")
def to_prune(tmp_path_factory: pytest.TempPathFactory, stock_restic: Path) -> Place:
    root = tmp_path_factory.mktemp("prune")
    tree = root / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"file-{number:02}").write_bytes(os.urandom(70_000))
    store = new_store(root / "vault", options=QUICK_SMALL_PACKS)
    first, _ = back_up(store, tree, state=root / "state")
    for number in range(0, 40, 2):
        (tree / f"file-{number:02}").write_bytes(os.urandom(70_000))
    back_up(store, tree, state=root / "state")
    store.expire([first])
    return Place(root / "vault", tree, Restic(stock_restic, root / "vault" / PREFIX))


def kills(lines: list[Line]) -> list[Kill]:
    """Every write that was made, before, during and after it."""
    stages = [line.stage for line in lines if line.moment is Moment.BEFORE]
    return [
        Kill(stage, nth, moment)
        for stage in sorted(set(stages))
        for nth in range(1, stages.count(stage) + 1)
        for moment in Moment
    ]


def test_a_prune_killed_at_any_write_loses_nothing_and_the_next_one_finishes(to_prune: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    clean = to_prune.copy(tmp_path / "clean")
    lines = clean.prune(log)
    assert {line.stage for line in lines} == STAGES
    for kill in kills(lines):
        place = to_prune.copy(tmp_path / f"vault-{kill}")
        place.prune(log, kill=kill)
        place.see_that_all_is_there(tmp_path / "out")
        place.prune(log)
        place.see_that_all_is_there(tmp_path / "out")
        place.prune(log, hours=LATER)
        place.see_that_all_is_there(tmp_path / "out")
        if kill.moment is Moment.AFTER:  # what was written is the same before and during it
            place.restic.check()
        shutil.rmtree(place.vault)


def test_a_deletion_killed_at_any_write_loses_nothing_and_the_next_one_finishes(
    to_prune: Place, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    pruned = to_prune.copy(tmp_path / "pruned")
    pruned.prune(log)
    lines = pruned.copy(tmp_path / "clean").prune(log, hours=LATER)
    assert {line.stage for line in lines} == LATER_STAGES
    for kill in kills(lines):
        place = pruned.copy(tmp_path / f"vault-{kill}")
        place.prune(log, hours=LATER, kill=kill)
        place.see_that_all_is_there(tmp_path / "out")
        place.prune(log, hours=LATER)
        place.see_that_all_is_there(tmp_path / "out")
        if kill.moment is Moment.AFTER:
            place.restic.check("--read-data")
        shutil.rmtree(place.vault)
