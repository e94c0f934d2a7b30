"""What loading a policy file gives: the policy for the pure functions, and the settings of this installation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from cto_backups.config.repository_key import RepositoryKey
from cto_backups.config.secrets import SecretReference
from cto_backups.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """Where this installation keeps its things; every path is absolute.

    `home` is the policy file's folder, `catalog_url` looks like ``sqlite:/path/catalog.db`` or
    ``postgresql://host/database``, `compression` is a zstd level, `verify_on_write` is "full" or "sampled",
    `prune_unused` and `prune_grace` are for pruning, `evidence_fingerprints` are of the keys whose records count (of
    any when empty), `domain` the trust domain whose repository is used in each vault. `vault_keys` are the keys of
    vaults that have one of their own: `repository_key` opens the others.
    """

    home: Path
    catalog_url: str
    state: Path
    repository_key: RepositoryKey
    evidence_key: SecretReference
    compression: int
    verify_on_write: Literal["full", "sampled"]
    prune_unused: float
    prune_grace: timedelta
    evidence_fingerprints: tuple[str, ...] = ()
    domain: str = "main"
    catalog_password: SecretReference | None = None
    vault_keys: Mapping[str, RepositoryKey] = field(default_factory=dict)

    def key_of(self, vault: str) -> RepositoryKey:
        """Where the secret of a vault is: its own, or the one that opens all which have none."""
        return self.vault_keys.get(vault, self.repository_key)

    def by_key(self, vaults: Iterable[str]) -> dict[RepositoryKey, list[str]]:
        """These vaults by what opens them, the shared secret first."""
        found: dict[RepositoryKey, list[str]] = {self.repository_key: []}
        for vault in vaults:
            found.setdefault(self.key_of(vault), []).append(vault)
        return {key: names for key, names in found.items() if names}

    @property
    def catalog_login(self) -> Callable[[], str] | None:
        """What reveals the secret that goes with the user in the catalog's address; None where there is none.

        It raises KeyProblemError.
        """
        reference = self.catalog_password
        return None if reference is None else lambda: reference.resolve(self.home).reveal()


@dataclass(frozen=True, slots=True)
class Configuration:
    """A loaded policy file; `text` is exactly what stood in it."""

    policy: Policy
    settings: Settings
    path: Path
    text: bytes
