"""MySQL and MariaDB: dumps of one moment, that come back with everything, and never look whole when they are not."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pymysql
import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject, captured

from cto_backups import registry
from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing
from cto_backups.errors import PolicyError, RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.disposable import disposable
from cto_backups.sources.mysql import capture as mysql_capture
from cto_backups.sources.mysql import moment
from cto_backups.sources.mysql.connection import Address, Tools, Version
from cto_backups.sources.mysql.dump import COMPLETED, Parts, mark_of
from cto_backups.sources.mysql.hashes import HASHES
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.mysql.users import Account, Accounts, lacking
from cto_backups.sources.streams import Ready
from servers import mariadb
from servers.mariadb import Server
from servers.writing import Client, writing

Make = Callable[..., MysqlSource]

SHOP = "database-my%20shop.sql"


@pytest.fixture(scope="module")
def shop(mariadbd: Path) -> Iterator[Server]:
    """A server with a bit of everything, which tests may add to."""
    with mariadb.server(mariadbd) as made:
        mariadb.fill(made)
        yield made


def making(shop: Server, state: Path) -> Make:
    def made(name: str = "shop", **options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "root", "password": lambda: mariadb.PASSWORD, **options}
        return MysqlSource(name, given, state=state)

    return made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    return making(shop, tmp_path / "state")


@pytest.fixture(scope="module")
def taken_once(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    return captured(making(shop, tmp_path_factory.mktemp("state"))())


def restored_from(source: MysqlSource, point: MemoryPoint, place: Path, expected: Fingerprint) -> tuple[str, ...]:
    """What differs once a point was restored and made anew."""
    source.restore(point, place)
    return compare(expected, source.probe(place, expected)).differences


def altered(old: bytes, new: bytes, name: str = SHOP) -> Fault:
    """A dump in which something else stands."""

    def fault(restored: Path) -> None:
        content = (restored / name).read_bytes()
        assert old in content
        (restored / name).write_bytes(content.replace(old, new, 1))

    return fault


def without_line(pattern: bytes, name: str) -> Fault:
    """A file of a point without the lines in which this is found."""

    def fault(restored: Path) -> None:
        lines = (restored / name).read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not re.search(pattern, line)]
        assert len(kept) < len(lines)
        (restored / name).write_bytes(b"".join(kept))

    return fault


def cut(restored: Path) -> None:
    os.truncate(restored / SHOP, 60_000)


class TestMysqlSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a lost dump": lambda restored: (restored / "database-zoo.sql").unlink(),
        "a cut dump": cut,
        "a lost row": without_line(rb"'event 77'", SHOP),
        "a value that is another": altered(b"'event 77'", b"'event 78'"),
        "a value of another case in a table that ignores it": altered(b"('other')", b"('Other')"),
        "a lost pair of equal rows": altered(b"('same'),\n('same'),\n", b""),
        "null where nothing was said": altered(b"(NULL),\n('')", b"(NULL),\n(NULL)"),
        "a former row that is lost": without_line(rb"^\(2,'stays','2", SHOP),
        "a lost routine": altered(
            b"DEFINER=`root`@`localhost` FUNCTION `plus`", b"DEFINER=`root`@`localhost` FUNCTION `minus`"
        ),
        "a lost trigger": without_line(rb"TRIGGER noted_too", SHOP),
        "an event that is enabled": altered(b"ON COMPLETION PRESERVE DISABLE", b"ON COMPLETION PRESERVE ENABLE"),
        "a view that shows something else": altered(b"`amount` > 100", b"`amount` > 101", "views.sql"),
        "a default that is another": altered(
            b"`secret` int(11) INVISIBLE DEFAULT 7", b"`secret` int(11) INVISIBLE DEFAULT 8"
        ),
        "a character set that is another": altered(b"DEFAULT CHARSET=latin1", b"DEFAULT CHARSET=latin2"),
        "a sequence that fell back": altered(b"SETVAL(`tickets`, 48", b"SETVAL(`tickets`, 49"),
        "a lost account": without_line(rb"`auditor`", "users.sql"),
        "a lost grant": without_line(rb"EXECUTE ON PROCEDURE", "grants.sql"),
        "a lost default role": without_line(rb"SET DEFAULT ROLE", "grants.sql"),
    }

    @pytest.fixture
    def taken(self, taken_once: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return taken_once

    @pytest.fixture
    def subject(self, shop: Server, make: Make) -> Subject:
        number = iter(range(100))

        def change() -> None:
            shop.do(f"INSERT INTO twins VALUES ('{next(number)} of {time.monotonic_ns()}')", database="my shop")

        return Subject(source=make(), make=make, change=change, missing=make("nowhere", host="/nowhere/sock"))


def test_it_finds_every_database_and_the_server(shop: Server, make: Make) -> None:
    found = {resource.name: resource for resource in make(databases=("zoo",)).discover()}
    place = f"mysql:{shop.socket}"
    assert set(found) == {place, f"{place}/my shop", f"{place}/zoo"}
    assert (found[f"{place}/my shop"].size_bytes or 0) > 500_000
    assert [resource.name for resource in found.values() if not resource.covered] == [f"{place}/my shop"]
    assert all(resource.covered for resource in make().discover()), "all of them, and those to come"


# -- one moment --------------------------------------------------------------------------------------------------------


def hidden_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server had no binary log."""
    monkeypatch.setattr(mysql_capture, "tells_position", lambda *_: False)
    monkeypatch.setattr(moment, "log_position", lambda *_: {})


