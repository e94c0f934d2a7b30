"""A fleet of two hosts on real servers: a catalog on PostgreSQL, a bucket in a gateway with users, and a folder."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cto_backups.app import starting
from cto_backups.cli import main
from cto_backups.errors import ExitStatus
from servers import postgresql
from servers.object_stores import REGION, ObjectStore

PASSPHRASE = "correct horse battery"
HOSTS = ("alpha", "beta")
PASSWORD = "secret of the office"


@dataclass(frozen=True)
class Machine:
    """A machine with a name, and the installation on it."""

    name: str
    home: Path
    patch: pytest.MonkeyPatch

    @property
    def policy(self) -> Path:
        return self.home / "backups.yaml"

    def __call__(self, *words: str, ends: ExitStatus = ExitStatus.SUCCESS, policy: bool = True) -> str:
        """What a command says that ends like this; its JSON, if it is asked for that."""
        out, err = io.StringIO(), io.StringIO()
        self.patch.setenv("CTO_BACKUPS_HOST", self.name)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main.run([*words, *(["--policy", str(self.policy)] if policy else [])])
        assert status is ends, f"{self.name}: {words}\n{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue() if "--json" in words else out.getvalue() + err.getvalue()

    @property
    def cloud_secret(self) -> str:
        """What opens its repository in the bucket: that of a host its own domain, that of the office all of them."""
        return self.secret("cloud.key" if self.name == "office" else f"cloud-{self.name}.key")

    def secret(self, name: str) -> str:
        return (self.home / "keys" / name).read_text().strip()


class Fleet:
    """An office that administers, two hosts with data, a gateway and a catalog's server."""

    def __init__(
        self,
        root: Path,
        server: postgresql.Server,
        gateway: ObjectStore,
        patch: pytest.MonkeyPatch,
        *,
        lock: dict[str, str] | None = None,
    ) -> None:
        """With `lock`, settings of a vault, the bucket locks what is stored."""
        self.root, self.server, self.gateway, self.patch = root, server, gateway, patch
        self.bucket = gateway.bucket(**({"ObjectLockEnabledForBucket": True} if lock else {}))
        self.database = f"fleet_{os.urandom(4).hex()}"
        server.do(f"CREATE ROLE {self.database} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
        server.do(f"CREATE DATABASE {self.database} OWNER {self.database} TEMPLATE template0")
        patch.setenv("PGPASSWORD", PASSWORD)
        patch.setenv("PASSPHRASE", PASSPHRASE)
        patch.setenv("GATEWAY_ID", gateway.access_key)
        patch.setenv("GATEWAY_SECRET", gateway.secret_key)
        # Roles are of the whole server: each fleet of these tests has a schema, and so roles, of its own.
        at = f"127.0.0.1:{server.port}/{self.database}?schema={self.database}"
        (root / "office-data").mkdir()
        (root / "office-data" / "plan.txt").write_text("office only")
        cloud = {"url": f"s3://{self.bucket}/fleet", "provider": "versitygw", "region": REGION, "off_site": True}
        cloud |= {"storage": "object-storage", "endpoint": gateway.endpoint, "tls": "none", **(lock or {})}
        cloud |= {"access_key": "env:GATEWAY_ID", "secret_key": "env:GATEWAY_SECRET", "key": "file:keys/cloud.key"}
        disk = {"url": "file:vaults/disk", "provider": "local-disk", "region": "office", "storage": "disk"}
        office = {"kind": "files", "class": "documentation", "paths": [str(root / "office-data")], "test": "none"}
        starting.initialise(
            root / "office",
            business="acme",
            sources={"office-files": office},
            vaults={"cloud": cloud, "disk": disk},
            catalog=f"postgresql://{self.database}@{at}",
        )
        self.office = Machine("office", root / "office", patch)
        self.hosts = {name: Machine(name, root / name, patch) for name in HOSTS}

    def data(self, name: str) -> Path:
        return self.root / f"{name}-data"

    def enrol(self, name: str, *more: str) -> Path:
        """Enrol a host with some data; its bundle."""
        self.data(name).mkdir(exist_ok=True)
        (self.data(name) / "letter.txt").write_text(f"only {name} may read this\n" * 100)
        bundle = self.root / f"{name}.bundle"
        words = ("--protect", str(self.data(name)), "--bundle", str(bundle), "--passphrase", "env:PASSPHRASE")
        self.said = self.office("host", "enrol", name, *words, *more)
        return bundle

    def join(self, name: str) -> Machine:
        host, bundle = self.hosts[name], self.root / f"{name}.bundle"
        words = ("--home", str(host.home), "--passphrase", "env:PASSPHRASE")
        self.said = host("host", "join", str(bundle), *words, policy=False)
        return host

    def close(self) -> None:
        self.server.do(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def store(self, name: str) -> Any:
        """A client with a host's login at the gateway."""
        host = self.hosts[name]
        return boto3.client(
            "s3",
            endpoint_url=self.gateway.endpoint,
            region_name=REGION,
            aws_access_key_id=host.secret(f"cloud-{name}.access"),
            aws_secret_access_key=host.secret(f"cloud-{name}.secret"),
            config=Config(s3={"addressing_style": "path"}),
        )

    def keys(self, prefix: str = "") -> list[str]:
        """What lies in the bucket, as its owner sees it."""
        pages = self.gateway.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def contents(self, prefix: str) -> dict[str, bytes]:
        return {
            key: self.gateway.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in self.keys(prefix)
            if "/locks/" not in key
        }

    def copied(self, name: str) -> Path:
        """A host's repository in the bucket, as files."""
        folder = self.root / f"copied-{name}"
        for key, content in self.contents(f"fleet/hosts/{name}/repositories/main/").items():
            place = folder / key.split("/main/")[1]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder

    def signed(self, kind: str) -> list[dict[str, Any]]:
        """What the office has signed of a kind, in order."""
        statement = f'SELECT content FROM "{self.database}".records WHERE kind = %s ORDER BY signer, sequence'
        with self.server.connect(self.database) as session:
            return [json.loads(bytes(row[0]))["body"]["payload"] for row in session.execute(statement, (kind,))]

    def point(self, name: str) -> str:
        """The newest point of a host, as the office knows it."""
        points = json.loads(self.office("points", "--json"))["points"]
        return next(str(point["id"]) for point in points if point["source"] == f"{name}-files")
