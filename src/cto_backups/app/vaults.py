"""Make the vaults that a policy names: their roots, and repositories that share one chunking polynomial."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.app import user
from cto_backups.app.adapters import Adapters, open_store
from cto_backups.errors import BackupsError, RefusedError, VaultError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.config import Configuration


@dataclass(frozen=True)
class Made:
    """Whether a vault was made now; and the file that was made for a secret of its own, if any."""

    new: bool
    key: Path | None = None


def create_vaults(configuration: "Configuration") -> None:
    """Make every vault of a new installation; fine for those that are there already, with this key."""
    adapters = Adapters(configuration)
    polynomial: int | None = None
    for name in configuration.policy.vaults:
        _make_secret(configuration, name)
        polynomial = _make(configuration, adapters, name, polynomial)


def init_vault(opening: "Opened", name: str) -> Made:
    """Make one vault of the policy, and bring it the records; nothing when it is there already and opens.

    Raises RefusedError when the catalog knows another repository of this name, VaultError when no vault is there whose
    chunking it has to share, KeyProblemError when what is there opens with another secret.
    """
    from cto_backups.flows import records
    from cto_backups.repository.layout import is_there

    configuration, installation, adapters = opening.configuration, opening.installation, opening.adapters
    vault, place = adapters.vault(name), configuration.policy.vaults[name].repository
    if _is_there(adapters, name) and is_there(vault, place):
        installation.store(name)
        return Made(new=False)
    known = installation.catalog.repository_of(name)
    if known is not None:
        raise RefusedError(
            f"Vault '{name}' had a repository before, which is not at {vault.location} now",
            why=f"the catalog knows it as {known[:12]}…, with recovery points in it",
            todo="Mount its disk. If it is lost, call the new vault by another name in backups.yaml: "
            "the catalog then knows that its copies are to be made again.",
        )
    key = None if _was_used(opening, name) else _make_secret(configuration, name)
    _make(configuration, adapters, name, _shared_polynomial(opening, adapters, name))
    if configuration.settings.key_of(name).services:
        _wrap(opening, adapters, name)
    installation.store(name)
    records.deliver(installation, name)
    return Made(new=True, key=key)


def _was_used(opening: "Opened", name: str) -> bool:
    """Whether the key of a vault opened another before: where it is gone, a new one would only hide that."""
    settings, installation = opening.configuration.settings, opening.installation
    same = settings.by_key(installation.policy.vaults)[settings.key_of(name)]
    return any(installation.catalog.repository_of(other) is not None for other in same)


def _make_secret(configuration: "Configuration", name: str) -> Path | None:
    """The file of a secret of its own that was made for a vault now. Raises RefusedError where services alone give it.

    A secret that no place has yet is wrapped for a repository which it opens: one is needed before the other.
    """
    from cto_backups.app.own_keys import make_secret

    key = configuration.settings.vault_keys.get(name)
    if key is not None and not key.plain:
        raise RefusedError(
            f"There is no secret for vault '{name}' yet",
            why="its key names key services alone, and nothing is wrapped for it",
            todo=f"Put file:keys/{name}.key in front of them, and run again: the file is made, and its secret wrapped. "
            "Then take it out of the policy, and the file away from here.",
        )
    return make_secret(configuration.settings, name)


def _wrap(opening: "Opened", adapters: Adapters, name: str) -> None:
    """Wrap the secret for a new vault: where key services alone give it, nothing else would open this one."""
    from cto_backups.app.wrapping import Wrapping

    for wrapped in Wrapping(opening).wrap(name, adapters.secrets.of(name).any()):
        if wrapped.problem is not None:
            raise wrapped.problem


def _make(configuration: "Configuration", adapters: Adapters, name: str, polynomial: int | None) -> int:
    """Make one vault unless it is there; its polynomial."""
    from cto_backups.repository.layout import is_there
    from cto_backups.repository.store import RepositoryStore

    vault, place = adapters.vault(name), configuration.policy.vaults[name].repository
    vault.create()
    if is_there(vault, place):
        return open_store(configuration, vault, adapters.secrets).polynomial
    store = RepositoryStore.create(
        vault,
        place,
        adapters.secrets.of(name).any().reveal(),
        polynomial=polynomial,
        now=clock.now(),
        hostname=socket.gethostname(),
        username=user(),
    )
    return store.polynomial


def _is_there(adapters: Adapters, name: str) -> bool:
    try:
        adapters.vault(name).check()
    except VaultError:
        return False
    return True


def _shared_polynomial(opening: "Opened", adapters: Adapters, name: str) -> int | None:
    """The polynomial of the installation's other vaults; None when none of them was ever used.

    That of one which restic made is not taken while there is another: its own may be anybody's.
    """
    vaults = opening.configuration.policy.vaults
    # A host cuts its data in a way of its own, in all of its vaults: it knows nothing of how the others cut theirs.
    others = [vault for vault in vaults.values() if vault.name != name and vault.domain_of == vaults[name].domain_of]
    problems = []
    for other in sorted(others, key=lambda vault: vault.repository == "."):
        try:
            return open_store(opening.configuration, adapters.vault(other.name), adapters.secrets).polynomial
        except BackupsError as error:
            problems.append(f"{other.name}: {error}")
    if any(opening.installation.catalog.repository_of(other.name) for other in others):
        raise VaultError(
            f"Vault '{name}' cannot be made now",
            why="it has to cut data as the others do, and none of them opens: " + "; ".join(problems),
            todo="Bring one of them back, then run again.",
        )
    return None
