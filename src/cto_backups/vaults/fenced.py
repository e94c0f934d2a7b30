"""A vault in which nothing is deleted by who is no longer the one to do it."""

from collections.abc import Callable

from cto_backups.core.vaults import Vault, is_lock
from cto_backups.vaults.forwarding import ForwardingVault


class FencedVault(ForwardingVault):
    """Another vault; before anything is deleted there, `fence` raises what stands against it. Thread-safe.

    Locks are let go of whatever stands against anything else.
    """

    def __init__(self, vault: Vault, fence: Callable[[], None]) -> None:
        super().__init__(vault)
        self._fence = fence

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already."""
        if not is_lock(key):
            self._fence()
        super().delete(key)
