"""PostgreSQL: dumps that come back with everything, are of one moment, and never look whole when they are not."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject, captured

from cto_backups import registry
from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing
from cto_backups.core.trees import ArrivingTree
from cto_backups.errors import PolicyError, RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.sources.postgresql.connection import find_tools, installed
from cto_backups.sources.postgresql.rows import hold, tables
from cto_backups.sources.postgresql.source import PostgresqlSource
from cto_backups.sources.postgresql.throwaway import throwaway
from servers import postgresql
from servers.postgresql import Server

Make = Callable[..., PostgresqlSource]


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path) -> Iterator[Server]:
    """A server with a bit of everything, which tests may add to."""
    with postgresql.server(postgresql_programs, listen_addresses="127.0.0.1", port=str(free_port())) as made:
        postgresql.fill(made)
        yield made


def making(shop: Server, state: Path) -> Make:
    def made(name: str = "shop", **options: Any) -> PostgresqlSource:
        given = {"host": str(shop.place), "port": shop.port, "user": "postgres", **options}
        return PostgresqlSource(name, given, state=state)

    return made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    return making(shop, tmp_path / "state")


@pytest.fixture(scope="module")
def taken_once(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    return captured(making(shop, tmp_path_factory.mktemp("state"))())


def restored_from(source: PostgresqlSource, point: MemoryPoint, place: Path, expected: Fingerprint) -> tuple[str, ...]:
    """What differs once a point was restored and made anew."""
    source.restore(point, place)
    return compare(expected, source.probe(place, expected)).differences


def altered(old: bytes, new: bytes, name: str = "my%20shop.dump") -> Fault:
    """A dump in which something else stands; it is not compressed."""

    def fault(restored: Path) -> None:
        content = (restored / name).read_bytes()
        assert old in content and len(old) == len(new)
        (restored / name).write_bytes(content.replace(old, new, 1))

    return fault


def without_line(start: bytes) -> Fault:
    """What all databases share, without a line of it."""

    def fault(restored: Path) -> None:
        lines = (restored / "globals.sql").read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(start)]
        assert len(kept) < len(lines)
        (restored / "globals.sql").write_bytes(b"".join(kept))

    return fault


class TestPostgresqlSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a lost dump": lambda restored: (restored / "my%20shop.dump").unlink(),
        "a cut dump": lambda restored: os.truncate(restored / "my%20shop.dump", 60_000),
        "a value that is another": altered(b"event 77\n", b"event 78\n"),
        "a row of few bytes that is another": altered(b"other\n", b"oth3r\n"),
        "a default that is another": altered(b"DEFAULT now()", b"DEFAULT NULL "),
        "a function that does something else": altered(b"SELECT a + b", b"SELECT a - b"),
        "a lost role": without_line(b"CREATE ROLE readers"),
        "a lost membership": without_line(b"GRANT readers TO"),
        "a lost setting of a role": without_line(b'ALTER ROLE "shop keeper" SET'),
    }

    @pytest.fixture
    def taken(self, taken_once: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return taken_once

    @pytest.fixture
    def subject(self, shop: Server, make: Make) -> Subject:
        number = iter(range(100))

        def change() -> None:
            shop.do(f"INSERT INTO twins VALUES ('{next(number)} of {time.monotonic_ns()}')", database="my shop")

        return Subject(source=make(), make=make, change=change, missing=make("nowhere", host="/nowhere"))


def test_it_finds_every_database_and_the_server(shop: Server, make: Make) -> None:
    found = {resource.name: resource for resource in make(databases=("my shop",)).discover()}
    place = f"postgresql:{shop.place}"
    assert set(found) == {f"{place}/my shop", f"{place}/.s.PGSQL.{shop.port}"}, "the empty one is everybody's"
    assert (found[f"{place}/my shop"].size_bytes or 0) > 1_000_000
    shop.do("CREATE TABLE kept_here (n int)")
    try:
        found = {resource.name: resource for resource in make(databases=("my shop",)).discover()}
        assert [resource.name for resource in found.values() if not resource.covered] == [f"{place}/postgres"]
    finally:
        shop.do("DROP TABLE kept_here")
    assert all(resource.covered for resource in make().discover()), "all of them, and those to come"


@pytest.fixture
def newer(newer_postgresql_programs: Path) -> Iterator[Server]:
    """A server of the newest version."""
    with postgresql.server(newer_postgresql_programs) as made:
        postgresql.fill(made, extensions=False)
        yield made


@pytest.mark.parametrize("name", ["shop", "newer"])
def test_a_dump_is_of_one_moment_however_much_is_written_meanwhile(
    name: str, request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    """Two tables whose sums are equal in each transaction, sequences that move on, rows that come and go."""
    shop: Server = request.getfixturevalue(name)
    source = make(host=str(shop.place), port=shop.port, tools=str(shop.bin))
    shop.do("CREATE TABLE a (n bigserial, v int)", "CREATE TABLE b (n bigserial, v int)", database="my shop")
    stop = threading.Event()
    written = [0]

    def write(number: int) -> None:
        with shop.connect("my shop") as session:
            while not stop.is_set():
                with session.transaction():
                    session.execute("INSERT INTO a (v) SELECT generate_series(1, 20)")
                    session.execute("INSERT INTO b (v) SELECT generate_series(1, 20)")
                    session.execute(f"UPDATE a SET v = v + 1 WHERE n % 14 = {7 * number}")
                written[0] += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(2):
            before = written[0]
            point, expected = captured(source)
            assert written[0] > before
            assert restored_from(source, point, tmp_path / f"restored-{number}", expected) == ()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
        shop.do("DROP TABLE a", "DROP TABLE b", database="my shop")


def test_a_standby_is_dumped_and_proven(postgresql_programs: Path, make: Make, tmp_path: Path) -> None:
    """With all but the rows of unlogged tables, and its primary goes on; where it may not, that is told."""
    with postgresql.server(postgresql_programs) as primary:
        postgresql.fill(primary)
        primary.do("CREATE TABLE large (n int, w text COMPRESSION lz4)", database="my shop")
        settings = {"port": "5433", "max_standby_streaming_delay": "0"}
        with postgresql.standby(primary, **settings) as standby:
            source = make(host=str(standby.place), port=standby.port)
            with source.capture() as capture:
                point, expected = MemoryPoint.of(capture.tree), capture.fingerprint()
                assert "unlogged" in " ".join(capture.notes)  # type: ignore[attr-defined]
            point.restore(tmp_path / "restored")
            found = make().probe(tmp_path / "restored", expected)
            assert compare(expected, found).differences == ()
            (scratch,) = (sample.fields for sample in found.samples if sample.key == "my shop: sales.scratch")
            assert scratch["rows"] == "0"
            # A sum that takes long, and a primary that takes its table away.
            rows = "INSERT INTO large VALUES (0, repeat('x', 50000000))", "INSERT INTO large SELECT * FROM large"
            primary.do(*rows, *rows[1:] * 5, database="my shop")
            reached = primary.do("SELECT pg_current_wal_lsn()")
            while standby.do("SELECT pg_last_wal_replay_lsn()") < reached:
                time.sleep(0.05)
            with pytest.raises(SourceError, match="conflict with recovery") as failed, source.capture() as capture:
                tree, buffer = capture.tree, memoryview(bytearray(1 << 16))
                assert not isinstance(tree, ArrivingTree)
                (entry,) = (entry for entry in tree.folder(tree.root) if entry.name == b"my%20shop.dump")
                with closing(tree.open(entry)) as reader:
                    assert reader.readinto(buffer)
                    primary.do("TRUNCATE large", database="my shop")
                    while reader.readinto(buffer):
                        pass
                capture.fingerprint()
            assert "hot_standby_feedback" in failed.value.todo


def test_a_standby_that_lags_behind_is_as_old_as_what_it_has(postgresql_programs: Path, make: Make) -> None:
    """By its primary's clock, and not by when it was read; one that has all of an idle primary is not old."""
    with postgresql.server(postgresql_programs) as primary:
        primary.do("CREATE TABLE t AS SELECT 1 AS n")
        with postgresql.standby(primary, port="5433") as standby:
            caught_up = "SELECT pg_last_wal_replay_lsn() >= latest_end_lsn FROM pg_stat_wal_receiver"
            while standby.do(caught_up) != [(True,)]:
                time.sleep(0.1)
            began = primary.do("SELECT clock_timestamp()")[0][0]
            time.sleep(1.0)
            primary.do("INSERT INTO t VALUES (2)")
            while standby.do("SELECT count(*) FROM t") != [(2,)]:
                time.sleep(0.05)
            source = make(host=str(standby.place), port=standby.port, databases=("postgres",))
            with source.capture() as capture:
                assert capture.captured_at > began
            standby.do("SELECT pg_wal_replay_pause()")
            until = primary.do("SELECT clock_timestamp()")[0][0]
            primary.do("INSERT INTO t VALUES (3)")
            received = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
            while standby.do(received) != [(True,)]:
                time.sleep(0.05)
            time.sleep(1.0)
            with source.capture() as capture:
                assert began < capture.captured_at < until


