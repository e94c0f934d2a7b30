"""MariaDB's files and its binary log in between: points that go on, moments between them, and stock tools."""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.memory import MemoryVault

from cto_backups.core.log_range import log_range, summed_until
from cto_backups.core.model import Fingerprint, RecoveryPoint, Rung
from cto_backups.core.payloads import Draft
from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.errors import RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.flows.backup import backup
from cto_backups.flows.restore_test import restore_test
from cto_backups.sources.mysql.source import MysqlSource
from integration.test_mysql_log import DDL, Points, differences, fresh_points, tick
from servers import mariadb
from servers.mariadb import Server

Make = Callable[..., MysqlSource]
RIGHTS = "SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE, EXECUTE"


@pytest.fixture(scope="module")
def shop(mariadbd: Path, mariadb_backup: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        mariadb.fill(made)
        made.do("CREATE TABLE zoo.ticks (n int PRIMARY KEY)")
        made.do("CREATE USER keeper@localhost IDENTIFIED BY 'kept'", f"GRANT {RIGHTS} ON *.* TO keeper@localhost")
        yield made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    def made(**options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "keeper", "password": lambda: "kept", "method": "physical"}
        return MysqlSource("shop", {**given, "base_every_seconds": 3600.0, **options}, state=tmp_path / "state")

    return made


@pytest.fixture
def points() -> Points:
    return fresh_points()


def is_base(made: tuple[Draft, Fingerprint]) -> bool:
    """Whether the server's files were read, and its log begins only."""
    log = next(sample.fields for sample in made[1].samples if sample.key == "log")
    return log["since"] == log["until"]


def now(shop: Server) -> datetime:
    ((moment,),) = shop.do("SELECT UTC_TIMESTAMP(6)")
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=UTC)


@contextmanager
def writing(shop: Server) -> Iterator[None]:
    """Somebody who writes all the time, two tables in each transaction."""
    stop = threading.Event()

    def write() -> None:
        with shop.connect("zoo") as session, session.cursor() as cursor:
            number = 10_000
            while not stop.is_set():
                session.begin()
                cursor.execute("INSERT INTO ticks VALUES (%s)", (number,))
                cursor.execute("UPDATE `my shop`.orders SET amount = amount + 1 WHERE id %% 7 = %s", (number % 7,))
                session.commit()
                number += 1
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def test_a_point_that_goes_on_from_files_is_proven_at_its_own_place_under_writes(
    shop: Server, make: Make, points: Points, tmp_path: Path
) -> None:
    """Also the base is written to all the while; then whatever was made, altered and dropped since."""
    source = make()
    with writing(shop):
        base = points.make(source)
        assert is_base(base)
        points.restore(source, tmp_path / "base")
        shop.do(*DDL.strip().split(";\n"), "FLUSH BINARY LOGS")
        went_on = points.make(source)
        assert not is_base(went_on)
        time.sleep(0.2)
        again = points.make(source)
        assert not is_base(again) and again[1].checksums != went_on[1].checksums
    assert differences(source, tmp_path / "base", base[1]) == ()
    points.restore(source, tmp_path / "restored")
    pieces = sorted(file.name for file in (tmp_path / "restored").glob("binlog-*"))
    assert len(pieces) >= 3
    assert differences(source, tmp_path / "restored", again[1]) == ()


def test_any_second_since_the_files_comes_back_with_the_servers_own_tools(
    mariadbd: Path, shop: Server, make: Make, points: Points, tmp_path: Path
) -> None:
    """A server starts on the files, and carries out the log up to the moment; an event of the files does nothing."""
    source = make()
    shop.do("CREATE EVENT `my shop`.busy ON SCHEDULE EVERY 1 SECOND DO INSERT IGNORE INTO zoo.ticks VALUES (0), (1)")
    points.make(source)
    moments = []
    shop.do("CREATE DATABASE fleeting", "CREATE TABLE fleeting.t SELECT 5 AS n")
    for number in range(3):
        tick(shop, number)
        time.sleep(1.1)  # the log tells seconds
        moments.append(now(shop))
    shop.do("DROP DATABASE fleeting", "DELETE FROM zoo.ticks")
    try:
        points.make(source)
        points.restore(source, tmp_path / "back", RestoreOptions(at=moments[1]))
        settings = {"binlog-format": "ROW", "gtid-strict-mode": "0", "event-scheduler": "OFF"}
        with mariadb.server(mariadbd, files=tmp_path / "back" / "data", **settings) as other:
            carried_out(other, tmp_path / "back")
            assert other.do("SELECT n FROM zoo.ticks WHERE n < 1000 ORDER BY n") == [(0,), (1,)]
            assert other.do("SELECT n FROM fleeting.t") == [(5,)]
            assert other.do("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'busy'") == [("ENABLED",)]
        for at in (moments[0].replace(year=2020), datetime.now(UTC)):
            with pytest.raises(RestoreError, match="not in the log"):
                points.restore(source, tmp_path / f"{at.year}", RestoreOptions(at=at))
        assert points.last is not None
        with pytest.raises(RefusedError, match="not restored into one that is running"):
            source.restore(points.store.reader(points.last), None)
    finally:
        shop.do("DROP EVENT `my shop`.busy", "DROP DATABASE IF EXISTS fleeting", "DELETE FROM zoo.ticks")


