"""Opening the catalog's file: its settings, its version, and what goes wrong with it, said plainly."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool

from cto_backups.catalog.schema import UnreadableError
from cto_backups.errors import BusyError, CatalogError, NotFoundError, RefusedError

VERSION = "0001"
KNOWN_VERSIONS = ("0001",)
BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"

_RESTORE = (
    "Put back a copy of the catalog. The recovery points themselves lie in the vaults, readable with stock restic."
)


def path_of(url: str) -> Path:
    """The file of a ``sqlite:/path`` URL. Raises CatalogError for any other kind."""
    scheme, colon, path = url.partition(":")
    if scheme != "sqlite" or not colon or not path:
        raise CatalogError(
            f"The catalog '{scheme}:…' is of a kind that this version does not know",
            todo="Use sqlite:PATH in backups.yaml.",
        )
    return Path("/" + path.lstrip("/")) if path.startswith("/") else Path(path)


def make(url: str) -> Engine:
    """Make a new catalog file, whole or not at all. Raises RefusedError when one is there, CatalogError."""
    path = path_of(url)
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        if path.exists():
            raise FileExistsError
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        engine = _engine(fresh)
        with translated(path):
            _keep_log(engine)
            migrate(engine)
        engine.dispose()  # the last to close a catalog brings its write-ahead log in
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
    return _engine(path)


def open_existing(url: str, now: datetime) -> Engine:
    """Open a catalog file, bringing an older version up to date after setting a copy of it aside.

    Raises NotFoundError when there is none, CatalogError when it is damaged or newer than this program.
    """
    path = path_of(url)
    if not path.is_file():
        raise NotFoundError(
            f"There is no catalog at {path}",
            why="it was moved or deleted, or this installation was not finished",
            todo="Put it back, or make an installation with 'cto.backups init'.",
        )
    engine = _engine(path)
    try:
        with translated(path), engine.connect() as connection:
            version = _version(connection, path)
        if version != VERSION:
            _bring_up_to_date(engine, path, version, now)
        with translated(path):
            _keep_log(engine)  # only now that it is known to be ours
    except BaseException:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(engine: Engine, path: Path, version: str, now: datetime) -> None:
    if version not in KNOWN_VERSIONS:
        raise CatalogError(
            f"The catalog {path} has version {version}",
            why=f"this program knows versions up to {VERSION}: a newer release has written it",
            todo="Use that release, or a newer one. Nothing was changed.",
        )
    aside = path.with_name(f"{path.name}.before-{VERSION}-{now:%Y%m%dT%H%M%SZ}")
    try:
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
        # SQLite's own copy: the file alone lacks what still is in the write-ahead log.
        with closing(sqlite3.connect(path)) as origin, closing(sqlite3.connect(aside)) as copy:
            origin.backup(copy)
    except (OSError, sqlite3.Error) as error:
        raise CatalogError(
            f"The catalog {path} cannot be brought from version {version} to {VERSION}",
            why=f"a copy of it could not be set aside as {aside.name}: {error}",
            todo="Make room next to it, then run again. Nothing was changed.",
        ) from None
    with translated(path):
        migrate(engine)


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, all or none; of two processes that try at once, the second finds none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite reports into what a user can act on."""
    try:
        yield
    except UnreadableError as error:
        raise CatalogError(f"The catalog {path} is damaged", why=f"unreadable {error}", todo=_RESTORE) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"The catalog {path} is damaged", why=type(error).__name__, todo=_RESTORE) from error
    except IntegrityError:
        raise  # a rule of the schema was broken: a defect of this program, not damage
    except OperationalError as error:
        if "locked" in str(error.orig):
            raise BusyError(
                f"The catalog {path} is in use",
                why=f"another process has held it for {BUSY_SECONDS} seconds",
                todo="Wait for that process, or stop it.",
            ) from None
        raise CatalogError(f"The catalog {path} cannot be used", why=str(error.orig), todo=_hint(error)) from None
    except DatabaseError as error:
        raise CatalogError(f"The catalog {path} is damaged", why=str(error.orig), todo=_RESTORE) from None


def _hint(error: OperationalError) -> str:
    message = str(error.orig)
    if "readonly" in message or "unable to open" in message:
        return "Check its permissions and those of its folder."
    if "full" in message or "disk I/O" in message:
        return "Check the disk: space and health."
    return _RESTORE


def _keep_log(engine: Engine) -> None:
    """Write ahead, so that readers and a writer do not wait for each other; the file remembers it."""
    statement = "PRAGMA journal_mode = WAL"  # not in a transaction, so not by a connection of SQLAlchemy's
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(statement)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error
    finally:
        connection.close()


def _version(connection: Connection, path: Path) -> str:
    exists = connection.exec_driver_sql(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    ).scalar()
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first() if exists else None
    if row is None:
        raise CatalogError(f"{path} is not a catalog", why="it has no version in it", todo=_RESTORE)
    return str(row[0])


def _engine(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Python's own transaction handling is off: reads begin deferred, writes take the write lock at once, because a
        # read that turns into a write halfway cannot wait for others.
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def integrity(engine: Engine, path: Path) -> tuple[str, ...]:
    """What SQLite's own check finds wrong; nothing when all is well."""
    with translated(path), engine.connect() as connection:
        rows: list[Any] = list(connection.exec_driver_sql("PRAGMA integrity_check").scalars())
        rows += [f"foreign key: {tuple(row)}" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
    return tuple(str(row) for row in rows if row != "ok")
