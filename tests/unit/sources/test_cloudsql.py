"""Instances of Cloud SQL, over a service of tests that really recovers: exported, cloned, proven, and cleaned up."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject

from children import import_path
from cto_backups.core.comparison import compare
from cto_backups.core.elsewhere import told as told_elsewhere
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import RestoreOptions
from cto_backups.errors import RefusedError, SourceError, VerificationError
from cto_backups.sources.cloudsql import clones, service
from cto_backups.sources.cloudsql.moment import hold_together
from cto_backups.sources.cloudsql.proof import about
from cto_backups.sources.cloudsql.source import CloudSqlSource
from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.server import Server
from servers import cloudsql
from servers.cloudsql import CloudSql


@pytest.fixture(scope="module")
def running(postgresql_programs: Path) -> Iterator[CloudSql]:
    with cloudsql.cloud_sql(postgresql_programs) as made:
        yield made


@pytest.fixture
def cloud(running: CloudSql) -> Iterator[CloudSql]:
    """The service, without what the last test did to it."""
    yield running
    running.denied.clear()
    running.troubles.clear()
    running.asked.clear()
    running.astray = ""
    running.lost = running.unheard = False
    running.held.set()
    running.main.told["settings"] = copy.deepcopy(cloudsql.SETTINGS)
    for name in running.others:
        running.delete(name)


def captured(source: CloudSqlSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        found = capture.fingerprint()
        capture.stored()
        return point, found


def field(fingerprint: Fingerprint, name: str) -> str:
    sample = about(fingerprint)
    assert sample is not None
    return sample.fields.get(name, "")


def insert(cloud: CloudSql, word: str) -> None:
    cloud.main.server.do(f"INSERT INTO twins VALUES ('{word}')", database="my shop")


@pytest.fixture(scope="module")
def taken_once(running: CloudSql, tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryPoint, Fingerprint]:
    options = running.options(clone_tests=False)
    return captured(CloudSqlSource("ledger", options, state=tmp_path_factory.mktemp("state")))


class TestCloudSqlSource(SourceContract):
    """Its exports, without clones beside."""

    faults: ClassVar[dict[str, Fault]] = {
        "a lost dump": lambda restored: (restored / "my%20shop.dump").unlink(),
        "a cut dump": lambda restored: os.truncate(restored / "my%20shop.dump", 60_000),
    }

    @pytest.fixture
    def taken(self, taken_once: tuple[MemoryPoint, Fingerprint]) -> tuple[MemoryPoint, Fingerprint]:
        return taken_once

    @pytest.fixture
    def subject(self, cloud: CloudSql, tmp_path: Path) -> Subject:
        def make(**more: Any) -> CloudSqlSource:
            return CloudSqlSource("ledger", cloud.options(clone_tests=False, **more), state=tmp_path / "state")

        number = count()
        return Subject(
            source=make(),
            make=make,
            change=lambda: insert(cloud, f"{next(number)} of {time.monotonic_ns()}"),
            missing=make(instance="nowhere"),
        )


def test_an_export_and_a_clone_of_its_moment_are_what_the_instance_held(cloud: CloudSql, open_place: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(), state=open_place / "state")
    point, expected = captured(source)
    insert(cloud, "after the point")
    at = datetime.fromisoformat(field(expected, "at"))
    (log,) = (sample for sample in expected.samples if sample.key == "log")
    assert datetime.fromisoformat(log.fields["since"]) < at == datetime.fromisoformat(log.fields["until"])
    record = point.entries[b"/cloudsql.json"][1]
    assert json.loads(record)["instance"]["settings"]["tier"] == "db-custom-1-3840"
    assert b"never to be seen" not in record

    gone = CloudSqlSource("ledger", cloud.options(endpoint="http://127.0.0.1:9"), state=open_place / "gone")
    gone.restore(point, open_place / "back")  # what is exported comes back when project and service are gone
    found = source.probe(open_place / "back", expected)
    assert compare(expected, found).passed, compare(expected, found).differences
    assert [path for _, path in cloud.asked if path.endswith("/clone")], "a clone was made"
    assert cloud.others == [], "and deleted, although it is protected from that as its instance is"
    assert cloud.main.told["settings"]["deletionProtectionEnabled"] is True, "whose protection stays"

    cloud.astray = datetime.now(UTC).isoformat()
    insert(cloud, "after all")
    with pytest.raises(VerificationError, match=r"a clone of the instance to .* is not what the instance held"):
        source._prove_clone(field(expected, "at"), expected)
    assert cloud.others == [], "also deleted when it is not what it should be"


def test_a_record_leads_to_a_clone_that_is_proven_and_gone_and_a_moment_to_one_that_stays(
    cloud: CloudSql, open_place: Path
) -> None:
    """While others write without a pause."""
    source = CloudSqlSource("ledger", cloud.options(export=False, moment_seconds=120.0), state=open_place / "state")
    stop = threading.Event()

    def write(number: int) -> None:
        with cloud.main.server.connect("my shop") as session:
            for turn in count():
                if stop.is_set():
                    return
                session.execute("INSERT INTO twins VALUES (%s)", (f"{number} {turn}",))
                time.sleep(0.02)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for each in writers:
        each.start()
    try:
        time.sleep(0.1)
        point, expected = captured(source)
    finally:
        stop.set()
        for each in writers:
            each.join()
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
    before = datetime.now(UTC)
    time.sleep(0.01)
    cloud.main.server.do("DELETE FROM twins", database="my shop")
    with pytest.raises(RefusedError, match="in place"):
        source.restore(point, None, options=RestoreOptions(at=before))
    plan = source.plan_restore(point, open_place / "then", options=RestoreOptions(at=before))
    assert any("makes a new instance" in note for note in plan.notes)
    restored = source.restore(point, open_place / "then", options=RestoreOptions(at=before))
    (name,) = cloud.others
    assert not clones.is_clone(name), "no test takes it for its own"
    assert restored.places == (f"tests/{name} at {cloud.instances[name].told['ipAddresses'][0]['ipAddress']}",)
    rows = cloud.instances[name].server.do("SELECT count(*) FROM twins", database="my shop")
    assert rows[0][0] > 3 and cloud.main.server.do("SELECT count(*) FROM twins", database="my shop") == [(0,)]
    source.capture().__enter__().stored()
    assert cloud.others == [name], "it is yours"


_CHILD = """
import sys
from pathlib import Path
from cto_backups.sources.cloudsql.source import CloudSqlSource
endpoint, port, state, key = sys.argv[1:]
options = {"project": "tests", "instance": "ledger", "user": "keeper", "password": lambda: "none", "port": int(port),
    "credentials": lambda: Path(key).read_text(), "endpoint": endpoint}
