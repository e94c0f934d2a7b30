"""Keys: which secrets open a vault's repository; let one more do so, or one less, and sign what was changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from cto_backups.core.governance import Governed
from cto_backups.core.keys import Keyed, KeyFile, KeyRing
from cto_backups.errors import BackupsError, NotFoundError, RefusedError, VaultReadOnlyError, VerificationError
from cto_backups.flows import records
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation

SHORTEST_NAME = 8


@dataclass(frozen=True)
class VaultKeys:
    """The key files of one vault; `in_use` is the one that the policy's secret opens."""

    vault: str
    in_use: str
    files: Sequence[KeyFile]


@dataclass(frozen=True)
class AddedKey:
    """A key file that a secret opens; `new` when it was made now."""

    vault: str
    key: str
    new: bool


def key_ring(installation: Installation, vault_name: str) -> KeyRing:
    """The keys of a vault's repository. Raises what keeps it from opening."""
    installation.check_readable(vault_name)
    store = installation.store(vault_name)
    if not isinstance(store, Keyed):
        raise RefusedError(f"Vault '{vault_name}' is not opened with keys")
    return store.keys


def list_keys(installation: Installation, vault_name: str) -> VaultKeys:
    """Every key file of a vault."""
    ring = key_ring(installation, vault_name)
    return VaultKeys(vault_name, ring.in_use, ring.files())


def add(installation: Installation, vault_name: str, secret: str, *, chosen: bool) -> AddedKey:
    """Let one more secret open a vault, and see that it does. A secret that does already changes nothing.

    `chosen` says that people chose the secret. Raises RefusedError when there are as many keys as there may be,
    VaultError, BusyError, VerificationError when the vault does not open with it afterwards.
    """
    ring = key_ring(installation, vault_name)
    present = ring.opened_by(secret)
    if present is not None:
        return AddedKey(vault_name, present, new=False)
    installation.vault(vault_name).check()
    key = ring.add(secret, username=installation.user, hostname=installation.host, chosen=chosen)
    if ring.opened_by(secret) != key:
        raise VerificationError(
            f"Vault '{vault_name}' does not open with the key that was just stored in it",
            why="what came back from it is not what was written",
            todo="Verify this vault, then run again; the keys that it had are untouched.",
        )
    record(installation, vault_name, key, "added")
    return AddedKey(vault_name, key, new=True)


def remove(installation: Installation, vault_name: str, key: str) -> None:
    """Remove one key file. Raises NotFoundError; BusyError; RefusedError for the last one, the one in use, and where
    this host may only add; GovernanceError.
    """
    installation.check_owned(vault_name)
    installation.vault(vault_name).check()
    ring = key_ring(installation, vault_name)
    summary = f"Removing key {key[:12]} from vault '{vault_name}'"
    admit(installation, Governed.KEY_REMOVAL, {"vault": vault_name, "key": key}, summary=summary)
    ring.remove(key)
    record(installation, vault_name, key, "removed")


def remove_opened_by(installation: Installation, vault_name: str, secret: str) -> tuple[str, ...]:
    """Remove every key file that a secret opens; their ids. Raises as `remove` does, but none is fine."""
    removed: list[str] = []
    while (key := key_ring(installation, vault_name).opened_by(secret)) is not None:
        remove(installation, vault_name, key)
        removed.append(key)
    return tuple(removed)


def named(installation: Installation, vault_names: Sequence[str], name: str) -> tuple[str, str]:
    """The vault and the whole id of the key file whose id begins with `name`. Raises NotFoundError, RefusedError."""
    found: list[tuple[str, str]] = []
    away: list[str] = []
    for vault in vault_names:
        try:
            files = key_ring(installation, vault).files()
        except BackupsError as error:
            away.append(f"{vault} was not looked at: {error}")
            continue
        found += [(vault, file.id) for file in files if len(name) >= SHORTEST_NAME and file.id.startswith(name)]
    if not found:
        begins = f"no id in {', '.join(vault_names)} begins so, with {SHORTEST_NAME} digits or more"
        raise NotFoundError(
            f"There is no key {name!r:.80}",
            why="; ".join([begins, *away]),
            todo="Run 'cto.backups key list' to see them.",
        )
    if len(found) > 1:
        raise RefusedError(f"{name} is the beginning of {len(found)} keys", todo="Write more of its digits.")
    return found[0]


def record(installation: Installation, vault_name: str, key: str, change: str, **more: str) -> None:
    """Sign what was done with a key of a vault, and bring the vault the record, unless it takes nothing now."""
    payload = {"change": change, "vault": vault_name, "key": key, "by": installation.user, "host": installation.host}
    payload |= more
    records.write(installation, "key", payload)
    try:
        records.deliver(installation, vault_name)
    except VaultReadOnlyError:
        return  # the chain reaches it when it can be written to again
