"""MySQL's own servers and programs: dumps of one moment that come back, and faults are seen."""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.points import MemoryFetch, MemoryPoint
from source_contract import captured

from cto_backups.core.comparison import compare
from cto_backups.core.database_restore import DatabaseWish
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Silent
from cto_backups.errors import SourceError, VerificationError
from cto_backups.sources.mysql import moment
from cto_backups.sources.mysql.catalogue import catalogue
from cto_backups.sources.mysql.connection import Address
from cto_backups.sources.mysql.source import MysqlSource
from servers import mysql
from servers.mariadb import PASSWORD, Server
from servers.writing import Client, writing

Make = Callable[..., MysqlSource]
Kept = tuple[MemoryPoint, Fingerprint]

RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, RELOAD, REPLICATION CLIENT"
SHOP = "database-my%20shop.sql"


@pytest.fixture(scope="module")
def shop(mysql_programs: Path) -> Iterator[Server]:
    """A server with a bit of everything, and a user who may read it all."""
    with mysql.server(mysql_programs) as made:
        mysql.fill(made)
        made.do("CREATE USER keeper@localhost IDENTIFIED BY 'kept'", f"GRANT {RIGHTS} ON *.* TO keeper@localhost")
        yield made


@pytest.fixture
def make(shop: Server, mysql_programs: Path, tmp_path: Path) -> Make:
    def made(name: str = "shop", **options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "keeper", "password": lambda: "kept", "tools": str(mysql_programs)}
        return MysqlSource(name, {**given, **options}, state=tmp_path / "state")

    return made


