"""Stores that speak the JSON API of Google Cloud Storage, for tests, and a service that gives out logins to them.

fake-gcs-server heeds conditions; gcp-storage-emulator takes no notice of them. Neither asks who it is that comes.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, quote
from urllib.request import Request, urlopen

from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from servers.mariadb import free_port
from servers.object_stores import running

REGION = "us-central1"


@dataclass(frozen=True)
class GoogleStore:
    """A running store, and where one logs in. `name` is the program's; `heeds_conditions`: whether it does."""

    name: str
    endpoint: str
    logins: "Logins"
    heeds_conditions: bool

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.ask("POST", "/storage/v1/b?project=tests", {"name": name})
        return name

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """What the store answers."""
        body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        request = Request(self.endpoint + path, body, {"Content-Type": kind}, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Store an object, without this program."""
        self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}", content)

    def delete(self, bucket: str, name: str = "") -> None:
        """Delete an object, or the bucket."""
        self.ask("DELETE", f"/storage/v1/b/{bucket}" + (f"/o/{quote(name, safe='')}" if name else ""))

    def address(self, bucket: str, prefix: str = "", **settings: Any) -> StoreAddress:
        """Where a vault in a bucket is."""
        given = {"endpoint": self.endpoint, "tls": Tls.NONE, "logins": {"credentials": lambda: self.logins.key_file}}
        return StoreAddress(bucket, prefix, REGION, **{**given, **settings})


@dataclass
class Logins:
    """Where a service account's key gets its tokens, as at Google; `refused` is what it says instead.

    Each token is good for so many seconds.
    """

    key_file: str
    given: list[str] = field(default_factory=list)
    refused: str = ""
    expires_in: int = 3600


@cache
def _key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@contextmanager
def logins() -> Iterator[Logins]:
    """The service: it checks who signed, and for what."""
    from cryptography.hazmat.primitives import serialization
    from google.auth import crypt, jwt

    key = _key()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            assertion = sent["assertion"][0]
            signed = crypt.RSAVerifier.from_string(public).verify(
                assertion.rpartition(".")[0].encode(),
                jwt._helpers.padded_urlsafe_b64decode(assertion.rpartition(".")[2]),
            )
            if made.refused or not signed:
                status, said = 400, {"error": "invalid_grant", "error_description": made.refused or "not signed"}
            else:
                made.given.append(uuid.uuid4().hex)
                status, said = (
                    200,
                    {"access_token": made.given[-1], "expires_in": made.expires_in, "token_type": "Bearer"},
                )
            content = json.dumps(said).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    made = Logins(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "backups@tests.example",
                "private_key_id": "1",
                "private_key": private,
                "token_uri": f"http://127.0.0.1:{server.server_address[1]}/token",
            }
        )
    )
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def fake_gcs_server(
    program: Path, *settings: str, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[GoogleStore]:
    """The server in memory."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    words = [os.fspath(program), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    with (
        _started([*words, "-external-url", endpoint, "-log-level", "error", *settings], variables, port),
        logins() as login,
    ):
        yield GoogleStore("fake-gcs-server", endpoint, login, heeds_conditions=True)


@contextmanager
def gcp_storage_emulator(packages: Path) -> Iterator[GoogleStore]:
    """The emulator in memory, from the folder that it was installed in."""
    port = free_port()
    words = [sys.executable, "-m", "gcp_storage_emulator", "start", "-M", "-q", "-H", "127.0.0.1", "--port", str(port)]
    with _started(words, {"PYTHONPATH": os.fspath(packages)}, port), logins() as login:
        yield GoogleStore("gcp-storage-emulator", f"http://127.0.0.1:{port}", login, heeds_conditions=False)


@contextmanager
def _started(words: list[str], variables: Mapping[str, str], port: int) -> Iterator[None]:
    place = Path(tempfile.mkdtemp(prefix="google-store-"))
    try:
        with running(words, {"PATH": os.environ["PATH"], "HOME": str(place), **variables}, place, port):
            yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
