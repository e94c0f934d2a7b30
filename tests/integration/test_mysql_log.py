"""MariaDB's binary log between dumps: points that go on, moments between them, and what is not gone on from."""

import errno
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql
import pytest
from fakes.memory import MemoryVault
from payload_store_contract import label

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.payloads import Draft
from cto_backups.core.ports import RestoreOptions
from cto_backups.errors import RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.flows.backup import backup
from cto_backups.flows.restore_test import restore_test
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.mysql import logged as mysql_logged
from cto_backups.sources.mysql import spool
from cto_backups.sources.mysql.binlog import BrokenLogError, LogStream
from cto_backups.sources.mysql.connection import Address
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.log import whole_log
from cto_backups.sources.mysql.source import MysqlSource
from cto_backups.sources.mysql.spool import continued
from servers import mariadb
from servers.mariadb import Server

Make = Callable[..., MysqlSource]

DDL = r"""
CREATE USER later@localhost IDENTIFIED BY 'later';
GRANT SELECT (id), UPDATE (amount) ON `my shop`.orders TO later@localhost;
GRANT EXECUTE ON FUNCTION `my shop`.plus TO later@localhost;
DROP USER 'auditor'@'10.%';
CREATE DATABASE newer CHARACTER SET utf8mb4;
CREATE TABLE newer.t (n int PRIMARY KEY, j json, g point, v int AS (n * 2) VIRTUAL, w int AS (n + 1) STORED);
INSERT INTO newer.t (n, j, g) VALUES (1, '{"é": "😀"}', POINT(1, 2)), (2, NULL, NULL);
GRANT SELECT ON newer.* TO later@localhost;
CREATE DEFINER = later@localhost VIEW newer.calling AS SELECT `my shop`.plus(n) AS m FROM newer.t;
CREATE TRIGGER newer.kept BEFORE UPDATE ON newer.t FOR EACH ROW SET NEW.j = '{}';
UPDATE newer.t SET g = NULL WHERE n = 1;
CREATE SEQUENCE newer.numbers CACHE 10;
INSERT INTO newer.t (n) SELECT NEXTVAL(newer.numbers) + 100 FROM newer.seq_1_to_25;
CREATE EVENT newer.soon ON SCHEDULE AT '2020-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE DO DELETE FROM newer.t;
ALTER TABLE `my shop`.orders ADD COLUMN later varchar(20) DEFAULT 'x' AFTER id;
UPDATE `my shop`.orders SET later = id WHERE id % 3 = 0;
DELETE FROM `my shop`.my_isam WHERE n % 2 = 0;
INSERT INTO `my shop`.an_aria VALUES (9);
DELETE FROM `my shop`.twins WHERE word = 'same' LIMIT 1;
CREATE OR REPLACE TABLE zoo.loud AS SELECT id, CONCAT(word, '!') AS word FROM zoo.names WHERE id < 100;
DELETE FROM zoo.names WHERE id < 50;
TRUNCATE TABLE `my shop`.events;
BEGIN;
INSERT INTO `my shop`.orders (amount) VALUES (1), (2);
ROLLBACK;
CREATE TEMPORARY TABLE zoo.passing AS SELECT 1 AS n;
INSERT INTO zoo.names SELECT n + 1000, 'passed' FROM zoo.passing
"""


