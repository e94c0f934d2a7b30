"""Stores that speak S3, for tests: versitygw, which keeps files and checks signatures, and moto, in memory."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from servers.mariadb import free_port

REGION = "eu-central-1"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ObjectStore:
    """A running store, the one login to it, and a client with that login. `name` is the program's."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    client: Any

    def bucket(self, **settings: Any) -> str:
        """The name of a new bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        here = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
        self.client.create_bucket(Bucket=name, **here, **settings)
        return name

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Store an object, without this program."""
        self.client.put_object(Bucket=bucket, Key=name, Body=content)

    def delete(self, bucket: str, name: str = "") -> None:
        """Delete an object, or the bucket."""
        if name:
            self.client.delete_object(Bucket=bucket, Key=name)
        else:
            self.client.delete_bucket(Bucket=bucket)

    def address(self, bucket: str, prefix: str = "", **settings: Any) -> StoreAddress:
        """Where a vault in a bucket is."""
        logins = {"access_key": lambda: self.access_key, "secret_key": lambda: self.secret_key}
        given: dict[str, Any] = {"endpoint": self.endpoint, "tls": Tls.NONE, "logins": logins, **settings}
        return StoreAddress(bucket, prefix, REGION, **given)


@contextmanager
def _store(
    name: str, endpoint: str, access_key: str, secret_key: str, authority: Path | None = None
) -> Iterator[ObjectStore]:
    import boto3  # not for the tests that need no store
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, ignore_configured_endpoint_urls=True),
        verify=None if authority is None else os.fspath(authority),
    )
    try:
        yield ObjectStore(name, endpoint, access_key, secret_key, client)
    finally:
        client.close()


@contextmanager
def versitygw(program: Path, certificate: Mapping[str, Path] | None = None) -> Iterator[ObjectStore]:
    """The gateway over a folder of its own, with versions and locks; with TLS if it has a `cert` and a `key`."""
    place = Path(tempfile.mkdtemp(prefix="versitygw-"))
    for folder in ("objects", "versions", "metadata", "accounts"):
        (place / folder).mkdir()
    port = free_port()
    secured = [word for name, file in (certificate or {}).items() for word in (f"--{name}", os.fspath(file))]
    words = [
        *(os.fspath(program), "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet", "--keep-alive", *secured),
        *("--iam-dir", os.fspath(place / "accounts")),
        *("posix", "--versioning-dir", os.fspath(place / "versions"), "--sidecar", os.fspath(place / "metadata")),
        os.fspath(place / "objects"),
    ]
    access, secret = "OWNER" + uuid.uuid4().hex[:12].upper(), uuid.uuid4().hex
    variables = {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret, "PATH": os.environ["PATH"], "HOME": str(place)}
    endpoint = f"https://localhost:{port}" if secured else f"http://127.0.0.1:{port}"
    login = (access, secret, (certificate or {}).get("cert"))
    try:
        with running(words, variables, place, port), _store("versitygw", endpoint, *login) as store:
            yield store
    finally:
        shutil.rmtree(place, ignore_errors=True)


def user(program: Path, store: ObjectStore) -> ObjectStore:
    """The gateway as a new user sees it, who may do what policies of buckets say and nothing else."""
    access, secret = "USER" + uuid.uuid4().hex[:12].upper(), uuid.uuid4().hex
    owner = ["--access", store.access_key, "--secret", store.secret_key, "--region", REGION]
    new = ["create-user", "--access", access, "--secret", secret, "--role", "user"]
    subprocess.run([program, "admin", *owner, "--endpoint-url", store.endpoint, *new], check=True, capture_output=True)
    return replace(store, access_key=access, secret_key=secret)


@contextmanager
def moto(packages: Path) -> Iterator[ObjectStore]:
    """The store in memory, from the folder that it was installed in."""
    place = Path(tempfile.mkdtemp(prefix="moto-"))
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    variables = {"PYTHONPATH": os.fspath(packages), "PATH": os.environ["PATH"], "HOME": str(place)}
    login = ("owner-of-tests", "secret-of-tests")
    try:
        with running(words, variables, place, port), _store("moto", f"http://127.0.0.1:{port}", *login) as store:
            yield store
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def running(words: list[str], variables: Mapping[str, str], place: Path, port: int) -> Iterator[None]:
    """A server in a folder of its own, from when it listens on."""
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(words, env=dict(variables), cwd=place, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} does not start: {(place / 'log').read_text(errors='replace')}")
            time.sleep(0.02)
        yield
    finally:
        process.kill()  # there is nothing to be kept, and ended kindly it waits for the last connection
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False
