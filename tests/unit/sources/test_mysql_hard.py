"""MySQL and MariaDB: what real servers have that is hard to bring back, and what a restore must leave alone."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes.points import MemoryPoint
from source_contract import captured

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.errors import RefusedError, RestoreError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources.disposable import disposable
from cto_backups.sources.mysql import catalogue as mysql_catalogue
from cto_backups.sources.mysql import inventory, restore
from cto_backups.sources.mysql import throwaway as mysql_throwaway
from cto_backups.sources.mysql.catalogue import catalogue
from cto_backups.sources.mysql.connection import Address, Tools, Version
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.mysql.throwaway import throwaway
from servers import mariadb
from servers.mariadb import Server

Make = Callable[..., MysqlSource]

LONG = "日本語" * 15
ODD = {
    "hard": (
        "SET GLOBAL innodb_default_row_format = compact",
        "CREATE TABLE of_an_older_server (n int)",
        "SET GLOBAL innodb_default_row_format = DEFAULT, GLOBAL mysql56_temporal_format = OFF",
        "CREATE TABLE old_moments (d datetime(3), t time)",
        "SET GLOBAL mysql56_temporal_format = ON",
        "INSERT INTO old_moments VALUES ('2026-01-01 00:00:00.123', '12:34:56')",
        "SET sql_mode = 'ALLOW_INVALID_DATES'",
        "CREATE TABLE no_such_day (d date)",
        "INSERT INTO no_such_day VALUES ('2026-02-31')",
        "SET check_constraint_checks = 0",
        "CREATE TABLE against_its_rule (n int)",
        "INSERT INTO against_its_rule VALUES (-1)",
        "ALTER TABLE against_its_rule ADD CHECK (n > 0)",
        "CREATE TABLE elsewhere (n int) DATA DIRECTORY = '{apart}'",
        "CREATE TABLE elsewhere_too (n int) ENGINE = MyISAM DATA DIRECTORY = '{apart}' INDEX DIRECTORY = '{apart}'",
        "CREATE FUNCTION plus(a int) RETURNS int DETERMINISTIC RETURN a + 1",
        "GRANT EXECUTE, SELECT ON hard.* TO caller@localhost",
        "CREATE DEFINER = caller@localhost VIEW calling AS SELECT plus(1) AS n",
        "CREATE TABLE gone (n int)",
        "CREATE VIEW broken AS SELECT n FROM gone",
        "CREATE VIEW broken_too AS SELECT n FROM broken",
        "GRANT SELECT ON hard.broken TO caller@localhost",
        "DROP TABLE gone",
    ),
    "timed": (
        "CREATE TABLE t (n int)",
        "CREATE EVENT once ON SCHEDULE AT NOW() + INTERVAL 1 HOUR DO SET @done = 1",
        "CREATE EVENT once_kept ON SCHEDULE AT NOW() + INTERVAL 1 HOUR ON COMPLETION PRESERVE DO SET @done = 1",
    ),
    "two\nlines": ("CREATE TABLE t (n int)", "CREATE VIEW v AS SELECT n FROM t"),
    "Hard": (
        "CREATE TABLE other (n int AUTO_INCREMENT PRIMARY KEY)",
        "CREATE FUNCTION minus(a int) RETURNS int DETERMINISTIC RETURN a - 1",
    ),
    LONG: ("CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)"),
}


@pytest.fixture(scope="module")
def hard(mariadbd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mariadb.server(mariadbd) as made:
        made.do("CREATE USER caller@localhost")
        (made.place / "apart").mkdir(mode=0o777)
        (made.place / "apart").chmod(0o777)
        for name, statements in ODD.items():
            made.do(f"CREATE DATABASE `{name}`")
            made.do(*(each.replace("{apart}", str(made.place / "apart")) for each in statements), database=name)
        yield made


@pytest.fixture
def make(hard: Server, tmp_path: Path) -> Make:
    def made(**options: Any) -> MysqlSource:
        given = {"host": str(hard.socket), "user": "root", "password": lambda: mariadb.PASSWORD, **options}
        return MysqlSource("hard", given, state=tmp_path / "state")

    return made


def differences(source: MysqlSource, point: MemoryPoint, place: Path, expected: Fingerprint) -> tuple[str, ...]:
    source.restore(point, place)
    return compare(expected, source.probe(place, expected)).differences


def test_what_is_hard_to_bring_back_comes_back(hard: Server, make: Make, tmp_path: Path) -> None:
    """What an older server made, what no server would take today, what is due by then, and what is broken already."""
    source = make()
    apart = sorted((hard.place / "apart").rglob("*"))
    assert len(apart) > 3
    hard.do("ALTER EVENT timed.once ON SCHEDULE AT NOW() + INTERVAL 3 SECOND")
    hard.do("ALTER EVENT timed.once_kept ON SCHEDULE AT NOW() + INTERVAL 3 SECOND")
    point, expected = captured(source)
    time.sleep(3.5)  # the events' time passes
    assert differences(source, point, tmp_path / "restored", expected) == ()
    assert sorted((hard.place / "apart").rglob("*")) == apart, "a restore test makes tables nowhere else"
    assert b"/database-Hard.sql" in point.entries and b"/database-hard.sql" in point.entries
    assert b"VIEW `hard`.`broken_too` AS" in point.entries[b"/broken-views.sql"][1]
    (tmp_path / "restored/broken-views.sql").write_bytes(b"nothing")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences


def test_it_comes_back_in_place_and_long_rows_with_it(hard: Server, make: Make) -> None:
    """The server would take no statement that long by itself; and there are no views to make."""
    hard.do("CREATE DATABASE bulky", "CREATE TABLE bulky.t (b longblob)")
    hard.do("INSERT INTO bulky.t VALUES (REPEAT('x', 3000000))", "SET GLOBAL max_allowed_packet = 4194304")
    try:
        point, _ = captured(make())
        hard.do(
            "DROP DATABASE bulky",
            "DROP DATABASE hard",
            "DROP DATABASE Hard",
            "DROP DATABASE timed",
            f"DROP DATABASE `{LONG}`",
            "DROP DATABASE `two\nlines`",
        )
        make().restore(point, None)
        assert hard.do("SELECT LENGTH(b) FROM bulky.t") == [(3_000_000,)]
        assert hard.do("SELECT n FROM hard.calling") == [(2,)]
        assert hard.do(f"SELECT n FROM `{LONG}`.t") == [(7,)]
        assert hard.do("SELECT @@GLOBAL.max_allowed_packet") == [(4194304,)]
        plain, _ = captured(make(databases=("bulky",)))
        hard.do("DROP DATABASE bulky")
        make().restore(plain, None)
        assert hard.do("SELECT LENGTH(b) FROM bulky.t") == [(3_000_000,)]
    finally:
        hard.do("SET GLOBAL max_allowed_packet = DEFAULT", "DROP DATABASE IF EXISTS bulky")


def test_a_database_that_somebody_makes_meanwhile_is_left_alone(
    hard: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dump says `if not exists`, and replaces tables: it must not be loaded into what is there."""
    hard.do("CREATE DATABASE mine", "CREATE TABLE mine.t (n int)", "INSERT INTO mine.t VALUES (1)")
    try:
        point, _ = captured(make(databases=("mine",), accounts=False))
        hard.do("UPDATE mine.t SET n = 42")
        with pytest.raises(RefusedError):
            make().restore(point, None)
        monkeypatch.setattr(restore, "standing", lambda *_: ())
        with pytest.raises(RestoreError) as raised:
            make().restore(point, None)
        assert "made meanwhile" in raised.value.why
        assert hard.do("SELECT n FROM mine.t") == [(42,)]
    finally:
        hard.do("DROP DATABASE mine")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("`ENCRYPTED`=YES", [1]),
        ("partitioned `encrypted`='yes' `ENCRYPTION_KEY_ID`=7", [7]),
        ("`ENCRYPTION_KEY_ID`=3", [3]),
        ("`ENCRYPTED`=NO", []),
        ("row_format=DYNAMIC", []),
    ],
)
def test_a_restore_test_has_keys_of_the_numbers_that_tables_name(options: str, keys: list[int]) -> None:
    assert mysql_catalogue._keys(options) == keys
    with disposable("mysql") as place:
        words = mysql_throwaway._keys(place, ",".join(map(str, keys)))
        assert bool(words) == bool(keys)
        if words:
            file = Path(words[1].partition("=")[2])
            assert [line.partition(";")[0] for line in file.read_text().splitlines()] == [str(key) for key in keys]
            assert file.stat().st_mode & 0o777 == 0o600 and file.is_relative_to(place.data)


