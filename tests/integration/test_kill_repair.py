"""``kill -9`` at every write and deletion of a repair: nothing more is lost than was, and the next repair finishes."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from faults.logged_vault import KILL, LOG, Kill, Line, Moment, read_log
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, below, new_store, open_store, restore
from stock.restic import Restic
from trees import compare

TESTS = Path(__file__).parent.parent
STAGES = {"lock", "lock-delete", "pack", "index", "index-delete", "marks"}


@dataclass(frozen=True)
class Place:
    """A vault whose repository is damaged, another one that holds a copy, and the folder that the snapshot holds."""

    vault: Path
    other: Path
    tree: Path
    restic: Restic

    def repair(self, log: Path, *, kill: Kill | None = None) -> list[Line]:
        """A repair to its end, which is as asked for; what it wrote."""
        log.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONPATH": os.fspath(TESTS), LOG: os.fspath(log)}
        environment.pop(KILL, None)
        if kill is not None:
            environment[KILL] = str(kill)
        child = [sys.executable, "-m", "faults.repair_child", self.vault, self.other]
        status = subprocess.run(child, env=environment, check=False).returncode
        lines = read_log(log)
        if kill and status == 0:  # threads fill packs as they come, and a run may have fewer of them
            assert kill.stage in ("pack", "index", "index-delete")
            assert kill.nth > sum(line.stage == kill.stage and line.moment is Moment.BEFORE for line in lines)
        else:
            assert status == (-9 if kill else 0)
        return lines

    def copy(self, to: Path) -> "Place":
        shutil.copytree(self.vault, to)
        return Place(to, self.other, self.tree, self.restic.elsewhere(to / PREFIX))

    def packs(self) -> set[str]:
        return {path.name for path in (self.vault / PREFIX / "data").glob("*/*") if not path.name.startswith(".")}

    def see_that_all_is_there(self, at: Path) -> None:
        store = open_store(self.vault)
        assert store.verify().damages == ()
        (committed,) = store.committed()
        restore(store, committed.reference, at)
        assert compare.differences(self.tree, below(at, self.tree)) == []
        shutil.rmtree(at)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, stock_restic: Path) -> Place:
    root = tmp_path_factory.mktemp("repair")
    tree = root / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"file-{number:02}").write_bytes(os.urandom(70_000))
    store = new_store(root / "vault", options=QUICK_SMALL_PACKS)
    reference, _ = back_up(store, tree, state=root / "state")
    other: RepositoryStore = new_store(LocalVault("second", root / "other"))
    with other.writing() as writing:
        writing.copy(store, reference)
    packs = sorted((root / "vault" / PREFIX / "data").glob("*/*"), key=lambda path: -path.stat().st_size)
    flip(packs[0], 100)
    packs[1].unlink()
    flip(sorted((root / "vault" / PREFIX / "index").iterdir())[0], 50)
    return Place(root / "vault", root / "other", tree, Restic(stock_restic, root / "vault" / PREFIX))


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_repair_killed_at_any_write_loses_nothing_and_the_next_one_finishes(damaged: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    clean = damaged.copy(tmp_path / "clean")
    lines = clean.repair(log)
    assert {line.stage for line in lines} == STAGES
    clean.see_that_all_is_there(tmp_path / "out")
    stages = [line.stage for line in lines if line.moment is Moment.BEFORE]
    kills = [
        Kill(stage, nth, moment)
        for stage in sorted(set(stages))
        for nth in range(1, stages.count(stage) + 1)
        for moment in Moment
    ]
    assert len(kills) > 20
    for kill in kills:
        place = damaged.copy(tmp_path / f"vault-{kill}")
        place.repair(log, kill=kill)
        assert damaged.packs() <= place.packs(), "a repair deletes no pack"
        place.repair(log)
        place.see_that_all_is_there(tmp_path / "out")
        if kill.moment is Moment.AFTER:  # what was written is the same before and during it
            checked = place.restic.start("check", "--read-data")  # it tells of the damaged packs, which wait
            assert checked.returncode == 0 and "no errors were found" in checked.stdout, checked.stdout + checked.stderr
        shutil.rmtree(place.vault)
