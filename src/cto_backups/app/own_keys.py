"""Vaults with a key of their own: make its secret, see whether it alone opens the vault, and take the shared one away.

Whoever steals the secret that opens the vaults of one place then opens none of another.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import opened
from cto_backups.app.adapters import Adapters
from cto_backups.app.wrapping import Wrapping, opens
from cto_backups.core.wording import not_declared
from cto_backups.errors import BackupsError, KeyProblemError, RefusedError, VerificationError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.config import Configuration
    from cto_backups.config.repository_key import RepositoryKey
    from cto_backups.config.secrets import Secret
    from cto_backups.config.settings import Settings
    from cto_backups.core.vaults import Vault

CHANGE = "separated"


@dataclass(frozen=True)
class Separated:
    """What became of a vault: the file that was made for its secret, if any; its key file, and those taken away."""

    vault: str
    made: Path | None
    key: str
    removed: tuple[str, ...]


def make_secret(settings: "Settings", vault: str) -> Path | None:
    """Make the secret of a vault in the file that its own key names and that is not there; None when one is there.

    A place that is no file is asked first: it may have the secret. Raises RefusedError for a file on a disk that is
    not mounted, and where an exchange of a secret that was in this file has not ended; KeyProblemError.
    """
    from cto_backups.config.rotation import beside
    from cto_backups.config.secrets import create_file_secret

    key = settings.vault_keys.get(vault)
    if key is None or any(path.exists() for path in key.paths(settings.home)):
        return None
    for reference in key.plain:
        if reference.path(settings.home) is None:
            try:
                reference.resolve(settings.home)
            except KeyProblemError:
                continue
            return None
    file = next(iter(key.paths(settings.home)), None)
    if file is None:
        return None
    if not file.parent.is_dir() and not file.is_relative_to(settings.home):
        raise RefusedError(
            f"The secret of vault '{vault}' is to lie in {file}, and there is no such folder",
            why="a secret for another disk must not land on this one when that is not mounted",
            todo="Mount the disk, or make the folder; then run again.",
        )
    if left := [path for path in beside(file) if path.exists()]:
        raise RefusedError(
            f"{file} is gone, and {left[0]} is there",
            why="its secret was being exchanged when it was lost",
            todo="Put it back from its spare copy.",
        )
    create_file_secret(file, secrets.token_hex(32))
    return file


def shared_secrets(configuration: "Configuration", adapters: Adapters, vault: "Vault") -> "list[Secret]":
    """The secrets that open the vaults without a key of their own, and may open this one: two during an exchange.

    Raises KeyProblemError.
    """
    from cto_backups.config.rotation import beside
    from cto_backups.config.secrets import SecretKind, SecretReference

    settings = configuration.settings
    found = adapters.secrets.shared.given(vault)
    for path in settings.repository_key.paths(settings.home):
        for other in beside(path.resolve()):
            if other.exists():
                found.append(SecretReference(SecretKind.FILE, str(other)).resolve(other.parent))
    return found


def separated(opening: "Opened", vaults: Iterable[str]) -> Mapping[str, bool]:
    """Of these vaults with keys of their own, whether the shared secret opens them no more; of those that are there."""
    configuration, adapters = opening.configuration, opening.adapters
    found = {}
    for name in vaults:
        vault, place = adapters.vault(name), configuration.policy.vaults[name].repository
        try:
            shared = shared_secrets(configuration, adapters, vault)
        except KeyProblemError:
            continue  # that it is gone is told by itself
        answers = [opens(vault, place, secret) for secret in shared]
        if any(answers) or None not in answers:
            found[name] = not any(answers)
    return found


def separate(policy: Path, name: str) -> Separated:
    """Let a vault open with the key of its own that the policy names, and with the shared secret no more.

    At any moment it opens with what the policy names; run again, it finishes what a run that was killed did not.
    Raises RefusedError when the policy names no such key for it, or this host may only add to it.
    """
    with opened(policy) as opening, opening.installation.exclusive_keys():
        settings, installation = opening.configuration.settings, opening.installation
        if name not in installation.policy.vaults:
            raise not_declared("vault", name, installation.policy.vaults)
        if name not in settings.vault_keys:
            raise RefusedError(
                f"Vault '{name}' has no key of its own in the policy",
                why="there is no 'key' in its settings, so the shared secret is to open it",
                todo=f"Add for example: key: file:keys/{name}.key; then run this again.",
            )
        installation.check_owned(name)
        made = _let_in(opening, name)
    # Opened anew: with its own secret, before the shared one is taken away.
    with opened(policy) as opening, opening.installation.exclusive_keys():
        return _take_away(opening, name, made)


def _let_in(opening: "Opened", name: str) -> Path | None:
    from cto_backups.flows import keys

    configuration, adapters = opening.configuration, opening.adapters
    keys.key_ring(opening.installation, name)  # it has to open now
    opening.installation.vault(name).check()
    vault = adapters.vault(name)
    shared = shared_secrets(configuration, adapters, vault)
    made = make_secret(configuration.settings, name)
    own = _own(configuration.settings.vault_keys[name], adapters, vault, shared)
    for wrapped in Wrapping(opening).wrap(name, own):  # first: where it is in no file, this alone remembers it
        if wrapped.problem is not None:
            raise wrapped.problem
    keys.add(opening.installation, name, own.reveal(), chosen=False)
    return made


def _own(key: "RepositoryKey", adapters: Adapters, vault: "Vault", shared: "list[Secret]") -> "Secret":
    """The vault's own secret: what its places give, or a new one where services alone are to give it."""
    from cto_backups.config.secrets import Secret

    try:
        given = adapters.secrets.of(vault.name).given(vault)
    except KeyProblemError:
        if key.plain:
            raise
        given = []
    own = [secret for secret in given if secret not in shared]
    if own:
        return own[0]
    if key.plain:
        raise RefusedError(
            f"The key of vault '{vault.name}' is the shared secret",
            why=f"what {key} gives opens the other vaults, too",
            todo="Put a secret of its own there, or name a file that is not there yet: it is made.",
        )
    return Secret(secrets.token_hex(32))


