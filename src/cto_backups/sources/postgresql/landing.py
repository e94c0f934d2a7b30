"""A database made on a server in use, beside those there: under a name of its own, or in the place of one, in a step.

Until all of it is there it has a name that says so, and only its owner and superusers may connect to it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import psycopg
from psycopg import sql

from cto_backups.core.database_restore import DatabaseWish
from cto_backups.core.ports import Existing
from cto_backups.core.wording import counted, listed
from cto_backups.errors import RefusedError, RestoreError, UsageError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.archive import Archive
from cto_backups.sources.postgresql.connection import Tools
from cto_backups.sources.postgresql.hashes import COLUMNS, RowHash
from cto_backups.sources.postgresql.restore import (
    GLOBALS_FILE,
    LONGEST_NAME,
    MAINTENANCE,
    aside_name,
    make_missing_roles,
    rename,
)
from cto_backups.sources.postgresql.rows import Session, tables
from cto_backups.sources.postgresql.server import Server, said
from cto_backups.sources.postgresql.sums import rows_digest

_UNFINISHED: Final = "-unfinished"
# What only a superuser may make, and a database is whole without.
_SUPERUSERS: Final = (" COMMENT - EXTENSION ", " EVENT TRIGGER - ")
_OTHERS: Final = """
    SELECT format('%s%s', usename, COALESCE(' (' || NULLIF(application_name, '') || ')', '')), count(*)
    FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 2 DESC LIMIT 5
"""


@dataclass(frozen=True)
class Landing:
    """Where a database comes: `name` on a server of the version `major`; `stands`: there is one of that name.

    `is_superuser`: whoever restores may give it its owners and grants.
    """

    name: str
    major: int
    stands: bool
    is_superuser: bool
    notes: tuple[str, ...]

    @property
    def working(self) -> str:
        """What it is called until all of it is there."""
        return _shortened(self.name, _UNFINISHED)


def default_name(database: str, moment: datetime) -> str:
    """What a database is called that comes beside the one it was; in UTC, as moments in other names are."""
    return _shortened(database, f"_restored_{moment.astimezone(UTC):%Y%m%d_%H%M%S}")


@contextmanager
def on(server: Server) -> Iterator[Session]:
    """A session on the server in use, in which databases may be made. Raises RestoreError."""
    try:
        session = server.address.connect(MAINTENANCE, read_only=False)
    except psycopg.Error as error:
        raise RestoreError(
            f"source {server.name}: the server at {server.place} is not reached",
            why=said(error),
            todo="bring it up, or see `host`, `user` and `password` of this source; with --to FOLDER the database "
            "comes as a dump, and that server is not needed",
        ) from error
    with session:
        yield session


def look(server: Server, session: Session, wish: DatabaseWish, origin: int) -> Landing:
    """See that a database of version `origin` can come, and under which name.

    Raises UsageError, RefusedError, RestoreError, psycopg.Error.
    """
    name = wish.database if wish.in_place else wish.name or default_name(wish.database, wish.moment)
    if len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"A database cannot be called {name!r}",
            why=f"names have {LONGEST_NAME} bytes at most, and nothing that is not printed",
            todo="Choose a shorter one: --as NAME.",
        )
    major = session.info.server_version // 10_000
    row = session.execute(
        "SELECT rolname, rolsuper, rolsuper OR rolcreatedb, pg_is_in_recovery() FROM pg_roles "
        "WHERE rolname = current_user"
    ).fetchone()
    user, is_superuser, may_create, is_standby = row or ("", False, False, False)
    there = {str(one) for (one,) in session.execute("SELECT datname FROM pg_database").fetchall()}
    notes = [] if is_superuser else [f"{user} is no superuser: all of it belongs to {user}, and grants are left out"]
    if wish.in_place and name in there and (connected := _connected(session, name)):
        notes.append(f"{connected}: as long as anybody is, it cannot be renamed; they may stay until then")
    landing = Landing(name, major, name in there, bool(is_superuser), tuple(notes))
    _see_names(server, wish, landing, there)
    rights = "" if is_superuser else _lacking(str(user), wish, may_create=bool(may_create))
    if major < origin:
        why = f"it is of PostgreSQL {origin}, and the server is {major}, which is older"
    else:
        why = "the server is a standby" if is_standby else rights
    if why:
        raise RestoreError(
            f"source {server.name}: database {wish.database} is not restored to {server.place}",
            why=why,
            todo="restore it as a dump: --to FOLDER; or let somebody restore it who may: `user` of this source"
            if why == rights
            else "restore it as a dump: --to FOLDER",
        )
    return landing


def _lacking(user: str, wish: DatabaseWish, *, may_create: bool) -> str:
    """What an ordinary user may not do of what is wanted; nothing where it may do all of it."""
    if wish.in_place:
        return f"{user} is no superuser there, and could not give it its owners and grants"
    if wish.verify:
        return f"{user} is no superuser there, and may not read all that is to be compared (--verify)"
    return "" if may_create else f"{user} may not make databases there: ALTER ROLE {_quoted(user)} CREATEDB"


def _see_names(server: Server, wish: DatabaseWish, landing: Landing, there: set[str]) -> None:
    """Raise RefusedError for a name that is taken."""
    taken = landing.stands and (not wish.in_place or wish.existing is Existing.REFUSE)
    if wish.in_place and wish.database == MAINTENANCE:
        raise RefusedError(
            f"source {server.name}: database {MAINTENANCE} is not replaced",
            why="it is the one through which others are made",
            todo="leave out --in-place: it comes under another name",
        )
    if taken:
        raise RefusedError(
            f"source {server.name}: there is a database {landing.name} on {server.place} already",
            why="nothing that is there is replaced",
            todo="say --overwrite: it is then kept under another name; or leave out --in-place"
            if wish.in_place
            else "choose another name with --as NAME, or drop that one if it is needed no longer",
        )
    if landing.working in there:
        raise _left_by_another(server, landing, "; or choose another name: --as NAME")


def _left_by_another(server: Server, landing: Landing, otherwise: str = "") -> RefusedError:
    return RefusedError(
        f"source {server.name}: there is a database {landing.working} on {server.place}",
        why="another restore is making it, or one was killed and left it",
        todo=f"if none is running: DROP DATABASE {_quoted(landing.working)} WITH (FORCE){otherwise}",
    )


def see_room(server: Server, session: Session, size_bytes: int) -> None:
    """Where the server's files are on this machine, see that there is room for a database. Raises RestoreError."""
    if not server.place.startswith("/"):
        return
    try:
        (folder,) = session.execute("SHOW data_directory").fetchone() or ("",)
        free = shutil.disk_usage(str(folder)).free
    except (psycopg.Error, OSError):
        return  # only some may know where they are, and they may be elsewhere
    if free < size_bytes:
        raise no_room(f"source {server.name}: the database is not restored", Path(str(folder)), size_bytes, free)