def carried_out(server: Server, place: Path) -> None:
    """As the how-to says."""
    pieces = sorted([*place.glob("binlog-*"), *place.glob("streamed-*")])
    reading = subprocess.run(
        ["mariadb-binlog", "--skip-gtid-strict-mode", *pieces], capture_output=True, check=True
    ).stdout
    client = ["mariadb", "--no-defaults", f"--socket={server.socket}", f"--password={mariadb.PASSWORD}", "-uroot"]
    subprocess.run([*client, "--binary-mode", "--max-allowed-packet=1G"], input=reading, check=True)


@pytest.mark.parametrize(("former", "later"), [("logical", "physical"), ("physical", "logical")])
def test_another_method_begins_with_a_base_of_its_own(
    shop: Server, make: Make, points: Points, tmp_path: Path, former: str, later: str
) -> None:
    points.make(make(method=former))
    tick(shop, 1)
    try:
        source = make(method=later)
        again = points.make(source)
        assert is_base(again)
        points.restore(source, tmp_path / "back")
        assert (tmp_path / "back" / "server.json").exists() == (later == "physical")
        assert any((tmp_path / "back").glob("database-*")) == (later == "logical")
        assert differences(source, tmp_path / "back", again[1]) == ()
    finally:
        shop.do("DELETE FROM zoo.ticks")


@pytest.mark.parametrize("method", ["physical", "logical"])
def test_what_a_newer_point_left_in_a_folder_is_not_carried_out_with_an_older_one(
    shop: Server, make: Make, points: Points, tmp_path: Path, method: str
) -> None:
    """Its log would be; with files, a table that was made since would be in the way."""
    source = make(method=method)
    points.make(source)
    tick(shop, 1)
    points.make(source)
    older = points.last
    assert older is not None
    tick(shop, 2)
    try:
        points.make(source)
        place = tmp_path / "back"
        points.restore(source, place)
        newest = sorted(place.glob("binlog-*"))[-1]
        reader = points.store.reader(older)
        for restore in (source.restore, source.plan_restore):
            with pytest.raises(RefusedError, match="an earlier restore left") as raised:
                restore(reader, place, existing=Existing.OVERWRITE)
            assert newest.name in raised.value.why or "data/" in raised.value.why
        assert newest.exists(), "nothing was written, and nothing taken away"
        shutil.rmtree(place)
        assert not source.restore(reader, place, existing=Existing.OVERWRITE).problems
    finally:
        shop.do("DELETE FROM zoo.ticks")


def test_what_is_no_servers_is_in_nobodys_way(shop: Server, make: Make, points: Points, tmp_path: Path) -> None:
    """Also a folder with the name that a server's files have, where dumps come; and the same point twice."""
    source, place = make(method="logical"), tmp_path / "back"
    points.make(source)
    (place / "data").mkdir(parents=True)
    (place / "data" / "of-others").touch()
    (place / "binlogs.txt").touch()
    assert points.last is not None
    for _ in range(2):
        assert not source.restore(points.store.reader(points.last), place, existing=Existing.OVERWRITE).problems
    assert (place / "data" / "of-others").exists() and (place / "binlogs.txt").exists()


def test_it_takes_the_rights_of_who_copies_files_and_of_who_reads_the_log(
    shop: Server, make: Make, points: Points
) -> None:
    shop.do("REVOKE REPLICATION SLAVE ON *.* FROM keeper@localhost")
    try:
        with pytest.raises(SourceError) as raised:
            points.make(make())
        assert "REPLICATION SLAVE" in raised.value.why
    finally:
        shop.do("GRANT REPLICATION SLAVE ON *.* TO keeper@localhost")


