"""The client of a vault on a store that speaks S3."""

from typing import Any

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError
from cto_backups.providers import aws


def connected(vault: str, address: StoreAddress) -> Any:
    """A client for the store, as `aws.s3_client` makes it. Raises VaultError, KeyProblemError, botocore's errors."""
    return aws.s3_client(f"vault {vault}", VaultError, address)