@pytest.mark.parametrize(("same", "standing"), [(0, ()), (1, ("Shop",))])
def test_names_that_differ_in_case_are_one_where_the_server_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch, same: int, standing: tuple[str, ...]
) -> None:
    monkeypatch.setattr(inventory, "rows", lambda *_: [(same,)])
    monkeypatch.setattr(restore, "in_use", lambda *_: ("shop",))
    assert restore.standing(None, ["Shop", "other"]) == standing  # type: ignore[arg-type]


def test_views_that_call_functions_come_back_without_accounts_too(make: Make, tmp_path: Path) -> None:
    source = make(databases=("hard",), accounts=False)
    point, expected = captured(source)
    assert differences(source, point, tmp_path / "restored", expected) == ()


def test_a_database_whose_name_the_dump_program_mistakes_is_found_and_told(hard: Server, make: Make) -> None:
    """It takes `Mysql` for the server's own `mysql`; `SYS` it knows."""
    hard.do("CREATE DATABASE Mysql", "CREATE DATABASE SYS", "CREATE TABLE SYS.t (n int)")
    try:
        found = {resource.name.rpartition("/")[2]: resource.covered for resource in make().discover()}
        assert found["Mysql"] is False and found["SYS"] is True
        assert "mysql" not in found and "sys" not in found
        point, _ = captured(make())
        assert b"/database-SYS.sql" in point.entries and b"/database-Mysql.sql" not in point.entries
        with pytest.raises(SourceError, match="no database Mysql"):
            captured(make(databases=("Mysql",)))
    finally:
        hard.do("DROP DATABASE Mysql", "DROP DATABASE SYS")


