"""A catalog on a server: what happens when the server, the way to it, or a worker goes away in the middle."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest

from cto_backups.catalog import database, migrating
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.database import ChangedMeanwhileError
from cto_backups.catalog.postgresql import making
from cto_backups.catalog.postgresql import transaction as transactions
from cto_backups.catalog.postgresql.transaction import Transaction
from cto_backups.core.model import ActionKind
from cto_backups.errors import BusyError, CatalogAwayError, CatalogError, NotFoundError, RefusedError
from cto_backups.evidence.records import SigningKey, verify_chain
from servers import postgresql
from servers.postgresql_way import way_to

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = SigningKey(bytes(range(32)))


@pytest.fixture
def catalog(server_url, build):
    with Catalog.open(server_url, now=NOW) as catalog:
        catalog.sync_policy(build.policy(), b"the policy", NOW)
        yield catalog


@pytest.fixture
def other(server_url):
    with Catalog.open(server_url, now=NOW) as other:
        yield other


numbers = count()


@pytest.fixture
def own(catalog_server):
    """A catalog in a database of its own, which a test may spoil; its name."""
    name = f"own_{next(numbers)}"
    catalog_server.clone(name)
    yield name
    catalog_server.drop(name)


def vaults(catalog):
    with catalog.reading() as connection:
        return connection.scalars("SELECT name FROM vaults ORDER BY name")


def add(connection, name):
    connection.execute("INSERT INTO vaults (name) VALUES (:name)", {"name": name})


# -- a server that restarts


class Restarting:
    """A server with a catalog, which can be restarted as after a crash."""

    def __init__(self, made, stack, template):
        self.made, self._stack = made, stack
        self.url = f"postgresql://postgres@/catalog?host={made.place}"
        made.do("CREATE DATABASE catalog TEMPLATE template0")
        Catalog.create(self.url, now=NOW).close()

    def stop(self):
        """End it without a word to anybody, as a crash does."""
        pid = int((self.made.place / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        while (self.made.place / "data" / "postmaster.pid").exists():
            time.sleep(0.02)

    def start(self):
        # What commits do not wait for, the server writes by itself after a while; here, after no test's while.
        self._stack.enter_context(postgresql.running(self.made.bin, self.made.place, wal_writer_delay="10s"))

    def restart(self):
        self.stop()
        self.start()


@pytest.fixture(scope="module")
def restarting(postgresql_programs):
    with ExitStack() as stack:
        made = stack.enter_context(postgresql.server(postgresql_programs))
        yield Restarting(made, stack, None)


@pytest.fixture
def crashing(restarting, build):
    with Catalog.open(restarting.url, now=NOW) as catalog:
        with catalog._writing() as connection:
            for table in ("runs", "records", "copies", "points", "source_vaults", "sources", "vaults"):
                connection.execute(f"DELETE FROM {table}")
        catalog.sync_policy(build.policy(), b"the policy", NOW)
        yield catalog


def test_a_restart_between_two_uses_is_not_noticed(restarting, crashing):
    crashing.confirm("ledger", NOW)
    restarting.restart()
    assert crashing.facts(NOW).sources["ledger"].confirmed_at == NOW
    restarting.restart()
    crashing.confirm("ledger", NOW + timedelta(hours=1))
    assert crashing.facts(NOW).sources["ledger"].confirmed_at == NOW + timedelta(hours=1)


def test_a_crash_in_the_middle_of_writing_does_not_hinder_it_and_nothing_is_there_twice(restarting, crashing):
    with crashing._writing() as connection:
        add(connection, "first")
        connection.execute("UPDATE vaults SET copy_count = copy_count + 1 WHERE name = 'first'")
        connection.execute_each("INSERT INTO vaults (name) VALUES (:name)", [{"name": "a"}, {"name": "b"}])
        restarting.restart()
        assert connection.scalar("SELECT copy_count FROM vaults WHERE name = 'first'") == 1
        add(connection, "second")
        restarting.restart()
    assert vaults(crashing) == ["a", "b", "far", "first", "near", "second"]
    assert crashing.check() == ()


def test_a_reader_goes_on_after_a_crash_with_what_it_saw_before(restarting, crashing):
    with crashing.reading() as connection:
        before = connection.scalars("SELECT name FROM vaults ORDER BY name")
        restarting.restart()
        assert connection.scalars("SELECT name FROM vaults ORDER BY name") == before


def test_what_was_committed_is_there_after_a_crash(restarting, crashing, build):
    crashing.add_point_with_copy(build.point("p1"), build.copy("p1"))
    record = crashing.append_record(KEY, "run", {"number": 1}, NOW)
    restarting.restart()
    assert crashing.point("p1").id == "p1"
    assert list(crashing.records_after(KEY.signer, 0)) == [record]


def test_what_was_committed_with_a_lost_answer_is_there_after_a_crash(restarting, crashing, monkeypatch):
    """It is looked up, found, and on the disk by the time the caller goes on."""
    restarting.restart()
    end = Transaction._end

    def lose(transaction):
        monkeypatch.setattr(Transaction, "_end", end)
        with monkeypatch.context() as without:
            without.setattr(transactions, "_COMMIT", "COMMIT")
            end(transaction)
        transaction.session.close()
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(Transaction, "_end", lose)
    record = crashing.append_record(KEY, "run", {"number": 1}, NOW)
    restarting.restart()
    assert list(crashing.records_after(KEY.signer, 0)) == [record]


def test_whoever_waits_for_the_disk_or_a_standby_keeps_no_other_writer_waiting(restarting, crashing, build):
    """The server is told to wait for a standby that there is not: what commits waits, others write and wait as well."""
    restarting.restart()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    restarting.made.do("ALTER SYSTEM SET synchronous_standby_names = 'nowhere'", "SELECT pg_reload_conf()")
    writers = [threading.Thread(target=crashing.confirm, args=("ledger", NOW + HOUR * n)) for n in range(1, 4)]
    try:
        for number, writer in enumerate(writers, 1):
            writer.start()
            until(lambda number=number: restarting.made.do(waiting) == [(number,)])
        assert crashing.facts(NOW).sources["ledger"].confirmed_at == NOW + 3 * HOUR
        assert all(writer.is_alive() for writer in writers), "none is told that it is lasting before it is"
    finally:
        restarting.made.do("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()


def test_whoever_is_to_act_on_what_others_wrote_waits_until_no_crash_takes_it_back(restarting, crashing, build):
    """Who only looks sees it before."""
    restarting.restart()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    seen = []

    def look():
        seen.extend(crashing.records_after(KEY.signer, 0, lasting=True))

    restarting.made.do("ALTER SYSTEM SET synchronous_standby_names = 'nowhere'", "SELECT pg_reload_conf()")
    writer = threading.Thread(target=crashing.append_record, args=(KEY, "run", {"number": 1}, NOW))
    reader = threading.Thread(target=look)
    try:
        writer.start()
        until(lambda: restarting.made.do(waiting) == [(1,)])
        (record,) = crashing.records_after(KEY.signer, 0)
        reader.start()
        until(lambda: restarting.made.do(waiting) == [(2,)])
        assert seen == []
    finally:
        restarting.made.do("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    for thread in (writer, reader):
        thread.join(30)
        assert not thread.is_alive()
    assert seen == [record]


def test_what_a_crash_took_back_is_not_given_to_who_is_to_act_on_it(restarting, crashing, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(transactions, "_COMMIT", "COMMIT")
        crashing.append_record(KEY, "run", {"number": 1}, NOW)
    assert len(list(crashing.records_after(KEY.signer, 0))) == 1
    reading = crashing._database.reading(lasting=True)
    with pytest.raises(ChangedMeanwhileError, match="changed meanwhile"), reading as connection:
        assert connection.scalar("SELECT count(*) FROM records") == 1
        restarting.restart()
    assert list(crashing.records_after(KEY.signer, 0, lasting=True)) == []


def until(holds):
    """Wait till something holds, half a minute at most."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_server_that_stays_away_is_told_after_a_while_and_used_again_when_it_is_back(restarting, crashing):
    crashing._database.unclaimed.patience = 0.3
    restarting.stop()
    for use in (lambda: crashing.confirm("ledger", NOW), lambda: crashing.points()):
        with pytest.raises(CatalogAwayError, match="cannot be reached") as caught:
            use()
        assert caught.value.retryable and "done then" in caught.value.todo
    with pytest.raises(CatalogAwayError):
        Catalog.open(restarting.url, now=NOW)
    restarting.start()
    crashing.confirm("ledger", NOW)