KEEPER = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES"


@pytest.fixture
def keeper(shop: Server, make: Make) -> Iterator[Callable[..., MysqlSource]]:
    """A source whose user has these rights and no others."""

    def granted(rights: str, on: str = "*.*", **options: Any) -> MysqlSource:
        shop.do(
            "CREATE OR REPLACE USER keeper@localhost IDENTIFIED BY 'kept'",
            f"GRANT {rights} ON {on} TO keeper@localhost",
        )
        return make(user="keeper", password=lambda: "kept", **options)

    yield granted
    shop.do("DROP USER IF EXISTS keeper@localhost")


@pytest.mark.parametrize("way", ["stopping and comparing", "comparing", "stopping"])
def test_dumps_are_of_one_moment_however_much_is_written_meanwhile(
    shop: Server, keeper: Callable[..., MysqlSource], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """Two databases that are equal in each transaction, a sequence that moves on, a table that is in no snapshot."""
    shop.do("CREATE DATABASE plain")
    shop.do("CREATE TABLE a (n serial, v int)", "CREATE SEQUENCE moves", database="plain")
    shop.do("CREATE TABLE b (n serial, v int)", database="zoo")
    if way == "stopping":
        hidden_log(monkeypatch)
    comparing = way == "comparing"
    source = keeper(KEEPER, databases=("plain", "zoo")) if comparing else keeper(f"{KEEPER}, RELOAD")
    equal = Client(
        "plain",
        (
            "INSERT INTO a (v) SELECT NEXTVAL(moves) FROM seq_1_to_20",
            "INSERT INTO zoo.b (v) SELECT seq FROM seq_1_to_20",
            "UPDATE a SET v = v + 1 WHERE n % 7 = 0",
        ),
        together=True,
        pause=0.3 if comparing else 0.005,  # then it needs a pause between two commits
    )
    beside = ("INSERT INTO my_isam VALUES (1, 'more')", "DELETE FROM my_isam WHERE w = 'more' LIMIT 1")
    clients = (equal,) if comparing else (equal, Client("my shop", beside, pause=0.01))
    try:
        with writing(shop, *clients, hindered=comparing):
            point, expected = captured(source)
    finally:
        shop.do("DROP DATABASE plain", "DROP TABLE zoo.b", "DELETE FROM `my shop`.my_isam WHERE w = 'more'")
    assert restored_from(source, point, tmp_path / "restored", expected) == ()
    sizes = {sample.key: sample.fields.get("rows") for sample in expected.samples}
    assert sizes["plain: table a"] == sizes["zoo: table b"] != "0"
    (server,) = (sample.fields for sample in expected.samples if sample.key == "server")
    assert ("binlog_position" in server) == (way != "stopping"), "which is hidden then"
    if way != "stopping":
        position = f"MASTER_LOG_FILE='{server['binlog_file']}', MASTER_LOG_POS={server['binlog_position']};"
        assert position.encode() in point.entries[b"/database-zoo.sql"][1]
        assert server["gtid"].startswith("0-7-")


def test_who_waits_to_alter_a_table_does_not_wait_for_ever(shop: Server, make: Make) -> None:
    """Nor do all who wait behind: the dump would wait behind them, and they for what we hold."""
    shop.do("CREATE TABLE zz_last (n int) ENGINE = MyISAM", "INSERT INTO zz_last VALUES (1)", database="my shop")
    drop = ("DROP TABLE zz_last",)
    altering = threading.Thread(target=shop.do, args=drop, kwargs={"database": "my shop"})
    try:
        with pytest.raises(SourceError) as raised, make(lock_seconds=1).capture() as capture:
            altering.start()
            time.sleep(0.3)
            MemoryPoint.of(capture.tree)
        assert "that somebody locks or alters" in raised.value.why
    finally:
        altering.join()
        shop.do("DROP TABLE IF EXISTS zz_last", database="my shop")


def test_nothing_is_captured_where_no_moment_can_be_had(
    keeper: Callable[..., MysqlSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="in no snapshot") as raised:
        captured(keeper(KEEPER))
    assert "my_isam" in raised.value.why and "RELOAD" in raised.value.todo
    hidden_log(monkeypatch)
    with pytest.raises(SourceError, match="of one moment") as raised:
        captured(keeper(KEEPER))
    assert "RELOAD" in raised.value.todo


def test_two_moments_are_never_taken_for_one(
    shop: Server, keeper: Callable[..., MysqlSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody commits each time between the two beginnings: nobody who may only compare gets a point out of that."""
    original = Parts.open

    def late(parts: Parts) -> None:
        original(parts)
        parts.preamble = parts.preamble.replace(b"MASTER_LOG_POS=", b"MASTER_LOG_POS=9")

    monkeypatch.setattr(Parts, "open", late)
    with pytest.raises(SourceError) as raised:
        captured(keeper(KEEPER, databases=("zoo",)))
    assert "between the beginnings" in raised.value.why
    with pytest.raises(SourceError) as raised:
        captured(keeper(f"{KEEPER}, RELOAD"))
    assert "binary log" in raised.value.why


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE newcomer (n int)",
        "ALTER TABLE zz ADD m int",
        "DROP TABLE zz",
        "CREATE OR REPLACE TABLE zz (n int)",
    ],
)
def test_what_is_altered_while_it_is_dumped_is_no_point(shop: Server, make: Make, change: str) -> None:
    shop.do("CREATE TABLE zz (n int)", "INSERT INTO zz SELECT seq FROM seq_1_to_50", database="zoo")
    time.sleep(1.1)  # a table's birthday is told in seconds
    try:
        with pytest.raises(SourceError) as raised, make(databases=("zoo",)).capture() as capture:
            shop.do(change, database="zoo")
            MemoryPoint.of(capture.tree)
            capture.fingerprint()
        assert raised.value.why
    finally:
        shop.do("DROP TABLE IF EXISTS zz, newcomer", database="zoo")


def test_a_table_that_is_emptied_meanwhile_is_there_as_it_was_or_there_is_no_point(shop: Server, make: Make) -> None:
    shop.do("CREATE TABLE zz (n int)", "INSERT INTO zz SELECT seq FROM seq_1_to_50", database="zoo")
    try:
        with make(databases=("zoo",)).capture() as capture:
            shop.do("TRUNCATE TABLE zz", database="zoo")
            point = MemoryPoint.of(capture.tree)
            expected = capture.fingerprint()
        assert b"\n(49),\n(50);" in point.entries[b"/database-zoo.sql"][1]
        assert next(sample for sample in expected.samples if sample.key == "zoo: table zz").fields["rows"] == "50"
    except SourceError as error:
        assert "changed" in error.why or "1412" in error.why
    finally:
        shop.do("DROP TABLE zz", database="zoo")


def test_a_table_that_is_in_no_snapshot_is_held_until_it_is_dumped(shop: Server, make: Make, tmp_path: Path) -> None:
    writer = threading.Thread(
        target=shop.do, args=("INSERT INTO my_isam VALUES (7, 'late')",), kwargs={"database": "my shop"}
    )
    source = make()
    try:
        with source.capture() as capture:
            writer.start()
            time.sleep(0.3)
            assert writer.is_alive()
            point = MemoryPoint.of(capture.tree)
            expected = capture.fingerprint()
        writer.join()
        assert b"'late'" not in point.entries[f"/{SHOP}".encode()][1]
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
    finally:
        shop.do("DELETE FROM my_isam WHERE w = 'late'", database="my shop")


def test_a_second_session_sums_up_too_where_it_sees_the_same(shop: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody stands still for the moment of a log: what is written between two beginnings one of them alone sees."""
    address = Address(host=str(shop.socket), user="root", password=lambda: mariadb.PASSWORD)
    version = Version("mariadb", (10, 11))
    with moment.snapshot(address, version, "") as (sessions, _, _):
        assert len(sessions) == 2
    original = moment.begin

    def late(session: Any) -> None:
        original(session)
        shop.do("INSERT INTO twins VALUES ('meanwhile')", database="my shop")

    monkeypatch.setattr(moment, "begin", late)
    try:
        with moment.snapshot(address, version, "") as (sessions, _, _):
            assert len(sessions) == 1
    finally:
        shop.do("DELETE FROM twins WHERE word = 'meanwhile'", database="my shop")


# -- who may what ------------------------------------------------------------------------------------------------------


def test_one_database_needs_rights_on_that_alone(keeper: Callable[..., MysqlSource], tmp_path: Path) -> None:
    source = keeper("SELECT, SHOW VIEW, TRIGGER, EVENT", "zoo.*", databases=("zoo",), accounts=False)
    point, expected = captured(source)
    assert sorted(point.entries) == [b"/database-zoo.sql", b"/views.sql"]
    assert expected.counts["accounts"] == 0
    assert restored_from(source, point, tmp_path / "restored", expected) == ()


@pytest.mark.parametrize("lacking", ["TRIGGER", "EVENT", "SHOW VIEW", "LOCK TABLES"])
def test_who_may_not_see_everything_dumps_nothing(keeper: Callable[..., MysqlSource], lacking: str) -> None:
    """mariadb-dump leaves triggers out without a word for who may not see them."""
    rights = ", ".join(right for right in f"{KEEPER}, RELOAD".split(", ") if right != lacking)
    with pytest.raises(SourceError, match="may not read everything") as raised:
        captured(keeper(rights))
    assert lacking in raised.value.why and lacking in raised.value.todo


def test_a_password_is_shown_to_nobody(shop: Server, make: Make, tmp_path: Path) -> None:
    secret = 'S3cr3t "of" \\mine\'s #1'
    with pytest.raises(SourceError, match="cannot be read") as raised:
        make(password=lambda: secret).discover()
    assert "Access denied" in raised.value.why and "with a password (1045)" in raised.value.why
    assert secret not in f"{raised.value} {raised.value.why} {raised.value.todo}"
    escaped = secret.replace("\\", "\\\\").replace("'", "''")
    shop.do(f"CREATE USER odd@localhost IDENTIFIED BY '{escaped}'", "GRANT ALL ON *.* TO odd@localhost")
    try:
        with make(user="odd", password=lambda: secret).capture() as capture:
            (file,) = (tmp_path / "state").rglob("client.cnf")
            assert file.stat().st_mode & 0o777 == 0o600
            lines = [command for command in commands() if "mariadb-dump" in command]
            assert lines and not any("S3cr3t" in line for line in lines)
            MemoryPoint.of(capture.tree)
        assert not list((tmp_path / "state").rglob("client.cnf"))
    finally:
        shop.do("DROP USER odd@localhost")


def test_a_host_that_is_a_name_is_not_talked_to_in_clear(shop: Server, make: Make) -> None:
    over_tcp = {"host": "127.0.0.1", "port": shop.port}
    shop.do("CREATE USER far@'127.0.0.1' IDENTIFIED BY 'far'", "GRANT ALL ON *.* TO far@'127.0.0.1'")
    try:
        _, expected = captured(make(**over_tcp, user="far", password=lambda: "far", ssl_mode="disabled"))
        assert expected.counts["databases"] == 2
        with pytest.raises(SourceError) as raised:
            make(**over_tcp, user="far", password=lambda: "far").discover()
        assert "SSL" in raised.value.why or "TLS" in raised.value.why
    finally:
        shop.do("DROP USER far@'127.0.0.1'")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"databases": ("nothere",)}, "there is no database nothere"),
        ({"user": "nobody at all"}, "cannot be read"),
        ({"host": "/nowhere/sock"}, "cannot be read"),
        ({"tools": "/nowhere"}, "whose programs are not here"),
    ],
)
def test_what_cannot_be_read_is_told(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError) as raised:
        captured(make(**options))
    assert said in f"{raised.value.what}: {raised.value.why}"
    assert raised.value.todo


