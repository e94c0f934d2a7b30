"""Between base backups only the log is read: points that go on, moments between them, and when another base is made."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.memory import MemoryVault
from payload_store_contract import label

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.core.payloads import Draft
from cto_backups.core.ports import RestoreOptions
from cto_backups.errors import SourceError, VaultError, VerificationError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.postgresql.source import PostgresqlSource
from servers import postgresql
from servers.postgresql import Server

Make = Callable[..., PostgresqlSource]


@pytest.fixture(scope="module")
def shop(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs, wal_level="logical") as made:
        postgresql.fill(made)
        yield made


@pytest.fixture
def make(shop: Server, tmp_path: Path) -> Iterator[Make]:
    def made(**options: Any) -> PostgresqlSource:
        given = {"host": str(shop.place), "user": "postgres", "method": "physical", "base_every_seconds": 3600.0}
        return PostgresqlSource("shop", {**given, **options}, state=tmp_path / "state")

    yield made
    for (slot,) in shop.do("SELECT slot_name FROM pg_replication_slots WHERE NOT active"):
        shop.do(f"SELECT pg_drop_replication_slot('{slot}')")


@pytest.fixture
def store() -> RepositoryStore:
    quick = RepositoryOptions(scrypt=ScryptParameters(n=2))
    now = datetime.now(UTC)
    return RepositoryStore.create(MemoryVault(), "r", "secret", now=now, hostname="h", username="u", options=quick)


class Points:
    """Points of a source, each made after the one before."""

    def __init__(self, store: RepositoryStore) -> None:
        self.store = store
        self.last: str | None = None

    def make(self, source: PostgresqlSource, *, stored: bool = True) -> tuple[Draft, Fingerprint]:
        with source.capture() as capture, self.store.writing() as writing:
            draft = writing.write(capture.tree, parent=self.last)
            self.last = writing.commit(draft, label())
            fingerprint = capture.fingerprint()
            if stored:
                capture.stored()
        return draft, fingerprint

    def restore(self, place: Path, options: RestoreOptions | None = None) -> None:
        assert self.last is not None
        assert not self.store.reader(self.last).restore(place, options=options).problems


def is_base(draft: Draft) -> bool:
    """Whether all files of the server were read."""
    return draft.read_bytes == draft.size_bytes


@contextmanager
def opened(shop: Server, place: Path) -> Iterator[Server]:
    """The server that comes of restored files."""
    postgresql.give(place)
    with postgresql.running(shop.bin, place) as again:
        for _ in range(400):
            if again.do("SELECT pg_is_in_recovery()") == [(False,)]:
                break
            time.sleep(0.05)
        yield again


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the server's user may come."""
    with tempfile.TemporaryDirectory(prefix="pg-log-") as folder:
        yield Path(folder)


def test_points_go_on_from_a_base_and_each_is_whole(
    shop: Server, make: Make, store: RepositoryStore, tmp_path: Path, place: Path
) -> None:
    points, source = Points(store), make()
    base, _ = points.make(source)
    assert is_base(base)
    for number in range(3):
        shop.do(f"CREATE TABLE made_{number} AS SELECT n FROM generate_series(1, 40000) n", database="my shop")
        if number == 1:
            shop.do("SELECT pg_switch_wal()")
        went_on, expected = points.make(source)
        assert not is_base(went_on)
        assert went_on.read_bytes < base.read_bytes, "only the log"
        assert went_on.size_bytes >= base.size_bytes
    points.restore(tmp_path / "tested")
    assert compare(expected, source.probe(tmp_path / "tested", expected)).differences == ()
    points.restore(place)
    with opened(shop, place) as again:
        for number in range(3):
            assert again.do(f"SELECT count(*) FROM made_{number}", database="my shop") == [(40_000,)]
            shop.do(f"DROP TABLE made_{number}", database="my shop")


def test_any_moment_since_the_base_comes_back(shop: Server, make: Make, store: RepositoryStore, place: Path) -> None:
    """Also one before the newest point, and one at which something is there that was dropped since."""
    points, source = Points(store), make()
    points.make(source)
    shop.do("CREATE TABLE ticks (n int, at timestamptz DEFAULT clock_timestamp())", database="my shop")
    moments = []
    for number in range(6):
        shop.do(f"INSERT INTO ticks VALUES ({number})", database="my shop")
        time.sleep(0.05)
        ((now,),) = shop.do("SELECT clock_timestamp()")
        moments.append(now)
        time.sleep(0.05)
        if number in (1, 3):
            points.make(source)
    shop.do("DROP TABLE ticks", database="my shop")
    _, expected = points.make(source)
    log = next(sample.fields for sample in expected.samples if sample.key == "log")
    assert datetime.fromisoformat(log["since"]) < moments[0] < moments[-1] < datetime.fromisoformat(log["until"])
    assert points.last is not None
    source.restore(store.reader(points.last), place, options=RestoreOptions(at=moments[4]))
    with opened(shop, place) as again:
        assert again.do("SELECT max(n), count(*) FROM ticks", database="my shop") == [(4, 5)]


