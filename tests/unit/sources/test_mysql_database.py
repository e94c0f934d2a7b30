"""One database out of dumps of a MySQL or MariaDB server: beside what runs, where there is none, or as a file."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.points import MemoryFetch, MemoryPoint
from source_contract import captured

from cto_backups.core.database_restore import DatabaseRestored, DatabaseWish
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, Silent
from cto_backups.errors import BackupsError, NotFoundError, RefusedError, RestoreError, UsageError
from cto_backups.sources.mysql import unfinished
from cto_backups.sources.mysql.connection import quoted
from cto_backups.sources.mysql.source import MysqlSource
from servers import mariadb
from servers.mariadb import Server

NOW = datetime(2026, 11, 23, 10, 7, 30, tzinfo=UTC)
BESIDE = "my shop_restored_20261123_100730"
OFTEN = "CREATE EVENT often ON SCHEDULE EVERY 1 SECOND DO INSERT INTO twins VALUES ('by an event')"


Made = Callable[..., DatabaseRestored]


@pytest.fixture(scope="module")
def shop(mariadbd: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd, **{"event-scheduler": "ON"}) as made:
        mariadb.fill(made)
        made.do("CREATE PROCEDURE count_all() SELECT COUNT(*) FROM names", database="zoo")
        made.do("ALTER DATABASE zoo CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")  # later than what is in it
        made.do(
            "CREATE VIEW sums AS SELECT plus(1, 2) AS three, 'it''s \\'`my shop`.`' AS said",
            "CREATE PROCEDURE far() SELECT COUNT(*) FROM `my shop`.twins",
            database="my shop",
        )
        yield made


@pytest.fixture(scope="module")
def taken(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    """A point; the event in it that runs each second is no more on the server."""
    shop.do("SET GLOBAL event_scheduler = OFF")
    shop.do(OFTEN, database="my shop")
    found = captured(source(shop, tmp_path_factory.mktemp("state")))
    shop.do("DROP EVENT `my shop`.often", "SET GLOBAL event_scheduler = ON")
    return found


@pytest.fixture(autouse=True)
def clean(shop: Server) -> Iterator[None]:
    """Whatever a test made, the next one finds the server as it was."""
    before = names(shop)
    yield
    shop.do(*(f"DROP DATABASE {quoted(name)}" for name in names(shop) - before), "DROP USER IF EXISTS keeper@localhost")
    assert names(shop) == before, "a test lost what all of them share"


def source(shop: Server, state: Path, **options: Any) -> MysqlSource:
    given = {"host": str(shop.socket), "user": "root", "password": lambda: mariadb.PASSWORD, **options}
    return MysqlSource("shop", given, state=state)


def names(shop: Server) -> set[str]:
    return {str(name) for (name,) in shop.do("SHOW DATABASES")}


def table_sums(shop: Server, database: str) -> dict[str, int]:
    """The server's own sum of each table; of orders without the column of floats, of which a dump keeps six digits."""
    tables = shop.do("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'", database=database)
    sums = {name: shop.do(f"CHECKSUM TABLE `{name}` EXTENDED", database=database)[0][1] for name, _ in tables}
    if "orders" in sums:
        columns = "id, at, amount, twice, mood, about, name, notes, HEX(raw), HEX(rawer), HEX(picture), d, net, ident"
        ((total,),) = shop.do(f"SELECT SUM(CRC32(CONCAT_WS('#', {columns}))) FROM orders", database=database)
        sums["orders"] = int(total)
    return sums


@pytest.fixture
def restore(shop: Server, taken: tuple[MemoryPoint, Fingerprint], tmp_path: Path) -> Made:
    """Restore of the point, or of another one, once the plan has said the same."""

    def made(point: MemoryPoint | None = None, options: Any = None, **wish: Any) -> DatabaseRestored:
        kept, told = taken
        wanted = DatabaseWish(**{"database": "my shop", "moment": NOW, **wish})
        subject = source(shop, tmp_path / "state", **(options or {}))
        plan = subject.plan_database(point or kept, told, wanted)
        done = subject.restore_database(MemoryFetch(point or kept), told, wanted, lambda _: nullcontext(Silent()))
        assert (plan.name, plan.place) == (done.name, done.place)
        return done

    return made


def changed(point: MemoryPoint, path: bytes, change: Callable[[bytes], bytes]) -> MemoryPoint:
    entry, content = point.entries[path]
    return MemoryPoint({**point.entries, path: (entry, change(content))})


