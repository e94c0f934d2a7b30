"""A catalog in a file: its settings, version and transactions, and what goes wrong with it, said plainly."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cto_backups.catalog import database
from cto_backups.catalog.database import RESTORE, Connection, damaged
from cto_backups.catalog.idle import IdleSessions
from cto_backups.catalog.rows import UnreadableError
from cto_backups.errors import BusyError, CatalogError, CatalogFullError, NotFoundError, RefusedError

_MOST_IDLE = 8


class FileDatabase:
    """A catalog's file, opened. Connections are kept and used again; each has one transaction at a time."""

    shared = False

    def __init__(self, path: Path, *, unwritable: bool = False) -> None:
        self.path = path
        self._unwritable = unwritable
        self._idle = IdleSessions[sqlite3.Connection](_MOST_IDLE)

    def close(self) -> None:
        """Let go of the file; the last to close it brings its write-ahead log in."""
        self._idle.close()

    def reading(self, *, lasting: bool = False) -> contextlib.AbstractContextManager[Connection]:
        """A consistent view of everything. Nothing is seen before it is lasting."""
        return self._transaction("BEGIN")

    def writing(self) -> contextlib.AbstractContextManager[Connection]:
        """All that is done is there at the end, durably, or none of it."""
        # The write lock is taken at once: a read that turns into a write halfway cannot wait for others.
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with translated(self.path):
            raw = self._take()
            try:
                raw.execute(begin)
                yield Connection(raw)
                raw.execute("COMMIT")
            except BaseException:
                self._give_up(raw)
                raise
            self._idle.give(raw)

    def look_first(self, first: database.First) -> None:
        """Nothing takes the place of a file without a word."""

    def go_on_counting(self, connection: Connection) -> None:
        """Nothing is to be done: SQLite goes on after the largest number that there is."""

    def check(self) -> tuple[str, ...]:
        """What SQLite's own check finds wrong; nothing when all is well."""
        with self.reading() as connection:
            rows: list[Any] = connection.scalars("PRAGMA integrity_check")
            rows += [f"foreign key: {tuple(row)}" for row in connection.execute("PRAGMA foreign_key_check")]
        return tuple(str(row) for row in rows if row != "ok")

    def keep_log(self) -> None:
        """Write ahead, so that readers and a writer do not wait for each other; the file remembers it."""
        with translated(self.path):
            raw = self._take()
            try:
                raw.execute("PRAGMA journal_mode = WAL")
            except BaseException:
                self._give_up(raw)
                raise
            self._idle.give(raw)

    def _take(self) -> sqlite3.Connection:
        return self._idle.take() or connect(self.path, unwritable=self._unwritable)

    def _give_up(self, raw: sqlite3.Connection) -> None:
        try:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        except sqlite3.Error:
            raw.close()  # which rolls back what it can
        else:
            self._idle.give(raw)


def connect(path: Path, *, unwritable: bool = False) -> sqlite3.Connection:
    """A connection with this program's settings. Python's own transaction handling is off.

    With `unwritable`, nothing is written beside the file either, and nobody else may write to it meanwhile.
    """
    name = f"{path.absolute().as_uri()}?immutable=1" if unwritable else str(path)
    raw = sqlite3.connect(
        name, timeout=database.BUSY_SECONDS, check_same_thread=False, isolation_level=None, uri=unwritable
    )
    try:
        raw.row_factory = sqlite3.Row
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        raw.close()
        raise
    return raw


