"""Repair from end to end: what a vault lost comes from itself, from other vaults, from the catalog, from the source."""

import json
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.model import Action, ActionKind, Outcome, Rung
from cto_backups.core.payloads import RepairScope
from cto_backups.errors import BusyError, VerificationError
from cto_backups.flows.protect import protect
from cto_backups.flows.repair import plan, repair
from cto_backups.flows.restore import restore
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify
from cto_backups.flows.work import perform
from cto_backups.repository.locks import locked
from integration.conftest import build, fill
from integration.test_flows import change, flip, packs

ALL = ("one", "two", "three")


def snapshots(workshop: Any, vault: str) -> list[Path]:
    return sorted((workshop.vault_root(vault) / "repositories/main/snapshots").iterdir())


def forget_opened(workshop: Any) -> Any:
    """The installation as another process finds it: nothing of the repositories is remembered."""
    workshop.catalog.close()
    return build(workshop.root, workshop.data, workshop.sources)


@pytest.mark.parametrize("source", ["documents", "app", "ledger"])
def test_damage_comes_back_from_another_vault_and_is_proven_there(workshop: Any, source: str) -> None:
    protect(workshop.installation, source)
    for pack in packs(workshop, "one"):
        flip(pack)
    assert not verify(workshop.installation, "one").passed
    shown = plan(workshop.installation, "one")
    assert not shown.passed and not shown.repaired.done
    result = repair(workshop.installation, "one")
    assert result.passed and not result.clean and result.left == ()
    assert result.repaired.fetched_blobs == shown.repaired.fetched_blobs
    assert result.verified is not None and result.verified.evidence.rung is Rung.READ
    assert workshop.catalog.evidence(kind="verify")[0] == result.verified.evidence
    assert restore_test(workshop.installation, source, vault="one").passed
    (record,) = [path for path in (workshop.vault_root("one") / "records").rglob("*-repair.sealed")]
    said = json.loads(workshop.opened("one", record))["body"]["payload"]
    assert (said["vault"], said["lost_blobs"]) == ("one", "0")
    assert workshop.catalog.facts(clock.now()).vaults["one"].last_run.action is ActionKind.VERIFY
    again = repair(workshop.installation, "one")
    assert again.clean and again.passed and again.verified is None


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_lost_snapshot_is_copied_again_and_a_damaged_one_goes(workshop: Any, how: str) -> None:
    point = protect(workshop.installation, "documents").backup.point
    (snapshot,) = snapshots(workshop, "one")
    if how == "missing":
        snapshot.unlink()
    else:
        flip(snapshot)
    workshop = forget_opened(workshop)
    result = repair(workshop.installation, "one")
    assert result.passed and result.copies == (point.id,)
    assert snapshot not in snapshots(workshop, "one") and len(snapshots(workshop, "one")) == 1
    assert restore_test(workshop.installation, "documents", vault="one").passed
    workshop.catalog.close()


def test_a_snapshot_that_no_vault_has_is_made_again_from_the_catalog(workshop: Any) -> None:
    point = protect(workshop.installation, "documents").backup.point
    for vault in ALL:
        for snapshot in snapshots(workshop, vault):
            flip(snapshot)
    workshop = forget_opened(workshop)
    result = repair(workshop.installation, "two")
    assert result.passed and result.copies == (point.id,)
    for vault in ALL:
        assert repair(workshop.installation, vault).passed
        assert restore_test(workshop.installation, "documents", vault=vault).passed
    assert len({facts.copy.reference for facts in workshop.catalog.copies(point.id)}) == 3
    workshop.catalog.close()


def test_what_no_vault_has_is_read_from_its_source_again(tmp_path: Path) -> None:
    """The file has not changed, and would not have been opened; its content heals the old point in every vault."""
    (tmp_path / "data").mkdir()
    sources = fill(tmp_path / "data")

    def above() -> list[int]:
        return [folder.stat().st_mtime_ns for folder in (tmp_path / "data").parents]

    # The old point has the folders above the data as they were: others on this machine, who write there, change them.
    for number in count():
        workshop = build(tmp_path / f"home-{number}", tmp_path / "data", sources)
        before = above()
        point = protect(workshop.installation, "documents").backup.point
        for vault in ALL:
            for pack in packs(workshop, vault):
                pack.unlink()
        result = repair(workshop.installation, "one")
        if above() == before:
            break
        workshop.catalog.close()
    assert result.reread == ("documents",)
    assert result.repaired.lost_blobs > 0
    assert workshop.catalog.latest("documents").label == "repair of vault one"
    for vault in ALL:
        repair(workshop.installation, vault)
        assert verify(workshop.installation, vault).passed, vault
    restored = restore(workshop.installation, point, tmp_path / "out", vault="three")
    assert restored.restored.problems == ()
    workshop.catalog.close()


