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
def test_it_reads_into_memory_if_what_is_behind_it_can(local: LocalVault, able: bool) -> None:
    vault = AppendOnlyVault(local if able else InterceptedVault(local))
    assert isinstance(vault, ReadingInto) is able
    if able:
        memory = bytearray(3)
        vault.read_into("main/data/ab/abc", 1, memoryview(memory))
        assert memory == b"tor"


def test_it_lets_nothing_through_of_which_it_does_not_know_that_it_only_adds(local: LocalVault) -> None:
    assert hasattr(local, "root") and not hasattr(AppendOnlyVault(local), "root")


@pytest.mark.parametrize(
    "change",
    [
        lambda vault: vault.delete("main/data/ab/abc"),
        lambda vault: vault.delete("locks"),
        lambda vault: vault.put("main/data/ab/abc", [b"other"], overwrite=True),
        lambda vault: vault.put("main/new", [b"new"], overwrite=True),
        lambda vault: vault.put_stream("main/data/ab/abc", iter([b"other"]), overwrite=True),
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
    vault.put_stream("main/locks/one", iter([b"lo", b"ck"]))
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
