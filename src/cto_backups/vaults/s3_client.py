"""The client of a vault on a store that speaks S3."""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError
from cto_backups.providers import aws, aws_words


def connected(vault: str, address: StoreAddress) -> Any:
    """A client for the store, as `aws.s3_client` makes it. Raises VaultError, KeyProblemError, botocore's errors."""
    return aws.s3_client(f"vault {vault}", VaultError, address)


def is_unlisted(client: Any, address: StoreAddress, key: str, error: ClientError) -> bool:
    """Whether a key that looks forbidden is not there: AWS says so to whoever may list below a prefix alone."""
    if aws_words.code_of(error) not in aws_words.DENIED:
        return False
    asked = {"Bucket": address.bucket, "Prefix": address.key(key), "MaxKeys": 1}
    try:
        found = client.list_objects_v2(**asked).get("Contents", ())
    except (ClientError, BotoCoreError):
        return False
    return all(entry["Key"] != address.key(key) for entry in found)