def no_room(what: str, folder: Path, needed: int, free: int) -> RestoreError:
    """What it means that a disk is too small, in bytes."""
    return RestoreError(
        what,
        why=f"it needs {_mebibytes(needed)} in {folder}, and {_mebibytes(free)} are free",
        todo="make room there; or, where throwaway servers live, name another folder: `scratch` of this source",
    )


def land(
    server: Server,
    session: Session,
    landing: Landing,
    archive: Archive,
    roles: Sequence[str],
    rows: str | None,
    row_hash: RowHash = COLUMNS,
) -> tuple[str, ...]:
    """Make the database under its working name; notes. `roles` are those of the server it came from.

    With `rows`, the digest of all that was taken, by `row_hash`, what is there then has to be just that.
    Raises ToolError, psycopg.Error, RestoreError: then nothing is left of it, nor of roles that were made for it.
    """
    made: list[str] = []
    try:
        if landing.is_superuser:
            known = {str(name) for (name,) in session.execute("SELECT rolname FROM pg_roles").fetchall()}
            for role in archive.roles([role for role in roles if role not in known]):
                session.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
                made.append(role)
        _load(server, session, landing, archive)
        compared = _compared(server, landing, rows, row_hash) if rows is not None else ()
    except BaseException:
        with suppress(psycopg.Error):
            _drop(session, landing)
            for role in made:
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        raise
    lacking = f"not on the server, and made without a login: {listed(made)}"
    return (*landing.notes, *([f"{'role' if len(made) == 1 else 'roles'} {lacking}"] if made else []), *compared)


def land_all(server: Server, tools: Tools, session: Session, place: Path, now: datetime) -> dict[str, str]:
    """Make all databases whose dumps are in `place`; those there are kept under other names, which this tells.

    Roles that the server lacks are made, those it has stay as they are. Each database has its name once all of it is
    there, and until then what stood in its place stands there. Raises ToolError, psycopg.Error, RestoreError.
    """
    kept: dict[str, str] = {}
    roles = {str(name).encode() for (name,) in session.execute("SELECT rolname FROM pg_roles").fetchall()}
    make_missing_roles(tools, server.address, place / GLOBALS_FILE, roles)
    there = {str(name) for (name,) in session.execute("SELECT datname FROM pg_database").fetchall()}
    for file in sorted(place.glob("*.dump")):
        name = unquote(file.name.removesuffix(".dump"))
        if name == MAINTENANCE:
            continue
        landing = Landing(name, tools.major, name in there, True, ())
        aside = aside_name(name, now)
        if landing.working in there:
            raise _left_by_another(server, landing)
        if landing.stands:
            with session.transaction(force_rollback=True):
                rename(session, name, aside)  # nobody is to wait for what cannot have its name in the end
        try:
            _load(server, session, landing, Archive(tools, file), subscriptions=True)
            with session.transaction():
                if landing.stands:
                    rename(session, name, aside)
                rename(session, landing.working, name)
        except BaseException:
            with suppress(psycopg.Error):
                _drop(session, landing)
            raise
        if landing.stands:
            kept[name] = aside
    return kept