@pytest.fixture(scope="module")
def shop(mariadbd: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as made:
        mariadb.fill(made)
        made.do("CREATE TABLE zoo.ticks (n int PRIMARY KEY)")
        yield made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Make:
    def made(**options: Any) -> MysqlSource:
        given = {"host": str(shop.socket), "user": "root", "password": lambda: mariadb.PASSWORD}
        return MysqlSource("shop", {**given, "base_every_seconds": 3600.0, **options}, state=tmp_path / "state")

    return made


@pytest.fixture
def points() -> "Points":
    return fresh_points()


def fresh_points() -> "Points":
    """Points in a new vault."""
    quick = RepositoryOptions(scrypt=ScryptParameters(n=2))
    now = datetime.now(UTC)
    return Points(
        RepositoryStore.create(MemoryVault(), "r", "secret", now=now, hostname="h", username="u", options=quick)
    )


class Points:
    """Points of a source, each made after the one before."""

    def __init__(self, store: RepositoryStore) -> None:
        self.store = store
        self.last: str | None = None
        self.told: list[Fingerprint] = []

    def make(self, source: MysqlSource) -> tuple[Draft, Fingerprint]:
        with source.capture() as capture, self.store.writing() as writing:
            draft = writing.write(capture.tree, parent=self.last)
            fingerprint = capture.fingerprint()
            self.last = writing.commit(draft, label())
            capture.stored()
        self.told.append(fingerprint)
        return draft, fingerprint

    def restore(self, source: MysqlSource, place: Path, options: RestoreOptions | None = None) -> None:
        assert self.last is not None
        assert not source.restore(self.store.reader(self.last), place, options=options).problems


def is_base(draft: Draft) -> bool:
    """Whether everything was dumped."""
    return draft.read_bytes == draft.size_bytes


def differences(source: MysqlSource, place: Path, expected: Fingerprint) -> tuple[str, ...]:
    return compare(expected, source.probe(place, expected)).differences


def tick(shop: Server, number: int) -> None:
    shop.do(f"INSERT INTO zoo.ticks VALUES ({number})")


def test_a_point_that_goes_on_is_proven_at_its_own_place_under_writes(
    shop: Server, make: Make, points: Points, tmp_path: Path
) -> None:
    """Whatever was made, altered and dropped since, in every way that the log tells of; and nobody stands still."""
    source = make()
    base, _ = points.make(source)
    assert is_base(base)
    shop.do(*DDL.strip().split(";\n"), "FLUSH BINARY LOGS")
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

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.3)
        went_on, expected = points.make(source)
        assert not is_base(went_on)
        time.sleep(0.2)
        again, later = points.make(source)
        assert not is_base(again) and later.checksums != expected.checksums
    finally:
        stop.set()
        writer.join()
    points.restore(source, tmp_path / "restored")
    assert "server: broken views" not in later.checksums
    pieces = sorted(file.name for file in (tmp_path / "restored").glob("binlog-*"))
    assert len(pieces) >= 3 and pieces[0].startswith("binlog-000001-")
    assert differences(source, tmp_path / "restored", later) == ()


def test_any_second_since_the_dumps_comes_back_on_a_new_server(
    mariadbd: Path, shop: Server, make: Make, points: Points, tmp_path: Path
) -> None:
    """Also one before the newest point, and one at which something is there that was dropped since.

    No event comes between the dumps and the log.
    """
    source = make()
    event = "ON SCHEDULE EVERY 1 SECOND DO INSERT IGNORE INTO zoo.ticks VALUES (0), (1), (2)"
    shop.do(f"CREATE EVENT `my shop`.busy {event}")
    points.make(source)
    moments = []
    shop.do("CREATE DATABASE fleeting", "CREATE TABLE fleeting.t SELECT 5 AS n")
    for number in range(4):
        tick(shop, number)
        time.sleep(1.1)  # the log tells seconds
        moments.append(shop.do("SELECT UTC_TIMESTAMP(6)")[0][0].replace(tzinfo=UTC))
        if number in (0, 2):
            points.make(source)
    shop.do("DROP DATABASE fleeting", "DROP TABLE zoo.ticks")
    try:
        _, expected = points.make(source)
        log = next(sample.fields for sample in expected.samples if sample.key == "log")
        assert datetime.fromisoformat(log["since"]) < moments[0] < moments[-1] < datetime.fromisoformat(log["until"])
        assert points.last is not None
        reader = points.store.reader(points.last)
        settings = {"gtid-strict-mode": "1", "binlog-format": "ROW", "event-scheduler": "ON"}
        with mariadb.server(mariadbd, **settings) as other:
            there = make(host=str(other.socket))
            other.do("CREATE DATABASE of_others")
            assert there.plan_restore(reader, None).conflicts == ("of_others",)
            for options in ({}, {"only": ["/database-zoo.sql"]}):
                with pytest.raises(RefusedError, match="without databases") as raised:
                    there.restore(reader, None, **options)
            assert "of_others" in raised.value.why
            other.do("DROP DATABASE of_others")
            there.restore(reader, None, options=RestoreOptions(at=moments[2]))
            assert other.do("SELECT MAX(n), COUNT(*) FROM zoo.ticks WHERE n < 1000") == [(2, 3)]
            assert other.do("SELECT n FROM fleeting.t") == [(5,)]
            assert other.do("SELECT @@GLOBAL.gtid_strict_mode, @@GLOBAL.event_scheduler") == [(1, "ON")]
        points.restore(source, tmp_path / "early", RestoreOptions(at=moments[0]))
        points.restore(source, tmp_path / "late")
        assert len(list((tmp_path / "early").glob("binlog-*"))) < len(list((tmp_path / "late").glob("binlog-*")))
        for at in (datetime.fromisoformat(log["since"]).replace(year=2020), datetime.now(UTC)):
            with pytest.raises(RestoreError, match="not in the log"):
                source.restore(reader, tmp_path / f"{at.year}", options=RestoreOptions(at=at))
    finally:
        shop.do("DROP EVENT `my shop`.busy", "CREATE OR REPLACE TABLE zoo.ticks (n int PRIMARY KEY)")


