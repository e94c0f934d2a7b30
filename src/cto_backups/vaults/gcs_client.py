"""The client of a vault on Google Cloud Storage: https://cloud.google.com/storage/docs/json_api."""

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError
from cto_backups.providers.google import STORAGE, GoogleClient

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def connected(vault: str, address: StoreAddress) -> GoogleClient:
    """Logged in; paths are asked for at the vault's store, once that has proved the TLS that the policy asks for.

    Raises KeyProblemError, GoogleAuthError, and ValueError for what is no key file of a service account.
    """
    return GoogleClient(
        f"vault {vault}",
        VaultError,
        [SCOPE],
        address.logins.get("credentials"),
        base=address.endpoint or STORAGE,
        tls=address.tls,
    )