def _drop(session: Session, landing: Landing) -> None:
    session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(landing.working)))


def _load(server: Server, session: Session, landing: Landing, archive: Archive, *, subscriptions: bool = False) -> None:
    identifier = sql.Identifier(landing.working).as_string(session)
    about = archive.about(identifier)
    session.execute(about.create.encode())
    session.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {identifier} FROM PUBLIC".encode())
    # A subscription shares its slot with the one it was: whoever drops it here ends the other.
    options, entries = [] if subscriptions else ["--no-subscriptions"], None
    if not landing.is_superuser:
        options += ["--no-owner", "--no-privileges", "--no-security-labels"]
        entries = [entry for entry in archive.entries() if not any(word in entry for word in _SUPERUSERS)]
    archive.load(server.address, landing.working, *options, entries=entries)
    if landing.is_superuser:
        # All of it in one step: grants in a dump are told from what everybody has of a new database.
        everybody = f"GRANT CONNECT, TEMPORARY ON DATABASE {identifier} TO PUBLIC;\n"
        # In the database itself, in whose encoding its comment is; and apart, as it sets what it pleases.
        with server.address.connect(landing.working, read_only=False) as apart:
            apart.execute((everybody + about.properties).encode("utf-8", "surrogateescape"))


def _compared(server: Server, landing: Landing, rows: str, row_hash: RowHash) -> tuple[str, ...]:
    with server.address.connect(landing.working) as session:
        found = list(tables(session, row_hash))
    if rows_digest(found) != rows:
        raise RestoreError(
            f"source {server.name}: {landing.name} was not restored",
            why="what arrived on the server is not what was taken out of the recovery point",
            todo="look at the disk and the memory of that server, and test the point: 'cto.backups test'",
        )
    number, count = len(found) - 1, sum(table.rows for table in found[:-1])
    return (f"compared: {counted(count, 'row')} of {counted(number, 'table')} are there as they were taken",)


def open_up(server: Server, session: Session, landing: Landing, wish: DatabaseWish, now: datetime) -> str | None:
    """Give a database its name, in the place of the one that stands there; what that one is called now.

    Both are renamed or none. Raises RestoreError: then it is there all the same, under a name that this tells.
    """
    kept = aside_name(landing.name, now) if landing.stands else None
    try:
        with session.transaction():
            if kept is not None:
                rename(session, landing.name, kept)
            rename(session, landing.working, landing.name)
    except psycopg.Error as error:
        named = landing.working
        for beside in (default_name(wish.database, wish.moment), default_name(wish.database, now)):
            with suppress(psycopg.Error):
                rename(session, landing.working, beside)
                named = beside
                break
        steps = [(named, landing.name)] if kept is None else [(landing.name, kept), (named, landing.name)]
        renaming = "; ".join(f"ALTER DATABASE {_quoted(old)} RENAME TO {_quoted(new)}" for old, new in steps)
        raise RestoreError(
            f"source {server.name}: {landing.name} is restored, whole, as {named}, and could not be renamed",
            why=_connected(session, landing.name) or said(error),
            todo=f"let nobody be connected, and run on database {MAINTENANCE}: {renaming}",
        ) from error
    return kept


def _connected(session: Session, database: str) -> str:
    """Who is connected to a database."""
    with suppress(psycopg.Error):
        others = session.execute(sql.SQL(_OTHERS).format(sql.Literal(database))).fetchall()
        who = listed(f"{counted(int(number), 'session')} of {name}" for name, number in others)
        return f"connected to {database}: {who}" if who else ""
    return ""


def undone(server: Server, wish: DatabaseWish, error: ToolError | psycopg.Error) -> RestoreError:
    """What it means that a database could not be made."""
    return RestoreError(
        f"source {server.name}: database {wish.database} was not restored",
        why=said(error) if isinstance(error, psycopg.Error) else str(error),
        todo="nothing that stood there was touched; see what the server says, and that its disk has room",
    )


def _shortened(name: str, ending: str) -> str:
    return name.encode()[: LONGEST_NAME - len(ending)].decode("utf-8", "ignore") + ending


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _mebibytes(size_bytes: int) -> str:
    return f"{-(-size_bytes // (1 << 20)):,} MiB"