def test_a_server_at_rest_has_an_unchanged_fingerprint(shop: Server, make: Make, points: Points) -> None:
    source = make()
    _, first = points.make(source)
    same, second = points.make(source)
    assert second.checksums == first.checksums
    same, third = points.make(source)
    assert third == second, "it is confirmed, and not made again"
    assert same.read_bytes == same.added_bytes == 0
    tick(shop, 100)
    assert points.make(source)[1] != third


@pytest.mark.parametrize(
    "why",
    ["thrown away", "begun anew", "another server", "it is old", "a lost pack", "a broken view", "two phases"],
)
def test_it_begins_with_dumps_again(shop: Server, make: Make, points: Points, why: str) -> None:
    source = make()
    if why == "a broken view":
        shop.do(
            "CREATE TABLE zoo.gone (n int)", "CREATE VIEW zoo.broken AS SELECT n FROM zoo.gone", "DROP TABLE zoo.gone"
        )
    elif why == "two phases":  # prepared before the dumps, and committed since: the log says only that
        prepare = "XA START 'two'", "INSERT INTO zoo.ticks VALUES (202)", "XA END 'two'", "XA PREPARE 'two'"
        shop.do(*prepare)
    points.make(source)
    tick(shop, 200)
    try:
        match why:
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
            case "two phases":
                shop.do("XA COMMIT 'two'")
            case "another server":
                shop.do("SET GLOBAL server_id = 8")
            case "it is old":
                source = make(base_every_seconds=0.001)
            case "a lost pack":
                assert not is_base(points.make(source)[0])  # whose own files are in another one
                vault = points.store.vault
                assert isinstance(vault, MemoryVault)
                largest = max((key for key in vault.files if "/data/" in key), key=lambda key: len(vault.files[key]))
                del vault.files[largest]
        again, expected = points.make(source)
        assert is_base(again)
        assert next(sample for sample in expected.samples if sample.key == "log").fields["ends"]
    finally:
        shop.do("SET GLOBAL server_id = 7", "DROP VIEW IF EXISTS zoo.broken", "DELETE FROM zoo.ticks")


def lost(place: Path, pieces: list[Path]) -> None:
    pieces[1].unlink()


def cut_short(place: Path, pieces: list[Path]) -> None:
    pieces[-1].write_bytes(pieces[-1].read_bytes()[:-31])


def an_event_less(place: Path, pieces: list[Path]) -> None:
    """All that is left is as it was, checksums included."""
    content = pieces[0].read_bytes()
    at, events = 4, []
    while at < len(content):
        size = int.from_bytes(content[at + 9 : at + 13], "little")
        events.append(content[at : at + size])
        at += size
    assert len(events) > 5
    pieces[0].write_bytes(content[:4] + b"".join(events[:2] + events[3:]))


def a_byte_another(place: Path, pieces: list[Path]) -> None:
    content = bytearray(pieces[0].read_bytes())
    content[-40] ^= 1
    pieces[0].write_bytes(content)