@pytest.fixture(scope="module")
def kept(shop: Server, mysql_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    options = {"host": str(shop.socket), "user": "root", "password": lambda: PASSWORD, "tools": str(mysql_programs)}
    return captured(MysqlSource("shop", options, state=tmp_path_factory.mktemp("state")))


def test_files_of_everything_come_back_as_they_were(make: Make, kept: Kept, tmp_path: Path) -> None:
    """As they were for an administrator, captured by a user with no more rights than the how-to names."""
    point, expected = captured(make())
    assert expected == kept[1]
    make().restore(point, tmp_path / "restored")
    assert compare(expected, make().probe(tmp_path / "restored", expected)).differences == ()
    (told,) = (sample.fields for sample in expected.samples if sample.key == "server")
    assert told["binlog_file"].startswith("binlog.") and int(told["binlog_position"]) > 0
    assert expected.counts["tables"] == 11 and expected.counts["databases"] == 2


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param(SHOP, b"'event 77'", b"'event 78'", id="a value that is another"),
        pytest.param("views.sql", b"ALGORITHM=MERGE", b"ALGORITHM=UNDEFINED", id="a view that works in another way"),
    ],
)
def test_what_is_not_as_it_was_shows(make: Make, kept: Kept, tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    kept[0].restore(tmp_path / "restored")
    content = (tmp_path / "restored" / name).read_bytes()
    assert old in content
    (tmp_path / "restored" / name).write_bytes(content.replace(old, new))
    try:
        found = make().probe(tmp_path / "restored", kept[1])
    except VerificationError as error:
        pytest.fail(f"it should be told by comparing: {error.why}")
    assert compare(kept[1], found).differences


@pytest.mark.parametrize(
    ("kind", "like", "change"),
    [
        ("VIEW", "SELECT '😀' AS a", "ALTER VIEW changed AS SELECT '😁' AS a"),
        ("VIEW", "SELECT word FROM twins", "ALTER ALGORITHM = MERGE VIEW changed AS SELECT word FROM twins"),
        ("VIEW", "SELECT word FROM twins", "ALTER SQL SECURITY INVOKER VIEW changed AS SELECT word FROM twins"),
        ("TABLE", "old_words", "ALTER TABLE changed MODIFY w varchar(50) CHARACTER SET latin2"),
        ("TABLE", "twins", "ALTER TABLE changed MODIFY word varchar(60) COLLATE utf8mb4_bin"),
        ("TABLE", "orders", "ALTER TABLE changed ALTER INDEX unseen VISIBLE"),
        ("TABLE", "orders", "ALTER TABLE changed DROP INDEX of_words, ADD INDEX of_words ((UPPER(name)))"),
        ("TABLE", "twins", "ALTER TABLE changed COMMENT 'another'"),
    ],
)
def test_a_change_of_what_there_is_shows(shop: Server, kind: str, like: str, change: str) -> None:
    address = Address(host=str(shop.socket), user="root", password=lambda: PASSWORD)
    shop.do(f"CREATE {kind} changed {'AS' if kind == 'VIEW' else 'LIKE'} {like}", database="my shop")
    try:
        with closing(address.connect()) as session:
            before = catalogue(session, "my shop").digests
            assert catalogue(session, "my shop").digests == before
            shop.do(change, database="my shop")
            assert catalogue(session, "my shop").digests != before
    finally:
        shop.do(f"DROP {kind} changed", database="my shop")


def test_one_database_comes_beside_the_one_that_runs(shop: Server, make: Make, kept: Kept) -> None:
    """By an administrator as it was, and by who has rights on the new name alone with himself as its definer."""
    point, told = kept
    shop.do("GRANT ALL PRIVILEGES ON `beside\\_%`.* TO keeper@localhost", "GRANT SELECT ON *.* TO keeper@localhost")
    shop.do("SET GLOBAL log_bin_trust_function_creators = ON")
    before = set(shop.do("SHOW DATABASES"))
    definers = " UNION ".join(
        f"SELECT DEFINER FROM information_schema.{table} WHERE {column} = '{{0}}'"
        for table, column in (
            ("TRIGGERS", "TRIGGER_SCHEMA"),
            ("VIEWS", "TABLE_SCHEMA"),
            ("EVENTS", "EVENT_SCHEMA"),
            ("ROUTINES", "ROUTINE_SCHEMA"),
        )
    )
    try:
        for name, user, password, definer in (
            ("beside_1", "root", PASSWORD, "root@localhost"),
            ("beside_2", "keeper", "kept", "keeper@localhost"),
        ):
            source = make(user=user, password=lambda secret=password: secret)
            wish = DatabaseWish("my shop", datetime.now(UTC), name=name, verify=True)
            plan = source.plan_database(point, told, wish)
            done = source.restore_database(MemoryFetch(point), told, wish, lambda _: nullcontext(Silent()))
            assert (done.name, plan.name) == (name, name)
            assert shop.do(definers.format(name)) == [(definer,)]
            assert shop.do(f"SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}'") == shop.do(
                "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'my shop'"
            )
            statuses = shop.do(f"SELECT DISTINCT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{name}'")
            assert statuses in ([], [("DISABLED",)])
    finally:
        shop.do(*(f"DROP DATABASE `{name}`" for (name,) in set(shop.do("SHOW DATABASES")) - before), "SELECT 1")
        shop.do("SET GLOBAL log_bin_trust_function_creators = OFF")


def test_dumps_are_of_one_moment_however_much_is_written_meanwhile(shop: Server, make: Make, tmp_path: Path) -> None:
    """Two databases that are equal in each transaction, and a table that is in no snapshot."""
    shop.do("CREATE DATABASE plain", "CREATE TABLE plain.a (n serial, v int)", "CREATE TABLE zoo.b (n serial, v int)")
    shop.do("CREATE TABLE plain.c (n serial) ENGINE = MyISAM")
    equal = Client(
        "plain",
        (
            "INSERT INTO a (v) SELECT seq FROM `my shop`.numbers WHERE seq <= 20",
            "INSERT INTO zoo.b (v) SELECT seq FROM `my shop`.numbers WHERE seq <= 20",
            "UPDATE a SET v = v + 1 WHERE n % 7 = 0",
        ),
        together=True,
    )
    try:
        with writing(shop, equal, Client("plain", ("INSERT INTO c VALUES (NULL)",))):
            point, expected = captured(make(databases=("plain", "zoo"), accounts=False))
    finally:
        shop.do("DROP DATABASE plain", "DROP TABLE zoo.b")
    make().restore(point, tmp_path / "restored")
    assert compare(expected, make().probe(tmp_path / "restored", expected)).differences == ()
    sizes = {sample.key: sample.fields.get("rows") for sample in expected.samples}
    assert sizes["plain: table a"] == sizes["zoo: table b"] != "0"
    assert sizes["plain: table c"] != "0"


def test_who_wrote_into_a_table_that_is_in_no_snapshot_and_does_not_commit_is_not_waited_for_for_ever(
    shop: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He may go on when the backup gave up."""
    monkeypatch.setattr(moment, "STANDSTILL_SECONDS", 1.0)
    monkeypatch.setattr(moment, "_STANDSTILLS", 2)
    with shop.connect("my shop") as writer, writer.cursor() as cursor:
        writer.begin()
        cursor.execute("INSERT INTO my_isam VALUES (7, 'late')")
        with pytest.raises(SourceError) as raised:
            captured(make())
        assert "tables were locked that are in no snapshot" in raised.value.why
        writer.commit()
    shop.do("DELETE FROM `my shop`.my_isam WHERE w = 'late'")


def test_dumps_come_back_into_a_server_in_use(shop: Server, make: Make, kept: Kept, mysql_programs: Path) -> None:
    with mysql.server(mysql_programs) as another:
        source = make(host=str(another.socket), user="root", password=lambda: PASSWORD)
        another.do("SET GLOBAL log_bin_trust_function_creators = ON")
        source.restore(kept[0], None)
        found = captured(source)[1]
    assert {**found.checksums, "server: accounts": "", "server: grants": ""} == {
        **kept[1].checksums, "server: accounts": "", "server: grants": ""
    }  # fmt: skip
    assert found.counts["accounts"] == kept[1].counts["accounts"]


def test_the_log_between_dumps_is_refused_in_plain_words(make: Make) -> None:
    with pytest.raises(SourceError) as raised:
        captured(make(base_every_seconds=3600))
    assert "MySQL" in raised.value.why and "base_every" in raised.value.todo
