"""One database, or one table, out of a point of a PostgreSQL server: beside what runs, in its place, or as a dump."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.memory import MemoryVault
from fakes.points import MemoryPoint
from payload_store_contract import label

from cto_backups.core.database_restore import DatabaseRestored, DatabaseWish
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader, RestoreOptions, Silent
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import BackupsError, NotFoundError, RefusedError, RestoreError, UsageError
from cto_backups.process import ToolError
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.postgresql.archive import Archive
from cto_backups.sources.postgresql.connection import Address, find_tools
from cto_backups.sources.postgresql.source import PostgresqlSource
from cto_backups.sources.postgresql.sums import summed_up
from servers import postgresql
from servers.postgresql import Server

FORMS = ("logical", "physical")
MORE = r"""
CREATE TABLE sales.items (bought bigint REFERENCES sales.orders, number int NOT NULL);
INSERT INTO sales.items SELECT id, 1 FROM sales.orders;
CREATE TABLE sales.returns () INHERITS (sales.items);
INSERT INTO sales.returns SELECT id, -1 FROM sales.orders LIMIT 10;
CREATE TABLE "Odd. name" (n int CHECK (sales.add(n, 1) > 0));
INSERT INTO "Odd. name" VALUES (1);
CREATE TABLE "two
lines" (n int);
INSERT INTO "two
lines" VALUES (2);
COMMENT ON DATABASE "my shop" IS 'it''s
\two lines';
GRANT CONNECT ON DATABASE "my shop" TO readers;
REVOKE CONNECT ON DATABASE "my shop" FROM PUBLIC;
ALTER ROLE readers IN DATABASE "my shop" SET work_mem = '5MB';
"""
NOW = datetime(2026, 11, 23, 15, 37, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
DEFAULT_NAME = "my shop_restored_20261123_100730"


@dataclass(frozen=True)
class Point:
    """A point, and what was said of it."""

    reader: PointReader
    told: Fingerprint
    fetched: list[int] = field(default_factory=list)
    """How many bytes each time."""

    def listing(self) -> Iterable[tuple[bytes, Entry]]:
        return self.reader.listing()

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        done = self.reader.restore(place, only=only, options=RestoreOptions(spare=frozenset(spare)))
        assert not done.problems
        self.fetched.append(done.size_bytes)


@dataclass(frozen=True)
class Shop:
    """A server, a point of each form, and the moment at which a table was there that no point's end has."""

    server: Server
    points: dict[str, Point]
    moment: datetime

    def names(self) -> set[str]:
        return {str(name) for (name,) in self.server.do("SELECT datname FROM pg_database WHERE NOT datistemplate")}

    def roles(self) -> list[tuple[Any, ...]]:
        return self.server.do("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1")


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    state = tmp_path_factory.mktemp("state")
    with postgresql.server(postgresql_programs, wal_level="logical") as server:
        postgresql.fill(server)
        with server.connect("my shop") as session:
            session.execute(MORE)
        server.do("CREATE DATABASE large")
        # Not frozen, so that every change of a page is in the log, and with room for more on each.
        rows = "SELECT n, repeat('x', 200) AS word FROM generate_series(1, 20000) n"
        server.do(f"CREATE TABLE much WITH (fillfactor = 60) AS {rows}", "CREATE INDEX ON much (n)", database="large")
        options = {"host": str(server.place), "user": "postgres"}
        store = RepositoryStore.create(
            MemoryVault(),
            "r",
            "secret",
            now=datetime.now(UTC),
            hostname="h",
            username="u",
            options=RepositoryOptions(scrypt=ScryptParameters(n=2)),
        )
        source = PostgresqlSource(
            "shop", {**options, "method": "physical", "base_every_seconds": 3600.0}, state=state / "physical"
        )
        last: str | None = None
        for number in range(2):
            with source.capture() as capture, store.writing() as writing:
                last = writing.commit(writing.write(capture.tree, parent=last), label())
                told = capture.fingerprint()
                capture.stored()
            if number == 0:
                server.do("CREATE TABLE gone AS SELECT generate_series(1, 7) AS n", database="my shop")
                for _ in range(2):
                    server.do("UPDATE much SET word = 'y' WHERE n % 7 = 0", "CHECKPOINT", database="large")
                ((moment,),) = server.do("SELECT clock_timestamp()")
                server.do("DROP TABLE gone", database="my shop")
        assert last is not None
        server.do("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        physical = Point(store.reader(last), told)
        with PostgresqlSource("shop", options, state=state / "logical").capture() as capture:
            logical = Point(MemoryPoint.of(capture.tree), capture.fingerprint())
        yield Shop(server, {"logical": logical, "physical": physical}, moment)


@pytest.fixture(autouse=True)
def clean(shop: Shop) -> Iterator[None]:
    """Whatever a test made, the next one finds the server as it was."""
    names, roles = shop.names(), {name for name, _ in shop.roles()}
    yield
    shop.server.do(*(f'DROP DATABASE "{name}" WITH (FORCE)' for name in shop.names() - names), "SELECT 1")
    if "my shop" not in shop.names():
        raise AssertionError("a test lost what all of them share")
    shop.server.do(*(f'DROP ROLE "{name}"' for name, _ in shop.roles() if name not in roles), "SELECT 1")


Restore = Callable[..., DatabaseRestored]


@pytest.fixture
def restore(shop: Shop, tmp_path: Path) -> Restore:
    """Restore of a point of this form, once the plan has said the same."""

    def restored(form: str, *, point: Point | None = None, options: Any = None, **wish: Any) -> DatabaseRestored:
        given = {"host": str(shop.server.place), "user": "postgres", **(options or {})}
        source = PostgresqlSource("shop", given, state=tmp_path / "state")
        point = point or shop.points[form]
        wanted = DatabaseWish(**{"database": "my shop", "moment": NOW, **wish})
        plan = source.plan_database(point.reader, point.told, wanted)
        done = source.restore_database(point, point.told, wanted, lambda _: nullcontext(Silent()))
        assert (plan.name, plan.place) == (done.name, done.place)
        assert plan.size_bytes in point.fetched
        return done

    return restored


def rows(server: Server, database: str) -> dict[str, tuple[int, tuple[str, str]]]:
    """What each table holds."""
    with server.connect(database) as session:
        session.execute("SET timezone = 'UTC'")
        return {table.name: (table.rows, tuple(table.sums)) for table in summed_up(session, database).tables}


@pytest.mark.parametrize("form", FORMS)
def test_a_database_comes_beside_the_one_that_runs(shop: Shop, restore: Restore, form: str) -> None:
    """With its rows, owner, settings and grants; and nothing else of the server is touched."""
    before, roles = shop.names(), shop.roles()
    stood = rows(shop.server, "my shop")
    done = restore(form)
    assert done.name == DEFAULT_NAME
    assert shop.names() == before | {DEFAULT_NAME}
    assert shop.roles() == roles
    there = rows(shop.server, DEFAULT_NAME)
    if form == "physical":
        assert "sales.scratch" in " ".join(done.notes), "that it is empty is told"
        assert there.pop("sales.scratch")[0] == 0
        stood.pop("sales.scratch")
    assert there == stood
    about = """SELECT pg_get_userbyid(datdba), datconnlimit, ARRAY(SELECT unnest(datacl)::text ORDER BY 1)
        FROM pg_database WHERE datname = '{}'"""
    settings = """SELECT COALESCE(r.rolname, ''), s.setconfig FROM pg_db_role_setting s LEFT JOIN pg_roles r
        ON r.oid = s.setrole WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{}') ORDER BY 1"""
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{}'"
    for statement in (about, settings, comment):
        assert shop.server.do(statement.format(DEFAULT_NAME)) == shop.server.do(statement.format("my shop")) != []


@pytest.mark.parametrize("tables", [(), ("t",)], ids=["database", "table"])
def test_what_is_said_of_a_database_of_another_encoding_comes_back_as_it_was(
    shop: Shop, restore: Restore, tmp_path: Path, tables: tuple[str, ...]
) -> None:
    """The comment is kept as it was written where it was given: from a database in UTF-8, or in this one."""
    shop.server.do("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    shop.server.do("CREATE TABLE t AS SELECT 'é' AS word", database="latin")
    asked = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'back'"
    options = {"databases": ("latin",)}
    given = {"host": str(shop.server.place), "user": "postgres", **options}
    for where in ("postgres", "latin"):
        shop.server.do("COMMENT ON DATABASE latin IS 'Bücher, £5'", database=where)
        with PostgresqlSource("shop", given, state=tmp_path / "state").capture() as capture:
            point = Point(MemoryPoint.of(capture.tree), capture.fingerprint())
        restore("logical", point=point, options=options, database="latin", name="back", tables=tables)
        assert shop.server.do(asked, database="postgres" if where == "postgres" else "back") == [("Bücher, £5",)]
        assert shop.server.do("SELECT word FROM t", database="back") == [("é",)]
        shop.server.do("DROP DATABASE back")


def test_what_other_databases_hold_is_not_fetched(shop: Shop, restore: Restore) -> None:
    """However much of it the log changes; and the one that is wanted may be the large one."""
    point = Point(shop.points["physical"].reader, shop.points["physical"].told)
    whole = sum(entry.size for _, entry in point.listing() if entry.kind is EntryKind.FILE)
    restore("physical", point=point, name="small")
    restore("physical", point=point, name="big", database="large", tables=("much",))
    small, big = point.fetched
    assert small < whole - 5_000_000 and small < big < whole
    assert shop.server.do("SELECT count(*) FROM much WHERE word = 'y'", database="big") == [(2857,)]


def renumbered(point: Point, **numbers: int) -> Point:
    """The point of a server whose databases had other numbers."""
    samples = []
    for sample in point.told.samples:
        if sample.key == "server":
            numbers = {**json.loads(sample.fields["databases"]), **numbers}
            sample = replace(sample, fields={**sample.fields, "databases": json.dumps(numbers)})
        samples.append(sample)
    return Point(point.reader, replace(point.told, samples=tuple(samples)))


@pytest.mark.parametrize("why", ["a database of another number", "files of its own that were not known as such"])
def test_all_is_fetched_where_it_does_not_recover_without_the_others(shop: Shop, restore: Restore, why: str) -> None:
    known = {sample.key: sample.fields for sample in shop.points["physical"].told.samples}["server"]
    numbers = json.loads(known["databases"])
    wrong = {"my shop": 99_999, "other": numbers["my shop"]} if "files" in why else {"my shop": 99_999}
    point = renumbered(shop.points["physical"], **wrong)
    restore("physical", point=point, name="back")
    first, second = point.fetched
    assert first < second == sum(entry.size for _, entry in point.listing() if entry.kind is EntryKind.FILE)
    assert shop.server.do("SELECT count(*) FROM sales.orders", database="back") == [(2000,)]


def test_a_moment_within_the_log_comes_back(shop: Shop, restore: Restore) -> None:
    """What was dropped a moment later is there, as a table and as a part of the whole."""
    done = restore("physical", name="then", at=shop.moment, tables=("gone",), verify=True)
    assert "compared: 7 rows of 1 table are there as they were taken" in done.notes
    assert shop.server.do("SELECT count(*) FROM gone", database="then") == [(7,)]
    assert shop.server.do("SELECT to_regclass('sales.orders') IS NULL", database="then") == [(True,)]
    with pytest.raises(NotFoundError, match="no table 'gone'"):
        restore("physical", name="at the end", tables=("gone",))


@pytest.mark.parametrize("form", FORMS)
def test_tables_come_with_what_they_cannot_be_without(shop: Shop, restore: Restore, form: str) -> None:
    """Types, functions, partitions, children, the sequence where it was; and none of the other tables."""
    tables = ("sales.orders", "sales.events", "items", "public.Odd. name", "two\nlines")
    done = restore(form, name="some", tables=tables)
    there, stood = rows(shop.server, "some"), rows(shop.server, "my shop")
    there.pop("(large objects)")
    wanted = {"sales.orders", "sales.events_2025", "sales.events_2026", "sales.items", "sales.returns"}
    assert there == {name: sums for name, sums in stood.items() if name in wanted or "Odd" in name or "two" in name}
    assert len(there) == len(wanted) + 2
    assert not any("foreign key" in note for note in done.notes), "both ends were taken"
    look = """
        SELECT (SELECT count(*) FROM pg_indexes WHERE schemaname = 'sales'),
            (SELECT count(*) FROM pg_policies), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
            (SELECT count(*) FROM pg_constraint WHERE contype = 'f'),
            to_regclass('sales.big') IS NULL, (SELECT relrowsecurity FROM pg_class WHERE relname = 'orders'),
            has_column_privilege('readers', 'sales.orders', 'amount', 'select')
        """
    assert shop.server.do(look, database="some") == [(3, 1, 1, 1, True, True, True)]
    ((number,),) = shop.server.do("INSERT INTO sales.orders (amount) VALUES (1) RETURNING id", database="some")
    assert number > 2000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tables", [(), ("items",)], ids=["whole", "table"])
def test_a_dump_needs_no_server_in_use(
    shop: Shop, restore: Restore, tmp_path: Path, form: str, tables: tuple[str, ...]
) -> None:
    folder = tmp_path / "dumps"
    options = {"host": "/nowhere"}
    done = restore(form, folder=folder, tables=tables, options=options)
    (file,) = folder.iterdir()
    assert file.name == done.name == ("my%20shop.items.dump" if tables else "my%20shop.dump")
    assert file.stat().st_mode & 0o077 == 0, "it holds what only some may read"
    shop.server.do("CREATE DATABASE loaded")
    command = [shop.server.bin / "pg_restore", "--exit-on-error", "-h", shop.server.place, "-U", "postgres"]
    subprocess.run([*command, "-d", "loaded", file], check=True, env={"PATH": os.environ["PATH"]})
    assert shop.server.do("SELECT count(*) FROM sales.items", database="loaded") == [(2010,)]
    if tables:
        assert "left out: 1 foreign key to tables that were not taken" in done.notes
        assert shop.server.do("SELECT to_regclass('sales.orders') IS NULL", database="loaded") == [(True,)]
    with pytest.raises(RefusedError, match="already"):
        restore(form, folder=folder, tables=tables, options=options)


def test_a_dump_replaces_one_when_told_to(restore: Restore, tmp_path: Path) -> None:
    (tmp_path / "my%20shop.dump").write_text("another")
    restore("logical", folder=tmp_path, existing=Existing.OVERWRITE)
    assert (tmp_path / "my%20shop.dump").read_bytes().startswith(b"PGDMP")
    assert [file.name for file in tmp_path.iterdir() if file.name != "state"] == ["my%20shop.dump"]


@contextmanager
def standing(shop: Shop) -> Iterator[None]:
    """What the tests share stands there again afterwards, whatever became of it."""
    shop.server.do('ALTER DATABASE "my shop" RENAME TO "kept apart"')
    shop.server.do('CREATE DATABASE "my shop"', "SELECT 1")
    try:
        shop.server.do("CREATE TABLE stands (n int)", database="my shop")
        yield
    finally:
        shop.server.do('DROP DATABASE IF EXISTS "my shop" WITH (FORCE)')
        shop.server.do('ALTER DATABASE "kept apart" RENAME TO "my shop"')


@pytest.mark.parametrize("form", FORMS)
def test_in_place_both_are_renamed_in_one_step_and_the_old_one_is_kept(shop: Shop, restore: Restore, form: str) -> None:
    with standing(shop):
        before = shop.names()
        with pytest.raises(RefusedError, match="already"):
            restore(form, in_place=True)
        done = restore(form, in_place=True, existing=Existing.OVERWRITE)
        assert done.kept_as is not None and done.kept_as.startswith("my shop-before-restore-")
        assert shop.names() == before | {done.kept_as}
        assert shop.server.do("SELECT count(*) FROM sales.orders", database="my shop") == [(2000,)]
        assert shop.server.do("SELECT count(*) FROM stands", database=done.kept_as) == [(0,)]


def test_one_that_was_dropped_comes_back_in_place(shop: Shop, restore: Restore) -> None:
    with standing(shop):
        shop.server.do('DROP DATABASE "my shop"')
        assert restore("logical", in_place=True).kept_as is None
        assert shop.server.do("SELECT count(*) FROM sales.orders", database="my shop") == [(2000,)]


def test_whoever_is_connected_keeps_it_and_the_restored_one_is_not_lost(shop: Shop, restore: Restore) -> None:
    with standing(shop), shop.server.connect("my shop", application_name="cash desk"):
        with pytest.raises(RestoreError) as raised:
            restore("logical", in_place=True, existing=Existing.OVERWRITE)
        assert "cash desk" in raised.value.why
        assert shop.server.do("SELECT count(*) FROM stands", database="my shop") == [(0,)]
        assert shop.server.do("SELECT count(*) FROM sales.orders", database=DEFAULT_NAME) == [(2000,)]
        for name in (DEFAULT_NAME, "my shop-before-restore-"):
            assert name in raised.value.todo, "how to do it by hand"


def told_as(point: Point, version: str) -> Point:
    """The point of a server of another version."""
    samples = tuple(
        replace(sample, fields={**sample.fields, "version": version}) if sample.key == "server" else sample
        for sample in point.told.samples
    )
    return Point(point.reader, replace(point.told, samples=samples))


AGAINST: list[tuple[dict[str, Any], dict[str, str], type[BackupsError], str]] = [
    ({"database": "my shoop"}, {}, NotFoundError, "did you mean 'my shop'"),
    ({"name": "postgres"}, {}, RefusedError, "postgres on .* already"),
    ({"name": "busy"}, {}, RefusedError, "busy-unfinished"),
    ({"name": "x" * 64}, {}, UsageError, "cannot be called"),
    ({}, {"host": "/nowhere"}, RestoreError, "/nowhere is not reached"),
    ({}, {"user": "weak"}, RestoreError, "not restored"),
    ({"in_place": True, "existing": Existing.OVERWRITE}, {"user": "maker"}, RestoreError, "not restored"),
    ({"in_place": True, "database": "postgres"}, {}, RefusedError, "not replaced"),
    ({"verify": True}, {"user": "maker"}, RestoreError, "not restored"),
    ({}, {"scratch": "/nowhere"}, RestoreError, "nothing was restored"),
    ({}, {"tools": "/nowhere"}, RestoreError, "programs of PostgreSQL 15"),
]


def test_what_stands_against_it_is_said_before_anything_is_fetched(shop: Shop, tmp_path: Path) -> None:
    shop.server.do("CREATE ROLE weak LOGIN", "CREATE ROLE maker LOGIN CREATEDB", 'CREATE DATABASE "busy-unfinished"')
    before = shop.names()

    class Untouched(Point):
        def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
            raise AssertionError("it was fetched")

    for form, (wish, options, kind, said) in product(FORMS, AGAINST):
        point, given = shop.points[form], {"host": str(shop.server.place), "user": "postgres", **options}
        source = PostgresqlSource("shop", given, state=tmp_path)
        wanted = DatabaseWish(**{"database": "my shop", "moment": NOW, **wish})
        with pytest.raises(kind, match=said) as planned:
            source.plan_database(point.reader, point.told, wanted)
        assert planned.value.why and planned.value.todo
        with pytest.raises(kind, match=said):
            untouched = Untouched(point.reader, point.told)
            source.restore_database(untouched, point.told, wanted, lambda _: nullcontext(Silent()))
    assert shop.names() == before


def test_a_newer_database_does_not_go_into_an_older_server(
    shop: Shop, restore: Restore, newer_postgresql_programs: Path
) -> None:
    with pytest.raises(RestoreError) as raised:
        restore("", point=told_as(shop.points["logical"], "18"), options={"tools": str(newer_postgresql_programs)})
    assert "18, and the server is 15" in raised.value.why


@pytest.mark.parametrize("form", FORMS)
def test_a_disk_without_room_is_said_beforehand(restore: Restore, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 19))
    with pytest.raises(RestoreError, match="nothing was restored") as raised:
        restore(form)
    assert "MiB" in raised.value.why and "scratch" in raised.value.todo


def test_who_may_only_make_databases_gets_one_that_is_closed_to_others(shop: Shop, restore: Restore) -> None:
    shop.server.do("CREATE ROLE maker LOGIN CREATEDB", "CREATE ROLE stranger LOGIN")
    done = restore("logical", options={"user": "maker"})
    assert any("belongs to maker" in note for note in done.notes)
    assert rows(shop.server, done.name) == rows(shop.server, "my shop")
    assert shop.server.do(f"SELECT has_database_privilege('stranger', '{done.name}', 'connect')") == [(False,)]
    with shop.server.connect(done.name) as session:
        owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'sales'::regnamespace"
        assert session.execute(owners).fetchall() == [("maker",)]


def test_why_a_database_cannot_be_made_is_told_without_its_statements_and_rows(shop: Shop, tmp_path: Path) -> None:
    """However long the statement is, and whatever the server says of where in it."""
    address = Address(str(shop.server.place), user="postgres")
    shop.server.do("CREATE DATABASE frail", "CREATE DATABASE empty")
    shop.server.do(
        "CREATE TABLE known (n int)",
        "INSERT INTO known VALUES (1)",
        "CREATE FUNCTION is_known(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM known WHERE n = $1)'",
        "CREATE TABLE checked (n int CHECK (is_known(n)))",
        "INSERT INTO checked VALUES (1)",
        database="frail",
    )
    archive = Archive.of(find_tools(15, ""), address, "frail", tmp_path / "frail.dump")
    with pytest.raises(ToolError) as raised:
        archive.load(address, "empty")
    assert raised.value.detail.endswith('relation "known" does not exist')
    assert "checked" in raised.value.detail and "SELECT" not in raised.value.detail
    shop.server.do(
        "CREATE TYPE nothing AS (n int)", "CREATE TABLE made (a int,\nb int,\nc nothing,\nd int)", database="frail"
    )
    archive = Archive.of(find_tools(15, ""), address, "frail", tmp_path / "frail.dump", "--table=made")
    with pytest.raises(ToolError) as raised:
        archive.load(address, "empty")
    assert raised.value.detail.endswith('type "public.nothing" does not exist')


@pytest.mark.parametrize("form", FORMS)
def test_roles_that_are_lacking_come_without_a_login(
    postgresql_programs: Path, shop: Shop, restore: Restore, form: str
) -> None:
    """And only those that the database names."""
    with postgresql.server(postgresql_programs) as other:
        done = restore(form, options={"host": str(other.place)}, name="shop")
        found = other.do("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")
        assert found == [("postgres", True), ("readers", False), ("shop keeper", False)]
        assert any("readers and shop keeper" in note for note in done.notes)
        other.do("DROP DATABASE shop", 'DROP ROLE "shop keeper"', "DROP ROLE readers")
        if form == "logical":
            cut = MemoryPoint(dict(shop.points[form].reader.entries))  # type: ignore[attr-defined]
            entry, content = cut.entries[b"/my%20shop.dump"]
            cut.entries[b"/my%20shop.dump"] = entry, content.replace(b"event 77\n", b"event 77\t")
            with pytest.raises(RestoreError) as raised:
                restore(form, point=Point(cut, shop.points[form].told), options={"host": str(other.place)}, name="shop")
            assert "event 7" not in raised.value.why, "no rows"
            assert other.do("SELECT count(*) FROM pg_database") == [(3,)]
            assert other.do("SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'") == [(1,)]


def test_rows_that_arrive_as_others_leave_no_database(shop: Shop, restore: Restore) -> None:
    assert any("compared" in note for note in restore("logical", name="right", verify=True).notes)
    point = shop.points["logical"]
    reader = MemoryPoint(dict(point.reader.entries))  # type: ignore[attr-defined]
    entry, content = reader.entries[b"/my%20shop.dump"]
    reader.entries[b"/my%20shop.dump"] = entry, content.replace(b"event 77\n", b"event 78\n")
    before = shop.names()
    with pytest.raises(RestoreError, match="was not restored") as raised:
        restore("logical", point=Point(reader, point.told), name="wrong", verify=True)
    assert "not what was taken" in raised.value.why
    assert shop.names() == before


def test_a_point_whose_log_has_a_hole_gives_no_database(shop: Shop, restore: Restore) -> None:
    point = shop.points["physical"]

    class Holed(Point):
        def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
            super().__call__(place, only=only, spare=spare)
            next((place / "wal").glob("0*")).unlink()

    before = shop.names()
    with pytest.raises(RestoreError) as raised:
        restore("physical", point=Holed(point.reader, point.told))
    assert raised.value.why
    assert shop.names() == before