@pytest.fixture(scope="module")
def logged(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Fingerprint, MysqlSource]:
    """A restored point with several pieces, one before it, and what it is to come to."""
    place = tmp_path_factory.mktemp("logged")
    given = {"host": str(shop.socket), "user": "root", "password": lambda: mariadb.PASSWORD}
    source = MysqlSource("shop", {**given, "base_every_seconds": 3600.0}, state=place / "state")
    made = fresh_points()
    made.make(source)
    for number in range(3):
        made.restore(source, place / "before") if number == 2 else None
        tick(shop, 300 + number)
        _, expected = made.make(source)
    made.restore(source, place / "restored")
    shop.do("DELETE FROM zoo.ticks")
    return place / "restored", place / "before", expected, source


@pytest.mark.parametrize("fault", [lost, cut_short, an_event_less, a_byte_another])
def test_a_hole_in_the_log_fails_the_restore_test(
    logged: tuple[Path, Path, Fingerprint, MysqlSource], tmp_path: Path, fault: Callable[[Path, list[Path]], None]
) -> None:
    restored, _, expected, source = logged
    place = tmp_path / "restored"
    shutil.copytree(restored, place)
    fault(place, sorted(place.glob("binlog-*")))
    with pytest.raises(VerificationError) as raised:
        source.probe(place, expected)
    assert "the log does not lead to its end" in raised.value.why


def test_a_log_of_the_same_name_that_is_another_is_not_gone_on_with(
    shop: Server, logged: tuple[Path, Path, Fingerprint, MysqlSource], tmp_path: Path
) -> None:
    """As of a machine that was set back to an earlier state of its memory and disks."""
    log = whole_log(logged[0])
    assert log is not None
    ((file, offset, *_),) = shop.do("SHOW MASTER STATUS")
    address = Address(host=str(shop.socket), user="root", password=lambda: mariadb.PASSWORD)
    how = Position(file, offset), log.until, address.connect, tmp_path
    assert continued(log, *how)[0].ends == Position(file, offset)
    for changed in (
        replace(log, last="0" * 64),
        replace(log, born=log.born - 1),
        replace(log, last_at=log.last_at + 1),
    ):
        with pytest.raises(BrokenLogError):
            continued(changed, *how)


@pytest.mark.parametrize("fault", ["an older log", "no log"])
def test_a_log_that_leads_elsewhere_shows(
    logged: tuple[Path, Path, Fingerprint, MysqlSource], tmp_path: Path, fault: str
) -> None:
    restored, before, expected, source = logged
    place = tmp_path / "restored"
    shutil.copytree(before if fault == "an older log" else restored, place)
    if fault == "no log":
        (place / "log.json").unlink()
    found = differences(source, place, expected)
    assert any("zoo: rows" in each for each in found) and any("log" in each for each in found)


def test_what_never_came_into_the_log_fails_the_restore_test_and_the_next_point_is_dumped(
    shop: Server, make: Make, workshop: Any
) -> None:
    """Else no point could be proven until dumps are due again; but not once dumps are found not to help."""
    source = make()
    installation = replace(workshop.installation, source=lambda _name: source)
    assert is_base(backup(installation, "ledger").draft)
    shop.do("SET SESSION sql_log_bin = 0", "INSERT INTO zoo.ticks VALUES (400)")
    assert not is_base(backup(installation, "ledger").draft)
    failed = restore_test(installation, "ledger")
    assert not failed.passed and "zoo: table ticks" in failed.reason
    again = backup(installation, "ledger")
    assert is_base(again.draft)
    tick(shop, 401)
    further = backup(installation, "ledger")
    assert not is_base(further.draft)
    workshop.catalog.add_evidence(replace(failed, id="another", point=further.point.id))
    tick(shop, 402)
    assert not is_base(backup(installation, "ledger").draft), "dumps did not help the last time"


