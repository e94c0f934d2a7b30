"""Hosts in a catalog on a server: each has a role, sees its own rows, and alters nothing that others rest on."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from cto_backups.catalog import schema, schema_claims, schema_due_times, schema_hosts, schema_traffic
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.postgresql import hosts as roles
from cto_backups.core.enrolment import Host
from cto_backups.core.model import ActionKind
from cto_backups.core.policy import Policy
from cto_backups.errors import CatalogError, RefusedError
from cto_backups.evidence.records import SigningKey

from .conftest import NOW, Build, CatalogServer

KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("alpha", "beta"), start=1)}


def names(host: str) -> dict[str, tuple[str, ...]]:
    return {"source": (f"{host}-files",), "vault": (f"near-{host}", f"far-{host}"), "signer": (KEYS[host].signer,)}


def policy_of(build: Build, host: str) -> Policy:
    source = build.source(f"{host}-files", vaults=(f"near-{host}",))
    given = build.policy(source, digest=f"policy-of-{host}")
    return replace(given, vaults={f"near-{host}": replace(given.vaults["near"], name=f"near-{host}")})


class Fleet:
    """A catalog on a server, with two hosts."""

    def __init__(self, server: CatalogServer, url: str, build: Build) -> None:
        self.server, self.url, self.build = server, url, build
        self.admin = Catalog.open(url, now=NOW)
        self.admin.sync_policy(build.policy(), b"the fleet's policy", NOW)
        self.opened = [self.admin]
        roles.secure(url)
        for name in KEYS:
            self.admin.hosts.enrol(Host(name, roles.role_of("cto_backups", name), NOW, names=names(name)))
            roles.let_in(url, roles.role_of("cto_backups", name), f"secret of {name}")

    def url_of(self, host: str) -> str:
        return self.url.replace("postgresql://postgres@", f"postgresql://{roles.role_of('cto_backups', host)}@")

    def host(self, name: str) -> Catalog:
        opened = Catalog.open(self.url_of(name), now=NOW)
        self.opened.append(opened)
        return opened

    def busy(self, name: str) -> Catalog:
        """A host that has done some of all that hosts do."""
        build, catalog, key = self.build, self.host(name), KEYS[name]
        point = build.point(f"{name}-p1", source=f"{name}-files", policy_digest=f"policy-of-{name}")
        catalog.sync_policy(policy_of(build, name), name.encode(), NOW)
        build.run(catalog, ActionKind.BACKUP, source=f"{name}-files", vault=f"near-{name}", host=name)
        catalog.append_record(key, "recovery-point", {"id": point.id}, NOW)
        catalog.add_point_with_copy(point, build.copy(point.id, f"near-{name}"))
        catalog.advance_vault_head(f"near-{name}", key.signer, 1)
        catalog.add_evidence(build.test(f"{name}-t1", point.id, source=f"{name}-files", vault=f"near-{name}"))
        return catalog

    def session(self, name: str) -> "psycopg.Connection[Any]":
        """What a hostile host has: its login, and any SQL."""
        session = self.server.server.connect("catalog", user=roles.role_of("cto_backups", name))
        session.execute("SET search_path = cto_backups")
        return session

    def everything(self) -> dict[str, list[str]]:
        """All rows but those that each transaction leaves."""
        found = self.server.server.do(
            "SELECT relname FROM pg_class WHERE relnamespace = 'cto_backups'::regnamespace AND relkind = 'r'",
            database="catalog",
        )
        return {
            table: sorted(map(repr, self.server.server.do(f"SELECT * FROM cto_backups.{table}", database="catalog")))
            for (table,) in found
            if table != "writes"
        }


@pytest.fixture
def fleet(catalog_server: CatalogServer, server_url: str, build: Build) -> Iterator[Fleet]:
    made = Fleet(catalog_server, server_url, build)
    yield made
    for opened in made.opened:
        opened.close()


def test_every_table_of_the_catalog_has_a_rule_for_hosts() -> None:
    beside = (schema_claims.claims, schema_due_times.due_times, schema_hosts.hosts, schema_traffic.vault_traffic)
    assert all(table.metadata is schema.metadata for table in beside)
    assert set(roles.RULES) == {*schema.metadata.tables, "writes", "alembic_version"}


def test_hosts_do_their_work_and_the_administrator_sees_all_of_it(fleet: Fleet) -> None:
    alpha, beta = fleet.busy("alpha"), fleet.busy("beta")
    assert [point.id for point in alpha.points()] == ["alpha-p1"]
    assert [point.id for point in beta.points()] == ["beta-p1"]
    assert {point.id for point in fleet.admin.points()} == {"alpha-p1", "beta-p1"}
    assert {run.source for run in fleet.admin.runs()} == {"alpha-files", "beta-files"}
    assert [run.source for run in beta.runs()] == ["beta-files"]
    assert alpha.signers() == (KEYS["alpha"].signer,)
    assert alpha.hosts.listed() == ()
    assert all(facts.copy.vault == "near-alpha" for facts in fleet.admin.copies("alpha-p1"))


def test_the_administrators_policy_leaves_what_hosts_say_of_their_sources(fleet: Fleet) -> None:
    fleet.busy("alpha")
    theirs = policy_of(fleet.build, "alpha")
    fleet.admin.sync_policy(fleet.build.policy(digest="d2"), b"changed", NOW)
    active = fleet.server.server.do("SELECT name FROM cto_backups.sources WHERE active = 1", database="catalog")
    assert {"alpha-files", "ledger"} <= {name for (name,) in active}
    assert fleet.admin.active_sources() == ("ledger",)
    before = fleet.everything()
    fleet.admin.sync_policy(fleet.build.policy(digest="d2"), b"changed", NOW)
    fleet.host("alpha").sync_policy(theirs, b"alpha", NOW)
    assert fleet.everything() == before
    both = fleet.build.policy(fleet.build.source(), theirs.sources["alpha-files"], digest="d3")
    fleet.admin.sync_policy(replace(both, vaults={**both.vaults, **theirs.vaults}), b"both", NOW)
    after = fleet.everything()
    fleet.host("alpha").sync_policy(theirs, b"alpha", NOW)
    fleet.admin.sync_policy(replace(both, vaults={**both.vaults, **theirs.vaults}), b"both", NOW)
    assert "alpha-files" in str(after["source_vaults"])


def test_a_hostile_host_neither_reads_nor_alters_what_is_not_its_own(fleet: Fleet) -> None:
    """With any SQL, table by table."""
    fleet.busy("beta")
    fleet.busy("alpha")
    before = fleet.everything()
    for table in sorted(set(roles.RULES) - {"alembic_version", "writes"}):
        with fleet.session("beta") as session:
            own = [repr(row) for row in session.execute(f"SELECT * FROM {table}").fetchall()]
            assert not [row for row in own if "alpha" in row or KEYS["alpha"].signer in row or "fleet" in row], table
            if not own:
                session.execute(f"DELETE FROM {table}")
            columns = session.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                (table,),
            ).fetchall()
            for (column,) in columns:
                with suppress(psycopg.errors.InsufficientPrivilege):
                    session.execute(f"UPDATE {table} SET {column} = {column}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"TRUNCATE {table} CASCADE")
    assert fleet.everything() == before


FORGED = (
    "INSERT INTO records VALUES ('{alpha}', 2, 'copy', 'd', NULL, '')",
    "INSERT INTO resources VALUES ('alpha-files', 'n', 'k', 'l', NULL, 'a', 'a', NULL, 1)",
    "INSERT INTO copies VALUES ('alpha-p1', 'near-beta', 'r', 'a', 1, 0)",
    "INSERT INTO copies VALUES ('beta-p1', 'near-alpha', 'r', 'a', 1, 0)",
    "INSERT INTO copies VALUES ('beta-p2', 'near-beta', 'ref-beta-p1-near-beta', 'a', 1, 0)",
    "INSERT INTO sources SELECT 'gamma-files', kind, category, data_class, business, rpo_seconds, test_every_seconds,"
    " read_within_seconds, active, first_seen, confirmed_at, discovered_at, point_count, policy_digest"
    " FROM sources",
    "INSERT INTO source_vaults VALUES ('beta-files', 'near-alpha', NULL)",
    "INSERT INTO host_names VALUES ('source', 'alpha-files', 'beta')",
    "INSERT INTO heartbeat VALUES ('alpha', 'a', 'a', 'beta', 1, '')",
    "INSERT INTO heartbeat VALUES ('alpha', 'a', 'a', 'alpha', 1, '')",
    "INSERT INTO approvals (id) VALUES ('x')",
    "INSERT INTO retentions VALUES ('beta-files', 'a', '1 day', 1, 1)",
    "UPDATE alembic_version SET version_num = '9999'",
    "UPDATE points SET expired_at = '2020'",
    "UPDATE points SET captured_at = '2020'",
    "UPDATE vaults SET repository = 'x'",
    "CREATE TABLE mine (x int)",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
)


def test_a_hostile_host_forges_nothing(fleet: Fleet) -> None:
    fleet.busy("alpha")
    beta, build = fleet.busy("beta"), fleet.build
    beta.add_point_with_copy(build.point("beta-p2", source="beta-files"), build.copy("beta-p2", "far-beta"))
    before = fleet.everything()
    for statement in FORGED:
        with fleet.session("beta") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(statement.format(alpha=KEYS["alpha"].signer))
    assert fleet.everything() == before


def test_a_host_marks_no_copy_of_its_own_for_deletion_and_leads_none_elsewhere(fleet: Fleet) -> None:
    """The administrator's expiry acts on both."""
    fleet.busy("alpha")
    before = fleet.everything()
    with fleet.session("alpha") as session:
        session.execute("UPDATE copies SET to_delete = 1")
        session.execute("UPDATE copies SET reference = 'another'")
        session.execute("DELETE FROM copies")
        session.execute("DELETE FROM points")
        session.execute("DELETE FROM records")
        session.execute("UPDATE records SET content = ''")
    assert fleet.everything() == before
    with pytest.raises(CatalogError, match="may not be used by this user"):
        fleet.host("alpha").expire_point("alpha-p1", NOW, ["old"], KEYS["alpha"])
    assert fleet.everything() == before


