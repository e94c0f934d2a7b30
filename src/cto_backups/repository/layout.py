"""Where in a vault a repository lies; light, for whoever only asks whether one is there."""

from cto_backups.core.vaults import Vault
from cto_backups.errors import VaultMissingError


def below(prefix: str, key: str) -> str:
    """The key in a vault of what lies below a repository's place there; "." is the vault's root."""
    return key if prefix == "." else f"{prefix}/{key}"


def is_there(vault: Vault, prefix: str) -> bool:
    """Whether a repository is there. Raises VaultMissingError when the vault itself is not."""
    try:
        vault.size(below(prefix, "config"))
    except VaultMissingError:
        vault.check()
        return False
    return True