def test_a_server_at_rest_has_an_unchanged_fingerprint(shop: Server, make: Make, store: RepositoryStore) -> None:
    points, source = Points(store), make()
    _, first = points.make(source)
    same, second = points.make(source)
    assert second == first, "it is confirmed, and not made again"
    assert same.read_bytes == same.added_bytes == 0
    shop.do("CREATE TABLE rest ()", "DROP TABLE rest", database="my shop")
    _, third = points.make(source)
    same, fourth = points.make(source)
    assert first != third == fourth
    assert same.read_bytes == 0


def test_the_server_keeps_its_log_until_it_is_in_a_vault(shop: Server, make: Make, store: RepositoryStore) -> None:
    points, source = Points(store), make()
    points.make(source)
    ((before,),) = shop.do("SELECT restart_lsn FROM pg_replication_slots")
    shop.do("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n", database="my shop")
    points.make(source, stored=False)
    assert shop.do("SELECT restart_lsn, active FROM pg_replication_slots") == [(before, False)]
    shop.do("DROP TABLE kept", database="my shop")
    points.make(source)
    assert shop.do(f"SELECT restart_lsn > '{before}' FROM pg_replication_slots") == [(True,)]
    source = make(base_every_seconds=None)
    assert is_base(points.make(source)[0])
    assert shop.do("SELECT slot_name FROM pg_replication_slots") == [], "nobody needs it any more"