def test_a_sequence_that_fell_back_shows(shop: Server, make: Make, tmp_path: Path) -> None:
    shop.do("SELECT setval('sales.countdown', 49)", database="my shop")  # it jumps where a server ended without a word
    point, expected = captured(make())
    source = make()
    source.restore(point, tmp_path / "restored")
    altered(b"setval('sales.countdown', 49", b"setval('sales.countdown', 50")(tmp_path / "restored")
    (difference, *_) = compare(expected, source.probe(tmp_path / "restored", expected)).differences
    assert "sequence sales.countdown" in difference


ODD = {
    "checks that the server writes otherwise after a restore": """
        CREATE TABLE odd (s varchar(10) CHECK (s IN ('a', 'b''c')), n int CHECK (n IN (1, 2)));
        CREATE INDEX ON odd (s) WHERE s IN ('a', 'b');
        CREATE VIEW odd_view AS SELECT * FROM odd WHERE s IN ('x', lower('Y'));
        CREATE DOMAIN odd_domain AS varchar CHECK (VALUE IN ('p', 'q'))""",
    "a child whose columns come in another order": """
        CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); ALTER TABLE parent ADD z int;
        INSERT INTO child VALUES (1, 2, 3)""",
    "numbers that are none": """
        CREATE TABLE odd (f float8); INSERT INTO odd VALUES ('Infinity'::float8 - 'Infinity'), (0.1)""",
    "an invalid index": """
        CREATE TABLE odd (n int); CREATE INDEX bad ON odd (n);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bad'::regclass""",
    "a foreign key to partitions": """
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE r (id int REFERENCES p)""",
    "options of a view, and a role for ever": """
        CREATE TABLE odd (n int); CREATE VIEW odd_view WITH (security_barrier = true, check_option = local)
        AS SELECT * FROM odd; ALTER ROLE readers VALID UNTIL 'infinity'""",
    "a database that only reads": """
        ALTER DATABASE "Odd.db" SET default_transaction_read_only = on""",
    "no schema public": "DROP SCHEMA public; CREATE SCHEMA own; CREATE TABLE own.odd AS SELECT 1 AS n",
    "a trigger that forbids new tables": """
        CREATE TABLE odd (n int);
        CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
        CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION never()""",
    "a large object in two parts": "SELECT lo_put(lo_from_bytea(0, 'begins'), 70000000, 'ends')",
    "names with dots": """
        CREATE SCHEMA "a.b"; CREATE TABLE "a.b".c AS SELECT 1 AS n; CREATE SEQUENCE "a.b".s;
        CREATE SCHEMA a; CREATE TABLE a."b.c" AS SELECT 2 AS n; CREATE SEQUENCE a."b.s"; SELECT nextval('a."b.s"')""",
    "a sequence that goes round": "CREATE SEQUENCE odd MAXVALUE 3 CYCLE; SELECT nextval('odd')",
}