def test_a_server_that_cuts_what_it_gives_is_not_dumped(hard: Server, make: Make) -> None:
    hard.do("SET GLOBAL sql_select_limit = 3")
    try:
        with pytest.raises(SourceError, match="3 rows") as raised:
            captured(make())
        assert "sql_select_limit" in raised.value.todo
    finally:
        hard.do("SET GLOBAL sql_select_limit = DEFAULT")


def test_a_view_that_the_user_may_not_use_is_not_taken_for_a_broken_one(hard: Server, make: Make) -> None:
    """One that calls a function shows its columns only to who may call it: it would be missing in the dump."""
    rights = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, RELOAD"
    hard.do("CREATE DATABASE views", "CREATE FUNCTION views.f() RETURNS int DETERMINISTIC RETURN 1")
    hard.do("CREATE VIEW views.calling AS SELECT views.f() AS n", "CREATE USER keeper@localhost IDENTIFIED BY 'kept'")
    hard.do(f"GRANT {rights} ON *.* TO keeper@localhost")
    keeper = make(user="keeper", password=lambda: "kept", databases=("views",))
    try:
        with pytest.raises(SourceError) as raised:
            captured(keeper)
        assert "execute" in raised.value.why.lower()
        hard.do("GRANT EXECUTE ON *.* TO keeper@localhost")
        point, _ = captured(keeper)
        assert b"/broken-views.sql" not in point.entries
        hard.do(
            "CREATE TABLE views.t (n int)", "CREATE VIEW views.broken AS SELECT n FROM views.t", "DROP TABLE views.t"
        )
        hard.do("REVOKE EXECUTE ON *.* FROM keeper@localhost", "DROP VIEW views.calling")
        with pytest.raises(SourceError) as raised:
            captured(keeper)
        assert "EXECUTE" in raised.value.todo
    finally:
        hard.do("DROP DATABASE views", "DROP USER keeper@localhost")