@pytest.mark.parametrize(
    "why",
    [
        "the state is lost",
        "the slot is gone",
        "a new database",
        "a new tablespace",
        "another point between",
        "it is old",
        "a lost pack",
    ],
)
def test_another_base_is_made(shop: Server, make: Make, store: RepositoryStore, tmp_path: Path, why: str) -> None:
    points, source = Points(store), make()
    points.make(source)
    shop.do("CREATE TABLE more ()", "DROP TABLE more", database="my shop")
    match why:
        case "the state is lost":
            (tmp_path / "state/sources/shop/base.json").unlink()
        case "the slot is gone":
            shop.do("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        case "a new database":
            shop.do("CREATE DATABASE newcomer")
        case "a new tablespace":
            (shop.place / "apart").mkdir(exist_ok=True)
            postgresql.give(shop.place / "apart")
            shop.do(f"CREATE TABLESPACE apart LOCATION '{shop.place}/apart'", "CREATE TABLE far () TABLESPACE apart")
        case "a lost pack":
            vault = store.vault
            assert isinstance(vault, MemoryVault)
            (largest,) = sorted((key for key in vault.files if "/data/" in key), key=lambda key: len(vault.files[key]))[
                -1:
            ]
            del vault.files[largest]
        case "another point between":
            points.make(make(method="logical", databases=("postgres",)))
        case "it is old":
            source = make(base_every_seconds=0.001)
    try:
        again, expected = points.make(source)
        assert is_base(again)
        if why in ("a new tablespace", "a lost pack"):  # the others say nothing of what is in it
            points.restore(tmp_path / "tested")
            assert compare(expected, source.probe(tmp_path / "tested", expected)).differences == ()
    finally:
        shop.do("DROP DATABASE IF EXISTS newcomer", "DROP TABLE IF EXISTS far", "DROP TABLESPACE IF EXISTS apart")


@pytest.mark.parametrize("fault", ["a hole in the log", "a log that ends too soon", "an older log"])
def test_faults_in_the_log_show(shop: Server, make: Make, store: RepositoryStore, tmp_path: Path, fault: str) -> None:
    points, source = Points(store), make()
    points.make(source)
    for number in range(3):
        points.restore(tmp_path / f"before-{number}")
        shop.do(f"CREATE TABLE lost_{number} AS SELECT n FROM generate_series(1, 100) n", "SELECT pg_switch_wal()")
        _, expected = points.make(source)
        shop.do(f"DROP TABLE lost_{number}")
    restored = tmp_path / "restored"
    points.restore(restored)
    segments = sorted(file for file in (restored / "wal").iterdir())
    match fault:
        case "a hole in the log":
            segments[len(segments) // 2].unlink()
        case "a log that ends too soon":
            last = segments[-1].read_bytes()
            there = last.rstrip(b"\0")
            segments[-1].write_bytes(there[: len(there) // 2].ljust(len(last), b"\0"))
        case "an older log":
            older = tmp_path / "before-2"
            for name in ("wal", "moments.json", "data/postgresql.auto.conf"):
                (restored / name).rename(tmp_path / name.replace("/", "-"))
                (older / name).rename(restored / name)
    try:
        differences = compare(expected, source.probe(restored, expected)).differences
    except VerificationError:
        return
    assert any("log" in difference for difference in differences)


def test_a_slot_that_keeps_too_much_is_seen_before_its_log_is_lost(
    shop: Server, make: Make, store: RepositoryStore
) -> None:
    def written(megabytes: int) -> None:
        for _ in range(megabytes // 16):
            shop.do("SELECT pg_logical_emit_message(false, 'test', 'x')", "SELECT pg_switch_wal()")

    def set_to(**settings: str) -> None:
        changed = (f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items())
        shop.do(*changed, "SELECT pg_reload_conf()")
        for name, value in settings.items():
            for _ in range(200):
                if shop.do(f"SHOW {name}") == [(value,)]:
                    break
                time.sleep(0.05)

    points, source = Points(store), make()
    assert source.retained_logs() == []
    points.make(source)
    (log,) = source.retained_logs()
    assert log.ours and not log.peril and log.retained_bytes < 64 << 20
    try:
        set_to(max_wal_size="32MB")
        written(160)
        (log,) = source.retained_logs()
        assert "nothing bounds" in log.peril and log.retained_bytes > 128 << 20
        moved = PostgresqlSource("shop", {"host": str(shop.place), "user": "postgres"}, state=Path("/elsewhere"))
        (elsewhere,) = moved.retained_logs()
        assert not elsewhere.ours and elsewhere.slot == log.slot
        set_to(max_slot_wal_keep_size="256MB")
        (log,) = source.retained_logs()
        assert "throws it away once" in log.peril
        written(160)
        shop.do("CHECKPOINT")
        (log,) = source.retained_logs()
        assert log.is_lost and "read all files again" in log.peril
        again, _ = points.make(source)
        assert is_base(again)
        (log,) = source.retained_logs()
        assert not log.peril
    finally:
        shop.do("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")


def test_a_vault_that_fails_to_read_once_is_an_error_and_no_empty_point(
    shop: Server, make: Make, store: RepositoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, source = Points(store), make()
    points.make(source)
    shop.do("CREATE TABLE more ()", "DROP TABLE more", database="my shop")
    right = Fetcher.tree
    failed = []

    def once(self: Fetcher, blob: bytes) -> bytes:
        if len(failed) < 2:
            failed.append(blob)
            if len(failed) == 2:
                raise VaultError("connection reset")
        return right(self, blob)

    monkeypatch.setattr(Fetcher, "tree", once)
    with pytest.raises(VaultError, match="reset"):
        points.make(source)


def test_a_base_that_fails_leaves_no_slot(shop: Server, make: Make, store: RepositoryStore) -> None:
    shop.do("CREATE ROLE weak LOGIN REPLICATION")
    try:
        with pytest.raises(SourceError):
            Points(store).make(make(user="weak"))
        assert shop.do("SELECT slot_name FROM pg_replication_slots") == []
    finally:
        shop.do("DROP ROLE weak")


def test_what_the_servers_settings_say_neither_runs_nor_hangs_a_restore_test(
    shop: Server, make: Make, store: RepositoryStore, tmp_path: Path
) -> None:
    settings = (
        "ALTER SYSTEM SET archive_cleanup_command = 'touch /tmp/never-run'",
        "ALTER SYSTEM SET default_transaction_isolation = 'serializable'",
        "ALTER SYSTEM SET huge_pages = 'on'",
        "ALTER SYSTEM SET shared_preload_libraries = 'not_there'",
    )
    shop.do(*settings)
    try:
        points, source = Points(store), make()
        _, expected = points.make(source)
        points.restore(tmp_path / "tested")
        assert compare(expected, source.probe(tmp_path / "tested", expected)).differences == ()
        points.restore(tmp_path / "restored")
        assert b"archive_cleanup" not in (tmp_path / "restored/data/postgresql.auto.conf").read_bytes()
        assert not Path("/tmp/never-run").exists()
    finally:
        shop.do("ALTER SYSTEM RESET ALL")


def test_a_target_left_in_the_servers_configuration_does_not_keep_it_from_starting(
    shop: Server, make: Make, store: RepositoryStore, place: Path
) -> None:
    configuration = shop.place / "data/postgresql.conf"
    before = configuration.read_text()
    configuration.write_text(before + "recovery_target_time = '2020-01-01'\n")
    try:
        points = Points(store)
        points.make(make())
    finally:
        configuration.write_text(before)
    points.restore(place)
    with opened(shop, place) as again:
        assert again.do("SELECT count(*) FROM sales.orders", database="my shop") == [(2000,)]
