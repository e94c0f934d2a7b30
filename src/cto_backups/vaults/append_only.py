"""A vault to which this host may only add: nothing that is stored there is deleted or overwritten by our code.

What keeps a *hostile* host from it is the vault's own permissions; this keeps an honest one from trying.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import is_lock
from cto_backups.errors import RefusedError
from cto_backups.vaults.forwarding import ForwardingVault

_HARMLESS = {
    *("requests_at_once", "read_into", "put_stream", "sweep", "locking", "lock_of", "lock", "hidden", "bring_back"),
    *("copies", "state_of", "copy_within"),
}
"""What else of the other vault may be used: it tells, reads, adds, locks, and removes what was never stored."""


class AppendOnlyVault(ForwardingVault):
    """Another vault without deletion and replacement, but for locks. Thread-safe."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute not in _HARMLESS:
            raise AttributeError(attribute)
        return super().__getattr__(attribute)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts under a new key. Raises RefusedError with `overwrite`, and what any vault raises."""
        if overwrite:
            raise self._refused("overwrite", key)
        super().put(key, parts)

    def delete(self, key: str) -> None:
        """Remove a lock. Raises RefusedError for anything else."""
        if not is_lock(key):
            raise self._refused("delete", key)
        super().delete(key)

    def _put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        if overwrite:
            raise self._refused("overwrite", key)
        super()._put_stream(key, pieces)

    def _refused(self, doing: str, key: str) -> RefusedError:
        return RefusedError(
            f"Refused: this host may only add to vault '{self.name}'",
            why=f"the policy says 'access: append-only' for it, and this would {doing} {key}",
            todo="Run it where the vault is owned.",
        )
