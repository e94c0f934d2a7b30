"""Making a catalog on a server, bringing one up to date, and putting one in the place of none."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from cto_backups.catalog import database
from cto_backups.catalog.database import Password
from cto_backups.catalog.postgresql import dialect, hosts
from cto_backups.catalog.postgresql.address import Address
from cto_backups.catalog.postgresql.mishaps import translated
from cto_backups.catalog.postgresql.server import PATIENCE_SECONDS, ServerDatabase
from cto_backups.errors import CatalogError, NotFoundError, RefusedError

# Of two that make a catalog, or migrate one, at once in a database, one waits for the other.
_BESIDE: Final = "SELECT pg_try_advisory_lock(hashtext('cto.backups rebuilding'), hashtext(%s))"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('cto.backups'), hashtext(:schema))"
_WRITES: Final = 'CREATE TABLE writes (name TEXT COLLATE "C" PRIMARY KEY, at TIMESTAMPTZ NOT NULL)'
_WRITES_BY_TIME: Final = "CREATE INDEX writes_by_time ON writes (at)"


def make(url: str, password: Password | None = None) -> ServerDatabase:
    """Make a new catalog, whole or not at all. Raises RefusedError when one is there, CatalogError."""
    address = Address.of(url, password)
    with translated(address):
        _migrate(address, new=True)
    return _opened(ServerDatabase(address))


def open_existing(url: str, password: Password | None = None, *, write: bool = True) -> ServerDatabase:
    """Open a catalog, bringing an older version up to date when it is to be written to.

    Raises NotFoundError when there is none, CatalogError when it is damaged, away, or newer than this program.
    """
    address = Address.of(url, password)
    opened = ServerDatabase(address)
    try:
        with translated(address):
            version = _version(opened)
            if version != database.VERSION:
                _bring_up_to_date(opened, version, write=write)
                hosts.secure_again(url, password)
    except BaseException:
        opened.close()
        raise
    return _opened(opened)


def _opened(made: ServerDatabase) -> ServerDatabase:
    made.patience = PATIENCE_SECONDS
    return made


def exists(url: str, password: Password | None = None) -> bool:
    """Whether there is a catalog. Raises CatalogError when that cannot be known."""
    address = Address.of(url, password)
    with translated(address), ServerDatabase(address).connect() as session:
        return _has(session, address.schema, "alembic_version")


def _version(opened: ServerDatabase) -> str:
    place = opened.address.place
    session = opened.connect()
    try:
        if not _has(session, opened.address.schema, "alembic_version"):
            what, why, todo = database.not_there(place)
            raise NotFoundError(what, why=why, todo=todo)
        # Named with its schema: without rights there, the search path would pass it by.
        asked = psycopg.sql.SQL("SELECT version_num FROM {}.alembic_version")
        row = session.execute(asked.format(psycopg.sql.Identifier(opened.address.schema))).fetchone()
    finally:
        opened.give(session)
    if row is None:
        raise CatalogError(f"{place} is not a catalog", why="it has no version in it", todo=database.RESTORE)
    return str(row[0])


def _has(session: "psycopg.Connection[Any]", schema: str, table: str) -> bool:
    found = session.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (schema, table),
    ).fetchone()
    return bool(found and found[0])


def _bring_up_to_date(opened: ServerDatabase, version: str, *, write: bool) -> None:
    place = opened.address.place
    if version not in database.KNOWN_VERSIONS:
        raise database.too_new(place, version)
    if not write:
        raise CatalogError(
            f"The catalog {place} has version {version}",
            why=f"this program writes version {database.VERSION}, and this command only reads",
            todo="Run a command that writes, such as 'cto.backups backup' or the worker: it brings the catalog up to "
            "date. Workers of the older release stop then; update them too.",
        )
    _migrate(opened.address, new=False)


def _migrate(address: Address, *, new: bool) -> None:
    """Run the migrations that are missing, in one transaction; when another process has done so, there are none."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    from cto_backups.catalog import migrating

    engine = create_engine("postgresql+psycopg://", creator=address.connect, poolclass=NullPool)

    def begin(connection: Any) -> None:
        raw = connection.connection.dbapi_connection
        cursor = psycopg.ClientCursor(raw)
        cursor.execute(f"SET LOCAL lock_timeout = {int(database.BUSY_SECONDS * 1000)}")
        cursor.execute(dialect.statement(_LOCK), {"schema": address.schema})
        is_there = _has(raw, address.schema, "alembic_version")
        if new and is_there:
            raise RefusedError(f"The catalog {address.place} is there already", todo="It is used as it is.")
        if new:
            name = psycopg.sql.Identifier(address.schema)
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (address.schema,))
            if cursor.fetchone() is None:  # else whoever owns the database has made it for this user
                cursor.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(name))
            cursor.execute(_WRITES)
            cursor.execute(_WRITES_BY_TIME)
        else:
            cursor.execute("SELECT version_num FROM alembic_version FOR UPDATE")  # nobody writes meanwhile

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", _in_its_words, retval=True)
    try:
        migrating.migrate(engine, schema=address.schema)
    finally:
        engine.dispose()