def test_a_point_that_the_administrator_dropped_gets_late_copies_to_be_deleted(fleet: Fleet) -> None:
    alpha = fleet.busy("alpha")
    assert fleet.admin.expire_point("alpha-p1", NOW, ["old"], SigningKey(bytes(32)))
    alpha.add_copy(fleet.build.copy("alpha-p1", "far-alpha"))
    assert {copy.vault for copy in fleet.admin.expired_copies_to_delete()} == {"near-alpha", "far-alpha"}


def test_a_name_belongs_to_one_host(fleet: Fleet) -> None:
    with pytest.raises(RefusedError, match="source 'alpha-files' belongs to host 'alpha'"):
        fleet.admin.hosts.enrol(Host("beta", "r", NOW, names={"source": ("alpha-files",)}))
    assert fleet.admin.hosts.one("beta").names["source"] == ("beta-files",)


def test_a_host_joins_once(fleet: Fleet) -> None:
    roles.join(fleet.url_of("alpha"))
    assert [host.standing for host in fleet.admin.hosts.listed()] == ["joined", "enrolled"]
    with pytest.raises(RefusedError, match="used before"):
        roles.join(fleet.url_of("alpha"))


def test_a_revoked_host_sees_nothing_any_more_in_a_session_that_was_open(fleet: Fleet) -> None:
    alpha, beta = fleet.busy("alpha"), fleet.busy("beta")
    with fleet.session("alpha") as session:
        fleet.admin.hosts.revoke("alpha", NOW)
        assert session.execute("SELECT count(*) FROM points").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f"INSERT INTO records VALUES ('{KEYS['alpha'].signer}', 9, 'copy', 'd', NULL, '')")
        roles.shut_out(fleet.url, roles.role_of("cto_backups", "alpha"))
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with pytest.raises(CatalogError, match="not permitted to log in"):
        fleet.host("alpha")
    with pytest.raises(CatalogError):
        alpha.points()
    assert [point.id for point in beta.points()] == ["beta-p1"]
    assert {point.id for point in fleet.admin.points()} == {"alpha-p1", "beta-p1"}


