"""The catalog's file: how it is made, upgraded, shared, and what is said when it is damaged."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module

import pytest
from sqlalchemy import create_engine

from cto_backups.catalog import (
    database,
    migrating,
    schema,
    schema_claims,
    schema_due_times,
    schema_hosts,
    schema_traffic,
    sqlite_file,
)
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.status_view import BACKUP_STATUS
from cto_backups.core.model import ActionKind
from cto_backups.errors import BusyError, CatalogError, NotFoundError, RefusedError

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)


def url(path):
    return f"sqlite:{path}"


def use(path):
    """Open a catalog and read what every command reads."""
    with Catalog.open(url(path), now=NOW) as catalog:
        catalog.facts(NOW, kept_points=True)
        catalog.points()
        catalog.runs()
        catalog.evidence()
        return catalog.check()


# -- making and opening


def test_a_new_catalog_is_private_whole_and_alone_in_its_folder(tmp_path):
    old = os.umask(0)
    try:
        catalog = Catalog.create(url(tmp_path / "catalog.db"), now=NOW)
        with catalog.reading() as connection:
            assert connection.scalar("PRAGMA journal_mode") == "wal"
            assert connection.scalar("PRAGMA synchronous") == 2
            assert connection.scalar("PRAGMA foreign_keys") == 1
        assert catalog.check() == ()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        catalog.close()
    finally:
        os.umask(old)
    assert set(modes.values()) == {0o600}, modes
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.db"]
    assert use(tmp_path / "catalog.db") == ()


def test_a_catalog_is_not_made_over_another(path):
    before = path.read_bytes()
    with pytest.raises(RefusedError, match=re.escape(str(path))):
        Catalog.create(url(path), now=NOW)
    assert path.read_bytes() == before


def test_a_making_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlite_file, "migrate", fail)
    with pytest.raises(KeyboardInterrupt):
        Catalog.create(url(tmp_path / "catalog.db"), now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_in_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CatalogError, match=r"nowhere/catalog\.db cannot be made") as caught:
        Catalog.create(url(tmp_path / "nowhere" / "catalog.db"), now=NOW)
    assert "folder" in caught.value.todo


def test_a_missing_catalog_is_told_and_not_made_by_opening(tmp_path):
    with pytest.raises(NotFoundError, match=re.escape(str(tmp_path))):
        Catalog.open(url(tmp_path / "catalog.db"), now=NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["mysql://host/db", "catalog.db", "sqlite:", "postgresql:", ""])
def test_another_kind_of_catalog_is_refused_without_repeating_a_password(wrong):
    with pytest.raises(CatalogError) as caught:
        Catalog.open(wrong, now=NOW)
    assert "//host" not in str(caught.value)


# -- versions


def columns_and_statements(connection):
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'")
    return {
        (kind, name, table, re.sub(r"\s+", " ", sql or "").replace("( ", "(").replace(" )", ")").strip())
        for kind, name, table, sql in rows
        if not name.startswith("sqlite_autoindex_alembic")
    }


def test_the_schema_is_the_sum_of_its_migrations(path):
    made = sqlite3.connect(":memory:")
    engine = create_engine("sqlite://", creator=lambda: made)
    beside = (schema_claims.claims, schema_due_times.due_times, schema_hosts.hosts, schema_traffic.vault_traffic)
    assert all(table.metadata is schema.metadata for table in beside)
    schema.metadata.create_all(engine)
    made.execute(BACKUP_STATUS)
    with closing(sqlite3.connect(path)) as migrated:
        assert columns_and_statements(migrated) == columns_and_statements(made)
        assert migrated.execute("SELECT version_num FROM alembic_version").fetchall() == [(database.VERSION,)]
    engine.dispose()
    made.close()


def test_a_newer_version_is_refused_naming_both_and_left_alone(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0931'")
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=rf"version 0931.*up to {database.VERSION}"):
        use(path)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir() if "before" in found.name] == []


CURRENT = database.VERSION

SECOND = """
from alembic import op

revision = "9999"
down_revision = "{current}"


def upgrade():
    op.get_bind().exec_driver_sql("CREATE TABLE later (id INTEGER)")
    {more}
