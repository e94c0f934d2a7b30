"""What the SQLite source does with databases as they are found: in use, locked, damaged, and no databases at all."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.points import MemoryPoint

from cto_backups.core.limits import Limit
from cto_backups.core.model import Fingerprint, Problem
from cto_backups.core.ports import Existing, Restored
from cto_backups.errors import PolicyError, RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.sources.sqlite import copy as sqlite_copy
from cto_backups.sources.sqlite.source import SqliteSource

AsUser = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "app.db"


@pytest.fixture
def source(path: Path, tmp_path: Path) -> SqliteSource:
    return SqliteSource("people", {"path": str(path), "lock_seconds": 0.05}, state=tmp_path / "state")


@contextmanager
def opened(path: Path, journal: str = "delete", rows: int = 10) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        database.executemany("INSERT INTO t (b) VALUES (?)", [(f"row {number}",) for number in range(rows)])
        database.commit()
        yield database


def captured(source: SqliteSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        assert capture.problems == ()
        assert capture.staged
        return point, capture.fingerprint()


def rows_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM t ORDER BY 1").fetchall()


# -- capturing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["delete", "wal", "truncate", "persist", "memory"])
def test_a_database_in_use_is_captured_with_what_is_committed(path: Path, source: SqliteSource, journal: str) -> None:
    with opened(path, journal) as database:
        _, before = captured(source)
        database.execute("INSERT INTO t (b) VALUES ('committed')")
        database.commit()
        if journal == "wal":
            assert Path(f"{path}-wal").stat().st_size > 0
            database.execute("INSERT INTO t (b) VALUES ('not committed')")
        point, after = captured(source)
    assert before.counts["rows:t"] == 10
    assert after.counts["rows:t"] == 11
    assert [entry.name for _, entry in point.listing()][-1] == b"app.db"


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_capture_under_constant_writing_is_one_moment(
    path: Path, source: SqliteSource, tmp_path: Path, journal: str
) -> None:
    """Each transaction moves money from one account to the other: the total never changes."""
    source = SqliteSource("people", {"path": str(path), "lock_seconds": 20}, state=tmp_path / "state")
    with opened(path, journal, rows=0) as database:
        database.executemany("INSERT INTO t VALUES (?, ?)", [(number, 100) for number in range(2000)])
        database.commit()
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=20)) as writer:
            number = 0
            while not stop.wait(0.001):
                number += 1
                writer.execute("UPDATE t SET b = b - 1 WHERE a = ?", (number % 2000,))
                writer.execute("UPDATE t SET b = b + 1 WHERE a = ?", ((number * 7 + 1) % 2000,))
                writer.commit()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        points = [captured(source) for _ in range(4)]
    finally:
        stop.set()
        thread.join()
    for number, (point, expected) in enumerate(points):
        place = tmp_path / f"restored {number}"
        point.restore(place)
        assert source.probe(place, expected) == expected
        with closing(sqlite3.connect(place / str(path).lstrip("/"))) as database:
            assert database.execute("SELECT sum(b), count(*) FROM t").fetchone() == (200_000, 2000)


def test_the_fingerprint_is_of_the_moment_of_the_copy(path: Path, tmp_path: Path, source: SqliteSource) -> None:
    with opened(path, "wal") as database, source.capture() as capture:
        database.execute("DELETE FROM t")
        database.commit()
        point = MemoryPoint.of(capture.tree)
        assert capture.fingerprint().counts["rows:t"] == 10
    point.restore(tmp_path / "restored")
    assert len(rows_of(tmp_path / "restored" / str(path).lstrip("/"))) == 10


def test_the_original_keeps_mode_owner_and_time_in_the_point(path: Path, source: SqliteSource) -> None:
    with opened(path):
        pass
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    os.utime(path, ns=(1, 1_600_000_000_000_000_007))
    point, _ = captured(source)
    entry, content = point.entries[os.fsencode(path)]
    status = path.stat()
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
    )
    assert entry.size == len(content)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_nothing_is_written_beside_the_database_and_nothing_stays_in_the_state(
    path: Path, source: SqliteSource, tmp_path: Path, journal: str
) -> None:
    with opened(path, journal):
        pass
    captured(source)
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]
    assert list((tmp_path / "state" / "sources" / "people").iterdir()) == []


def test_what_a_killed_capture_staged_is_removed_by_the_next(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path):
        pass
    left = tmp_path / "state" / "sources" / "people" / "staged.1.4194999"
    left.mkdir(parents=True)
    (left / "copy.db").write_text("secret rows")
    captured(source)
    assert not left.exists()


def test_the_write_ahead_log_of_a_killed_program_is_captured(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    other = tmp_path / "live.db"
    with opened(other, "wal") as database:
        database.execute("INSERT INTO t (b) VALUES ('only in the log')")
        database.commit()
        path.write_bytes(other.read_bytes())
        Path(f"{path}-wal").write_bytes(Path(f"{other}-wal").read_bytes())
    before = {file.name for file in path.parent.iterdir()}
    assert captured(source)[1].counts["rows:t"] == 11
    assert {file.name for file in path.parent.iterdir()} == before


def test_the_journal_of_a_killed_program_is_rolled_back_in_the_copy(
    path: Path, source: SqliteSource, tmp_path: Path
) -> None:
    other = tmp_path / "live.db"
    with opened(other, "delete", rows=5000) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("PRAGMA cache_spill = 1")
        database.execute("UPDATE t SET b = 'half done'")
        journal = Path(f"{other}-journal").read_bytes()
        assert b"half done" in other.read_bytes()
        path.write_bytes(other.read_bytes())
        Path(f"{path}-journal").write_bytes(journal)
        database.rollback()
    point, expected = captured(source)
    assert b"half done" not in point.entries[os.fsencode(path)][1]
    assert expected.counts["rows:t"] == 5000
    assert Path(f"{path}-journal").read_bytes() == journal


def test_a_read_only_folder_with_a_write_ahead_database_is_captured(
    open_place: Path, ordinary_user: AsUser, tmp_path: Path
) -> None:
    folder = open_place / "data"
    folder.mkdir()
    with opened(folder / "app.db", "wal"):
        pass
    folder.chmod(0o555)
    try:
        with ordinary_user():
            source = SqliteSource("people", {"path": str(folder / "app.db")}, state=open_place / "state")
            assert captured(source)[1].counts["rows:t"] == 10
    finally:
        folder.chmod(0o755)


def test_a_file_of_no_bytes_is_refused(path: Path, source: SqliteSource) -> None:
    """SQLite opens it as a new database: its copy would restore and prove."""
    path.touch()
    with pytest.raises(SourceError, match="holds no byte"), source.capture():
        pass


def test_a_database_without_tables_is_captured_and_says_so(path: Path, source: SqliteSource) -> None:
    with opened(path) as connection:
        connection.execute("DROP TABLE t")
    with source.capture() as capture:
        MemoryPoint.of(capture.tree)
        assert capture.fingerprint().counts["tables"] == 0
        assert capture.notes == ("the database is empty: it holds no table",)  # type: ignore[attr-defined]


def test_a_database_behind_a_link_is_kept_where_it_is(path: Path, tmp_path: Path) -> None:
    with opened(path):
        pass
    (tmp_path / "link.db").symlink_to(path)
    point, _ = captured(SqliteSource("people", {"path": str(tmp_path / "link.db")}, state=tmp_path / "state"))
    assert os.fsencode(path) in point.entries


def test_names_with_signs_of_addresses_in_them_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "what? #1 50% & more.db"
    with opened(path):
        pass
    source = SqliteSource("people", {"path": str(path)}, state=tmp_path / "state")
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


# -- refusing -------------------------------------------------------------------------------------------------------


def refused(source: SqliteSource) -> SourceError:
    with pytest.raises(SourceError) as raised, source.capture():
        pass
    assert "people" in raised.value.what
    assert raised.value.why
    assert raised.value.todo
    return raised.value


def test_a_missing_database_is_refused(source: SqliteSource) -> None:
    assert "not there" in refused(source).what


def test_a_folder_is_refused(path: Path, source: SqliteSource) -> None:
    path.mkdir()
    assert "not a file" in refused(source).what


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"x", "are not SQLite's"),
        (b"PK\3\4 a zip file, say" * 100, "are not SQLite's"),
        (os.urandom(4096), "encrypted"),
        (bytes(4096), "are zeroes"),
    ],
)
def test_what_is_no_database_is_refused_as_what_it_looks_like(
    path: Path, source: SqliteSource, content: bytes, why: str
) -> None:
    path.write_bytes(content)
    assert "not a SQLite database" in refused(source).what
    assert why in refused(source).why


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_too_large_for_the_free_space_is_refused_before_it_is_copied(
    path: Path, source: SqliteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    with opened(path, journal, rows=20_000):
        pass
    monkeypatch.setattr(sqlite_copy.shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10, 5, 100_000))
    monkeypatch.setattr(sqlite_copy, "_back_up", pytest.fail)
    monkeypatch.setattr(sqlite_copy, "_copy", pytest.fail)
    error = refused(source)
    assert "no room for a copy" in error.what and "0.1 MB are free" in error.why
    assert f"{path.stat().st_size * (2 if journal == 'wal' else 1) / 1e6:,.1f} MB" in error.why


def test_free_pages_that_lead_nowhere_are_told_in_one_line(path: Path, source: SqliteSource) -> None:
    with opened(path, rows=2000) as database:
        database.execute("DELETE FROM t WHERE a > 100")
        database.commit()
    spoil(path, 32, 4)
    error = refused(source)
    assert "is damaged" in error.what
    assert "Main freelist" in error.why and "\n" not in error.why


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_that_is_replaced_in_the_middle_is_whole_in_the_point(
    path: Path, source: SqliteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    """What another program renamed over it comes with the next point: the one that was begun is of the former."""
    real, other = sqlite_copy._back_up, tmp_path / "other.db"
    with opened(other, "delete", rows=3000):
        pass

    def replace_and_back_up(connection: sqlite3.Connection, staged: Path, limit: Limit) -> None:
        if other.exists():
            other.rename(path)
            for ending in ("-wal", "-shm"):  # who replaces a database must, or SQLite reads them with the new one
                Path(f"{path}{ending}").unlink(missing_ok=True)
        real(connection, staged, limit)

    with opened(path, journal, rows=1000):
        monkeypatch.setattr(sqlite_copy, "_back_up", replace_and_back_up)
        first, second = captured(source)[1], captured(source)[1]
    assert (first.counts["rows:t"], second.counts["rows:t"]) == (1000, 3000)


def test_a_database_on_a_network_file_system_is_captured_with_a_warning(
    path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path):
        pass
    monkeypatch.setattr("cto_backups.sources.sqlite.source.network_file_system", lambda _path: "nfs4")
    with source.capture() as capture:
        assert "network file system (nfs4)" in capture.notes[0]  # type: ignore[attr-defined]


def test_a_database_that_may_not_be_read_is_refused(open_place: Path, ordinary_user: AsUser) -> None:
    with opened(open_place / "app.db"):
        pass
    (open_place / "app.db").chmod(0)
    with ordinary_user():
        source = SqliteSource("people", {"path": str(open_place / "app.db")}, state=open_place / "state")
        assert "Permission denied" in refused(source).why


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_that_stays_locked_is_refused_after_a_while(path: Path, source: SqliteSource, journal: str) -> None:
    with opened(path, journal) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("INSERT INTO t (b) VALUES ('held')")
        error = refused(source)
        assert "is locked" in error.what
        assert "0.05 seconds" in error.why
        assert error.retryable
        database.rollback()


def spoil(path: Path, start: int, length: int = 64) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


@pytest.mark.parametrize("page", range(1, 6))
def test_a_damaged_database_never_becomes_a_point(path: Path, source: SqliteSource, page: int) -> None:
    with opened(path, rows=2000):
        pass
    spoil(path, 4096 * page)
    assert "damaged" in refused(source).what


def test_damage_that_no_row_shows_never_becomes_a_point(path: Path, source: SqliteSource) -> None:
    with opened(path, rows=2000) as database:
        database.execute("CREATE INDEX by_b ON t (b)")
        database.commit()
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_b'").fetchone()
    spoil(path, 4096 * (page - 1))
    with closing(sqlite3.connect(path)) as database:
        assert len(database.execute("SELECT * FROM t NOT INDEXED").fetchall()) == 2000
    assert "quick_check" in refused(source).why


def test_a_database_at_rest_that_is_written_while_it_is_copied_is_copied_again(
    path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path, "wal", rows=5):
        pass
    real, times = sqlite_copy._copy, [0]

    def copy(origin: Path, target: Path) -> None:
        real(origin, target)
        times[0] += 1
        if times[0] == 1:
            with closing(sqlite3.connect(path)) as database:
                database.execute("INSERT INTO t (b) VALUES ('meanwhile')")
                database.commit()

    monkeypatch.setattr(sqlite_copy, "_copy", copy)
    assert captured(source)[1].counts["rows:t"] == 6
    assert times[0] == 2


def test_a_database_that_is_never_at_rest_is_refused(
    path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path, "wal"):
        pass
    real = sqlite_copy._copy

    def copy(origin: Path, target: Path) -> None:
        real(origin, target)
        with closing(sqlite3.connect(path)) as database:
            database.execute("INSERT INTO t (b) VALUES ('meanwhile')")
            database.commit()

    monkeypatch.setattr(sqlite_copy, "_copy", copy)
    assert "at rest" in refused(source).what


def test_a_cut_database_never_becomes_a_point(path: Path, source: SqliteSource) -> None:
    with opened(path, rows=2000):
        pass
    os.truncate(path, 4096 * 3)
    assert "damaged" in refused(source).what


def test_a_failed_capture_leaves_nothing_staged(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path, rows=2000):
        pass
    spoil(path, 4096)
    refused(source)
    assert list((tmp_path / "state" / "sources" / "people").iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"path": 5}, {"path": "/x", "lock_seconds": -1}])
def test_wrong_options_are_a_mistake_in_the_policy(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        SqliteSource("people", options, state=tmp_path)


# -- restoring ------------------------------------------------------------------------------------------------------


def test_in_place_the_former_database_is_kept_beside_with_its_log(path: Path, source: SqliteSource) -> None:
    with opened(path, "wal") as database:
        point, _ = captured(source)
        database.execute("DELETE FROM t")
        database.commit()
        plan = source.plan_restore(point, None)
        assert str(path) in plan.conflicts
        assert any("before-restore" in note for note in plan.notes)
        with pytest.raises(RefusedError):
            source.restore(point, None)
        restored = source.restore(point, None, existing=Existing.OVERWRITE)
    assert len(rows_of(path)) == 10
    kept = Path(restored.places[1])
    assert kept.name.startswith("app.db.before-restore-")
    assert rows_of(kept) == []
    assert not Path(f"{path}-wal").exists()
    assert not [file for file in path.parent.iterdir() if ".restore-" in file.name and file.name.startswith(".")]


def test_a_stale_log_is_never_applied_to_a_restored_database(path: Path, source: SqliteSource) -> None:
    with opened(path, "wal") as database:
        point, _ = captured(source)
        database.execute("DELETE FROM t")
        database.commit()
        log = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    with pytest.raises(RefusedError):
        source.restore(point, None)
    source.restore(point, None, existing=Existing.OVERWRITE)
    assert len(rows_of(path)) == 10


def test_in_place_where_nothing_stands_needs_no_permission(path: Path, source: SqliteSource) -> None:
    with opened(path):
        pass
    point, _ = captured(source)
    path.unlink()
    path.parent.chmod(0o751)
    assert source.plan_restore(point, None).conflicts == ()
    assert source.restore(point, None).places == (str(path),)
    assert len(rows_of(path)) == 10
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]
    assert path.parent.stat().st_mode & 0o777 == 0o751, "folders above belong to others"


def test_a_damaged_copy_leaves_what_stands_and_another_vault_can_take_over(
    path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as database:
        point, _ = captured(source)
        database.execute("DELETE FROM t")
        database.commit()
    broken = Problem(str(path), "damaged", "a blob is not what it was")
    with monkeypatch.context() as patch:
        patch.setattr(point, "restore", lambda *_, **__: Restored(0, 0, 0.0, (), (broken,)))
        restored = source.restore(point, None, existing=Existing.OVERWRITE)
    assert restored.problems == (broken,)
    assert restored.places == ()
    assert rows_of(path) == []
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]
    source.restore(point, None, only=[broken.path], existing=Existing.OVERWRITE)
    assert len(rows_of(path)) == 10


def test_the_point_says_where_it_goes_not_the_policy_of_today(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path):
        pass
    point, expected = captured(source)
    moved = SqliteSource("people", {"path": str(tmp_path / "elsewhere.db")}, state=tmp_path / "state")
    moved.restore(point, tmp_path / "restored")
    assert moved.probe(tmp_path / "restored", expected) == expected


def test_when_the_restore_fails_what_stands_there_stays(
    path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path):
        pass
    point, _ = captured(source)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(point, "restore", fail)
    with pytest.raises(RestoreError, match="No space left"):
        source.restore(point, None, existing=Existing.OVERWRITE)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]


# -- probing --------------------------------------------------------------------------------------------------------


def test_the_rows_alone_show_what_is_wrong(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    """The file's digest would show any change; the rows must show it on their own."""
    with opened(path):
        pass
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    with closing(sqlite3.connect(tmp_path / "restored" / str(path).lstrip("/"))) as database:
        database.execute("UPDATE t SET b = 'row 3 ' WHERE a = 4")
        database.commit()
    found = source.probe(tmp_path / "restored", expected)
    different = {name for name, value in expected.checksums.items() if found.checksums.get(name) != value}
    assert different == {"file", "table:t"}
    assert found.counts == expected.counts