source = CloudSqlSource("ledger", options, state=Path(state))
with source._reaching.service() as service:
    source._reaching.clones(service).make("2031-01-01T00:00:00.000Z")
"""


def test_the_clone_of_a_test_that_was_killed_is_deleted_by_the_next(cloud: CloudSql, tmp_path: Path) -> None:
    cloud.held.clear()
    cloud.astray = datetime.now(UTC).isoformat()
    (tmp_path / "key.json").write_text(cloud.logins.key_file)
    command = [sys.executable, "-c", _CHILD, cloud.endpoint, str(cloud.port), str(tmp_path), str(tmp_path / "key.json")]
    child = subprocess.Popen(command, env={**os.environ, **import_path()})
    while not cloud.others:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    source = CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path)
    with source.capture():
        assert len(cloud.others) == 1, "no backup waits for a clone that is still being made"
    cloud.held.set()
    while [each.told["state"] for each in cloud.instances.values() if each.told["state"] != "RUNNABLE"]:
        time.sleep(0.02)
    with source.capture():
        assert cloud.others == []
    assert list((tmp_path / "sources" / "ledger" / "clones").iterdir()) == []


def test_what_is_found_is_the_instance_its_databases_and_every_other_instance(cloud: CloudSql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(), state=tmp_path)
    old, young = f"ledger-ctotest-{'a' * 12}", f"ledger-ctotest-{'b' * 12}"
    now = datetime.now(UTC)
    for name, made_at in ((old, now - timedelta(hours=25)), (young, now), ("other", now)):
        told = {"name": name, "state": "RUNNABLE", "createTime": made_at.isoformat(), "settings": {}}
        cloud.instances[name] = cloudsql.Running(told, cloud.main.server, ExitStack())
    try:
        found = {each.name: each.covered for each in source.discover()}
        assert found.pop("cloudsql:tests/ledger") and found.pop("cloudsql:tests/ledger/my shop")
        assert found.pop("cloudsql:tests/ledger/postgres"), "all of them are protected"
        assert found == {"cloudsql:tests/other": False, f"cloudsql:tests/{old}": False}
        settings = source.instance()
    finally:
        for name in cloud.others:
            del cloud.instances[name]
    assert settings.leftovers == (old,)
    assert (settings.backups_kept, settings.point_in_time, settings.window) == (30, True, "02:00")
    assert settings.newest_at is not None and settings.survive == "its backups stay" and not settings.failed


def test_a_right_that_is_missing_is_told_by_its_name(cloud: CloudSql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path)
    for permission, act in (
        ("cloudsql.instances.get", source.instance),
        ("cloudsql.instances.list", source.discover),
        ("cloudsql.backupRuns.list", lambda: captured(source)),
        ("cloudsql.backupRuns.create", lambda: captured(_on_demand(cloud, tmp_path))),
        ("cloudsql.instances.clone", lambda: source._prove_clone("2031-01-01T00:00:00.000Z", Fingerprint("x", {}, {}))),
    ):
        cloud.denied = {permission}
        with pytest.raises(SourceError) as refused:
            act()
        assert f"this login has not {permission}" in refused.value.why
        assert "protect-cloud-sql.md" in refused.value.todo
    assert cloud.others == []


def _on_demand(cloud: CloudSql, state: Path) -> CloudSqlSource:
    return CloudSqlSource("ledger", cloud.options(export=False, on_demand=True), state=state)


def test_what_is_wrong_at_the_service_is_told(cloud: CloudSql, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="look at the instance") as gone:
        CloudSqlSource("x", cloud.options(instance="gone"), state=tmp_path).discover()
    assert "it was deleted, or never was" in gone.value.why and "exports in the vaults" in gone.value.todo
    with pytest.raises(SourceError) as keyless:
        CloudSqlSource("x", cloud.options(credentials=lambda: "no key"), state=tmp_path).discover()
    assert "not the key file" in keyless.value.why
    cloud.main.told["state"] = "SUSPENDED"
    try:
        with (
            pytest.raises(SourceError, match="does not run"),
            CloudSqlSource("x", cloud.options(), state=tmp_path).capture(),
        ):
            pass
    finally:
        cloud.main.told["state"] = "RUNNABLE"


def test_a_busy_service_is_asked_again_and_a_token_that_was_taken_back_renewed(cloud: CloudSql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(), state=tmp_path)
    cloud.troubles = [503, 429, 500, 401]
    assert source.instance().name == "ledger"
    assert cloud.troubles == []
    cloud.logins.refused = "taken away"
    try:
        with pytest.raises(SourceError) as refused:
            source.instance()
        assert "the login has expired, or was taken back" in refused.value.why
    finally:
        cloud.logins.refused = ""


def test_without_its_log_there_are_exports_and_no_moments(cloud: CloudSql, tmp_path: Path) -> None:
    cloud.main.told["settings"]["backupConfiguration"]["pointInTimeRecoveryEnabled"] = False
    with pytest.raises(SourceError, match="keeps no log, and policy wants no export"):
        captured(CloudSqlSource("ledger", cloud.options(export=False), state=tmp_path))
    _, expected = captured(CloudSqlSource("ledger", cloud.options(), state=tmp_path))
    assert field(expected, "at") == ""
    assert not [sample for sample in expected.samples if sample.key == "log"]


def test_one_backup_is_made_for_a_point_though_its_first_attempt_was_broken_off(
    cloud: CloudSql, tmp_path: Path
) -> None:
    source, before = _on_demand(cloud, tmp_path), len(cloud.main.backups)
    with pytest.raises(KeyboardInterrupt), source.capture():
        raise KeyboardInterrupt
    captured(source)
    assert len(cloud.main.backups) == before + 1
    assert cloud.main.backups[0]["description"].startswith("cto.backups ledger ")


@pytest.mark.parametrize("lost", [False, True])
def test_a_backup_of_the_service_comes_back_to_a_new_instance_and_nothing_is_done_to_this_one(
    cloud: CloudSql, tmp_path: Path, lost: bool
) -> None:
    source = CloudSqlSource("ledger", cloud.options(), state=tmp_path)
    number = source.service_backups()[0].number
    cloud.main.server.do("CREATE TABLE later (x int)", database="my shop")
    cloud.lost = lost
    done = source.restore_service_backup(number, "ledger-back", save_first=True)
    assert (done.place, done.before) == ("tests/ledger-back", None)
    exists = "SELECT to_regclass('later') IS NOT NULL, to_regclass('twins') IS NOT NULL"
    assert cloud.instances["ledger-back"].server.do(exists, database="my shop") == [(False, True)]
    assert cloud.main.server.do(exists, database="my shop") == [(True, True)]
    made = cloud.instances["ledger-back"].told["settings"]
    assert (made["tier"], made["deletionProtectionEnabled"]) == ("db-custom-1-3840", True)
    assert [path for method, path in cloud.asked if path.endswith("restoreBackup")] == [
        "/v1/projects/tests/instances/ledger-back/restoreBackup"
    ], "once, though its answer was lost"
    cloud.main.server.do("DROP TABLE later", database="my shop")


def test_a_restore_of_which_the_service_knows_nothing_is_no_success(cloud: CloudSql, tmp_path: Path) -> None:
    source = CloudSqlSource("ledger", cloud.options(operation_seconds=2.0), state=tmp_path)
    number = source.service_backups()[0].number
    cloud.unheard = True
    with pytest.raises(SourceError, match="could not restore a backup"):
        source.restore_service_backup(number, None, save_first=False)


def test_no_moment_is_held_while_somebody_writes(cloud: CloudSql) -> None:
    server = Server("x", Address(str(cloud.main.place), cloud.port, "postgres"), "", 60, "")
    with cloud.main.server.connect("my shop") as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO twins VALUES ('not yet')")
        with ExitStack() as stack:
            assert hold_together(server, ["my shop"], stack, 0.2) is None
        writer.execute("ROLLBACK")
    with ExitStack() as stack:
        together = hold_together(server, ["my shop", "postgres"], stack, 20)
        assert together is not None
        with together.held("my shop") as held, pytest.raises(psycopg.Error):
            held.session.execute("INSERT INTO twins VALUES ('never')")


def test_an_instance_is_reached_by_its_own_address_and_trusted_by_its_own_authority() -> None:
    told: dict[str, Any] = {
        "name": "ledger",
        "ipAddresses": [{"type": "PRIMARY", "ipAddress": "34.1.2.3"}, {"type": "PRIVATE", "ipAddress": "10.0.0.3"}],
        "serverCaCert": {"cert": "PEM"},
        "settings": {"ipConfiguration": {"serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA"}},
    }
    assert service.way("x", told, None) == service.Way("10.0.0.3", "PEM", named=False)
    assert service.way("x", told, private=False).host == "34.1.2.3"
    of_many = {"ipConfiguration": {"serverCaMode": "GOOGLE_MANAGED_CAS_CA"}}
    shared = {**told, "dnsName": "a.b.sql.goog.", "settings": of_many}
    assert service.way("x", shared, None) == service.Way("a.b.sql.goog", "PEM", named=True)
    with pytest.raises(SourceError, match="has no public address"):
        service.way("x", {**told, "ipAddresses": []}, private=False)


def test_what_an_instance_is_set_to_is_read_from_what_the_service_says() -> None:
    failed = service.backup_run(
        {
            "id": "2",
            "status": "FAILED",
            "type": "AUTOMATED",
            "endTime": "2026-07-02T02:00:00.123456789Z",
            "error": {"message": "no room"},
        }
    )
    good = service.backup_run({"status": "SUCCESSFUL", "type": "AUTOMATED", "endTime": "2026-07-01T02:00:00Z"})
    told = {
        "name": "ledger",
        "settings": {
            "backupConfiguration": {"enabled": True, "binaryLogEnabled": True, "transactionLogRetentionDays": "7"},
            "ipConfiguration": {
                "ipv4Enabled": True,
                "requireSsl": True,
                "authorizedNetworks": [{"value": "0.0.0.0/0"}],
            },
            "finalBackupConfig": {"enabled": True, "retentionDays": 30},
        },
    }
    found = service.settings(told, [failed, good])
    assert (found.failed, found.newest_at) == ("no room", datetime(2026, 7, 1, 2, tzinfo=UTC))
    assert (found.point_in_time, found.log_days, found.encrypted) == (True, 7, True)
    assert (found.networks, found.survive) == (("0.0.0.0/0",), "a final backup stays for 30 days")
    nothing = service.settings({}, [])
    assert not nothing.backups and not nothing.point_in_time and not nothing.encrypted and not nothing.survive


def test_only_what_is_called_as_a_clone_of_a_test_is_ever_deleted(tmp_path: Path) -> None:
    never: Any = None
    for name in ("ledger", "ledger-ctotest-", "ledger-ctotest-" + "g" * 12, "other-ctotest-" + "a" * 12):
        with pytest.raises(SourceError, match="is not deleted"):
            clones.Clones(never, "ledger", tmp_path).delete(name)
    assert clones.is_of(f"ledger-ctotest-{'0' * 12}", "ledger")