def test_it_comes_beside_the_one_that_runs_whole_and_its_events_stay_still(shop: Server, restore: Made) -> None:
    before = {name: table_sums(shop, name) for name in ("my shop", "zoo")}
    done = restore(verify=True)
    assert done.name == BESIDE and done.size_bytes > 100_000
    assert table_sums(shop, BESIDE) == before["my shop"]
    assert {name: table_sums(shop, name) for name in ("my shop", "zoo")} == before
    assert shop.do("SELECT many FROM a_view_of_a_view", database=BESIDE) == [(1420,)]
    for kind in ("TRIGGERS", "ROUTINES", "VIEWS"):
        column = "TABLE_SCHEMA" if kind == "VIEWS" else f"{kind[:-1]}_SCHEMA"
        both = f"information_schema.{kind} WHERE {column} IN ('my shop', '{BESIDE}') GROUP BY {column}"
        counts = shop.do(f"SELECT COUNT(*) FROM {both}")
        assert len({count for (count,) in counts}) == 1 and len(counts) == 2, kind
    events = shop.do(
        f"SELECT EVENT_NAME, STATUS, LAST_EXECUTED FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{BESIDE}'"
    )
    assert sorted(events) == [("nightly", "DISABLED", None), ("often", "DISABLED", None)]
    assert any("events do not run in it" in note and "often" in note and "nightly" not in note for note in done.notes)
    (naming,) = [note for note in done.notes if "these name my shop" in note]
    assert naming.endswith(": routine far")
    assert "my shop`" not in shop.do("SHOW CREATE VIEW across", database=BESIDE)[0][1].replace(BESIDE, "")
    assert shop.do("SELECT * FROM sums", database=BESIDE) == [(3, "it's '`my shop`.`")]
    assert shop.do("SELECT COUNT(*) FROM across", database=BESIDE) == shop.do(
        "SELECT COUNT(*) FROM across", database="my shop"
    )
    assert unfinished.TABLE not in table_sums(shop, BESIDE)


def test_it_gets_the_name_that_is_asked_for_and_the_others_character_set_stays(shop: Server, restore: Made) -> None:
    how = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{}'"
    of_routine = "SELECT DATABASE_COLLATION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{}'"
    assert restore(database="zoo", name="zoo `again").name == "zoo `again"
    assert shop.do(how.format("zoo")) == shop.do(how.format("zoo `again")) == [("utf8mb4_bin",)]
    assert shop.do(of_routine.format("zoo")) == shop.do(of_routine.format("zoo `again")) == [("latin1_swedish_ci",)]
    assert shop.do("CALL count_all()", database="zoo `again") == [(200,)]


def test_in_place_it_comes_where_there_is_none_with_its_events(shop: Server, restore: Made) -> None:
    with pytest.raises(RefusedError, match="there is a database zoo"):
        restore(database="zoo", in_place=True, existing=Existing.OVERWRITE)
    before = table_sums(shop, "zoo")
    shop.do("DROP DATABASE zoo")
    assert restore(database="zoo", in_place=True, verify=True).name == "zoo"
    assert table_sums(shop, "zoo") == before

    shop.do("SET GLOBAL event_scheduler = OFF")
    sums = table_sums(shop, "my shop")
    shop.do("DROP DATABASE `my shop`")
    restore(in_place=True)
    assert shop.do("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'often'") == [("ENABLED",)]
    shop.do("DROP EVENT `my shop`.often", "SET GLOBAL event_scheduler = ON")
    assert table_sums(shop, "my shop") == sums


def test_a_folder_gets_one_file_that_the_client_loads(shop: Server, restore: Made, tmp_path: Path) -> None:
    done = restore(folder=tmp_path / "dumps")
    file = tmp_path / "dumps" / "my%20shop.sql"
    assert (done.name, done.size_bytes) == (file.name, file.stat().st_size) and file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RefusedError, match="already"):
        restore(folder=tmp_path / "dumps")
    restore(folder=tmp_path / "dumps", existing=Existing.OVERWRITE)
    sums = table_sums(shop, "my shop")
    shop.do("SET GLOBAL event_scheduler = OFF", "DROP DATABASE `my shop`")
    login = [f"--socket={shop.socket}", "--user=root", f"--password={mariadb.PASSWORD}"]
    with file.open("rb") as reading:
        subprocess.run(["mariadb", "--no-defaults", *login, "--binary-mode"], stdin=reading, check=True)
    shop.do("DROP EVENT `my shop`.often", "SET GLOBAL event_scheduler = ON")
    assert table_sums(shop, "my shop") == sums
    assert shop.do("SELECT three FROM sums", database="my shop") == [(3,)]


