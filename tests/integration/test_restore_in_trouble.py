"""Restores that lose their vault on the way, or are killed in the middle."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from children import import_path
from contract.fakes.vaults import InterceptedVault
from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.errors import VaultError, VaultMissingError
from cto_backups.flows.protect import protect
from cto_backups.flows.restore import restore
from integration.conftest import build
from stock.product import back_up, below, new_store, open_store

VERIFIED = RestoreOptions(verify=True)


@pytest.mark.parametrize("source", ["documents", "app", "ledger"])
@pytest.mark.parametrize("reads", [0, 1, 2, 3, 5])
def test_a_vault_that_goes_away_during_a_restore_is_replaced_by_another(
    workshop: Any, tmp_path: Path, source: str, reads: int
) -> None:
    """From the n-th read on the vault is away; another one has the point, and the reason is said once."""
    for number in range(20):
        folder = workshop.data / "files" / f"folder-{number}"
        folder.mkdir()
        (folder / "file").write_bytes(random.Random(number).randbytes(300_000))
    point = protect(workshop.installation, source).backup.point
    again = build(workshop.root, workshop.data, workshop.sources)
    left = reads

    def away(operation: str, key: str) -> None:
        nonlocal left
        if operation == "read" and ("/data/" in key or "/index/" in key):
            left -= 1
        if left < 0:
            raise VaultMissingError("Vault one is not there", why="its disk was pulled")

    again.wrap_vault = lambda vault: InterceptedVault(vault, before=away) if vault.name == "one" else vault
    result = restore(again.installation, point, tmp_path / "out", options=VERIFIED)
    again.catalog.close()
    assert result.restored.problems == ()
    if left < 0:
        assert [trouble.startswith("one: Vault one is not there") for trouble in result.vault_problems] == [True]
    else:
        assert (result.vault, result.vault_problems) == ("one", ())
    probed = again.installation.source(source).probe(tmp_path / "out", point.fingerprint)
    assert probed.checksums == point.fingerprint.checksums


def test_without_another_vault_what_is_missing_is_named(workshop: Any, tmp_path: Path) -> None:
    point = protect(workshop.installation, "documents").backup.point
    again = build(workshop.root, workshop.data, workshop.sources)

    def away(operation: str, key: str) -> None:
        if operation == "read" and "/data/" in key:
            raise VaultMissingError("The vault is not there")

    again.wrap_vault = lambda vault: InterceptedVault(vault, before=away)
    with pytest.raises(VaultError, match="cannot be read in any vault"):
        restore(again.installation, point, tmp_path / "out")
    again.catalog.close()


@pytest.mark.parametrize("patch", [False, True])
def test_a_restore_over_files_that_is_killed_is_completed_by_the_next(
    tmp_path: Path, patch: bool, fault_rounds: int
) -> None:
    """Without `patch` each file is the former or the restored one at any moment; in the end all are restored."""
    tree, vault, place = tmp_path / "tree", tmp_path / "vault", tmp_path / "place"
    tree.mkdir()
    for number in range(60):
        (tree / f"small-{number:02}").write_bytes(random.Random(number).randbytes(3000))
    for number in range(6):
        (tree / f"large-{number}").write_bytes(random.Random(number).randbytes(5 << 20))
    right = {path.name: path.read_bytes() for path in tree.iterdir()}
    snapshot, _ = back_up(new_store(vault), tree, state=tmp_path / "state")
    reader = open_store(vault).reader(snapshot)
    reader.restore(place)
    restored = below(place, tree)
    child = [sys.executable, "-m", "faults.restore_child", vault, snapshot, place, "patch" if patch else "replace"]
    environment = os.environ | import_path()
    for seed in range(max(3, fault_rounds // 4)):
        chance = random.Random(seed)
        wrong = {}
        for name, content in right.items():
            if chance.random() < 0.7:
                middle = len(content) // 2
                wrong[name] = content[:middle] + chance.randbytes(500) + content[middle + 500 :]
                (restored / name).write_bytes(wrong[name])
        process = subprocess.Popen(child, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        time.sleep(chance.random() * 0.15)
        process.kill()
        process.wait()
        process.stdout.close()
        for name, content in right.items():
            found = (restored / name).read_bytes()
            if patch and name in wrong and name.startswith("large"):
                assert len(found) == len(content)
            else:
                assert found in (content, wrong.get(name)), f"{name} after the kill of round {seed}"
        assert not reader.restore(place, existing=Existing.OVERWRITE, options=VERIFIED).problems
        assert {path.name: path.read_bytes() for path in restored.iterdir()} == right


def test_a_restore_that_is_killed_while_it_removes_is_completed_by_the_next(tmp_path: Path, fault_rounds: int) -> None:
    tree, vault, place = tmp_path / "tree", tmp_path / "vault", tmp_path / "out"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder/kept").write_bytes(b"kept")
    snapshot, _ = back_up(new_store(vault), tree, state=tmp_path / "state")
    reader = open_store(vault).reader(snapshot)
    reader.restore(place)
    restored = below(place, tree)
    child = [sys.executable, "-m", "faults.restore_child", vault, snapshot, place, "delete"]
    cut_off = 0
    for seed in range(max(3, fault_rounds // 4)):
        chance = random.Random(seed)
        for number in range(60):
            (restored / f"folder/{number}").mkdir()
            for inner in range(60):
                (restored / f"folder/{number}/{inner}").touch()
        process = subprocess.Popen(child, env=os.environ | import_path(), stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        while process.poll() is None and len(list((restored / "folder").iterdir())) > 61 - chance.randrange(20):
            time.sleep(0.002)
        process.kill()
        process.wait()
        process.stdout.close()
        left = len(list((restored / "folder").iterdir()))
        cut_off += 1 < left < 61
        again = reader.restore(place, existing=Existing.OVERWRITE, options=RestoreOptions(delete=True, verify=True))
        assert not again.problems
        assert [path.name for path in (restored / "folder").iterdir()] == ["kept"]
        assert (restored / "folder").stat().st_mtime_ns == (tree / "folder").stat().st_mtime_ns
    assert cut_off, "no kill came in the middle"


def test_what_another_vault_had_to_heal_removes_nothing(workshop: Any, tmp_path: Path) -> None:
    point = protect(workshop.installation, "documents").backup.point

    def damaged(operation: str, key: str) -> None:
        if operation == "read" and "/data/" in key and list((tmp_path / "out").rglob("*")) != [extra]:
            raise VaultError("Vault one gives nothing more")

    extra = tmp_path / "out" / "extra"
    extra.parent.mkdir()
    extra.write_bytes(b"extra")
    again = build(workshop.root, workshop.data, workshop.sources)
    again.wrap_vault = lambda vault: InterceptedVault(vault, before=damaged) if vault.name == "one" else vault
    options = RestoreOptions(delete=True)
    result = restore(again.installation, point, tmp_path / "out", existing=Existing.OVERWRITE, options=options)
    again.catalog.close()
    assert result.healed
    assert result.restored.problems == ()
    assert result.restored.deleted_entries == 0
    assert [note for note in result.restored.notes if "Nothing was removed" in note]
    assert extra.exists()
    whole = restore(workshop.installation, point, tmp_path / "out", existing=Existing.OVERWRITE, options=options)
    assert whole.restored.deleted_entries == 1
    assert not extra.exists()
