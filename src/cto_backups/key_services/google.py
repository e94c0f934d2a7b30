"""Google Cloud KMS, through google-cloud-kms and its default credentials.

The context goes along as additional authenticated data.
https://cloud.google.com/kms/docs/additional-authenticated-data
"""

import ipaddress
import os
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, RetryError, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport

from cto_backups.errors import KeyProblemError, KeyServiceAwayError
from cto_backups.repository.envelope import canonical

EMULATOR = "KMS_EMULATOR_HOST"
_SECONDS = 10.0
_RETRY_SECONDS = 5.0
_SILENT = "the service does not answer"
_WHY = {
    grpc.StatusCode.PERMISSION_DENIED: "the credentials in use have no permission {permission} on it",
    grpc.StatusCode.NOT_FOUND: "there is no such key",
    grpc.StatusCode.FAILED_PRECONDITION: "it is disabled or destroyed",
    grpc.StatusCode.INVALID_ARGUMENT: "what was wrapped is damaged, or was wrapped for another vault or repository",
    grpc.StatusCode.UNAUTHENTICATED: "Google does not take the credentials in use",
}
_PERMISSIONS = {
    "encrypt": "cloudkms.cryptoKeyVersions.useToEncrypt",
    "decrypt": "cloudkms.cryptoKeyVersions.useToDecrypt",
    "get_crypto_key": "cloudkms.cryptoKeys.get",
    "list_crypto_key_versions": "cloudkms.cryptoKeyVersions.list",
}
_TODO = "See the key in Google Cloud KMS, who may use it, and the credentials that this machine has for Google Cloud."
_RETRY = Retry(predicate=if_exception_type(ServiceUnavailable), initial=0.2, timeout=_RETRY_SECONDS)
_Version = kms_v1.CryptoKeyVersion.CryptoKeyVersionState


class GoogleKeyService:
    """One key of Google Cloud KMS; it wraps with its primary version, and any version that is enabled unwraps."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._client: kms_v1.KeyManagementServiceClient | None = None

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Sealed by Encrypt."""
        request = {"name": self._key, "plaintext": secret, "additional_authenticated_data": canonical(context)}
        return bytes(self._ask("encrypt", request).ciphertext)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Opened by Decrypt."""
        request = {"name": self._key, "ciphertext": wrapped, "additional_authenticated_data": canonical(context)}
        return bytes(self._ask("decrypt", request).plaintext)

    def check(self) -> None:
        """Raises unless its primary version is enabled, and none waits for its destruction."""
        primary = self._ask("get_crypto_key", {"name": self._key}).primary
        problems = [] if primary.state == _Version.ENABLED else [f"its primary version is {_named(primary.state)}"]
        for version in self._ask("list_crypto_key_versions", {"parent": self._key}):
            if version.state == _Version.DESTROY_SCHEDULED:
                number = version.name.rpartition("/")[2]
                problems.append(f"version {number} is destroyed on {version.destroy_time:%Y-%m-%d}")
        if problems:
            todo = "Enable or restore the version; or make a new one primary, and run: cto.backups key wrap --anew"
            raise KeyProblemError(f"Key {self} cannot be relied on", why=", and ".join(problems), todo=todo)

    def _ask(self, what: str, request: Mapping[str, object]) -> Any:
        try:
            if self._client is None:
                self._client = _client()
            call: Callable[..., Any] = getattr(self._client, what)
            return call(request=request, retry=_RETRY, timeout=_SECONDS)
        except (ServiceUnavailable, DeadlineExceeded):
            raise KeyServiceAwayError(f"Key {self} cannot be reached", why=_SILENT, todo=_TODO) from None
        except GoogleAPICallError as error:
            code = error.grpc_status_code
            why = _WHY.get(code, f"Google answers {getattr(code, 'name', code)}") if code else error.message
            why = why.format(permission=_PERMISSIONS[what])
            raise KeyProblemError(f"Key {self} is of no use", why=why, todo=_TODO) from None
        except (RetryError, GoogleAuthError) as error:
            why = _SILENT if isinstance(error, RetryError) else str(error).partition("\n")[0][:200]
            raise KeyServiceAwayError(f"Key {self} cannot be reached", why=why, todo=_TODO) from None

    def __str__(self) -> str:
        return f"gcp-kms:{self._key}"


def _client() -> kms_v1.KeyManagementServiceClient:
    """Google's service; or an emulator on this machine, without encryption, as $KMS_EMULATOR_HOST says."""
    emulator = os.environ.get(EMULATOR)
    if not emulator:
        return kms_v1.KeyManagementServiceClient(client_options=ClientOptions())
    if not _is_loopback(emulator.rpartition(":")[0].strip("[]")):
        raise KeyProblemError(
            f"${EMULATOR} names another machine",
            why="what is said to an emulator is not encrypted, and the secret would cross the network",
            todo=f"Unset {EMULATOR}, or name an address such as 127.0.0.1:9020.",
        )
    channel = grpc.insecure_channel(emulator)
    transport = KeyManagementServiceGrpcTransport(channel=channel, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    return kms_v1.KeyManagementServiceClient(transport=transport)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _named(state: Any) -> str:
    return str(_Version(state).name).lower().replace("_", " ")
