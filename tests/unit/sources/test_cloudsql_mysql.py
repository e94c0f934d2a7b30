"""Instances of MySQL in Cloud SQL, over a service of tests with MariaDB in it: exported, cloned to a place, proven."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject

from children import import_path
from cto_backups.core.comparison import compare
from cto_backups.core.elsewhere import told as told_elsewhere
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import RestoreOptions
from cto_backups.errors import RestoreError, SourceError, VerificationError
from cto_backups.sources.cloudsql import clones
from cto_backups.sources.cloudsql.proof import about, leads_to
from cto_backups.sources.cloudsql.service import LogPlace
from cto_backups.sources.cloudsql.source import CloudSqlSource
from servers import cloudsql_mysql
from servers.certificates import certificate
from servers.cloudsql_mysql import CloudSqlMysql


@pytest.fixture(scope="module")
def running(mariadbd: Path, mariadb_backup: Path) -> Iterator[CloudSqlMysql]:
    with cloudsql_mysql.cloud_sql(mariadbd) as made:
        yield made


@pytest.fixture
def cloud(running: CloudSqlMysql) -> Iterator[CloudSqlMysql]:
    """The service, without what the last test did to it."""
    before = copy.deepcopy(running.main.told)
    yield running
    running.asked.clear()
    running.astray = ""
    running.held.set()
    running.main.told.update(before)
    for name in running.others:
        running.delete(name)


def captured(source: CloudSqlSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        found = capture.fingerprint()
        capture.stored()
        return point, found


def told(fingerprint: Fingerprint) -> dict[str, str]:
    sample = about(fingerprint)
    assert sample is not None
    return dict(sample.fields)


def insert(cloud: CloudSqlMysql, word: str) -> None:
    cloud.main.server.do(f"INSERT INTO twins VALUES ('{word}')", database="my shop")


@contextmanager
def writing(cloud: CloudSqlMysql) -> Iterator[None]:
    """While others commit without a pause, and roll back."""
    stop = threading.Event()

    def write(number: int) -> None:
        with cloud.main.server.connect("my shop") as session, session.cursor() as cursor:
            for turn in count():
                if stop.is_set():
                    return
                cursor.execute("BEGIN")
                cursor.execute("INSERT INTO orders (amount, name) VALUES (%s, %s)", (turn, f"{number} {turn}"))
                cursor.execute("COMMIT" if turn % 3 else "ROLLBACK")
                time.sleep(0.005)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for each in writers:
        each.start()
    try:
        time.sleep(0.1)
        yield
    finally:
        stop.set()
        for each in writers:
            each.join()


@pytest.fixture(scope="module")
def taken_once(running: CloudSqlMysql, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    options = running.options(clone_tests=False)
    return captured(CloudSqlSource("ledger", options, state=tmp_path_factory.mktemp("state")))


class TestCloudSqlSourceOfMysql(SourceContract):
    """Its exports, without clones beside."""

    faults: ClassVar[dict[str, Fault]] = {
        "a lost dump": lambda restored: (restored / "database-my%20shop.sql").unlink(),
        "a cut dump": lambda restored: os.truncate(restored / "database-my%20shop.sql", 60_000),
    }

    @pytest.fixture
    def taken(self, taken_once: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return taken_once

    @pytest.fixture
    def subject(self, cloud: CloudSqlMysql, tmp_path: Path) -> Subject:
        def make(**more: Any) -> CloudSqlSource:
            return CloudSqlSource("ledger", cloud.options(clone_tests=False, **more), state=tmp_path / "state")

        number = count()
        return Subject(
            source=make(),
            make=make,
            change=lambda: insert(cloud, f"{next(number)} of {time.monotonic_ns()}"),
            missing=make(instance="nowhere"),
        )


def test_an_export_and_a_clone_of_its_place_are_what_the_instance_held(cloud: CloudSqlMysql, open_place: Path) -> None:
    """While others write without a pause; rows of tables in memory are in no clone, and in the dump."""
    source = CloudSqlSource("ledger", cloud.options(), state=open_place / "state")
    with writing(cloud):
        point, expected = captured(source)
    insert(cloud, "later")
    assert b"/cloudsql.json" in point.entries
    assert [sample.fields["until"] for sample in expected.samples if sample.key == LOG_SAMPLE], "there is a log to it"
    source.restore(point, open_place / "back")
    found = source.probe(open_place / "back", expected)
    assert compare(expected, found).passed, compare(expected, found).differences
    assert len([path for _, path in cloud.asked if path.endswith("/clone")]) == 1
    assert cloud.others == [], "deleted, although it is protected from that as its instance is"
    assert cloud.main.told["settings"]["deletionProtectionEnabled"] is True, "whose protection stays"

    cloud.astray = datetime.now(UTC).isoformat()
    with pytest.raises(VerificationError, match=r"a clone of the instance to binlog\.\d+:\d+ is not what") as other:
        source._prove_clone(leads_to(told(expected)), expected)
    assert "my shop: rows" in other.value.why
    assert cloud.others == [], "also deleted when it is not what it should be"


def test_a_record_leads_to_a_clone_that_is_proven_and_gone_and_a_moment_to_one_that_stays(
    cloud: CloudSqlMysql, open_place: Path
) -> None:
    source = CloudSqlSource("ledger", cloud.options(export=False), state=open_place / "state")
    with writing(cloud):
        point, expected = captured(source)
    assert list(point.entries) == [b"/cloudsql.json"]
    where = told_elsewhere(expected)
    assert where is not None and [each.holds for each in where.keeping] == [True]
    (place := open_place / "test").mkdir()
    source.restore(point, place, options=RestoreOptions(one_copy=True))
    assert [clones.is_clone(name) for name in cloud.others] == [True]
    found = source.probe(place, expected)
    assert compare(expected, found).passed, compare(expected, found).differences
    assert cloud.others == []

    insert(cloud, "before the accident")
    time.sleep(1.1)  # a recovery to a time tells whole seconds apart
    before = datetime.now(UTC)
    time.sleep(1.1)
    cloud.main.server.do("DELETE FROM twins", database="my shop")
    restored = source.restore(point, open_place / "then", options=RestoreOptions(at=before))
    (name,) = cloud.others
    assert not clones.is_clone(name), "no test takes it for its own"
    assert restored.places == (f"tests/{name} at {cloud.instances[name].told['ipAddresses'][0]['ipAddress']}",)
    words = cloud.instances[name].server.do("SELECT word FROM twins", database="my shop")
    assert ("before the accident",) in words
    assert cloud.main.server.do("SELECT count(*) FROM twins", database="my shop") == [(0,)]


_CHILD = """
import sys
from pathlib import Path
from cto_backups.sources.cloudsql.service import LogPlace
from cto_backups.sources.cloudsql.source import CloudSqlSource
endpoint, port, state, key, file, offset = sys.argv[1:]
options = {"project": "tests", "instance": "ledger", "user": "keeper", "password": lambda: "none", "port": int(port),
    "credentials": lambda: Path(key).read_text(), "endpoint": endpoint}