def test_what_is_lost_for_good_is_said_with_its_points_and_paths(workshop: Any, tmp_path: Path) -> None:
    lost = workshop.data / "files/deep/er/blob.bin"
    lost.write_bytes(os.urandom(200_000))
    old = protect(workshop.installation, "documents").backup.point
    change(workshop)
    new = protect(workshop.installation, "documents").backup.point
    lost.write_bytes(b"changed since")
    for vault in ALL:  # the content that both points share, and the source no longer has
        pack = max(packs(workshop, vault), key=lambda path: path.stat().st_size)
        flip(pack, pack.stat().st_size // 2)
    result = repair(workshop.installation, "one")
    assert not result.passed
    assert result.reread == ("documents",)
    assert result.verified is not None
    assert {old.id, new.id} <= set(result.verified.hurt)
    assert result.verified.hurt[old.id] == (str(lost),)
    runs = workshop.catalog.runs(limit=50)
    assert next(run for run in runs if run.action is ActionKind.REPAIR).outcome is Outcome.FAILED
    # The rest of the old point comes back.
    restored = restore(workshop.installation, old, tmp_path / "out")
    assert [problem.path for problem in restored.restored.problems] == [str(lost)]
    assert next((tmp_path / "out").rglob("report.txt")).read_text() == "figures\n" * 1000


def test_another_vault_that_is_away_is_named_where_it_would_have_helped(workshop: Any) -> None:
    protect(workshop.installation, "documents")
    shutil.rmtree(workshop.data / "files")
    (workshop.data / "files").mkdir()
    for vault in ("two", "three"):
        shutil.move(workshop.vault_root(vault), workshop.root / f"away-{vault}")
    for pack in packs(workshop, "one"):
        flip(pack)
    result = repair(workshop.installation, "one")
    assert not result.passed
    assert any("two" in problem for problem in result.left)
    assert any("source documents" in problem for problem in result.left)
    for vault in ("two", "three"):
        shutil.move(workshop.root / f"away-{vault}", workshop.vault_root(vault))
    assert repair(workshop.installation, "one").passed


def test_the_index_alone_is_made_anew(workshop: Any) -> None:
    protect(workshop.installation, "documents")
    for index in (workshop.vault_root("one") / "repositories/main/index").iterdir():
        flip(index)
    result = repair(workshop.installation, "one", scope=RepairScope.INDEX)
    assert result.passed and result.repaired.index_files
    assert verify(workshop.installation, "one").passed
    flip(packs(workshop, "one")[0], -20)  # in its header
    result = repair(workshop.installation, "one", scope=RepairScope.INDEX)
    assert not result.passed and result.repaired.left


def test_a_sound_vault_is_left_as_it_is(workshop: Any) -> None:
    protect(workshop.installation, "documents")
    before = sorted(workshop.vault_root("one").rglob("*"))
    assert repair(workshop.installation, "one").clean
    assert sorted(workshop.vault_root("one").rglob("*")) == before


def test_a_repository_in_use_is_not_repaired(workshop: Any) -> None:
    protect(workshop.installation, "documents")
    with locked(workshop.installation.store("one").files, exclusive=False), pytest.raises(BusyError):
        repair(workshop.installation, "one")


def test_a_worker_that_is_asked_to_repair_does_so(workshop: Any) -> None:
    protect(workshop.installation, "documents")
    action = Action(ActionKind.REPAIR, "repair:one", "asked for", clock.now(), vault="one")
    flip(packs(workshop, "one")[0])
    assert "of one" in perform(workshop.installation, action)
    for vault in ("two", "three"):
        shutil.rmtree(workshop.vault_root(vault))
    shutil.rmtree(workshop.data / "files")
    for pack in packs(workshop, "one"):
        pack.unlink()
    with pytest.raises(VerificationError, match="still damaged"):
        perform(workshop.installation, action)
