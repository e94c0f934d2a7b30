"""A real installation: catalog, local vaults, restic repositories, sources; only its policy is built in code."""

import dataclasses
import hashlib
import sqlite3
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import exists_on_server
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.policy import Payload, Policy, SourcePolicy, VaultPolicy
from cto_backups.core.ports import Silent, Source
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.vaults import Vault
from cto_backups.evidence.records import SigningKey
from cto_backups.exports.joined import JoinedStore, joined
from cto_backups.flows.installation import Installation
from cto_backups.queues.embedded import Embedded
from cto_backups.registry import SOURCES, load
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sandboxes.folder import FolderSandbox
from cto_backups.vaults.local import LocalVault

PASSWORD = "a password of the tests"
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=1024))
CATALOG_URL = "catalog.url"
"""In the folder of an installation: where its catalog is, unless in a file there."""
VAULTS = ("one", "two", "three")


@dataclasses.dataclass
class Workshop:
    """An installation below `root` with the data that it protects below `data`; adapters may be wrapped by tests."""

    root: Path
    data: Path
    installation: Installation
    catalog: Catalog
    sources: Mapping[str, tuple[str, Mapping[str, object]]]
    wrap_vault: Callable[[Vault], Vault] = lambda vault: vault
    wrap_source: Callable[[Source], Source] = lambda source: source

    def vault_root(self, name: str) -> Path:
        """Where a vault lies."""
        return self.root / "vaults" / name

    def opened(self, vault: str, path: Path) -> bytes:
        """What a sealed record or policy in a vault says."""
        return self.installation.store(vault).unseal(path.read_bytes())

    def seal(self, vault: str, path: Path, content: bytes) -> None:
        """Write a record or policy into a vault, as whoever has the repository's key can."""
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            path.chmod(0o600)
        path.write_bytes(self.installation.store(vault).seal(content))


def build(
    root: Path,
    data: Path,
    sources: Mapping[str, tuple[str, Mapping[str, object]]],
    *,
    payload: Payload = Payload.SNAPSHOT,
    plain: Collection[str] = (),
) -> Workshop:
    """Make (or open again) the installation below `root`; exports lie as plain objects in the vaults `plain`."""
    elsewhere = root / CATALOG_URL
    url = elsewhere.read_text() if elsewhere.exists() else f"sqlite:{root / 'catalog.db'}"
    new = not (exists_on_server(url) if elsewhere.exists() else (root / "catalog.db").exists())
    root.mkdir(exist_ok=True)
    catalog = Catalog.create(url, now=clock.now()) if new else Catalog.open(url, now=clock.now())
    category = dataclasses.replace(CATEGORIES["A"], rpo=timedelta(hours=1))
    policies = {
        name: SourcePolicy(
            name=name,
            kind=kind,
            category=category,
            triggers=parse_triggers("hourly"),
            retention=parse_retention("2 versions"),
            test_every=timedelta(days=30),
            vaults=VAULTS,
            options=options,
            payload=payload,
        )
        for name, (kind, options) in sources.items()
    }
    text = repr(sorted(policies)).encode()
    vaults = {
        name: VaultPolicy(
            name, f"file:{root / 'vaults' / name}", "local-disk", "here", "disk", plain_exports=name in plain
        )
        for name in VAULTS
    }
    digest = hashlib.sha256(text).hexdigest()
    policy = Policy("acme", "UTC", policies, vaults, dict(CATEGORIES), {}, (), digest)
    polynomial = None
    stores: dict[str, JoinedStore] = {}
    opened_vaults: dict[str, Vault] = {}
    workshop: Workshop

    def vault(name: str) -> Vault:
        if name not in opened_vaults:
            opened_vaults[name] = workshop.wrap_vault(LocalVault(name, root / "vaults" / name))
        return opened_vaults[name]

    def store(name: str) -> JoinedStore:
        if name not in stores:
            opened = RepositoryStore.open(vault(name), "repositories/main", PASSWORD, options=OPTIONS)
            catalog.expect_repository(name, opened.repository_id)
            stores[name] = joined(opened, plain=name in plain)
        return stores[name]

    def source(name: str) -> Source:
        found = policies[name]
        return workshop.wrap_source(load(SOURCES, found.kind)(name, found.options, state=root / "state"))

    if new:
        for name in VAULTS:
            local = LocalVault(name, root / "vaults" / name)
            local.create()
            made = RepositoryStore.create(
                local,
                "repositories/main",
                PASSWORD,
                polynomial=polynomial,
                now=clock.now(),
                hostname="host",
                username="user",
                options=OPTIONS,
            )
            polynomial = made.polynomial
        (root / "evidence.key").write_text(SigningKey.generate().secret())
    installation = Installation(
        policy=policy,
        policy_text=text,
        catalog=catalog,
        signer=SigningKey.load((root / "evidence.key").read_text()),
        source=source,
        vault=vault,
        store=store,
        sandbox=FolderSandbox(root / "state" / "sandboxes"),
        state=root / "state",
        own=(root / "state", root / "evidence.key", *(root / "vaults" / name for name in policy.vaults)),
        host="host",
        user="user",
        progress=lambda _title: nullcontext(Silent()),
        queue=Embedded,
    )
    catalog.sync_policy(policy, text, clock.now())
    workshop = Workshop(root, data, installation, catalog, sources)
    return workshop


def fill(data: Path) -> dict[str, tuple[str, Mapping[str, object]]]:
    """Real data below `data`, and the sources that protect it: files, a git repository, a SQLite database."""
    files = data / "files"
    (files / "deep" / "er").mkdir(parents=True)
    (files / "report.txt").write_text("figures\n" * 1000)
    (files / "deep" / "er" / "blob.bin").write_bytes(bytes(range(256)) * 9000)
    (files / "link").symlink_to("report.txt")
    git = data / "app"
    git.mkdir()
    run = ["git", "-C", str(git), "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    (git / "main.py").write_text("print('hello')\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*run, *arguments], check=True, capture_output=True)
    with sqlite3.connect(data / "ledger.db") as connection:
        connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, amount REAL, note TEXT)")
        connection.executemany(
            "INSERT INTO entries (amount, note) VALUES (?, ?)", [(i * 1.5, f"entry {i}") for i in range(500)]
        )
    connection.close()
    return {
        "documents": ("files", {"paths": (str(files),), "include": (), "exclude": (), "one_file_system": False}),
        "app": ("git", {"url": str(git), "lfs": "auto"}),
        "ledger": ("sqlite", {"path": str(data / "ledger.db")}),
    }


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """An installation with three vaults and three sources with real data."""
    data = tmp_path / "data"
    data.mkdir()
    made = build(tmp_path / "home", data, fill(data))
    yield made
    made.catalog.close()