def make(path: Path) -> FileDatabase:
    """Make a new catalog file, whole or not at all. Raises RefusedError when one is there, CatalogError."""
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        if path.exists():
            raise FileExistsError
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        made = FileDatabase(fresh)
        with translated(path):
            made.keep_log()
            migrate(fresh)
        made.close()  # the last to close a catalog brings its write-ahead log in
        os.link(fresh, path)
    except FileExistsError:
        raise RefusedError(f"The catalog {path} is there already", todo="It is used as it is.") from None
    except OSError as error:
        raise CatalogError(
            f"The catalog {path} cannot be made",
            why=error.strerror or str(error),
            todo="See to it that its folder is there and can be written to.",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
    return FileDatabase(path)


def open_existing(path: Path, now: datetime, *, write: bool = True) -> FileDatabase:
    """Open a catalog file, bringing an older version up to date after setting a copy of it aside.

    Without `write`, one in a place where nothing can be written is read as it is.
    Raises NotFoundError when there is none, CatalogError when it is damaged or newer than this program.
    """
    if not path.is_file():
        what, why, todo = database.not_there(str(path))
        raise NotFoundError(what, why=why, todo=todo)
    try:
        return _opened(FileDatabase(path), now)
    except CatalogError:
        if write or not _is_whole(path) or not _is_unwritable(path):
            raise
        return _opened(FileDatabase(path, unwritable=True), now)


def _is_whole(path: Path) -> bool:
    """Whether all that was written is in the file itself, and nothing still beside it."""
    log = path.with_name(f"{path.name}-wal")
    return not log.exists() or not log.stat().st_size


def _is_unwritable(path: Path) -> bool:
    """Whether SQLite could not write beside the file: it may not, or there is no room left."""
    probe = path.with_name(f".{path.name}.probe-{os.getpid()}")
    try:
        probe.write_bytes(bytes(64 * 1024))
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return not os.access(path, os.W_OK)


def _opened(opened: FileDatabase, now: datetime) -> FileDatabase:
    path = opened.path
    try:
        with opened.reading() as connection:
            version = _version(connection, path)
        if version != database.VERSION:
            _bring_up_to_date(path, version, now)
        opened.keep_log()  # only now that it is known to be ours; changes nothing that cannot be written
    except BaseException:
        opened.close()
        raise
    return opened


def _bring_up_to_date(path: Path, version: str, now: datetime) -> None:
    if version not in database.KNOWN_VERSIONS:
        raise database.too_new(str(path), version)
    aside = path.with_name(f"{path.name}.before-{database.VERSION}-{now:%Y%m%dT%H%M%SZ}")
    try:
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
        # SQLite's own copy: the file alone lacks what still is in the write-ahead log.
        with closing(sqlite3.connect(path)) as origin, closing(sqlite3.connect(aside)) as copy:
            origin.backup(copy)
    except (OSError, sqlite3.Error) as error:
        raise CatalogError(
            f"The catalog {path} cannot be brought from version {version} to {database.VERSION}",
            why=f"a copy of it could not be set aside as {aside.name}: {error}",
            todo="Make room next to it, then run again. Nothing was changed.",
        ) from None
    with translated(path):
        migrate(path)


def migrate(path: Path) -> None:
    """Run the migrations that are missing, all or none; of two processes that try at once, the second finds none."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    from cto_backups.catalog import migrating

    engine = create_engine("sqlite://", creator=lambda: connect(path), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    migrating.migrate(engine)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite reports into what a user can act on."""
    try:
        yield
    except UnreadableError as error:
        raise damaged(str(path), f"unreadable {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(str(path), type(error).__name__) from error
    except sqlite3.IntegrityError:
        raise  # a rule of the schema was broken: a defect of this program, not damage
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise BusyError(
                f"The catalog {path} is in use",
                why=f"another process has held it for {database.BUSY_SECONDS} seconds",
                todo="Wait for that process, or stop it.",
            ) from None
        kind = CatalogFullError if "full" in str(error) else CatalogError
        raise kind(f"The catalog {path} cannot be used", why=str(error), todo=_hint(error)) from None
    except sqlite3.DatabaseError as error:
        raise damaged(str(path), str(error)) from None


def _hint(error: sqlite3.OperationalError) -> str:
    message = str(error)
    if "readonly" in message or "unable to open" in message:
        return "Check its permissions and those of its folder."
    if "full" in message:
        return "Make room on its disk. What did not fit has not happened, and is done when there is room."
    if "disk I/O" in message:
        return "Check the disk: space and health."
    return RESTORE


def _version(connection: Connection, path: Path) -> str:
    exists = connection.scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
    version = connection.scalar("SELECT version_num FROM alembic_version") if exists else None
    if version is None:
        raise CatalogError(f"{path} is not a catalog", why="it has no version in it", todo=RESTORE)
    return str(version)