def test_a_locked_table_ends_the_dump_and_not_the_night(shop: Server, make: Make) -> None:
    with shop.connect("my shop") as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLES my_isam WRITE")
        with pytest.raises(SourceError) as raised:
            captured(make(lock_seconds=1))
    assert "timeout" in raised.value.why and "in no snapshot" in raised.value.why


@pytest.mark.parametrize("how", ["session", "killed", "hung"])
def test_a_connection_that_breaks_is_no_point(mariadbd: Path, make: Make, how: str) -> None:
    """Somebody ends the dump's session, or the server is killed, or hangs, in the middle of a dump."""
    with mariadb.server(mariadbd) as made:
        made.do("CREATE DATABASE bulk")
        made.do("CREATE TABLE bulk AS SELECT seq, REPEAT(MD5(seq), 60) FROM seq_1_to_8000", database="bulk")
        began = time.monotonic()
        with pytest.raises(SourceError) as raised, make(host=str(made.socket), timeout_seconds=2).capture() as capture:
            if how == "session":
                find = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT /*!40001 SQL_NO_CACHE%'"
                ((number,),) = made.do(find)
                made.do(f"KILL {number}")
            else:
                os.kill(made.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            MemoryPoint.of(capture.tree)
            capture.fingerprint()
        assert raised.value.why
        assert time.monotonic() - began < 20


# -- in place ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(mariadbd: Path) -> Iterator[Server]:
    """Another server, with nothing in it."""
    with mariadb.server(mariadbd) as made:
        yield made


def test_databases_are_made_on_another_server_with_accounts_and_views(shop: Server, other: Server, make: Make) -> None:
    point, expected = captured(make())
    there = make(host=str(other.socket))
    assert there.plan_restore(point, None).conflicts == ()
    other.do("CREATE USER auditor@'10.%'", "CREATE DATABASE unrelated")
    restored = there.restore(point, None)
    assert restored.places == (str(other.socket),)
    assert other.do("SELECT many FROM a_view_of_a_view", database="my shop")[0][0] > 1000
    ((grants,),) = other.do("SELECT COUNT(*) FROM mysql.procs_priv WHERE User = 'shop keeper'")
    assert grants == 1
    assert other.do("SELECT COUNT(*) FROM mysql.tables_priv WHERE User = 'auditor'") == [(0,)], "it had no rights there"
    found = captured(make(host=str(other.socket), databases=("my shop", "zoo")))[1]
    same = {name: value for name, value in expected.checksums.items() if not name.startswith("server: ")}
    assert {name: found.checksums[name] for name in same} == same
    assert there.plan_restore(point, None).conflicts == ("my shop", "zoo")
    for existing in Existing:
        with pytest.raises(RefusedError, match="there already"):
            there.restore(point, None, existing=existing)
    other.do("DROP DATABASE `my shop`")
    there.restore(point, None, only=[f"/{SHOP}"])
    assert other.do("SELECT COUNT(*) FROM across", database="my shop")[0][0] > 0, "views come with their database"


def test_a_database_that_could_not_be_made_is_gone_again(shop: Server, other: Server, make: Make) -> None:
    point, _ = captured(make())
    entry, content = point.entries[f"/{SHOP}".encode()]
    point.entries[f"/{SHOP}".encode()] = entry, content.replace(b"(2,1,'line 2')", b"(1,1,'line 2')")
    with pytest.raises(RestoreError) as raised:
        make(host=str(other.socket)).restore(point, None)
    assert "ERROR 1" in raised.value.why and "1-1" not in raised.value.why and "INSERT" not in raised.value.why
    assert other.do("SHOW DATABASES LIKE 'my shop'") == []


# -- the throwaway server ----------------------------------------------------------------------------------------------


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the user may come as whom a server runs that root started."""
    with tempfile.TemporaryDirectory(prefix="mysql-scratch-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_nothing_is_left_of_a_throwaway_server(make: Make, scratch: Path, tmp_path: Path) -> None:
    source = make(scratch=str(scratch), databases=("zoo",))
    point, expected = captured(source)
    source.restore(point, tmp_path / "restored")
    (tmp_path / "restored" / "views.sql").write_bytes(b"this is no 'SQL secret';\n" + COMPLETED)
    with pytest.raises(VerificationError, match="do not work") as raised:
        source.probe(tmp_path / "restored", expected)
    assert "ERROR 1064" in raised.value.why and "secret" not in raised.value.why
    assert list(scratch.iterdir()) == []
    assert not any(str(scratch) in command for command in commands())


def test_a_server_of_another_series_proves_nothing(make: Make, tmp_path: Path) -> None:
    """It writes what is compared otherwise."""
    source = make(databases=("zoo",))
    point, expected = captured(source)
    source.restore(point, tmp_path / "restored")
    server, *others = expected.samples
    older = replace(server, fields={**server.fields, "version": "10.6.1-MariaDB"})
    with pytest.raises(VerificationError, match=r"of MariaDB 10\.6 can be started") as raised:
        source.probe(tmp_path / "restored", replace(expected, samples=(older, *others)))
    assert "is of MariaDB 10.11" in raised.value.why


def test_a_folder_of_programs_that_is_closed_to_us_is_passed_over(
    mariadbd: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ordinary_user: Callable[[], AbstractContextManager[None]],
) -> None:
    (tmp_path / "closed").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'closed'}:{os.environ['PATH']}")
    tools = Tools(Version("mariadb", (10, 11)))
    (tmp_path / "closed").chmod(0)
    with ordinary_user():
        assert Path(tools["log"]).name == "mariadb-binlog"


HELD = """
import time
from cto_backups.sources.mysql.connection import Address, Tools, Version
from cto_backups.sources.mysql.throwaway import throwaway
with throwaway(Tools(Version("mariadb", (10, 11))), {}, {}) as address:
    print(address.host, flush=True)
    time.sleep(60)
"""


def test_a_throwaway_server_dies_with_whoever_was_killed(mariadbd: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True) as holder:
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
    left = Path(place).parent
    with disposable("mysql"):
        assert not left.exists(), "the next one removes what was left"


ODD = {
    "names": """
        CREATE TABLE `odd ``table`` 'q' "d"` (`from` int, `a b` int AS (`from` + 1) STORED, KEY `k k` (`a b`));
        INSERT INTO `odd ``table`` 'q' "d"` (`from`) VALUES (1);
        CREATE VIEW `v v` AS SELECT `a b` AS `c``d` FROM `odd ``table`` 'q' "d"`""",
    "expressions that the server writes anew": """
        CREATE TABLE odd (n int DEFAULT (1 + 2), s varchar(9) CHECK (s IN ('a', 'b''c') AND n <> 5),
            t time DEFAULT curtime(), g int AS (CASE WHEN n > 1 THEN n % 7 ELSE -n END) VIRTUAL, KEY (g));
        INSERT INTO odd (n, s) VALUES (3, 'a');
        CREATE VIEW odd_view AS SELECT n, (n + 1) * -2 AS m, n IN (1, 2) OR NOT n BETWEEN 3 AND 4 AS x,
            INTERVAL(n, 1, 2) AS i, CONVERT(s USING latin1) AS l FROM odd o
            WHERE EXISTS (SELECT 1 FROM odd p WHERE p.n = o.n) GROUP BY n HAVING COUNT(*) > 0 ORDER BY n LIMIT 5;
        CREATE VIEW counting AS WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5)
            SELECT n FROM r""",
    "other ways of storing": """
        CREATE TABLE packed (n int PRIMARY KEY, t text) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8;
        INSERT INTO packed VALUES (1, REPEAT('é', 9000));
        CREATE TABLE parts (n int, k int) PARTITION BY LIST (n) SUBPARTITION BY HASH (k) SUBPARTITIONS 2
            (PARTITION a VALUES IN (1, 2), PARTITION b VALUES IN (3));
        INSERT INTO parts VALUES (1, 1), (3, 2);
        CREATE TABLE kept (n int, s timestamp(6) GENERATED ALWAYS AS ROW START,
            e timestamp(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING;
        INSERT INTO kept (n) VALUES (1); UPDATE kept SET n = 2;
        CREATE TABLE for_now (n int) ENGINE = MEMORY; INSERT INTO for_now VALUES (1);
        CREATE TABLE as_text (n int NOT NULL) ENGINE = CSV; INSERT INTO as_text VALUES (5)""",
    "numbers that are hard to write": """
        CREATE TABLE odd (f float, d double, x decimal(65, 30), b bit(64), y year, r double);
        INSERT INTO odd VALUES (16777217, 0.1 + 0.2, 12345678901234567890123456789012345.123456789012345678901234567891,
            b'1000000000000000000000000000000000000000000000000000000000000001', 0, -0e0),
            (1e-40, 5e-324, -1, 0, 1901, 1.7e308), (1/3, 1/3, 0, NULL, NULL, 123456789012345680)""",
}


def test_healthy_databases_with_odd_things_in_them_pass(shop: Server, make: Make, tmp_path: Path) -> None:
    """What differs is told with the name of its database."""
    names = {f"Odd.db `x` {what}": content for what, content in ODD.items()}
    quoted = {name: name.replace("`", "``") for name in names}
    try:
        for name, content in names.items():
            shop.do(f"CREATE DATABASE `{quoted[name]}`")
            shop.do(*(part for part in content.split(";\n") for part in part.split("; ")), database=name)
        source = make(databases=tuple(names), accounts=False)
        point, expected = captured(source)
        assert expected.counts["databases"] == len(ODD)
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
    finally:
        for name in names:
            shop.do(f"DROP DATABASE IF EXISTS `{quoted[name]}`")


def test_an_event_in_a_time_zone_with_a_name_comes_back(shop: Server, make: Make, tmp_path: Path) -> None:
    """Servers know such names only when somebody has told them."""
    zones = ["mariadb-tzinfo-to-sql", "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"]
    told = subprocess.run(zones, check=True, capture_output=True, text=True).stdout
    several = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with shop.connect("mysql", client_flag=several) as session, session.cursor() as cursor:
        cursor.execute(told)
        while cursor.nextset():
            pass
    event = "CREATE EVENT zoo.feeding ON SCHEDULE EVERY 1 DAY STARTS '2031-07-01 06:30:00' DISABLE DO SET @fed = 1"
    shop.do("SET time_zone = 'Europe/Berlin'", event)
    try:
        source = make(databases=("zoo",), accounts=False)
        point, expected = captured(source)
        assert expected.samples[0].fields["time_zones"] == "Europe/Berlin"
        assert restored_from(source, point, tmp_path / "restored", expected) == ()
    finally:
        shop.do("DROP EVENT zoo.feeding")


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_point_with_former_sums_is_tested_by_them(
    shop: Server, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made by a version before this one; and what is lost since shows by those sums."""
    with monkeypatch.context() as before:
        before.setattr(mysql_capture, "summed_up", partial(mysql_capture.summed_up, row_hash=HASHES["mysql/1"]))
        before.setattr(mysql_capture, "fingerprint_of", partial(moment.fingerprint_of, algorithm="mysql/1"))
        point, expected = captured(make(databases=("zoo",), accounts=False))
    assert expected.algorithm == "mysql/1"
    source = make(databases=("zoo",))
    source.restore(point, tmp_path / "restored")
    altered(b"'name 77'", b"'name 78'", "database-zoo.sql")(tmp_path / "restored")
    assert compare(expected, source.probe(tmp_path / "restored", expected)).differences
    assert restored_from(source, point, tmp_path / "again", expected) == ()


def test_a_row_that_the_server_cannot_digest_is_told(shop: Server, make: Make) -> None:
    """What is longer than a packet may be becomes null without a word, and a sum leaves that out."""
    shop.do("CREATE TABLE zoo.far (g geometry)", "INSERT INTO zoo.far VALUES (ST_GeomFromText(CONCAT('LINESTRING(0 0"
            "', REPEAT(',1 1', 3000), ')')))", "SET GLOBAL max_allowed_packet = 65536")  # fmt: skip
    try:
        with pytest.raises(SourceError, match="cannot be read") as raised:
            captured(make(databases=("zoo",)))
        assert "1 rows of zoo.far" in raised.value.why
    finally:
        shop.do("SET GLOBAL max_allowed_packet = 16777216", "DROP TABLE zoo.far")


PREAMBLE = b"-- MariaDB dump\n-- CHANGE MASTER TO MASTER_LOG_FILE='log.7', MASTER_LOG_POS=42;\n"
WHOLE = (
    PREAMBLE
    + mark_of("a") + b"CREATE DATABASE `a`;\n\nUSE `a`;\nsome of a\n"
    + mark_of("b`c") + b"CREATE DATABASE `b``c`;\n-- Current Database: `a`\n"
    + mark_of("a") + b"USE `a`;\nviews of a\n"
    + mark_of("b`c") + b"USE `b``c`;\n"
    + COMPLETED
)  # fmt: skip


def parts_of(dump: bytes, names: list[str], block: int = 1 << 16) -> list[bytes]:
    finished = []
    parts = Parts(
        Ready(dump), names, lambda: None, lambda: finished.append(True), wait_seconds=0.1, program="mariadb-dump"
    )
    parts.open()
    found = []
    for number in range(len(names) + 1):
        part, read = parts.begin(number), b""
        buffer = bytearray(block)
        while count := part.readinto(memoryview(buffer)):
            read += buffer[:count]
        part.close()
        found.append(read)
    assert finished == [True]
    return found


@pytest.mark.parametrize("block", [1, 5, 17, 1 << 16])
def test_a_dump_is_cut_where_databases_begin(block: int) -> None:
    first, second, views = parts_of(WHOLE, ["a", "b`c"], block)
    assert first.startswith(PREAMBLE) and first.endswith(b"some of a\n\n" + COMPLETED)
    assert second.startswith(PREAMBLE) and b"Current Database: `a`\n" in second and b"views" not in second
    assert views.startswith(PREAMBLE) and b"views of a" in views and views.count(COMPLETED) == 1


@pytest.mark.parametrize(
    ("dump", "names", "said"),
    [
        (WHOLE[: -len(COMPLETED)], ["a", "b`c"], "complete"),
        (WHOLE, ["a", "c", "b`c"], "every database"),
        (PREAMBLE + COMPLETED, ["a"], "which database"),
        (b"", ["a"], "complete"),
    ],
)
def test_a_dump_that_lacks_something_is_none(dump: bytes, names: list[str], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        parts_of(dump, names)


def test_accounts_that_are_there_get_nothing_and_names_are_no_statements() -> None:
    odd = "`a\nDROP DATABASE shop; -- `@`%`"
    account = Account(odd, f"CREATE USER {odd} IDENTIFIED VIA unix_socket OR ed25519 USING 'hash'", [
        f"GRANT USAGE ON *.* TO {odd} IDENTIFIED VIA unix_socket OR ed25519 USING 'hash' REQUIRE SSL",
        f"GRANT SELECT (`b`, `a`) ON `x\nDROP DATABASE shop; -- `.`t` TO {odd}",
        f"GRANT INSERT ON `shop`.`t` TO {odd}",
    ])  # fmt: skip
    other = Account("`b`@`%`", "CREATE USER `b`@`%` IDENTIFIED BY PASSWORD '*AB'", ["GRANT USAGE ON *.* TO `b`@`%`"])
    every = Accounts([account, other], {"shop": frozenset({"t"})})
    comments = [line for line in every.grants_file().splitlines() if line.startswith(b"-- ")]
    assert sum(b"DROP" in line for line in comments) == 2, "in comments there are no ends of lines"
    assert b"hash" not in every.grants_file(), "who is there keeps the password that he has"
    assert b"hash" in every.users_file() and b"CREATE USER IF NOT EXISTS `b`@`%`" in every.users_file()
    left = lacking(every.grants_file(), {odd})
    assert b"DROP" not in left and b"TO `b`@`%`;" in left
    another = replace(account, making=account.making.replace("'hash'", "'other'"))
    assert Accounts([another, other], every.objects).digests() == every.digests(), "passwords are no part of it"
    fewer = replace(account, grants=account.grants[:2])
    assert Accounts([fewer, other], every.objects).digests() != every.digests()


def test_a_part_whose_turn_never_comes_is_told() -> None:
    parts = Parts(Ready(WHOLE), ["a", "b`c"], lambda: None, lambda: None, wait_seconds=0.05, program="mariadb-dump")
    parts.open()
    with pytest.raises(ToolError, match="nobody read"):
        parts.begin(1)
    parts.begin(0).close()
    with pytest.raises(ToolError, match="not read to its end"):
        parts.begin(1)


def test_the_programs_of_the_servers_flavour_and_series_are_found(mariadbd: Path) -> None:
    ours = Tools(Version.parse("10.11.19-MariaDB-0+deb12u1-log"))
    assert Path(ours["server"]).name == "mariadbd"
    with pytest.raises(ToolError, match=r"is of MariaDB 10\.11"):
        Tools(Version("mysql", (8, 0)))["dump"]
    with pytest.raises(ToolError, match=r"is of MariaDB 10\.11"):
        Tools(Version("mariadb", (99, 1)))["dump"]
    with pytest.raises(ToolError, match=r"is of MariaDB 10\.11"):
        Tools(Version("mariadb", (10, 6)))["server"]


def test_without_its_driver_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cto_backups.sources.mysql.source")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(PolicyError, match="needs pymysql") as raised:
        registry.load(registry.SOURCES, "mysql")
    assert "pip install 'cto-backups[mysql]'" in raised.value.todo