def _take_away(opening: "Opened", name: str, made: Path | None) -> Separated:
    from cto_backups.flows import keys

    configuration, installation, adapters = opening.configuration, opening.installation, opening.adapters
    vault = adapters.vault(name)
    shared = shared_secrets(configuration, adapters, vault)
    in_use = keys.key_ring(installation, name).in_use
    adapters.store(name)
    own = adapters.secrets.in_use[name]
    if own in shared:
        raise VerificationError(
            f"Vault '{name}' did not open with the key of its own",
            why="the shared secret opened it, and stays until its own does",
            todo=f"See that {configuration.settings.vault_keys[name]} gives the secret, then run again.",
        )
    removed = [key for secret in shared for key in keys.remove_opened_by(installation, name, secret.reveal())]
    Wrapping(opening).drop(name, shared, configuration.settings.vault_keys[name], configuration.settings.repository_key)
    if _last_change(opening, name) != (CHANGE, in_use):
        keys.record(installation, name, in_use, CHANGE)
    return Separated(name, made, in_use, tuple(removed))


def _last_change(opening: "Opened", name: str) -> tuple[str, str] | None:
    """What this installation's newest record of the keys of a vault says: the change, and the key file."""
    installation = opening.installation
    told = installation.catalog.takeover.delivered_records(installation.signer.signer, "key", all=True)
    for record in sorted(told, key=lambda each: each.sequence, reverse=True):
        if record.payload.get("vault") == name:
            return str(record.payload["change"]), str(record.payload["key"])
    return None


def key_files(configuration: "Configuration") -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Each file of a secret: what controls call it, its path, and the vaults that it opens."""
    settings, vaults = configuration.settings, configuration.policy.vaults
    sharing = tuple(name for name in vaults if name not in settings.vault_keys)
    named: list[tuple[str, RepositoryKey, tuple[str, ...]]] = [("the repository key", settings.repository_key, sharing)]
    own: dict[RepositoryKey, list[str]] = {}
    for name, key in settings.vault_keys.items():
        own.setdefault(key, []).append(name)
    named += [(f"the key of vault {names[0]}", key, tuple(names)) for key, names in own.items()]
    for called, key, opened_by in named:
        for number, path in enumerate(key.paths(settings.home)):
            yield called if not number else f"{called} in {path}", path, opened_by


def alike(configuration: "Configuration") -> Mapping[str, str]:
    """For each vault, the places of its secret: vaults with the same ones share it. Of one secret in two files, one."""
    settings = configuration.settings
    found: dict[Secret, str] = {}
    told: dict[RepositoryKey, str] = {}
    for key in settings.by_key(configuration.policy.vaults):
        told[key] = str(key)
        for path in key.paths(settings.home):
            content = _content(path)
            if content is not None:
                told[key] = found.setdefault(content, str(key))
    return {name: told[settings.key_of(name)] for name in configuration.policy.vaults}


def _content(path: Path) -> "Secret | None":
    from cto_backups.config.secrets import SecretKind, SecretReference

    try:
        return SecretReference(SecretKind.FILE, str(path)).resolve(path.parent)
    except BackupsError:
        return None
