"""Proof that the server of a vault speaks the version of TLS that the policy asks for."""

from cto_backups import handshake
from cto_backups.core.policy import Tls
from cto_backups.errors import VaultError


def prove(endpoint: str, lowest: Tls, vault: str, certificates: str | None = None) -> str | None:
    """What `handshake.prove` does, for the vault of that name. Raises VaultError."""
    return handshake.prove(endpoint, lowest, f"vault {vault}", VaultError, certificates)
