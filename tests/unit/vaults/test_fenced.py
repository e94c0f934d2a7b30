"""A vault that asks before it deletes."""

from pathlib import Path

import pytest

from cto_backups.errors import ClaimLostError, VaultMissingError
from cto_backups.vaults.fenced import FencedVault
from cto_backups.vaults.local import LocalVault


def test_nothing_but_locks_is_deleted_by_who_may_not(tmp_path: Path) -> None:
    lost: list[ClaimLostError] = []

    def fence() -> None:
        if lost:
            raise lost[0]

    vault = FencedVault(LocalVault("near", tmp_path / "near"), fence)
    vault.create()
    for key in ("main/data/ab", "main/locks/cd", "main/data/ef"):
        vault.put(key, [b"it"])
    vault.delete("main/data/ef")
    lost.append(ClaimLostError("another has taken over"))
    with pytest.raises(ClaimLostError):
        vault.delete("main/data/ab")
    vault.delete("main/locks/cd")
    assert vault.read("main/data/ab") == b"it"
    for key in ("main/locks/cd", "main/data/ef"):
        with pytest.raises(VaultMissingError):
            vault.read(key)