def test_writers_of_several_processes_through_restarts_make_one_chain(restarting, crashing):
    """Each append is there once, in order, although the server crashes again and again under them."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, restarting.url, KEY.secret(), str(number)], stdout=subprocess.PIPE
        )
        for number in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"open\n", "whoever opens a catalog that is away is told so at once"
    for _ in range(3):
        time.sleep(1.0)
        restarting.restart()
    assert [(writer.communicate(timeout=120), writer.returncode) for writer in writers] == [((b"", None), 0)] * 2
    records = list(crashing.records_after(KEY.signer, 0))
    assert verify_chain(records).intact
    said = [(record.payload["writer"], record.payload["number"]) for record in records]
    assert sorted(said) == [(writer, number) for writer in ("0", "1") for number in range(100)]


WRITER = """
import sys
from datetime import datetime, UTC
from cto_backups.catalog.catalog import Catalog
from cto_backups.evidence.records import SigningKey
key = SigningKey.load(sys.argv[2])
now = datetime(2026, 1, 1, tzinfo=UTC)
with Catalog.open(sys.argv[1], now=now) as catalog:
    print("open", flush=True)
    for number in range(100):
        catalog.append_record(key, "run", {"writer": sys.argv[3], "number": number}, now)
"""


# -- a session that is lost


def lose_sessions(catalog_server):
    """End every session with a catalog but this one."""
    catalog_server.server.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'catalog' AND pid <> pg_backend_pid()"
    )


def test_what_rests_on_something_that_changed_meanwhile_is_not_written(catalog, other, catalog_server):
    with pytest.raises(ChangedMeanwhileError, match="changed meanwhile"), catalog._writing() as connection:
        assert connection.scalar("SELECT count(*) FROM vaults") == 2
        lose_sessions(catalog_server)
        with other._writing() as meanwhile:
            add(meanwhile, "new")
        add(connection, "third of three")
    assert vaults(catalog) == ["far", "near", "new"]


def test_a_run_gets_its_number_whatever_others_start_while_its_session_is_lost(
    catalog, other, catalog_server, build, monkeypatch
):
    commit = Transaction.commit

    def lose_first(transaction):
        monkeypatch.setattr(Transaction, "commit", commit)
        lose_sessions(catalog_server)
        build.run(other, ActionKind.COPY)
        commit(transaction)

    monkeypatch.setattr(Transaction, "commit", lose_first)
    number = build.run(catalog, ActionKind.BACKUP)
    assert {run.id: run.action for run in catalog.runs()} == {1: ActionKind.COPY, number: ActionKind.BACKUP}


@pytest.mark.parametrize("lost", [["before"], ["after"], ["before", "after"], ["before", "before", "after"]])
def test_a_commit_that_got_no_answer_is_looked_up_and_never_done_twice(catalog, catalog_server, lost):
    made = catalog_server.server
    with way_to(made.place / f".s.PGSQL.{made.port}") as way:
        url = f"postgresql://{made.user}@127.0.0.1:{way.port}/catalog"
        with Catalog.open(url, now=NOW, password=lambda: "secret of tests") as unlucky:
            way.planned[:] = lost
            unlucky.append_record(KEY, "run", {"number": 1}, NOW)
            assert way.happened == lost, "the test must meet what it is about"
    assert len(list(catalog.records_after(KEY.signer, 0))) == 1


def test_a_commit_of_which_nothing_can_be_learned_is_told_as_that(catalog, catalog_server):
    made = catalog_server.server
    with way_to(made.place / f".s.PGSQL.{made.port}") as way:
        url = f"postgresql://{made.user}@127.0.0.1:{way.port}/catalog"
        with Catalog.open(url, now=NOW, password=lambda: "secret of tests") as unlucky:
            unlucky._database.unclaimed.patience = 0.3
            way.planned[:] = ["after"] + ["before"] * 50

            def forget(connect=unlucky._database.unclaimed.connect):
                raise psycopg.OperationalError("connection refused")

            unlucky.points()
            with pytest.raises(CatalogAwayError, match="not known"), unlucky._writing() as connection:
                add(connection, "uncertain")
                connection._session._connect = forget
    assert vaults(catalog) == ["far", "near", "uncertain"]


# -- a worker that dies or freezes

IN_THE_MIDDLE = """
import os, sys
from datetime import datetime, UTC
from cto_backups.catalog import database
from cto_backups.catalog.catalog import Catalog
now = datetime(2026, 1, 1, tzinfo=UTC)
database.FROZEN_SECONDS = float(sys.argv[2])
catalog = Catalog.open(sys.argv[1], now=now)
catalog.confirm("ledger", now)
with catalog._writing() as connection:
    connection.execute("INSERT INTO vaults (name) VALUES ('half')")
    connection.execute("UPDATE sources SET point_count = 77")
    print("in the middle", flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


def in_the_middle(url, frozen_seconds=20):
    program = [sys.executable, "-c", IN_THE_MIDDLE, url, str(frozen_seconds)]
    worker = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "in the middle\n"
    return worker


def test_a_process_killed_while_writing_leaves_nothing_and_holds_nobody_up(catalog, server_url):
    worker = in_the_middle(server_url)
    worker.kill()
    worker.wait(30)
    catalog.expect_repository("near", "a" * 64)
    facts = catalog.facts(NOW).sources["ledger"]
    assert (facts.confirmed_at, facts.point_count) == (datetime(2026, 1, 1, tzinfo=UTC), 0)
    assert vaults(catalog) == ["far", "near"]
    worker.communicate()


def test_a_worker_that_freezes_while_writing_is_passed_by_and_writes_once_when_it_thaws(catalog, server_url):
    worker = in_the_middle(server_url, 0.5)
    worker.send_signal(signal.SIGSTOP)
    catalog.expect_repository("near", "a" * 64)  # waits for the server to let the frozen one go
    assert vaults(catalog) == ["far", "near"]
    worker.send_signal(signal.SIGCONT)
    assert worker.communicate("go on\n", timeout=60)[0] == "done\n"
    assert vaults(catalog) == ["far", "half", "near"]
    assert database.FROZEN_SECONDS < database.BUSY_SECONDS, "nobody waits for it in vain"


def test_a_writer_holds_the_catalog_from_its_first_look_on(catalog, other, monkeypatch):
    """Reading first and locking later would let two processes sign the same place of a chain."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with catalog._writing() as connection:
        connection.scalar("SELECT count(*) FROM records")
        assert other.points() == (), "reading goes on"
        with pytest.raises(BusyError, match="in use"):
            other.confirm("ledger", NOW)
    other.confirm("ledger", NOW)


def test_what_fails_in_a_transaction_is_not_written_and_does_not_hinder_the_next(catalog):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), catalog._writing() as connection:
            add(connection, "half")
            raise error
    with catalog._writing() as connection:
        add(connection, "whole")
    assert vaults(catalog) == ["far", "near", "whole"]


def test_a_reader_sees_one_moment_while_others_write(catalog, other):
    with catalog.reading() as connection:
        before = connection.scalar("SELECT count(*) FROM vaults")
        with other._writing() as writer:
            add(writer, "new")
        assert connection.scalar("SELECT count(*) FROM vaults") == before


def test_a_failure_that_somebody_swallowed_is_not_committed(catalog):
    with pytest.raises(CatalogError), catalog._writing() as connection:
        add(connection, "half")
        with suppress(psycopg.Error):
            connection.execute("SELECT nonsense")
    assert vaults(catalog) == ["far", "near"]


def test_the_names_of_transactions_are_forgotten_after_a_while(catalog, monkeypatch):
    from cto_backups.catalog.postgresql import transaction

    with catalog._writing() as connection:
        connection.execute("INSERT INTO writes (name, at) VALUES ('old', now() - interval '2 hours')")
    monkeypatch.setattr(transaction, "_CLEARING", "")
    catalog.confirm("ledger", NOW)
    with catalog.reading() as connection:
        assert "old" not in connection.scalars("SELECT name FROM writes")
        assert connection.scalar("SELECT count(*) FROM writes") >= 2


# -- versions


def test_an_older_worker_at_work_refuses_a_newer_catalog(catalog, other):
    """One that has it open already too, in its next transaction."""
    with other._writing() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0931'")
    try:
        for use in (lambda: catalog.points(), lambda: catalog.confirm("ledger", NOW)):
            with pytest.raises(CatalogError, match=rf"version 0931.*up to {database.VERSION}"):
                use()
    finally:
        with psycopg.connect(**other._database.unclaimed.address.given) as session:
            session.execute(f"UPDATE cto_backups.alembic_version SET version_num = '{database.VERSION}'")


NEWER = """
from alembic import op

revision = "9999"
down_revision = "{current}"


def upgrade():
    op.get_bind().exec_driver_sql("CREATE TABLE later (id INTEGER NOT NULL, name TEXT, PRIMARY KEY (id))")
    {more}
"""
OPENING = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from cto_backups.catalog import database, migrating
from cto_backups.catalog.catalog import Catalog
migrating.MIGRATIONS, database.VERSION = Path(sys.argv[2]), "9999"
database.KNOWN_VERSIONS = (*database.KNOWN_VERSIONS, "9999")
sys.stdin.readline()
with Catalog.open(sys.argv[1], now=datetime(2026, 1, 1, tzinfo=UTC)) as catalog:
    print(len(catalog.points()))
"""


@pytest.fixture
def newer(tmp_path):
    """The migrations of a later release of this program."""

    def make(more=""):
        migrations = tmp_path / "migrations"
        shutil.copytree(migrating.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
        (migrations / "versions" / "9999_later.py").write_text(NEWER.format(more=more, current=database.VERSION))
        return migrations

    return make


def test_of_two_processes_that_migrate_at_once_one_does_it(catalog_server, own, newer, build):
    with Catalog.open(catalog_server.url(own), now=NOW) as old:
        old.sync_policy(build.policy(), b"", NOW)
        old.add_point_with_copy(build.point("p1"), build.copy("p1"))
    migrations = newer()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENING, catalog_server.url(own), migrations],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    told = [worker.communicate("go\n", timeout=120)[0] for worker in workers]
    assert told == ["1\n"] * 3
    found = catalog_server.server.do("SELECT version_num FROM cto_backups.alembic_version", database=own)
    assert found == [("9999",)]
    with pytest.raises(CatalogError, match="9999"):
        Catalog.open(catalog_server.url(own), now=NOW)


def test_a_migration_that_fails_changes_nothing(catalog_server, own, newer, monkeypatch):
    monkeypatch.setattr(migrating, "MIGRATIONS", newer('op.get_bind().exec_driver_sql("CREATE TABLE nonsense (")'))
    monkeypatch.setattr(database, "VERSION", "9999")
    with pytest.raises(CatalogError):
        Catalog.open(catalog_server.url(own), now=NOW)
    tables = catalog_server.server.do("SELECT count(*) FROM pg_class WHERE relname = 'later'", database=own)
    assert tables == [(0,)]


def test_who_only_reads_brings_nothing_up_to_date(catalog_server, own, newer, monkeypatch):
    monkeypatch.setattr(migrating, "MIGRATIONS", newer())
    monkeypatch.setattr(database, "VERSION", "9999")
    with pytest.raises(CatalogError, match="only reads"):
        Catalog.open(catalog_server.url(own), now=NOW, write=False)


def test_the_schema_is_that_of_the_file(catalog_server, path):
    """Columns, what may be missing, keys and indexes: the same names in both, from the same migrations."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        in_file = {
            (table, column[1], bool(column[3]) or bool(column[5]))
            for table in tables
            for column in file.execute(f"PRAGMA table_info({table})")
            if table != "backup_status"
        }
        indexes = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    rows = catalog_server.server.do(
        "SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns"
        " WHERE table_schema = 'cto_backups' AND table_name NOT IN ('writes', 'backup_status')",
        database="catalog",
    )
    assert set(rows) == in_file
    named = catalog_server.server.do(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'cto_backups'", database="catalog"
    )
    ours = {name for (name,) in named if not name.startswith("writes") and "_pk" not in name}
    assert ours == {name for name in indexes if not name.startswith("sqlite_autoindex")}
    sorted_otherwise = catalog_server.server.do(
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'cto_backups'::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
        " AND c.relname <> 'alembic_version' AND a.attcollation NOT IN (0, 'pg_catalog.\"C\"'::regcollation)",
        database="catalog",
    )
    assert sorted_otherwise == [(0,)]


# -- making and opening


def test_a_catalog_is_made_once(catalog_server, own):
    with pytest.raises(RefusedError, match="there already"):
        Catalog.create(catalog_server.url(own), now=NOW)


MAKING = """
import sys
from datetime import datetime, UTC
from cto_backups.catalog.catalog import Catalog
from cto_backups.errors import RefusedError
sys.stdin.readline()
try:
    Catalog.create(sys.argv[1], now=datetime(2026, 1, 1, tzinfo=UTC)).close()
    print("made")
except RefusedError:
    print("refused")
"""


def test_of_two_processes_that_make_a_catalog_at_once_one_does_it(catalog_server):
    catalog_server.server.do("CREATE DATABASE wanted TEMPLATE template0")
    try:
        makers = [
            subprocess.Popen(
                [sys.executable, "-c", MAKING, catalog_server.url("wanted")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for maker in makers:
            maker.stdin.write("go\n")
            maker.stdin.flush()
        assert sorted(maker.communicate(timeout=120)[0] for maker in makers) == ["made\n", "refused\n"]
    finally:
        catalog_server.drop("wanted")


def test_a_session_that_idles_in_a_transaction_is_ended_within_a_minute(catalog):
    """Or a worker that froze would hold all others up for good."""
    with catalog.reading() as connection:
        assert connection.scalar("SHOW idle_in_transaction_session_timeout") == "1min"


def test_two_catalogs_share_a_database_in_schemas_of_their_own(catalog_server, own, build):
    second = f"{catalog_server.url(own)}&schema=second%20one"
    with Catalog.create(second, now=NOW) as catalog, Catalog.open(catalog_server.url(own), now=NOW) as first:
        catalog.sync_policy(build.policy(), b"", NOW)
        assert (catalog.active_sources(), first.active_sources()) == (("ledger",), ())
        assert catalog.check() == ()


def test_a_missing_catalog_is_told_and_not_made_by_opening(catalog_server):
    catalog_server.server.do("CREATE DATABASE nothing TEMPLATE template0")
    try:
        with pytest.raises(NotFoundError, match=r"/nothing.*moved or deleted"):
            Catalog.open(catalog_server.url("nothing"), now=NOW)
    finally:
        catalog_server.drop("nothing")


def test_a_making_that_fails_leaves_nothing(catalog_server, monkeypatch):
    catalog_server.server.do("CREATE DATABASE unmade TEMPLATE template0")

    def fail(engine, *, schema=None):
        with engine.begin():
            raise KeyboardInterrupt

    monkeypatch.setattr(migrating, "migrate", fail)
    with pytest.raises(KeyboardInterrupt):
        Catalog.create(catalog_server.url("unmade"), now=NOW)
    left = catalog_server.server.do(
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'cto_backups'", database="unmade"
    )
    catalog_server.drop("unmade")
    assert left == [(0,)]


def test_one_made_beside_its_place_is_put_there_whole_or_goes(catalog_server, build):
    catalog_server.server.do("CREATE DATABASE beside TEMPLATE template0")
    url = catalog_server.url("beside")

    def schemas():
        return [
            name
            for (name,) in catalog_server.server.do(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cto%' ORDER BY nspname", database="beside"
            )
        ]

    try:
        with pytest.raises(ValueError, match="given up"), making.beside(url):
            assert len(schemas()) == 1 and not making.exists(url)
            raise ValueError("given up")
        assert schemas() == []
        catalog_server.server.do(
            "CREATE SCHEMA cto_backups_rebuilding_1", database="beside"
        )  # of a run that was killed
        with making.beside(url) as fresh, making.beside(url) as second:
            assert len(schemas()) == 2, "that of the killed run is gone, those of others at work stay"
            with Catalog.open(fresh, now=NOW) as catalog:
                catalog.sync_policy(build.policy(), b"", NOW)
            making.put_in_place(fresh, url)
            with pytest.raises(RefusedError, match="there now"):
                making.put_in_place(second, url)
        assert schemas() == ["cto_backups"]
        with Catalog.open(url, now=NOW) as catalog:
            assert catalog.active_sources() == ("ledger",)
            assert catalog.check() == ()
    finally:
        catalog_server.drop("beside")


# -- what is told


@pytest.fixture
def reader(catalog_server, own):
    made = catalog_server.server
    made.do("CREATE ROLE reader LOGIN PASSWORD 'of a reader'")
    yield f"postgresql://reader@/{own}?host={made.place}"
    made.do("DROP OWNED BY reader", database=own)
    made.do("DROP ROLE reader")


def told(error):
    return f"{error.what} {error.why} {error.todo}"


def test_who_has_no_rights_is_told_what_is_needed(reader):
    with pytest.raises(CatalogError, match="may not be used by this user") as caught:
        Catalog.open(reader, now=NOW)
    assert "own" in caught.value.todo


def test_who_may_only_read_can_read(catalog_server, own, reader):
    catalog_server.server.do(
        "GRANT USAGE ON SCHEMA cto_backups TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA cto_backups TO reader",
        database=own,
    )
    with Catalog.open(reader, now=NOW, write=False) as catalog:
        assert catalog.points() == ()
        with pytest.raises(CatalogError, match="may not be used by this user"):
            catalog.confirm("ledger", NOW)


def test_a_standby_can_be_read_and_says_why_it_is_not_written_to(catalog_server, own):
    catalog_server.server.do(f"ALTER DATABASE {own} SET default_transaction_read_only = on")
    with Catalog.open(catalog_server.url(own), now=NOW) as catalog:
        assert catalog.points() == ()
        with pytest.raises(CatalogError, match="standby, or is set to be read only") as caught:
            catalog.confirm("ledger", NOW)
    assert "primary" in caught.value.todo


def test_a_refused_login_names_no_secret(catalog_server):
    made = catalog_server.server
    with way_to(made.place / f".s.PGSQL.{made.port}"):
        pass
    made.do("CREATE ROLE keeper LOGIN PASSWORD 'right one'", "SELECT 1")
    hba = made.place / "data" / "pg_hba.conf"
    before = hba.read_text()
    try:
        hba.write_text("local all keeper scram-sha-256\n" + before)
        made.do("SELECT pg_reload_conf()")
        url = f"postgresql://keeper@/catalog?host={made.place}"
        with pytest.raises(CatalogError, match="refused the login") as caught:
            Catalog.open(url, now=NOW, password=lambda: "wrong-one-7731")
        assert "7731" not in told(caught.value) + repr(caught.value.__cause__)
        assert "pgpass" in caught.value.todo
        with pytest.raises(CatalogError, match="may not be used by this user"):
            Catalog.open(url, now=NOW, password=lambda: "right one")
    finally:
        hba.write_text(before)
        made.do("SELECT pg_reload_conf()")
        made.do("DROP ROLE keeper")


def test_a_database_that_is_not_there_is_told(catalog_server):
    with pytest.raises(CatalogError, match="no such database") as caught:
        Catalog.open(catalog_server.url("nowhere"), now=NOW)
    assert "Make it" in caught.value.todo


def test_a_server_that_is_not_there_is_away(tmp_path):
    with pytest.raises(CatalogAwayError, match="cannot be reached"):
        Catalog.open(f"postgresql://postgres@/catalog?host={tmp_path}", now=NOW)


def test_a_database_of_another_encoding_is_refused(catalog_server):
    catalog_server.server.do("CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with pytest.raises(CatalogError, match="encoding SQL_ASCII"):
            Catalog.open(catalog_server.url("latin"), now=NOW)
    finally:
        catalog_server.drop("latin")


def test_a_full_disk_of_the_server_is_told(catalog_server, own, build):
    catalog_server.server.do(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON cto_backups.vaults EXECUTE FUNCTION full_disk()",
        database=own,
    )
    with Catalog.open(catalog_server.url(own), now=NOW) as catalog:
        with pytest.raises(CatalogError, match="cannot take more") as caught:
            catalog.sync_policy(build.policy(), b"", NOW)
        assert "Make room" in caught.value.todo
        assert catalog.active_sources() == (), "nothing of it is there"


def test_another_authority_than_the_servers_is_not_trusted(catalog_server):
    """A host that is not this machine has to prove who it is, unless the address says otherwise."""
    made = catalog_server.server
    with way_to(made.place / f".s.PGSQL.{made.port}") as way:
        place = f"db.example.com:{way.port}/catalog?hostaddr=127.0.0.1"
        with pytest.raises(CatalogError, match="identity could not be verified"):
            Catalog.open(f"postgresql://{made.user}@{place}", now=NOW, password=lambda: "secret of tests")
        with Catalog.open(
            f"postgresql://{made.user}@{place}&sslmode=disable", now=NOW, password=lambda: "secret of tests"
        ) as catalog:
            catalog.points()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE points SET captured_at = 'soon'",
        "UPDATE points SET fingerprint = '{'",
        "UPDATE evidence SET rung = 77",
        "UPDATE runs SET action = 'dance'",
        "UPDATE runs SET started_at = '5'",
        "DROP TABLE copies CASCADE",
        "ALTER TABLE points DROP COLUMN label",
    ],
)
def test_a_row_that_nobody_can_have_written_is_damage(catalog_server, own, build, change):
    with Catalog.open(catalog_server.url(own), now=NOW) as catalog:
        catalog.sync_policy(build.policy(), b"text", NOW)
        catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
        catalog.add_evidence(build.test("e1", "p1"))
        build.run(catalog, ActionKind.BACKUP)
        catalog_server.server.do(
            change.replace("TABLE ", "TABLE cto_backups.").replace("UPDATE ", "UPDATE cto_backups."), database=own
        )
        with pytest.raises(CatalogError, match="is damaged") as caught:
            catalog.facts(NOW, kept_points=True)
            catalog.points()
            catalog.runs()
            catalog.evidence()
        assert "catalog rebuild" in caught.value.todo


def test_a_check_finds_rows_that_lead_nowhere_and_indexes_that_are_broken(catalog_server, own, build):
    with Catalog.open(catalog_server.url(own), now=NOW) as catalog:
        catalog.sync_policy(build.policy(), b"", NOW)
        catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
        assert catalog.check() == ()
        with catalog_server.server.connect(own) as session:
            session.execute("SET session_replication_role = replica")
            session.execute("DELETE FROM cto_backups.points")
            session.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cto_backups.runs_by_vault'::regclass"
            )
        found = catalog.check()
    assert [complaint for complaint in found if "runs_by_vault is not valid" in complaint]
    assert [complaint for complaint in found if "1 rows of copies lead nowhere" in complaint]


def test_a_check_finds_a_page_that_is_overwritten(restarting, crashing, build):
    crashing.add_point_with_copy(build.point("p1"), build.copy("p1"))
    (name,) = restarting.made.do("CHECKPOINT", "SELECT pg_relation_filepath('cto_backups.copies')", database="catalog")[
        0
    ]
    restarting.stop()
    page = restarting.made.place / "data" / name
    before = page.read_bytes()
    page.write_bytes(b"\xa5" * len(before))
    restarting.start()
    try:
        assert [complaint for complaint in crashing.check() if "copies" in complaint]
    finally:
        restarting.stop()
        page.write_bytes(before)
        restarting.start()


def test_another_thread_waits_its_turn(catalog):
    """Threads of one process share a catalog: each has a session of its own."""
    done = []
    with catalog._writing() as connection:
        thread = threading.Thread(target=lambda: done.append(catalog.confirm("ledger", NOW)))
        thread.start()
        add(connection, "mine")
        assert done == []
    thread.join(60)
    assert done == [None]


def test_what_a_server_reads_alone_does_not_load_the_migration_tool(server_url):
    """`status` starts fast on a server too, and where the catalog is a file its driver is not loaded."""
    code = (
        "import sys; from datetime import datetime, UTC; from cto_backups.catalog.catalog import Catalog;"
        "now = datetime(2026, 1, 1, tzinfo=UTC);"
        f"assert 'psycopg' not in sys.modules; Catalog.open({server_url!r}, now=now).facts(now);"
        "sys.exit(sum(name.startswith(('alembic', 'sqlalchemy')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
