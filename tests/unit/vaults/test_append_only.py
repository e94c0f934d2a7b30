"""A vault to which this host may only add: what it lets through, and what it refuses before anything happens."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.vaults import InterceptedVault

from cto_backups.core.vaults import ReadingInto, Sweeping, Vault
from cto_backups.errors import RefusedError, VaultExistsError
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.local import LocalVault


@pytest.fixture
def local(tmp_path: Path) -> LocalVault:
    vault = LocalVault("cellar", tmp_path / "vault")
    vault.create()
    vault.put("main/data/ab/abc", [b"stored"])
    return vault


@pytest.mark.parametrize("able", [True, False])
def test_it_reads_into_memory_whether_or_not_what_is_behind_it_can(local: LocalVault, able: bool) -> None:
    behind = local if able else InterceptedVault(local)
    assert isinstance(behind, ReadingInto) is able
    memory = bytearray(3)
    AppendOnlyVault(behind).read_into("main/data/ab/abc", 1, memoryview(memory))
    assert memory == b"tor"


@pytest.mark.parametrize(
    "change",
    [
        lambda vault: vault.delete("main/data/ab/abc"),
        lambda vault: vault.delete("locks"),
        lambda vault: vault.put("main/data/ab/abc", [b"other"], overwrite=True),
        lambda vault: vault.put("main/new", [b"new"], overwrite=True),
    ],
)
def test_what_is_stored_is_neither_deleted_nor_overwritten(local: LocalVault, change: Callable[[Vault], None]) -> None:
    with pytest.raises(RefusedError, match="may only add to vault 'cellar'"):
        change(AppendOnlyVault(local))
    assert [stored.key for stored in local.list("")] == ["main/data/ab/abc"]
    assert local.read("main/data/ab/abc") == b"stored"


def test_it_adds_and_reads_and_lets_go_of_locks(local: LocalVault) -> None:
    vault = AppendOnlyVault(local)
    vault.create()
    vault.check()
    vault.put("main/locks/one", [b"lock"])
    with pytest.raises(VaultExistsError):
        vault.put("main/locks/one", [b"another"])
    assert (vault.name, vault.location) == (local.name, local.location)
    assert (vault.read("main/locks/one", 1, 2), vault.size("main/locks/one")) == (b"oc", 4)
    assert len(list(vault.list("main"))) == 2
    vault.delete("main/locks/one")
    assert len(list(vault.list("main"))) == 1


def test_it_sweeps_what_was_never_stored(local: LocalVault) -> None:
    vault = AppendOnlyVault(local)
    assert isinstance(vault, Sweeping)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (local.root / f".tmp-{gone.pid}-0").touch()
    assert vault.sweep() == 1