def test_a_missing_or_broken_database_does_not_work(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path, rows=2000):
        pass
    point, expected = captured(source)
    with pytest.raises(VerificationError, match="does not work"):
        source.probe(tmp_path / "restored", expected)
    point.restore(tmp_path / "restored")
    spoil(tmp_path / "restored" / str(path).lstrip("/"), 4096 * 2)
    with pytest.raises(VerificationError, match="does not work"):
        source.probe(tmp_path / "restored", expected)


def test_a_damaged_index_does_not_work(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    """Rows and counts are all there: only the integrity check can see that an index lost an entry."""
    with opened(path, rows=50) as database:
        database.execute("CREATE INDEX by_b ON t (b)")
        database.commit()
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    with closing(sqlite3.connect(tmp_path / "restored" / str(path).lstrip("/"))) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX by_b ON t (b DESC)' WHERE name = 'by_b'")
        database.commit()
    with pytest.raises(VerificationError, match="integrity_check"):
        source.probe(tmp_path / "restored", expected)


def test_foreign_keys_that_lead_nowhere_are_counted(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path) as database:
        database.execute("CREATE TABLE child (parent REFERENCES t (a))")
        database.executemany("INSERT INTO child VALUES (?)", [(1,), (77,), (78,)])
        database.commit()
    point, expected = captured(source)
    assert expected.counts["foreign_key_violations"] == 2
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


def test_an_applications_own_collation_does_not_fail_the_probe(
    path: Path, source: SqliteSource, tmp_path: Path
) -> None:
    with opened(path) as database:
        database.create_collation("house", lambda one, two: (one > two) - (one < two))
        database.execute("CREATE TABLE c (a TEXT COLLATE house)")
        database.execute("CREATE INDEX i ON c (a)")
        database.execute("INSERT INTO c VALUES ('x')")
        database.commit()
    point, expected = captured(source)
    point.restore(tmp_path / "restored")
    assert source.probe(tmp_path / "restored", expected) == expected


def test_probing_makes_no_files(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path, "wal"):
        point, expected = captured(source)
    point.restore(tmp_path / "restored")
    source.probe(tmp_path / "restored", expected)
    assert [file.name for file in (tmp_path / "restored" / str(path.parent).lstrip("/")).iterdir()] == ["app.db"]


def test_discover_finds_the_databases_in_a_folder(path: Path, source: SqliteSource, tmp_path: Path) -> None:
    with opened(path):
        pass
    (path.parent / "note.txt").write_text("no database")
    assert [resource.location for resource in source.discover()] == [str(path)]
    folder = SqliteSource("people", {"path": str(path.parent)}, state=tmp_path / "state")
    assert [resource.name for resource in folder.discover()] == [f"sqlite:{path}"]


# -- how new it is


def newest_content_at(source: SqliteSource) -> datetime | None:
    with source.capture() as capture:
        return capture.newest_content_at


def test_a_database_is_as_new_as_its_last_write(source: SqliteSource, path: Path) -> None:
    with opened(path):
        pass
    written = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    os.utime(path, (written.timestamp(), written.timestamp()))
    assert newest_content_at(source) == written
    found = source.discover()[0].changed_at
    assert found is not None
    assert found > written, "that its date was set back is a change, too"


def test_what_is_still_in_the_write_ahead_log_counts(source: SqliteSource, path: Path) -> None:
    with opened(path, "wal"):
        assert Path(f"{path}-wal").stat().st_size
        old, new = datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 3, 4, tzinfo=UTC)
        os.utime(path, (old.timestamp(), old.timestamp()))
        os.utime(f"{path}-wal", (new.timestamp(), new.timestamp()))
        assert newest_content_at(source) == new