@pytest.mark.parametrize(("setting", "told"), [("MIXED", "binlog_format is MIXED"), ("STATEMENT", "second time")])
def test_statements_are_not_carried_out_twice(
    shop: Server, make: Make, points: Points, setting: str, told: str
) -> None:
    shop.do(f"SET GLOBAL binlog_format = {setting}")
    try:
        with pytest.raises(SourceError, match="does not do") as raised:
            points.make(make())
        assert told in raised.value.why and "SET GLOBAL binlog_format" in raised.value.todo
    finally:
        shop.do("SET GLOBAL binlog_format = ROW")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"version": "8.0.36"}, "MySQL"),
        ({"log_bin": "OFF"}, "writes none"),
        ({"filter": "shop"}, "filter says shop"),
        ({"log_slave_updates": "OFF", "Slaves_running": "1"}, "is a replica"),
    ],
)
def test_a_log_that_does_not_hold_everything_is_refused(
    make: Make, points: Points, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], told: str
) -> None:
    """What other servers answer, put into this one's mouth."""

    def rows(session: Any, statement: str, *values: object) -> list[tuple[Any, ...]]:
        found = real(session, statement, *values)
        if "MASTER STATUS" in statement:
            return [(*found[0][:2], answers.get("filter", ""), "")]
        return [(name, answers.get(str(name), value)) for name, value in found] if "SHOW GLOBAL" in statement else found

    real = mysql_logged.rows
    monkeypatch.setattr(mysql_logged, "rows", rows)
    with pytest.raises(SourceError, match="does not do for base_every") as raised:
        points.make(make())
    assert told in raised.value.why and raised.value.todo


def test_a_connection_that_breaks_while_the_log_is_read_is_no_point(
    shop: Server, make: Make, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make()
    points.make(source)
    before = points.last
    tick(shop, 700)
    right = LogStream._packets

    def broken(self: LogStream) -> Iterator[bytes]:
        yield from itertools.islice(right(self), 3)
        raise pymysql.OperationalError(2013, "Lost connection to server during query")

    monkeypatch.setattr(LogStream, "_packets", broken)
    with pytest.raises(SourceError) as raised:
        points.make(source)
    assert "Lost connection" in raised.value.why and points.last == before
    monkeypatch.undo()
    assert not is_base(points.make(source)[0]), "the next one goes on from the last that was stored"
    shop.do("DELETE FROM zoo.ticks")


def test_a_full_disk_here_is_told(shop: Server, make: Make, points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    points.make(source)
    tick(shop, 600)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/staged")

    monkeypatch.setattr(spool._Spool, "take", full)
    with pytest.raises(SourceError) as raised:
        points.make(source)
    assert "No space left" in raised.value.why
    shop.do("DELETE FROM zoo.ticks")


def test_who_may_not_read_the_log_is_told_which_rights_it_takes(shop: Server, make: Make, points: Points) -> None:
    """With these and no others it works."""
    rights = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, RELOAD, EXECUTE"
    shop.do("CREATE USER keeper@localhost IDENTIFIED BY 'kept'", f"GRANT {rights} ON *.* TO keeper@localhost")
    keeper = make(user="keeper", password=lambda: "kept")
    try:
        with pytest.raises(SourceError) as raised:
            points.make(keeper)
        assert "REPLICATION SLAVE, BINLOG MONITOR" in raised.value.why
        shop.do("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO keeper@localhost")
        points.make(keeper)
        tick(shop, 500)
        assert not is_base(points.make(keeper)[0])
    finally:
        shop.do("DROP USER keeper@localhost", "DELETE FROM zoo.ticks")


def test_a_server_that_was_killed_goes_on_and_so_do_its_points(
    mariadbd: Path, make: Make, points: Points, tmp_path: Path
) -> None:
    """Its last file has no end then, and another one begins."""
    durable = {"innodb-flush-log-at-trx-commit": "1", "sync-binlog": "1"}
    with mariadb.server(mariadbd, **{"binlog-format": "ROW", **durable}) as made:
        made.do("CREATE DATABASE zoo", "CREATE TABLE zoo.t (n int PRIMARY KEY)", "INSERT INTO zoo.t VALUES (1)")
        source = make(host=str(made.socket))
        points.make(source)
        made.do("INSERT INTO zoo.t VALUES (2)")
        points.make(source)
        made.do("INSERT INTO zoo.t VALUES (3)")
        again = mariadb.killed_and_started_again(made)
        try:
            made.do("INSERT INTO zoo.t VALUES (4)")
            went_on, expected = points.make(source)
            assert not is_base(went_on)
        finally:
            again.kill()
            again.wait(30)
        points.restore(source, tmp_path / "restored")
        assert differences(source, tmp_path / "restored", expected) == ()
        assert next(s for s in expected.samples if s.key == "zoo: table t").fields["rows"] == "4"