source = CloudSqlSource("ledger", options, state=Path(state))
with source._reaching.service() as service:
    source._reaching.clones(service).make(LogPlace(file, int(offset)))
"""


@pytest.fixture
def scheduling(cloud: CloudSqlMysql) -> Iterator[CloudSqlMysql]:
    """An instance in which events run: a clone has its flags."""
    flags = [{"name": "event_scheduler", "value": "on"}, {"name": "long_query_time", "value": "2"}]
    cloud.main.told["settings"]["databaseFlags"] = flags
    yield cloud
    cloud.main.server.do("DROP EVENT IF EXISTS often", database="my shop")


@pytest.mark.parametrize("export", [True, False])
def test_events_are_switched_off_in_a_clone_and_its_other_flags_stay(
    scheduling: CloudSqlMysql, open_place: Path, monkeypatch: pytest.MonkeyPatch, export: bool
) -> None:
    cloud = scheduling
    source = CloudSqlSource("ledger", cloud.options(export=export), state=open_place / "state")
    point, expected = captured(source)
    seen: list[Any] = []
    found_on = CloudSqlSource._found_on

    def looking(self: CloudSqlSource, clone: Any, told: Fingerprint) -> Any:
        running = cloud.instances[clone["name"]]
        seen.append((running.server.do("SELECT @@GLOBAL.event_scheduler"), clone["settings"]["databaseFlags"]))
        return found_on(self, clone, told)

    monkeypatch.setattr(CloudSqlSource, "_found_on", looking)
    source.restore(point, open_place / "back", options=RestoreOptions(one_copy=True))
    assert compare(expected, source.probe(open_place / "back", expected)).passed
    off = [{"name": "long_query_time", "value": "2"}, {"name": "event_scheduler", "value": "off"}]
    assert seen == [([("OFF",)], off)]
    flags = cloud.main.told["settings"]["databaseFlags"]
    assert flags[0] == {"name": "event_scheduler", "value": "on"}, "nothing is changed but the clone"


@pytest.mark.parametrize("export", [True, False])
def test_a_clone_that_events_changed_is_told_to_prove_nothing(
    scheduling: CloudSqlMysql, open_place: Path, export: bool
) -> None:
    """One that is always due: it runs before anybody can switch it off."""
    cloud = scheduling
    cloud.main.server.do(
        "CREATE EVENT often ON SCHEDULE EVERY 1 SECOND DO INSERT INTO twins VALUES ('by an event')", database="my shop"
    )
    source = CloudSqlSource("ledger", cloud.options(export=export), state=open_place / "state")
    point, expected = captured(source)
    changed = cloud.changed

    def late(running: Any) -> None:
        if any(flag["value"] == "off" for flag in running.told["settings"]["databaseFlags"]):
            time.sleep(3)  # so that it runs at least once
        changed(running)

    cloud.changed = late  # type: ignore[method-assign]
    try:
        with pytest.raises(VerificationError, match="events ran in the clone") as raised:
            source.restore(point, open_place / "back", options=RestoreOptions(one_copy=True))
            source.probe(open_place / "back", expected)
    finally:
        del cloud.changed
    assert "my shop.often ran" in raised.value.why
    assert cloud.others == []


def test_the_clone_of_a_test_that_was_killed_is_deleted_by_the_next(cloud: CloudSqlMysql, tmp_path: Path) -> None:
    cloud.held.clear()
    (tmp_path / "key.json").write_text(cloud.logins.key_file)
    ((file, offset, *_),) = cloud.main.server.do("SHOW MASTER STATUS")
    words = [cloud.endpoint, str(cloud.port), str(tmp_path), str(tmp_path / "key.json"), file, str(offset)]
    child = subprocess.Popen([sys.executable, "-c", _CHILD, *words], env={**os.environ, **import_path()})
    while not cloud.others:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    cloud.held.set()
    while [each.told["state"] for each in cloud.instances.values() if each.told["state"] != "RUNNABLE"]:
        time.sleep(0.02)
    with CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path).capture():
        assert cloud.others == []
    assert list((tmp_path / "sources" / "ledger" / "clones").iterdir()) == []


def test_without_its_log_there_are_exports_and_no_places(cloud: CloudSqlMysql, tmp_path: Path) -> None:
    cloud.main.told["settings"]["backupConfiguration"]["binaryLogEnabled"] = False
    with pytest.raises(SourceError, match="keeps no log, and policy wants no export") as refused:
        captured(CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path))
    assert "--enable-bin-log" in refused.value.todo
    source = CloudSqlSource("ledger", cloud.options(), state=tmp_path)
    _, expected = captured(source)
    assert leads_to(told(expected)) == ""
    assert not source.instance().point_in_time


def test_a_backup_of_the_service_comes_back_to_a_new_instance(cloud: CloudSqlMysql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(), state=tmp_path)
    number = source.service_backups()[0].number
    cloud.main.server.do("CREATE TABLE later (x int)", database="my shop")
    try:
        done = source.restore_service_backup(number, "ledger-back", save_first=False)
        assert (done.place, done.before) == ("tests/ledger-back", None)
        tables = {name for (name,) in cloud.instances["ledger-back"].server.do("SHOW TABLES", database="my shop")}
        assert "twins" in tables and "later" not in tables
    finally:
        cloud.main.server.do("DROP TABLE later", database="my shop")


def test_an_instance_with_a_certificate_of_another_authority_is_not_trusted(
    cloud: CloudSqlMysql, tmp_path: Path
) -> None:
    cloud.main.told["serverCaCert"] = {"cert": certificate(tmp_path, "somebody-else").shown.read_text()}
    with pytest.raises(SourceError) as refused:
        captured(CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path))
    assert "certificate" in refused.value.why


def test_whoever_may_not_hold_a_moment_is_told_the_right_that_is_missing(cloud: CloudSqlMysql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path)
    for right, todo in (("RELOAD", "GRANT RELOAD"), ("BINLOG MONITOR", "GRANT REPLICATION CLIENT")):
        cloud.main.server.do(f"REVOKE {right} ON *.* FROM keeper@'%'")
        try:
            with pytest.raises(SourceError) as refused:
                captured(source)
        finally:
            cloud.main.server.do(f"GRANT {right} ON *.* TO keeper@'%'")
        assert todo in refused.value.todo


def test_a_record_that_tells_no_place_is_no_way_back(cloud: CloudSqlMysql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path)
    for content in ("{}", "[]", '{"log_file": "binlog.000001", "log_position": "here"}'):
        (tmp_path / "cloudsql.json").write_text(content)
        with pytest.raises(RestoreError, match="does not say to which moment"):
            source._recorded_in(tmp_path)
    (tmp_path / "cloudsql.json").write_text('{"at": "x", "log_file": "binlog.000001", "log_position": "4"}')
    assert source._recorded_in(tmp_path) == LogPlace("binlog.000001", 4)