def test_healthy_databases_with_odd_things_in_them_pass(shop: Server, make: Make, tmp_path: Path) -> None:
    """False alarms that a reviewer found, in databases whose names are no patterns; a difference names its database."""
    names = {f"Odd.db: {what}": content for what, content in ODD.items()}
    try:
        for name, content in names.items():
            shop.do(f'CREATE DATABASE "{name}"')
            with shop.connect(name) as session:
                session.execute("SET allow_system_table_mods = on")
                session.execute(content.replace("Odd.db", name))
        source = make(databases=tuple(names))
        point, expected = captured(source)
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
        assert expected.counts["databases"] == len(ODD)
    finally:
        for name in names:
            shop.do(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_texts_in_no_encoding_are_kept_as_they_are(shop: Server, make: Make, tmp_path: Path) -> None:
    shop.do("CREATE DATABASE raw ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        statements = "CREATE TABLE odd (t text)", "INSERT INTO odd VALUES (convert_from('\\xe9ff41', 'SQL_ASCII'))"
        shop.do(*statements, database="raw")
        source = make(databases=("raw",))
        point, expected = captured(source)
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
        assert b"\xe9\xffA" in (tmp_path / "restored/raw.dump").read_bytes()
    finally:
        shop.do("DROP DATABASE raw")


def test_a_large_object_that_differs_at_its_end_shows(shop: Server) -> None:
    with shop.connect("my shop") as session:
        found = []
        for end in ("ends", "enda"):
            with session.transaction(force_rollback=True):
                session.execute("SELECT lo_put(lo_from_bytea(4711, 'begins'), 70000000, %s::bytea)", (end,))
                *_, objects = tables(session)
                found.append(objects)
        assert found[0].rows == found[1].rows == 2, "it, and the one that was there"
        assert found[0].sums != found[1].sums


def test_settings_of_all_roles_come_back(shop: Server, make: Make, tmp_path: Path) -> None:
    shop.do(
        "ALTER ROLE ALL SET search_path = \"$user\", public, 'odd ''schema'",
        "ALTER ROLE ALL SET \"my.setting\" = 'it''s'",
    )
    try:
        source = make(databases=("my shop",))
        point, expected = captured(source)
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
        without_line(b'ALTER ROLE ALL SET "my"')(tmp_path / "restored")
        (difference, *_) = compare(expected, source.probe(tmp_path / "restored", expected)).differences
        assert "role settings" in difference
    finally:
        shop.do("ALTER ROLE ALL RESET ALL")


def test_options_of_a_mapping_that_a_dump_lacks_show(shop: Server, make: Make, tmp_path: Path) -> None:
    """pg_dump leaves them out without a word for who may not see them; a restore test says so."""
    shop.do("CREATE ROLE keeper LOGIN BYPASSRLS", "GRANT pg_read_all_data TO keeper", "CREATE DATABASE mapped")
    try:
        with shop.connect("mapped") as session:
            session.execute("CREATE FOREIGN DATA WRAPPER other; CREATE SERVER far FOREIGN DATA WRAPPER other")
            session.execute("CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'sup3rs3cret')")
        keeper = make(user="keeper", role_passwords=False, databases=("mapped",))
        point, expected = captured(keeper)
        (difference,) = restored_from(keeper, point, tmp_path / "restored", expected)
        assert "user mappings" in difference and "sup3rs3cret" not in difference
        whole = make(databases=("mapped",))
        point, expected = captured(whole)
        assert restored_from(whole, point, tmp_path / "whole", expected) == ()
    finally:
        shop.do("DROP DATABASE mapped WITH (FORCE)")
        shop.do("DROP ROLE keeper")


def test_what_is_emptied_once_a_dump_has_begun_is_in_it(shop: Server, make: Make, tmp_path: Path) -> None:
    """Who empties a table waits until it is dumped and summed up: not even a moment in between is lost."""
    shop.do("CREATE TABLE zz (n int)", "INSERT INTO zz SELECT generate_series(1, 50)", database="my shop")
    try:
        with shop.connect("my shop") as session:
            name = hold(session)
            emptier = threading.Thread(target=shop.do, args=("TRUNCATE zz",), kwargs={"database": "my shop"})
            emptier.start()
            time.sleep(0.3)
            with shop.connect("my shop") as another:
                another.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                another.execute(f"SET TRANSACTION SNAPSHOT '{name}'")
            found = {table.name: table.rows for table in tables(session)}
            assert found["public.zz"] == 50
            assert emptier.is_alive()
            session.execute("ROLLBACK")
        emptier.join()
    finally:
        shop.do("DROP TABLE zz", database="my shop")


def test_a_role_that_comes_meanwhile_is_in_the_dump_or_not_counted(shop: Server, make: Make, tmp_path: Path) -> None:
    source = make()
    with source.capture() as capture:
        shop.do("CREATE ROLE late")
        point = MemoryPoint.of(capture.tree)
        expected = capture.fingerprint()
    try:
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
    finally:
        shop.do("DROP ROLE late")


def test_who_backs_up_needs_to_read_everything_and_no_more(shop: Server, make: Make, tmp_path: Path) -> None:
    """The role that the how-to page makes; row-level security hides nothing from it, or it is refused."""
    ((large,),) = shop.do("SELECT oid FROM pg_largeobject_metadata", database="my shop")
    catalogues = "pg_largeobject, pg_largeobject_metadata"
    shop.do("CREATE ROLE keeper LOGIN PASSWORD 'kept secret' BYPASSRLS", "GRANT pg_read_all_data TO keeper")
    shop.do(
        f"GRANT SELECT ON {catalogues} TO keeper",
        f"GRANT SELECT ON LARGE OBJECT {large} TO keeper",
        database="my shop",
    )
    try:
        keeper = make(user="keeper", role_passwords=False, databases=("my shop",))
        point, expected = captured(keeper)
        assert restored_from(keeper, point, tmp_path / "restored", expected) == ()
        shop.do("ALTER ROLE keeper NOBYPASSRLS")
        with pytest.raises(SourceError, match=r"could not be dumped|cannot be read") as raised:
            captured(make(user="keeper", role_passwords=False, databases=("my shop",)))
        assert "orders" in raised.value.why
    finally:
        shop.do(
            f"REVOKE ALL ON LARGE OBJECT {large} FROM keeper",
            f"REVOKE ALL ON {catalogues} FROM keeper",
            database="my shop",
        )
        shop.do("DROP ROLE keeper")


def test_a_password_is_asked_for_and_shown_to_nobody(shop: Server, make: Make) -> None:
    host = {"host": "127.0.0.1", "sslmode": "disable"}
    _, expected = captured(make(**host, password=lambda: "secret of tests"))
    assert expected.counts["databases"] == 2
    with pytest.raises(SourceError, match="cannot be read") as raised:
        make(**host, password=lambda: "S3cr3t of mine").discover()
    assert "password authentication failed" in raised.value.why
    assert "S3cr3t" not in f"{raised.value} {raised.value.why} {raised.value.todo}"
    with pytest.raises(SourceError) as raised:
        make(host="127.0.0.1", password=lambda: "secret of tests").discover()
    assert "SSL" in raised.value.why, "TLS is asked for where a host is a name"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"databases": ("shop",)}, "there is no database shop"),
        ({"user": "nobody at all"}, "cannot be read"),
        ({"host": "/nowhere"}, "cannot be read"),
        ({"tools": "/nowhere"}, "whose programs are not here"),
    ],
)
def test_what_cannot_be_read_is_told(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError) as raised:
        captured(make(**options))
    assert said in f"{raised.value.what}: {raised.value.why}"
    assert raised.value.todo