"""


@pytest.fixture
def newer_program(tmp_path, monkeypatch):
    """A later release of this program, with one more migration."""

    def make(more=""):
        migrations = tmp_path / "later" / "migrations"
        shutil.copytree(migrating.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
        (migrations / "versions" / "9999_later.py").write_text(SECOND.format(more=more, current=CURRENT))
        monkeypatch.setattr(migrating, "MIGRATIONS", migrations)
        monkeypatch.setattr(database, "VERSION", "9999")
        monkeypatch.setattr(database, "KNOWN_VERSIONS", (*database.KNOWN_VERSIONS, "9999"))

    return make


def test_an_older_version_is_brought_up_to_date_after_a_whole_copy_is_set_aside(path, build, newer_program):
    old = Catalog.open(url(path), now=NOW)
    old.sync_policy(build.policy(), b"", NOW)
    old.add_point_with_copy(build.point("p1"), build.copy("p1"))
    assert path.with_name("catalog.db-wal").stat().st_size > 0, "what is not yet in the file itself must come along"
    newer_program()
    with Catalog.open(url(path), now=NOW) as catalog:
        assert catalog.point("p1").id == "p1"
    old.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        assert connection.execute("SELECT count(*) FROM later").fetchall() == [(0,)]
    aside = path.with_name("catalog.db.before-9999-20260318T120000Z")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT id FROM points").fetchall() == [("p1",)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(CURRENT,)]


def test_a_migration_that_fails_changes_nothing(path, newer_program):
    newer_program(more='op.get_bind().exec_driver_sql("CREATE TABLE nonsense (")')
    with pytest.raises(CatalogError):
        use(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(CURRENT,)]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "later" not in tables


def test_without_room_for_a_copy_nothing_is_upgraded(path, newer_program, monkeypatch):
    newer_program()
    path.with_name("catalog.db.before-9999-20260318T120000Z").mkdir()
    with pytest.raises(CatalogError, match="set aside") as caught:
        use(path)
    assert "Nothing was changed" in caught.value.todo
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(CURRENT,)]


def test_the_one_sign_of_life_that_there_was_becomes_that_of_its_host(path):
    migration = import_module("cto_backups.catalog.migrations.versions.0009_heartbeat_of_each_worker")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE heartbeat")
        connection.execute("DROP TABLE governing_rules")  # younger than that
        connection.execute("DROP VIEW backup_status")
        connection.execute("DROP TABLE streams")
        connection.execute("CREATE VIEW backup_status AS SELECT name FROM sources")
        connection.execute("ALTER TABLE resources DROP COLUMN covered")
        connection.execute("ALTER TABLE vaults DROP COLUMN away_since")
        connection.execute("ALTER TABLE source_vaults DROP COLUMN lag_seconds")
        connection.execute("DROP TABLE vault_traffic")
        connection.execute("DROP TABLE due_times")
        connection.execute("ALTER TABLE sources ADD COLUMN next_due_at VARCHAR(27)")
        connection.execute("DROP TABLE leases")
        connection.execute("ALTER TABLE sources DROP COLUMN host")
        connection.execute("ALTER TABLE vaults DROP COLUMN host")
        connection.execute("DROP TABLE claims")
        connection.execute("DROP INDEX points_expired")
        connection.execute("DROP TABLE host_names")
        connection.execute("DROP TABLE hosts")
        connection.execute("CREATE TABLE heartbeat (id INTEGER PRIMARY KEY, at, next_by, host, pid, busy_with)")
        moment = "2026-03-18T11:00:00.000000Z"
        connection.execute("INSERT INTO heartbeat VALUES (1, ?, ?, 'shop', 77, '')", (moment, moment))
        connection.execute("UPDATE alembic_version SET version_num = ?", (migration.down_revision,))
    with Catalog.open(url(path), now=NOW) as catalog:
        (last,) = catalog.facts(NOW).heartbeats
    assert (last.name, last.host, last.pid) == ("shop", "shop", 77)


def test_opening_does_not_import_the_migration_tool(path):
    """`status` starts fast: each of the two takes longer to import than everything else here."""
    code = (
        "import sys; from datetime import datetime, UTC; from cto_backups.catalog.catalog import Catalog;"
        f"Catalog.open('sqlite:{path}', now=datetime(2026, 1, 1, tzinfo=UTC)).facts(datetime(2026, 1, 1, tzinfo=UTC));"
        "sys.exit(sum(name.startswith(('alembic', 'sqlalchemy')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- damage


def test_a_file_that_is_no_catalog_is_named(tmp_path):
    path = tmp_path / "catalog.db"
    for content in (b"no database at all" * 100, b""):
        path.write_bytes(content)
        with pytest.raises(CatalogError, match=re.escape(str(path))) as caught:
            use(path)
        assert "catalog rebuild" in caught.value.todo


def test_another_programs_database_is_no_catalog_and_stays_as_it_is(tmp_path):
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE music (id)")
    before = path.read_bytes()
    with pytest.raises(CatalogError, match="is not a catalog"):
        use(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["catalog.db"]


@pytest.fixture(scope="module")
def full_content(tmp_path_factory, empty_catalog, build):
    path = tmp_path_factory.mktemp("full") / "catalog.db"
    path.write_bytes(empty_catalog)
    with Catalog.open(url(path), now=NOW) as catalog:
        catalog.sync_policy(build.policy(), b"text", NOW)
        for number in range(40):
            point = build.point(f"p{number:02}")
            catalog.add_point_with_copy(point, build.copy(point.id))
            catalog.add_evidence(build.test(f"e{number}", point.id))
            build.run(catalog, ActionKind.BACKUP)
    return path.read_bytes()


@pytest.fixture
def full(path, full_content):
    """A catalog with something in it, in one file."""
    path.write_bytes(full_content)
    return path


def test_wherever_a_page_is_overwritten_the_catalog_is_called_damaged_or_still_answers(full, tmp_path):
    content = full.read_bytes()
    page = 4096
    named = 0
    for start in range(0, len(content), page):
        broken = tmp_path / "broken.db"
        broken.write_bytes(content[:start] + b"\xa5" * page + content[start + page :])
        try:
            found = use(broken)
        except CatalogError as error:
            assert str(broken) in str(error)
            assert "catalog rebuild" in error.todo
            named += 1
        else:
            assert found, f"the overwritten page at {start} is nobody's?"
    assert named > len(content) // page // 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_catalog_is_called_damaged(full, share):
    content = full.read_bytes()
    full.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CatalogError, match="damaged"):
        use(full)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE points SET captured_at = 'soon'",
        "UPDATE points SET fingerprint = '{'",
        "UPDATE points SET fingerprint = '{}'",
        "UPDATE points SET problems = '[1]'",
        "UPDATE evidence SET rung = 77",
        "UPDATE evidence SET steps = '[{}]'",
        "UPDATE runs SET action = 'dance'",
        "UPDATE runs SET outcome = x'ff'",
        "UPDATE runs SET started_at = 5",
        "UPDATE runs SET message = CAST(x'ff' AS TEXT)",
        "DROP TABLE copies",
        "ALTER TABLE points DROP COLUMN label",
    ],
)
def test_a_row_that_nobody_can_have_written_is_damage(full, change):
    with closing(sqlite3.connect(full)) as connection, connection:
        if "DROP COLUMN" in change:
            connection.execute("DROP VIEW backup_status")
        connection.execute(change)
    with pytest.raises(CatalogError, match=re.escape(str(full))) as caught:
        use(full)
    assert caught.value.todo


def test_a_locked_catalog_is_busy(path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    catalog = Catalog.open(url(path), now=NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert catalog.points() == (), "reading goes on"
        with pytest.raises(BusyError, match=re.escape(str(path))):
            catalog.confirm("ledger", NOW)
        other.execute("ROLLBACK")
    catalog.confirm("ledger", NOW)
    catalog.close()


def test_a_writer_holds_the_catalog_from_its_first_look_on(path, build):
    """Reading first and locking later would let two processes sign the same place of a chain."""
    with (
        Catalog.open(url(path), now=NOW) as catalog,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
    ):
        with catalog._writing() as connection:
            connection.scalar("SELECT count(*) FROM records")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        with catalog.reading() as connection:
            connection.scalar("SELECT count(*) FROM records")
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")


def test_what_fails_in_a_transaction_is_not_written_and_does_not_hinder_the_next(path):
    with Catalog.open(url(path), now=NOW) as catalog:
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), catalog._writing() as connection:
                connection.execute("INSERT INTO vaults (name) VALUES ('half')")
                raise error
        with catalog._writing() as connection:
            connection.execute("INSERT INTO vaults (name) VALUES ('whole')")
        with catalog.reading() as connection:
            assert connection.scalars("SELECT name FROM vaults WHERE name IN ('half', 'whole')") == ["whole"]


def test_a_reader_sees_one_moment_while_others_write(path):
    with Catalog.open(url(path), now=NOW) as catalog, catalog.reading() as connection:
        before = connection.scalar("SELECT count(*) FROM vaults")
        with catalog._writing() as writer:
            writer.execute("INSERT INTO vaults (name) VALUES ('new')")
        assert connection.scalar("SELECT count(*) FROM vaults") == before


def test_connections_are_used_again_and_closed_with_the_catalog(path, monkeypatch):
    made = []
    really = sqlite_file.connect

    def note(path, **settings):
        made.append(really(path, **settings))
        return made[-1]

    monkeypatch.setattr(sqlite_file, "connect", note)
    with Catalog.open(url(path), now=NOW) as catalog:
        for _ in range(5):
            catalog.points()
            catalog.confirm("ledger", NOW)
        assert len(made) == 1
        with catalog.reading():
            catalog.points()
        assert len(made) == 2
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    assert not path.with_name("catalog.db-wal").exists()


def test_a_catalog_that_may_not_be_read_is_told(path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.chmod(0)
    with pytest.raises(CatalogError, match=re.escape(str(path))) as caught:
        use(path)
    assert "permissions" in caught.value.todo


KILLED = """
import os, sys
from datetime import datetime, UTC
from cto_backups.catalog.catalog import Catalog
now = datetime(2026, 1, 1, tzinfo=UTC)
catalog = Catalog.open("sqlite:" + sys.argv[1], now=now)
catalog.confirm("ledger", now)
with catalog._writing() as connection:
    connection.execute("DELETE FROM copies")
    connection.execute("UPDATE sources SET point_count = 0")
    os.kill(os.getpid(), 9)
"""


def test_a_process_killed_while_writing_leaves_all_or_nothing(full):
    killed = subprocess.run([sys.executable, "-c", KILLED, full], check=False)
    assert killed.returncode == -9
    with Catalog.open(url(full), now=NOW) as catalog:
        facts = catalog.facts(NOW).sources["ledger"]
        assert facts.confirmed_at == datetime(2026, 1, 1, tzinfo=UTC)
        assert facts.point_count == len(catalog.points()) == 40
        assert (
            catalog.facts(NOW).vaults["near"].copy_count
            == 40
            == sum(len(catalog.copies(p.id)) for p in catalog.points())
        )
        assert catalog.check() == ()