@pytest.mark.parametrize("password", ["pässwort", "пароль €", "日本"])
def test_a_password_may_be_of_any_letters(hard: Server, make: Make, password: str) -> None:
    hard.do(f"CREATE USER odd@localhost IDENTIFIED BY '{password}'", "GRANT ALL ON *.* TO odd@localhost")
    try:
        point, _ = captured(make(user="odd", password=lambda: password, databases=("two\nlines",), accounts=False))
        assert point.entries
    finally:
        hard.do("DROP USER odd@localhost")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ERROR 1526 (HY000) at line 3: Table has no partition for value 4711", "4711"),
        ("ERROR 1300 (22007) at line 3: Invalid utf8mb4 character string: 'secret'", "secret"),
        ("ERROR 1690 (22003) at line 3: BIGINT value is out of range in '(4711 + 1)'", "4711"),
        ("ERROR 9999 (HY000) at line 3: whatever 'secret' may be", "secret"),
    ],
)
def test_what_a_client_complains_of_is_told_without_rows(line: str, told: str) -> None:
    said = restore.without_data(ToolError("mariadb", 1, line, [line]))
    assert said.startswith(line[:10]) and told not in said


def test_which_table_is_not_there_is_told() -> None:
    line = "ERROR 1146 (42S02) at line 3: Table 'zoo.names' doesn't exist"
    assert restore.without_data(ToolError("mariadb", 1, line, [line])) == line


def test_a_throwaway_server_leaves_temporary_tables_of_other_servers_alone(mariadbd: Path) -> None:
    """A server that begins removes those from the folder for temporary files: they are in use, of one that works."""
    with tempfile.NamedTemporaryFile(prefix="#sql-temptable-", suffix=".MAD", delete=False) as file:
        victim = Path(file.name)
    try:
        with disposable("mysql") as place:
            place.own(victim)
        with throwaway(Tools(Version("mariadb", (10, 11))), {}, {}):
            assert victim.exists()
        assert victim.exists()
    finally:
        victim.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "statement",
    [
        "VIEW timed.said AS SELECT '{}' AS word",
        "FUNCTION timed.said() RETURNS varchar(9) CHARSET utf8mb4 DETERMINISTIC RETURN '{}'",
        "PROCEDURE timed.said() SELECT '{}'",
        "TRIGGER timed.said BEFORE INSERT ON timed.t FOR EACH ROW SET @said = '{}'",
        "EVENT timed.said ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE DO SELECT '{}'",
    ],
)
def test_what_a_server_is_made_of_is_compared_to_its_last_letter(hard: Server, statement: str) -> None:
    """Of letters beyond the first 65,536, `information_schema` makes question marks."""
    address = Address(host=str(hard.socket), user="root", password=lambda: mariadb.PASSWORD)
    kind = statement.split()[0]
    digests = []
    for letter in ("😀", "😁"):
        hard.do(f"CREATE {statement.format(letter)}", database="timed")
        try:
            with closing(address.connect()) as session:
                digests.append(catalogue(session, "timed").digests["definitions"])
        finally:
            hard.do(f"DROP {kind} timed.said")
    assert digests[0] != digests[1]


def test_a_view_with_bytes_that_are_no_text_is_compared_and_comes_back(
    hard: Server, make: Make, tmp_path: Path
) -> None:
    with hard.connect("timed") as session, session.cursor() as cursor:
        cursor.execute(b"CREATE VIEW bytes AS SELECT _binary'\xff\xfe' AS raw, '\xf0\x9f\x98\x80' AS word")
    try:
        source = make(databases=("timed",), accounts=False)
        point, expected = captured(source)
        source.restore(point, tmp_path / "restored")
        assert compare(expected, source.probe(tmp_path / "restored", expected)).differences == ()
    finally:
        hard.do("DROP VIEW timed.bytes")
