"""A catalog, in a file and on a server in turn, so that its tests hold for both; and builders of what goes in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import (
    ActionKind,
    Copy,
    Evidence,
    Fingerprint,
    Outcome,
    Problem,
    RecoveryPoint,
    Rung,
    Sample,
)
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import Retention
from cto_backups.evidence.records import SigningKey
from servers import postgresql

NOW = datetime(2026, 3, 18, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class CatalogServer:
    """A server with catalogs, each in a database of its own; making one takes migrations, copying one does not."""

    server: postgresql.Server
    template: str = "template_catalog"

    def url(self, name: str) -> str:
        return f"postgresql://{self.server.user}@/{name}?host={self.server.place}&port={self.server.port}"

    def clone(self, name: str) -> str:
        """A new catalog; its URL."""
        self.server.do(f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY file_copy")
        return self.url(name)

    def drop(self, name: str) -> None:
        self.server.do(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def empty(self, name: str) -> None:
        """Take everything out of a catalog, but for its version: it is quicker than another copy."""
        with self.server.connect(name) as session:
            session.execute(self._emptying(name))

    @cache  # noqa: B019 - there is one for each process
    def _emptying(self, name: str) -> str:
        found = self.server.do(
            """
            SELECT string_agg(format('DELETE FROM cto_backups.%I', relname), '; '
                ORDER BY array_position(ARRAY['points', 'sources'], relname::text) NULLS FIRST) FROM pg_class
            WHERE relnamespace = 'cto_backups'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
            """,
            database=name,
        )
        return str(found[0][0])


class Build:
    """What goes into a catalog; everything can be overridden."""

    now = NOW
    key = SigningKey(bytes(32))

    def ago(self, **length: float) -> datetime:
        return NOW - timedelta(**length)

    def source(self, name: str = "ledger", **changes: object) -> SourcePolicy:
        source = SourcePolicy(
            name=name,
            kind="sqlite",
            category=CATEGORIES["B"],
            triggers=(),
            retention=Retention(keep_for=timedelta(days=90)),
            test_every=timedelta(days=30),
            vaults=("near", "far"),
        )
        return replace(source, **changes)

    def policy(self, *sources: SourcePolicy, digest: str = "d1") -> Policy:
        named = {source.name: source for source in (sources or (self.source(),))}
        vaults = {
            name: VaultPolicy(name, f"file:/{name}", provider=name, region="here", storage="disk")
            for name in ("near", "far")
        }
        return Policy("acme", "UTC", named, vaults, CATEGORIES, {}, (), digest)

    def point(
        self, id: str, captured_at: datetime = NOW, *, incomplete: bool = False, **changes: object
    ) -> RecoveryPoint:
        problems = (Problem("/data/\\x80", "permission", "not readable"),) if incomplete else ()
        point = RecoveryPoint(
            id=id,
            source="ledger",
            kind="sqlite",
            category="B",
            business="acme",
            started_at=captured_at - timedelta(seconds=1),
            captured_at=captured_at,
            finished_at=captured_at + timedelta(seconds=30),
            size_bytes=2**40,
            added_bytes=10,
            entry_count=1,
            root="ab" * 32,
            paths=("/data/ledger.db",),
            fingerprint=Fingerprint("sqlite/1", {"rows": "ab"}, {"rows": 3}, (Sample("t:1", {"a": "é"}),)),
            policy_digest="d1",
            problems=problems,
        )
        return replace(point, **changes)

    def copy(self, point: str, vault: str = "near", stored_at: datetime = NOW, **changes: object) -> Copy:
        return replace(Copy(point, vault, f"ref-{point}-{vault}", stored_at, 10), **changes)

    def test(self, id: str, point: str | None, finished_at: datetime = NOW, **changes: object) -> Evidence:
        evidence = Evidence(
            id=id,
            kind="restore_test",
            source="ledger",
            point=point,
            vault="near",
            started_at=finished_at - timedelta(seconds=5),
            finished_at=finished_at,
            passed=True,
            rung=Rung.PROVEN,
            steps=(),
        )
        return replace(evidence, **changes)

    def reading(self, id: str, vault: str = "near", finished_at: datetime = NOW, **changes: object) -> Evidence:
        since = finished_at if changes.get("passed", True) else None
        changes = {"kind": "verify", "source": None, "vault": vault, "rung": Rung.READ, "read_since": since, **changes}
        return self.test(id, None, finished_at, **changes)

    def run(
        self,
        catalog: Catalog,
        action: ActionKind,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        source: str | None = "ledger",
        vault: str | None = None,
        point: str | None = None,
        started_at: datetime = NOW,
        pid: int = 1,
        host: str = "host",
        message: str = "",
    ) -> int:
        begun = catalog.start_run(action, source=source, vault=vault, point=point, now=started_at, pid=pid, host=host)
        number = begun.run
        if outcome is not Outcome.RUNNING:
            catalog.finish_run(number, outcome=outcome, now=started_at + timedelta(seconds=9), message=message)
        return number


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a new catalog: making one takes migrations, copying one does not."""
    path = tmp_path_factory.mktemp("empty") / "catalog.db"
    Catalog.create(f"sqlite:{path}", now=NOW).close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, empty_catalog: bytes) -> Path:
    path = tmp_path / "catalog.db"
    path.write_bytes(empty_catalog)
    return path


@pytest.fixture(scope="session")
def catalog_server(postgresql_programs: Path) -> Iterator[CatalogServer]:
    """A server with a catalog on it, for all tests of this process."""
    # Nothing here outlives the server, so nothing need be safe on its disk.
    with postgresql.server(postgresql_programs, full_page_writes="off", autovacuum="off") as server:
        made = CatalogServer(server)
        made.server.do(f"CREATE DATABASE {made.template} TEMPLATE template0")
        Catalog.create(made.url(made.template), now=NOW).close()
        made.clone("catalog")
        yield made


@pytest.fixture
def server_url(catalog_server: CatalogServer) -> str:
    """An empty catalog on the server."""
    catalog_server.empty("catalog")
    return catalog_server.url("catalog")


@pytest.fixture(params=["file", "server"])
def url(request: pytest.FixtureRequest) -> str:
    """Where an empty catalog is: in a file, and on a server."""
    if request.param == "file":
        return f"sqlite:{request.getfixturevalue('path')}"
    return str(request.getfixturevalue("server_url"))


@pytest.fixture
def open_catalog(url: str) -> Iterator[Callable[[], Catalog]]:
    """Opens the same catalog again, as another process would."""
    opened: list[Catalog] = []

    def open_it() -> Catalog:
        opened.append(Catalog.open(url, now=NOW))
        return opened[-1]

    yield open_it
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(open_catalog: Callable[[], Catalog], build: Build) -> Catalog:
    """A catalog that knows one source, `ledger`, and two vaults."""
    catalog = open_catalog()
    catalog.sync_policy(build.policy(), b"the policy", NOW)
    return catalog
