"""Key services of clouds for tests: moto and local-kms stand in for that of AWS, an own server for that of Google."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1

State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
_SERVICE = "google.cloud.kms.v1.KeyManagementService"
_NONCE_BYTES = 12
_PATIENCE_SECONDS = 60


@dataclass
class Version:
    """One version of a key: AES-256-GCM with additional authenticated data, as Google's symmetric keys."""

    key: bytes = field(default_factory=lambda: AESGCM.generate_key(256))
    state: State = State.ENABLED
    destroyed_at: datetime | None = None


@dataclass
class GoogleKeys:
    """Google Cloud KMS as far as the program speaks to it; tests change the versions of keys. `refused` are keys
    whose use nobody is permitted.
    """

    address: str = ""
    keys: dict[str, list[Version]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    contexts: list[bytes] = field(default_factory=list)

    def make(self, name: str) -> str:
        """A new key; its full name."""
        whole = f"projects/acme/locations/us/keyRings/backups/cryptoKeys/{name}"
        self.keys[whole] = [Version()]
        return whole

    def rotate(self, name: str) -> None:
        """Make a new version the primary one."""
        self.keys[name].append(Version())

    def schedule_destruction(self, name: str, number: int) -> None:
        """Let a version wait for its destruction: it decrypts no more from now on."""
        version = self.keys[name][number - 1]
        version.state, version.destroyed_at = State.DESTROY_SCHEDULED, datetime.now(UTC) + timedelta(days=30)

    def encrypt(self, request: Any, context: Any) -> Any:
        versions = self._permitted(request.name, context)
        version = versions[-1]
        self._enabled(version, context)
        nonce = os.urandom(_NONCE_BYTES)
        self.contexts.append(bytes(request.additional_authenticated_data))
        sealed = AESGCM(version.key).encrypt(nonce, request.plaintext, request.additional_authenticated_data)
        return kms_v1.EncryptResponse(name=request.name, ciphertext=bytes([len(versions)]) + nonce + sealed)

    def decrypt(self, request: Any, context: Any) -> Any:
        versions = self._permitted(request.name, context)
        number, sealed = request.ciphertext[0], request.ciphertext[1:]
        if number > len(versions):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed: the ciphertext is invalid.")
        version = versions[number - 1]
        self._enabled(version, context)
        try:
            opened = AESGCM(version.key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], request.additional_authenticated_data
            )
        except InvalidTag:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed: the ciphertext is invalid.")
        return kms_v1.DecryptResponse(plaintext=opened)

    def get(self, request: Any, context: Any) -> Any:
        versions = self._permitted(request.name, context)
        return kms_v1.CryptoKey(name=request.name, primary=self._told(request.name, len(versions)))

    def versions(self, request: Any, context: Any) -> Any:
        versions = self._permitted(request.parent, context)
        told = [self._told(request.parent, number) for number in range(1, len(versions) + 1)]
        return kms_v1.ListCryptoKeyVersionsResponse(crypto_key_versions=told, total_size=len(told))

    def _told(self, name: str, number: int) -> Any:
        version = self.keys[name][number - 1]
        told = kms_v1.CryptoKeyVersion(name=f"{name}/cryptoKeyVersions/{number}", state=version.state)
        if version.destroyed_at:
            told.destroy_time = version.destroyed_at  # type: ignore[assignment]
        return told

    def _permitted(self, name: str, context: Any) -> list[Version]:
        if name in self.refused:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission denied on resource (or it may not exist).")
        if name not in self.keys:
            context.abort(grpc.StatusCode.NOT_FOUND, f"CryptoKey {name} not found.")
        return self.keys[name]

    @staticmethod
    def _enabled(version: Version, context: Any) -> None:
        if version.state is not State.ENABLED:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"The version is {version.state.name}.")


@contextmanager
def google_keys() -> Iterator[GoogleKeys]:
    """Google Cloud KMS on a free port of this machine; the program finds it by $KMS_EMULATOR_HOST."""
    keys = GoogleKeys()
    methods = {
        "Encrypt": (keys.encrypt, kms_v1.EncryptRequest, kms_v1.EncryptResponse),
        "Decrypt": (keys.decrypt, kms_v1.DecryptRequest, kms_v1.DecryptResponse),
        "GetCryptoKey": (keys.get, kms_v1.GetCryptoKeyRequest, kms_v1.CryptoKey),
        "ListCryptoKeyVersions": (
            keys.versions,
            kms_v1.ListCryptoKeyVersionsRequest,
            kms_v1.ListCryptoKeyVersionsResponse,
        ),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            do, request_deserializer=asked.deserialize, response_serializer=answer.serialize
        )
        for name, (do, asked, answer) in methods.items()
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    keys.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield keys
    finally:
        server.stop(0).wait()


@contextmanager
def aws_keys(packages: Path) -> Iterator[str]:
    """The address of moto, from the folder that it was installed in, as AWS KMS. Unlike Amazon's, it goes on decrypting
    with a key that is disabled.
    """
    port = _free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(words, {"PYTHONPATH": os.fspath(packages)}, port) as address:
        yield address


@contextmanager
def local_kms(program: Path) -> Iterator[str]:
    """The address of local-kms as AWS KMS: a key that is disabled does nothing there.

    It knows nobody's permissions.
    """
    port = _free_port()
    words = [os.fspath(program), str(port), "data", "123456789012", "us-west-2"]
    with _running(words, {}, port) as address:
        yield address


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _running(words: list[str], given: Mapping[str, str], port: int) -> Iterator[str]:
    """A server in a folder of its own; its address."""
    with tempfile.TemporaryDirectory(prefix="kms-") as place, (Path(place) / "log").open("w+b") as log:
        variables = {"PATH": os.environ["PATH"], "HOME": place, **given}
        process = subprocess.Popen(words, env=variables, cwd=place, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{words[0]} does not start: {log.read().decode(errors='replace')}")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
