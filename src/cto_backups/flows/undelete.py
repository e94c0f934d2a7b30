"""Undelete: let what somebody deleted or replaced in a vault be read again, as long as its lock stands.

A store with versions keeps what is locked below what hides it. Expiry and prune wait for the end of locks, so that
what is hidden while its lock stands was hidden by somebody else.
"""

from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.model import ActionKind
from cto_backups.core.object_locks import Hidden
from cto_backups.core.vaults import LockingVault, locking_of
from cto_backups.errors import RefusedError
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded


@dataclass(frozen=True)
class Undeleted:
    """What was, or would be, brought back in one vault."""

    vault: str
    files: tuple[Hidden, ...]
    seconds: float

    @property
    def size_bytes(self) -> int:
        """How much that is."""
        return sum(hidden.size_bytes for hidden in self.files)


def plan(installation: Installation, vault_name: str) -> Undeleted:
    """What `undelete` would bring back now, and be it the vault's marker. Raises RefusedError, VaultError."""
    started = clock.monotonic()
    found = tuple(_locking(installation, vault_name).hidden())
    return Undeleted(vault_name, found, clock.monotonic() - started)


def undelete(installation: Installation, vault_name: str) -> Undeleted:
    """Bring it back, and record the run. Killed at any moment, the next goes on. Raises RefusedError, VaultError."""
    vault = _locking(installation, vault_name)
    with recorded(installation, ActionKind.REPAIR, vault=vault_name) as run:
        started = clock.monotonic()
        found = tuple(vault.hidden())
        with installation.progress(f"Bringing back what is hidden in {vault_name}") as progress:
            progress.total(entries=len(found), size_bytes=sum(hidden.size_bytes for hidden in found))
            for hidden in found:
                vault.bring_back(hidden)
                progress.advance(entries=1, size_bytes=hidden.size_bytes)
        seconds = clock.monotonic() - started
        run.figures.update(undeleted=len(found), seconds=round(seconds, 3))
        return Undeleted(vault_name, found, seconds)


def _locking(installation: Installation, vault_name: str) -> LockingVault:
    vault = installation.vault(vault_name)
    if locking_of(vault) is None or not isinstance(vault, LockingVault):
        raise RefusedError(
            f"Nothing can be brought back in vault '{vault_name}'",
            why="the policy has no lock for it, so that nothing is known to be hidden against somebody's will",
            todo="Where the bucket keeps versions, its provider's own program brings them back.",
        )
    return vault