def test_a_server_that_was_killed_goes_on_from_its_files_and_so_do_its_points(
    mariadbd: Path, mariadb_backup: Path, make: Make, points: Points, tmp_path: Path
) -> None:
    durable = {"innodb-flush-log-at-trx-commit": "1", "sync-binlog": "1"}
    with mariadb.server(mariadbd, **{"binlog-format": "ROW", **durable}) as made:
        made.do("CREATE DATABASE zoo", "CREATE TABLE zoo.t (n int PRIMARY KEY)", "INSERT INTO zoo.t VALUES (1)")
        source = make(host=str(made.socket), user="root", password=lambda: mariadb.PASSWORD)
        points.make(source)
        made.do("INSERT INTO zoo.t VALUES (2)")
        points.make(source)
        made.do("INSERT INTO zoo.t VALUES (3)")
        again = mariadb.killed_and_started_again(made)
        try:
            made.do("INSERT INTO zoo.t VALUES (4)")
            went_on = points.make(source)
            assert not is_base(went_on)
        finally:
            again.kill()
            again.wait(30)
        points.restore(source, tmp_path / "restored")
        assert differences(source, tmp_path / "restored", went_on[1]) == ()
        assert next(s for s in went_on[1].samples if s.key == "zoo: table t").fields["rows"] == "4"


@pytest.mark.parametrize("method", ["physical", "logical"])
def test_a_point_that_was_not_summed_up_is_compared_where_rows_were_and_its_log_carried_out_to_the_end(
    shop: Server, make: Make, points: Points, tmp_path: Path, method: str
) -> None:
    source = make(method=method, sums_every_seconds=3600.0)
    _, base = points.make(source)
    tick(shop, 1)
    try:
        with statements(shop) as said:
            draft, between = points.make(source)
        assert any("SHOW MASTER STATUS" in each for each in said)
        assert not any("FROM `zoo`.`ticks`" in each or "SNAPSHOT" in each for each in said), "no row is read"
        assert between.checksums == base.checksums and summed_until(between) and not summed_until(base)
        assert draft.read_bytes < 1 << 20
        tick(shop, 2)
        points.make(source)
        points.restore(source, tmp_path / "back")
        assert differences(source, tmp_path / "back", points.told[-1]) == ()
        # Once it is due, rows are summed up where the log is by then; without the setting, at each point as before.
        for settings in ({"sums_every_seconds": 0.001}, {}):
            tick(shop, 10 + len(points.told))
            again = make(method=method, **settings)
            _, told = points.make(again)
            assert not is_base((draft, told)) and not summed_until(told) and told.checksums != base.checksums
            place = tmp_path / f"back-{len(points.told)}"
            points.restore(again, place)
            assert (place / "sums.json").exists() is bool(settings)
            assert differences(again, place, told) == ()
    finally:
        shop.do("DELETE FROM zoo.ticks")


@contextmanager
def statements(shop: Server) -> Iterator[list[str]]:
    """Every statement that the server is given, complete when the block has ended."""
    said: list[str] = []
    shop.do("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = 1")
    try:
        yield said
    finally:
        shop.do("SET GLOBAL general_log = 0")
        said += [str(text) for (text,) in shop.do("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log")]
        assert said


@pytest.mark.parametrize("fault", ["a row in the base", "the rest of the log", "where it was summed up"])
def test_faults_before_and_after_the_sums_show(
    shop: Server, make: Make, points: Points, tmp_path: Path, fault: str
) -> None:
    source = make(method="logical", sums_every_seconds=3600.0)
    shop.do("INSERT INTO zoo.names VALUES (9999, 'a name to be seen')")
    points.make(source)
    tick(shop, 1)
    try:
        points.make(source)
        place = tmp_path / "back"
        points.restore(source, place)
        piece = sorted(place.glob("binlog-*"))[-1]
        match fault:
            case "a row in the base":
                dump = place / "database-zoo.sql"
                dump.write_bytes(dump.read_bytes().replace(b"a name to be seen", b"a name to be sean"))
            case "the rest of the log":
                piece.write_bytes(piece.read_bytes()[:-31])
            case _:
                told = (place / "sums.json").read_text()
                (place / "sums.json").write_text(re.sub(r'(?s)("place": \[[^]]*?)\d+(\s*\])', r"\g<1>5\2", told))
                assert told != (place / "sums.json").read_text()
        try:
            found = differences(source, place, points.told[-1])
        except VerificationError as error:
            assert fault != "a row in the base" and error.why
        else:
            assert any("zoo: rows" in each for each in found) and fault == "a row in the base"
    finally:
        shop.do("DELETE FROM zoo.ticks", "DELETE FROM zoo.names WHERE id = 9999")