def test_a_locked_table_ends_the_dump_and_not_the_night(shop: Server, make: Make) -> None:
    with shop.connect("my shop") as session, session.transaction():
        session.execute("LOCK TABLE twins IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceError) as raised:
            captured(make(lock_seconds=0.5))
    assert "timeout" in raised.value.why


@pytest.mark.parametrize("how", ["session", "server process"])
def test_a_connection_that_breaks_is_no_point(shop: Server, make: Make, how: str) -> None:
    """Somebody ends the dump's session, or the server's process of it dies, and the server starts anew."""
    rows = "SELECT n, repeat(md5(n::text), 50) FROM generate_series(1, 40000) n"
    shop.do(f"CREATE TABLE bulk AS {rows}", database="my shop")
    find = "SELECT pid FROM pg_stat_activity WHERE application_name = 'cto.backups pg_dump' AND datname = 'my shop'"

    def harm() -> None:
        for _ in range(2000):
            if pids := shop.do(find):
                time.sleep(0.05)
                if how == "session":
                    shop.do(f"SELECT pg_terminate_backend({pids[0][0]})")
                else:
                    os.kill(pids[0][0], signal.SIGKILL)
                return
            time.sleep(0.002)

    harmer = threading.Thread(target=harm)
    harmer.start()
    try:
        with pytest.raises(SourceError) as raised:
            captured(make(), block=1 << 12)
        assert raised.value.why
    finally:
        harmer.join()
        for _ in range(200):
            try:
                shop.do("DROP TABLE IF EXISTS bulk", database="my shop")
                break
            except psycopg.Error:
                time.sleep(0.1)


# -- in place ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(postgresql_programs: Path) -> Iterator[Server]:
    """Another server, with nothing in it."""
    with postgresql.server(postgresql_programs) as made:
        yield made


def test_databases_are_made_on_another_server_with_the_roles_they_need(
    shop: Server, other: Server, make: Make, tmp_path: Path
) -> None:
    point, expected = captured(make(databases=("my shop",)))
    there = make(host=str(other.place), port=other.port, databases=("my shop",))
    plan = there.plan_restore(point, None)
    assert plan.conflicts == ()
    restored = there.restore(point, None)
    assert restored.places == (str(other.place),)
    assert other.do("SELECT count(*) FROM sales.orders", database="my shop") == [(2000,)]
    assert other.do("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'shop keeper'") == [(7,)]
    again, found = captured(make(host=str(other.place), port=other.port, databases=("my shop",)))
    rows = {name: value for name, value in expected.checksums.items() if name.startswith("my shop: ")}
    assert {name: found.checksums[name] for name in rows} == rows
    assert again is not point


def test_what_stands_there_is_kept_under_another_name_and_only_when_told_to(
    shop: Server, other: Server, make: Make
) -> None:
    point, _ = captured(make(databases=("my shop",)))
    there = make(host=str(other.place), port=other.port, databases=("my shop",))
    there.restore(point, None)
    other.do("CREATE TABLE later (n int)", database="my shop")
    assert there.plan_restore(point, None).conflicts == ("my shop",)
    with pytest.raises(RefusedError, match="there already"):
        there.restore(point, None)
    with other.connect("my shop") as somebody:
        somebody.execute("SELECT 1")
        with pytest.raises(RestoreError) as raised:
            there.restore(point, None, existing=Existing.OVERWRITE)
        assert "being accessed by other users" in raised.value.why
    restored = there.restore(point, None, existing=Existing.OVERWRITE)
    names = sorted(name for (name,) in other.do("SELECT datname FROM pg_database WHERE datname LIKE 'my shop%'"))
    assert len(names) == 2 and names[1].startswith("my shop-before-restore-")
    assert any(names[1] in note for note in restored.notes)
    assert other.do("SELECT to_regclass('later') IS NULL", database="my shop") == [(True,)]
    assert other.do("SELECT to_regclass('later') IS NULL", database=names[1]) == [(False,)]


def test_a_restore_that_fails_leaves_what_was_there_and_tells_no_secret(
    shop: Server, other: Server, make: Make
) -> None:
    point, _ = captured(make(databases=("my shop",)))
    there = make(host=str(other.place), port=other.port, databases=("my shop",))
    other.do('CREATE DATABASE "my shop"')
    other.do("CREATE TABLE stands (n int)", database="my shop")
    with pytest.raises(RestoreError) as raised:
        there.restore(point, None, only=["/my%20shop.dump"], existing=Existing.OVERWRITE)  # without the roles
    assert "Command was" not in raised.value.why
    names = [name for (name,) in other.do("SELECT datname FROM pg_database WHERE datname LIKE 'my shop%'")]
    assert names == ["my shop"]
    assert other.do("SELECT to_regclass('stands') IS NULL", database="my shop") == [(False,)]


def test_a_whole_server_comes_back_and_revoked_power_does_not(shop: Server, other: Server, make: Make) -> None:
    """The maintenance database is left alone, a long name is not cut, and who is there is not made a member again."""
    long = "customer_portal_production_eu_west_1_main_db_and_still_more_60"
    shop.do(f"CREATE DATABASE {long}")
    try:
        point, _ = captured(make())
        other.do('CREATE ROLE "shop keeper"', "CREATE ROLE readers")
        there = make(host=str(other.place), port=other.port)
        there.restore(point, None)
        there.restore(point, None, existing=Existing.OVERWRITE)
        names = {name for (name,) in other.do("SELECT datname FROM pg_database WHERE NOT datistemplate")}
        assert {"postgres", "my shop", long} <= names and len(names) == 5
        assert all("-before-restore-" in name for name in names - {"postgres", "my shop", long})
        members = "SELECT count(*) FROM pg_auth_members m WHERE m.member = '\"shop keeper\"'::regrole"
        assert other.do(members) == [(0,)]
    finally:
        shop.do(f"DROP DATABASE {long}")


# -- the throwaway server ----------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_throwaway_server(make: Make, tmp_path: Path) -> None:
    point, expected = captured(make())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for parent in scratch.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    scratch.chmod(0o711)
    source = make(scratch=str(scratch))
    source.restore(point, tmp_path / "restored")
    source.probe(tmp_path / "restored", expected)
    (tmp_path / "restored" / "globals.sql").write_bytes(b"this is no SQL;\n")
    with pytest.raises(VerificationError, match="do not work"):
        source.probe(tmp_path / "restored", expected)
    assert list(scratch.iterdir()) == []


HELD = """
import sys, time
from cto_backups.sources.postgresql.connection import find_tools
from cto_backups.sources.postgresql.rows import hold, tables
from cto_backups.sources.postgresql.throwaway import throwaway
with throwaway(find_tools(int(sys.argv[1])), "postgres") as address:
    print(address.host, flush=True)
    time.sleep(60)
"""


def test_a_throwaway_server_dies_with_whoever_was_killed(make: Make, postgresql_programs: Path) -> None:
    major = postgresql_programs.parent.name
    with subprocess.Popen([sys.executable, "-c", HELD, major], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        place = holder.stdout.readline().strip()
        assert any(place in command for command in commands())
        holder.kill()
    for _ in range(200):
        if not any(place in command for command in commands()):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the server is still there")
    assert Path(place).exists()
    with throwaway(find_tools(int(major)), "postgres"):
        assert not Path(place).exists(), "the next one removes what was left"


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def test_the_programs_of_the_servers_version_are_found(postgresql_programs: Path) -> None:
    major = int(postgresql_programs.parent.name)
    assert installed()[major] == postgresql_programs
    assert find_tools(major).folder == postgresql_programs
    assert find_tools(major, str(postgresql_programs)).major == major


def test_without_its_driver_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cto_backups.sources.postgresql.source")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(registry.EXTRAS, "psycopg", "postgresql")
    with pytest.raises(PolicyError, match="needs psycopg") as raised:
        registry.load(registry.SOURCES, "postgresql")
    assert "pip install 'cto-backups[postgresql]'" in raised.value.todo
