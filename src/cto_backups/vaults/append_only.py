"""A vault to which this host may only add: nothing that is stored there is deleted or overwritten by our code.

What keeps a *hostile* host from it is the vault's own permissions; this keeps an honest one from trying.
"""

from collections.abc import Iterable, Iterator, Sequence

from cto_backups.core.object_locks import FileLock, Hidden, Locking
from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import LockingVault, ReadingInto, StoredFile, Streaming, Sweeping, Vault, locking_of
from cto_backups.errors import RefusedError


class AppendOnlyVault:
    """Another vault without deletion and replacement, but for locks; implements `core.vaults.Vault`. Thread-safe."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._vault.name

    @property
    def without_restraint(self) -> Vault:
        """The vault itself, for those who try what its store would let this login do."""
        return self._vault

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self._vault.location

    def check(self) -> None:
        """Raise VaultMissingError when the vault is not there, VaultReadOnlyError when nothing can be added."""
        self._vault.check()

    def create(self) -> None:
        """Make the vault's root; fine when it is there already."""
        self._vault.create()

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts under a new key. Raises RefusedError with `overwrite`, and what any vault raises."""
        if overwrite:
            raise self._refused("overwrite", key)
        self._vault.put(key, parts)

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined pieces under a new key. Raises RefusedError with `overwrite`, and what any vault raises."""
        if overwrite:
            raise self._refused("overwrite", key)
        if isinstance(self._vault, Streaming):
            self._vault.put_stream(key, pieces)
        else:
            self._vault.put(key, list(pieces))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all."""
        return self._vault.read(key, offset, length)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `offset`."""
        if isinstance(self._vault, ReadingInto):
            self._vault.read_into(key, offset, buffer)
        else:
            buffer[:] = self._vault.read(key, offset, buffer.nbytes)

    def size(self, key: str) -> int:
        """Size in bytes."""
        return self._vault.size(key)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix`."""
        return self._vault.list(prefix)

    def delete(self, key: str) -> None:
        """Remove a lock. Raises RefusedError for anything else."""
        if "locks" not in key.split("/")[:-1]:
            raise self._refused("delete", key)
        self._vault.delete(key)

    def sweep(self) -> int:
        """Remove the temporary files of dead writers, which were never stored; how many."""
        return self._vault.sweep() if isinstance(self._vault, Sweeping) else 0

    @property
    def locking(self) -> Locking | None:
        """How it locks what it stores; None when it does not."""
        return locking_of(self._vault)

    def lock_of(self, key: str) -> FileLock | None:
        """The lock of a stored file, read from the store."""
        return self._locking.lock_of(key)

    def lock(self, key: str) -> FileLock | None:
        """Lock a stored file for a whole window from now: that only adds, too."""
        return self._locking.lock(key)

    def hidden(self) -> Iterator[Hidden]:
        """What was deleted or replaced while its lock stands."""
        return self._locking.hidden()

    def bring_back(self, hidden: Hidden) -> None:
        """Let it be read again, as it was."""
        self._locking.bring_back(hidden)

    @property
    def _locking(self) -> LockingVault:
        assert isinstance(self._vault, LockingVault), "asked only where `locking` says so"
        return self._vault

    def _refused(self, doing: str, key: str) -> RefusedError:
        return RefusedError(
            f"Refused: this host may only add to vault '{self.name}'",
            why=f"the policy says 'access: append-only' for it, and this would {doing} {key}",
            todo="Run it where the vault is owned.",
        )
