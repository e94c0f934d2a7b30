"""AWS KMS, through boto3 and its default chain of credentials. The context is KMS's own encryption context.

https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html
"""

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.errors import KeyProblemError, KeyServiceAwayError

_TIMES = {"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 3, "mode": "standard"}}
_DONE_BY = {"encrypt": "kms:Encrypt", "decrypt": "kms:Decrypt", "describe_key": "kms:DescribeKey"}
_WHY = {
    "AccessDeniedException": "the credentials in use have no permission {permission} on it",
    "DisabledException": "it is disabled",
    "KMSInvalidStateException": "it is disabled, or waits for its deletion",
    "NotFoundException": "there is no such key",
    "InvalidCiphertextException": "what was wrapped is damaged, or was wrapped for another vault or repository",
    "IncorrectKeyException": "it was wrapped with another key",
    "KeyUnavailableException": "the service cannot use it at the moment",
}
_TODO = "See the key in AWS KMS, its policy, and the credentials that this machine has for AWS."


class AwsKeyService:
    """One key of AWS KMS; its region is in its ARN."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._client: Any = None

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Sealed by Encrypt."""
        answer = self._ask("encrypt", Plaintext=secret, EncryptionContext=dict(context))
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Opened by Decrypt, with this key and no other."""
        answer = self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(context))
        return bytes(answer["Plaintext"])

    def check(self) -> None:
        """Raises unless DescribeKey calls it enabled."""
        found = self._ask("describe_key")["KeyMetadata"]
        if found["KeyState"] == "Enabled":
            return
        why = f"its state is {found['KeyState']}"
        if found.get("DeletionDate"):
            why += f", and it is deleted on {found['DeletionDate']:%Y-%m-%d}"
        todo = "Enable it, or cancel its deletion, before the secret is needed."
        raise KeyProblemError(f"Key {self} cannot be relied on", why=why, todo=todo)

    def _ask(self, what: str, **arguments: Any) -> Any:
        try:
            if self._client is None:
                region = self._key.split(":")[3]
                self._client = boto3.session.Session().client("kms", region_name=region, config=Config(**_TIMES))
            return getattr(self._client, what)(KeyId=self._key, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            why = _WHY.get(code, f"AWS answers {code}").format(permission=_DONE_BY[what])
            raise KeyProblemError(f"Key {self} is of no use", why=why, todo=_TODO) from None
        except BotoCoreError as error:  # no credentials, no connection
            raise KeyServiceAwayError(f"Key {self} cannot be reached", why=str(error)[:200], todo=_TODO) from None

    def __str__(self) -> str:
        return f"aws-kms:{self._key}"