def test_an_administrator_that_is_no_superuser_does_all_of_it(catalog_server: CatalogServer, build: Build) -> None:
    server = catalog_server.server
    server.do("DROP DATABASE IF EXISTS office WITH (FORCE)")
    server.do("CREATE ROLE office LOGIN CREATEROLE")
    server.do("CREATE DATABASE office OWNER office TEMPLATE template0")
    url = catalog_server.url("office").replace("postgres@", "office@", 1) + "&schema=office"
    try:
        with Catalog.create(url, now=NOW) as catalog:
            roles.secure(url)
            role = roles.role_of("office", "alpha")
            catalog.hosts.enrol(Host("alpha", role, NOW, names=names("alpha")))
            roles.let_in(url, role, "secret")
            with Catalog.open(url.replace("office@", f"{role}@", 1), now=NOW) as alpha:
                alpha.sync_policy(policy_of(build, "alpha"), b"alpha", NOW)
                catalog.hosts.revoke("alpha", NOW)
                roles.shut_out(url, role)
                with pytest.raises(CatalogError):
                    alpha.points()
            server.do("ALTER ROLE office NOCREATEROLE")
            with pytest.raises(CatalogError, match="may not make roles"):
                roles.let_in(url, "office_other", "secret")
    finally:
        server.do("DROP DATABASE IF EXISTS office WITH (FORCE)")
        server.do("DROP ROLE IF EXISTS office_alpha")
        server.do("DROP ROLE IF EXISTS office_hosts")
        server.do("DROP ROLE IF EXISTS office")


def test_rules_come_into_force_again_when_they_have_changed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Any:
        with fleet.session("alpha") as session:
            return session.execute("SELECT count(*) FROM vaults").fetchall()[0][0]

    fleet.busy("alpha")
    assert read() == 1
    monkeypatch.setitem(roles.RULES, "vaults", roles.Rule())
    monkeypatch.setattr(roles, "_RULED", roles.hashlib.sha256(b"others"))
    roles.secure_again(fleet.url)
    assert read() == 0
    monkeypatch.undo()
    roles.secure_again(fleet.url)
    assert read() == 1
