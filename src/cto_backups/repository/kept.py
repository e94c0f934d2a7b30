"""Which stored files of a repository the vault's store keeps locked, whoever wants to delete them, and until when."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from cto_backups import clock
from cto_backups.core import object_locks
from cto_backups.core.vaults import LockingVault, store_holds
from cto_backups.errors import VaultLockedError, VaultMissingError
from cto_backups.repository.stored import StoredFiles

_AT_ONCE = 16  # questions to the store, each of which waits for its answer


def kept_until(files: StoredFiles, folder: str, names: Iterable[str]) -> dict[str, datetime]:
    """Until when those of the files are kept that are locked or held now. Raises VaultError."""
    vault = files.vault
    if not isinstance(vault, LockingVault) or vault.locking is None:
        return {}
    now, locking, holds = clock.now(), vault.locking, store_holds(vault)

    def until(name: str) -> datetime | None:
        key = files.key(folder, name)
        try:
            return object_locks.kept_until(vault.lock_of(key), holds is not None and holds.is_on(key), locking, now)
        except VaultMissingError:
            return None

    asked = tuple(names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ends = dict(zip(asked, pool.map(until, asked), strict=True))
    return {name: end for name, end in ends.items() if end is not None}


def still_locked(files: StoredFiles, left: dict[str, datetime]) -> VaultLockedError:
    """What is raised when some of what was to be dropped is left."""
    last = max(left.values())
    error = VaultLockedError(
        f"Vault {files.vault.name} keeps {len(left)} of the snapshots that are to be dropped",
        why=f"they are locked or held, the last until {last:%Y-%m-%d %H:%M:%S %Z}",
        todo="Nothing: a prune after that drops them.",
    )
    error.until, error.left = last, left
    return error
