"""A database whose files are as they were is not read again; whatever else it may be, it is."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Recognising
from cto_backups.sources.sqlite.source import SqliteSource


def write(path: Path, statement: str = "INSERT INTO t VALUES ('more')") -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    write(path, "CREATE TABLE t (a)")
    write(path)
    return path


@pytest.fixture
def source(path: Path, tmp_path: Path) -> SqliteSource:
    return SqliteSource("people", {"path": str(path)}, state=tmp_path / "state")


@pytest.fixture
def captured(path: Path, source: SqliteSource, monkeypatch: pytest.MonkeyPatch) -> Fingerprint:
    """The fingerprint of a database that rested for a while, stored."""
    now = clock.now() + timedelta(minutes=1)
    monkeypatch.setattr(clock, "now", lambda: now)
    with source.capture() as capture:
        capture.stored()
        return capture.fingerprint()


def test_an_unchanged_database_is_known_without_being_read(
    source: SqliteSource, captured: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(source, Recognising)
    monkeypatch.setattr(sqlite3, "connect", pytest.fail)
    assert source.still(captured) == clock.now()


def write_unseen(path: Path) -> None:
    """As large as before, and with the times of before, as far as a program can set them."""
    before = path.stat()
    write(path, "UPDATE t SET a = 'other'")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": write,
    "written, with its time put back": write_unseen,
    "a log beside it": lambda path: Path(f"{path}-wal").touch(),
    "a journal beside it": lambda path: Path(f"{path}-journal").write_bytes(b"x"),
    "replaced": lambda path: (
        path.with_name("copy").write_bytes(path.read_bytes()),
        path.with_name("copy").rename(path),
    ),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_happens_to_its_files_it_is_read(
    path: Path, source: SqliteSource, captured: Fingerprint, change: str
) -> None:
    CHANGES[change](path)
    assert source.still(captured) is None


def test_another_fingerprint_is_not_the_one_of_these_files(source: SqliteSource, captured: Fingerprint) -> None:
    assert source.still(replace(captured, counts={**captured.counts, "rows": 7})) is None


def test_once_a_day_it_is_read_all_the_same(
    source: SqliteSource, captured: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses what it holds changes no time."""
    then = clock.now()
    for hours, known in ((23, True), (24, False), (-1, False)):
        monkeypatch.setattr(clock, "now", lambda hours=hours: then + timedelta(hours=hours))
        assert (source.still(captured) is not None) is known


def test_times_that_were_the_latest_are_not_believed(path: Path, source: SqliteSource) -> None:
    """Another write in the same tick of the file system's clock would leave them as they are."""
    with source.capture() as capture:
        capture.stored()
        assert source.still(capture.fingerprint()) is None


def test_what_was_not_stored_is_not_known(path: Path, source: SqliteSource, captured: Fingerprint) -> None:
    write(path)
    with source.capture() as capture:
        fingerprint = capture.fingerprint()
    assert source.still(fingerprint) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "not JSON", '{"at": "yesterday"}'])
def test_a_damaged_memory_is_no_memory(
    source: SqliteSource, captured: Fingerprint, tmp_path: Path, content: str
) -> None:
    (tmp_path / "state" / "sources" / "people" / "seen").write_text(content)
    assert source.still(captured) is None