def test_a_restore_test_takes_the_newest_point_that_was_summed_up_and_says_what_it_does_not_compare(
    shop: Server, make: Make, workshop: Any
) -> None:
    source = make(method="logical", sums_every_seconds=3600.0)
    installation = replace(workshop.installation, source=lambda _name: source)
    summed = backup(installation, "ledger").point
    tick(shop, 1)
    try:
        newest = backup(installation, "ledger").point
        assert newest.id != summed.id
        passed = restore_test(installation, "ledger")
        assert passed.passed and passed.point == summed.id and passed.rung is Rung.PROVEN, passed
        less = restore_test(installation, "ledger", point=newest)
        assert less.passed and less.point == newest.id and less.rung is Rung.RESTORED, less
        (step,) = [step for step in less.steps if step.name == "verify_integrity"]
        assert "what was written after" in str(step.figures["not_compared"])
    finally:
        shop.do("DELETE FROM zoo.ticks")


def test_a_log_that_leads_astray_is_left_though_newer_points_were_not_summed_up(
    shop: Server, make: Make, workshop: Any
) -> None:
    seldom, always = make(method="logical", sums_every_seconds=3600.0), make(method="logical", sums_every_seconds=0.001)
    here = [replace(workshop.installation, source=lambda _name, each=each: each) for each in (seldom, always)]
    try:
        base = backup(here[0], "ledger").point
        shop.do("SET SESSION sql_log_bin = 0", "INSERT INTO zoo.ticks VALUES (1)")
        summed = backup(here[1], "ledger").point
        tick(shop, 2)
        newest = backup(here[0], "ledger").point
        assert len({begins(point) for point in (base, summed, newest)}) == 1
        failed = restore_test(here[0], "ledger")
        assert not failed.passed and failed.point == summed.id and "zoo: table ticks" in failed.reason
        again = backup(here[0], "ledger").point
        assert begins(again) != begins(newest), "the next point begins with a base"
        assert restore_test(here[0], "ledger").passed
        tick(shop, 3)
        assert begins(backup(here[0], "ledger").point) == begins(again)
    finally:
        shop.do("DELETE FROM zoo.ticks")


def begins(point: RecoveryPoint) -> datetime:
    """Since when its log goes."""
    told = log_range(point)
    assert told is not None
    return told[0]


def test_files_that_are_read_anew_are_no_mass_change(shop: Server, make: Make, workshop: Any) -> None:
    """Of a small server's files, half are blank pages."""
    suspected = []
    for settings in ({"base_every_seconds": None}, {}, {}, {"base_every_seconds": 0.001}):
        tick(shop, len(suspected))
        source = make(**settings)
        installation = replace(workshop.installation, source=lambda _name, source=source: source)
        suspected.append(backup(installation, "ledger").point.suspicions)
    shop.do("DELETE FROM zoo.ticks")
    assert suspected == [()] * 4


@pytest.mark.parametrize("why", ["two phases", "thrown away", "begun anew", "a lost file"])
def test_it_begins_with_files_again(shop: Server, make: Make, points: Points, tmp_path: Path, why: str) -> None:
    """Where the log tells less than what came to pass, or is not there; and where the point before is damaged."""
    source = make()
    if why == "two phases":  # prepared before the base, and committed since: the log says only that
        shop.do("XA START 'two'", "INSERT INTO zoo.ticks VALUES (202)", "XA END 'two'", "XA PREPARE 'two'")
    points.make(source)
    tick(shop, 200)
    try:
        match why:
            case "two phases":
                points.restore(source, tmp_path / "before")
                assert differences(source, tmp_path / "before", points.told[-1]) == ()
                shop.do("XA COMMIT 'two'")
            case "thrown away":
                shop.do("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
                ((newest, *_),) = shop.do("SHOW MASTER STATUS")
                for _ in range(100):  # it keeps a file for a moment that it may need after a crash
                    shop.do(f"PURGE BINARY LOGS TO '{newest}'")
                    if len(shop.do("SHOW BINARY LOGS")) == 1:
                        break
                    time.sleep(0.1)
            case "begun anew":
                shop.do("RESET MASTER", "INSERT INTO zoo.ticks VALUES (201)")
            case "a lost file":
                vault = points.store.vault
                assert isinstance(vault, MemoryVault)
                largest = max((key for key in vault.files if "/data/" in key), key=lambda key: len(vault.files[key]))
                del vault.files[largest]
        again = points.make(source)
        assert is_base(again)
        points.restore(source, tmp_path / "back")
        assert differences(source, tmp_path / "back", again[1]) == ()
    finally:
        shop.do("DELETE FROM zoo.ticks")