def _in_its_words(_connection: Any, _cursor: Any, text: str, parameters: Any, context: Any, _many: bool) -> Any:
    """Migrations are SQLite's SQL; what SQLAlchemy itself makes is PostgreSQL's."""
    written = context is not None and context.compiled is None
    return (dialect.definition(text) if written else text), parameters


# -- a catalog made beside its place -----------------------------------------------------------------------------------


@contextmanager
def beside(url: str, password: Password | None = None) -> Iterator[str]:
    """The URL of an empty catalog beside this one's place; gone at the end, unless it was put in place."""
    address = Address.of(url, password)
    with translated(address), ServerDatabase(address).connect() as holder:
        # Whoever is still at work holds a lock by its name: what killed runs left has nobody.
        number = holder.info.backend_pid
        name = f"{address.schema[:40]}_rebuilding_{number}"
        _lock_name(holder, name)
        for left in _left(holder, address.schema[:40]):
            if _lock_name(holder, left):
                _drop(holder, left)
        fresh = address.beside(name)
        try:
            make(fresh, password).close()
            yield fresh
        finally:
            _drop(holder, name)


def put_in_place(fresh: str, url: str, password: Password | None = None) -> None:
    """Put a catalog that was made beside its place there. Raises RefusedError when another one is there."""
    address, made = Address.of(url, password), Address.of(fresh, password)
    session = ServerDatabase(address).connect()
    with translated(address), session:
        session.execute("BEGIN")
        session.execute(dialect.statement(_LOCK), {"schema": address.schema})
        if _has(session, address.schema, "alembic_version"):
            raise RefusedError(
                f"The catalog {address.place} is there now",
                why="somebody else has made it meanwhile",
                todo="Run this again: it then adds to that one what it lacks.",
            )
        old, new = psycopg.sql.Identifier(made.schema), psycopg.sql.Identifier(address.schema)
        # An empty schema may have been made for this user.
        session.execute(psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(new))
        session.execute(psycopg.sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(old, new))
        session.execute("COMMIT")


def _lock_name(session: "psycopg.Connection[Any]", name: str) -> bool:
    taken = session.execute(_BESIDE, (name,)).fetchone()
    return bool(taken and taken[0])


def _left(session: "psycopg.Connection[Any]", base: str) -> list[str]:
    rows = session.execute("SELECT nspname FROM pg_namespace").fetchall()
    return [row[0] for row in rows if re.fullmatch(re.escape(base) + r"_rebuilding_\d+", row[0])]


def _drop(session: "psycopg.Connection[Any]", schema: str) -> None:
    session.execute(psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(psycopg.sql.Identifier(schema)))