@pytest.mark.parametrize(
    ("change", "verify", "said"),
    [
        (lambda content: content.replace(b"'event 77'", b"'event 78'"), True, "its rows were not those"),
        (lambda content: content[:60_000], False, "without the words that it is complete"),
        (
            lambda content: content.replace(b"CREATE TABLE `twins`", b"CREATE TABLET `twins`"),
            False,
            "ERROR 1064",
        ),
    ],
)
def test_what_does_not_come_back_whole_leaves_nothing(
    shop: Server,
    restore: Made,
    taken: tuple[MemoryPoint, Fingerprint],
    change: Callable[[bytes], bytes],
    verify: bool,
    said: str,
) -> None:
    before = names(shop)
    point = changed(taken[0], b"/database-my%20shop.sql", change)
    with pytest.raises(RestoreError) as told:
        restore(point, verify=verify)
    assert re.search(said, f"{told.value.why}")
    assert names(shop) == before


def test_what_a_killed_restore_left_is_made_anew(shop: Server, restore: Made) -> None:
    with shop.connect() as session:
        unfinished.begin(session, BESIDE, f"`{BESIDE}`", ())
    shop.do("CREATE TABLE half (n int)", database=BESIDE)
    restore()
    assert "half" not in table_sums(shop, BESIDE) and len(table_sums(shop, BESIDE)) > 10


def test_a_user_with_rights_there_alone_gets_it_and_becomes_its_definer(shop: Server, restore: Made) -> None:
    shop.do("CREATE USER keeper@localhost IDENTIFIED BY 'secret'")
    keeper = {"user": "keeper", "password": lambda: "secret"}
    with pytest.raises(RestoreError) as told:
        restore(options=keeper)
    grant = told.value.todo.partition(";")[0].partition(": ")[2].replace("that user", "keeper@localhost")
    assert "CREATE" in told.value.why
    shop.do(grant, "GRANT SELECT ON zoo.* TO keeper@localhost")
    with pytest.raises(RestoreError) as told:
        restore(options=keeper)
    assert "log_bin_trust_function_creators" in told.value.why and BESIDE not in names(shop)
    shop.do("SET GLOBAL log_bin_trust_function_creators = ON")
    done = restore(options=keeper, verify=True)
    assert table_sums(shop, BESIDE) == table_sums(shop, "my shop")
    assert any("work as its user" in note for note in done.notes)
    definers = shop.do(
        f"SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{BESIDE}' UNION"
        f" SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{BESIDE}' UNION"
        f" SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{BESIDE}' UNION"
        f" SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{BESIDE}'"
    )
    assert definers == [("keeper@localhost",)]


@pytest.mark.parametrize(
    ("wish", "error", "said"),
    [
        ({"database": "my shp"}, NotFoundError, "did you mean 'my shop'"),
        ({"name": "zoo"}, RefusedError, "there is a database zoo"),
        ({"name": "n" * 65}, UsageError, "cannot be called"),
        ({"name": "ends "}, UsageError, "cannot be called"),
        ({"tables": ("twins",)}, RefusedError, "a single table"),
        ({"at": NOW}, RefusedError, "a log leads on"),
        ({"options": {"base_every_seconds": 60.0}}, RefusedError, "a log leads on"),
        ({"options": {"host": "/nowhere/at.all"}}, RestoreError, "not restored"),
    ],
)
def test_what_is_not_to_be_had_is_refused_with_its_reason(
    restore: Made, wish: dict[str, Any], error: type[BackupsError], said: str
) -> None:
    with pytest.raises(error) as told:
        restore(**wish)
    assert said in f"{told.value.what} {told.value.why}" and told.value.todo


def test_a_point_without_dumps_is_told_apart(
    shop: Server, taken: tuple[MemoryPoint, Fingerprint], tmp_path: Path
) -> None:
    wish = DatabaseWish("my shop", NOW)
    with pytest.raises(RefusedError, match="a single database does not come out"):
        source(shop, tmp_path).plan_database(MemoryPoint({}), taken[1], wish)
    with pytest.raises(RefusedError, match="a single database does not come out"):
        source(shop, tmp_path).plan_database(taken[0], replace(taken[1], algorithm="other/1"), wish)
