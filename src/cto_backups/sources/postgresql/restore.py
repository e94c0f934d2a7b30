"""Databases made anew from dumps: on a throwaway server, and on one that is in use."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from psycopg import sql

from cto_backups.core.ports import Existing, PointReader
from cto_backups.core.trees import EntryKind
from cto_backups.errors import RefusedError
from cto_backups.process import LONGEST_SECONDS, ToolError, run
from cto_backups.sources.names import readable
from cto_backups.sources.postgresql.connection import Address, Tools
from cto_backups.sources.postgresql.inventory import databases
from cto_backups.sources.postgresql.rows import Session

GLOBALS_FILE: Final = "globals.sql"
MAINTENANCE: Final = "postgres"
"""The database that every server has: a restore in place leaves the server's own as it is."""
LONGEST_NAME: Final = 63
_COMPLAINT: Final = re.compile(r"\berror:|\bERROR:|\bFATAL:")
_SAID: Final = re.compile(r"Command was:|CONTEXT:|DETAIL:|LINE \d+:|QUERY:|Query was:|detail:")
_JOBS: Final = 2
_MOST_SAID: Final = 600
_NAME: Final = rb'(?:"(?:[^"]|"")*"|[^\s";]+)'
_CREATE_ROLE: Final = re.compile(rb"CREATE ROLE (" + _NAME + rb");")
_ALTER_ROLE: Final = re.compile(rb"ALTER ROLE (" + _NAME + rb") (?:WITH|SET|IN) ")
_GRANT_ROLE: Final = re.compile(rb"GRANT " + _NAME + rb" TO (" + _NAME + rb")")
# What is the other server's own: it has its tablespaces, its words about roles, and settings of all of them.
_SERVERS: Final = re.compile(
    rb"(?:CREATE|ALTER) TABLESPACE |ALTER ROLE ALL SET |GRANT .* ON (?:TABLESPACE|PARAMETER) |COMMENT ON "
)
_LOCATION: Final = re.compile(rb"(CREATE TABLESPACE " + _NAME + rb" OWNER " + _NAME + rb" LOCATION )'(?:[^']|'')*';")


# Such settings are lists, whose elements are quoted each by itself.
_LISTS: Final = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_AMCHECK: Final = "amcheck"
_VISIBILITY: Final = "pg_visibility"
_CLAIMS: Final = {"pg_check_visible": "visible to all", "pg_check_frozen": "frozen"}
_CLAIMED: Final = sql.SQL("""
    SELECT c.oid::regclass::text, count(*) FROM pg_class c, LATERAL {}.{}(c.oid)
    WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' GROUP BY c.oid ORDER BY 2 DESC
""")


def settings_of_all(session: Session) -> bytes:
    """Statements for the settings of all roles at once, which pg_dumpall leaves out. Raises psycopg.Error."""
    found = session.execute(
        "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = 0"
    ).fetchall()
    statements = []
    for (setting,) in found:
        name, _, value = str(setting).partition("=")
        given = sql.SQL(value) if name.lower() in _LISTS else sql.Literal(value)
        parts = name.split(".")
        statements.append(sql.SQL("ALTER ROLE ALL SET {} TO {};\n").format(sql.Identifier(*parts), given))
    return "".join(statement.as_string(session) for statement in statements).encode()


def databases_in(reader: PointReader, only: Sequence[str]) -> list[str]:
    """The databases that a point has dumps of."""
    paths = [readable(path.lstrip(b"/")) for path, entry in reader.listing(only) if entry.kind is EntryKind.FILE]
    names = sorted(unquote(path.removesuffix(".dump")) for path in paths if path.endswith(".dump"))
    return [name for name in names if name != MAINTENANCE]


def roles_in(file: Path) -> list[str]:
    """The roles that a dump of what all databases share makes. Raises OSError."""
    return [
        _unquoted(name).decode("utf-8", "replace")
        for name in re.findall(rb"(?m)^" + _CREATE_ROLE.pattern, file.read_bytes())
    ]


def refuse_standing(source: str, wanted: Sequence[str], there: Mapping[str, int], existing: Existing) -> None:
    """Raise RefusedError for databases that are there, and are not to be replaced."""
    standing = [name for name in wanted if name in there]
    if standing and existing is Existing.REFUSE:
        raise RefusedError(
            f"source {source}: {', '.join(standing)} is there already",
            why="what is in it would be replaced",
            todo="say --overwrite: it is then kept under another name; or restore with --to FOLDER",
        )


def make_globals(tools: Tools, address: Address, file: Path) -> None:
    """Make roles and tablespaces on a throwaway server, whose first superuser has the same name. Raises ToolError."""
    bootstrap = address.user.encode()
    lines: list[bytes] = []
    for line in file.read_bytes().splitlines(keepends=True):
        created = _CREATE_ROLE.match(line)
        if created and _unquoted(created[1]) == bootstrap:
            continue
        if tablespace := _LOCATION.match(line):
            folder = Path(address.host) / f"tablespace-{len(lines)}"
            folder.mkdir(mode=0o700)
            owner = Path(address.host).stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
            line = tablespace[1] + b"'" + str(folder).encode() + b"';\n"
        lines.append(line)
    _psql(tools, address, b"".join(lines))


def make_database(tools: Tools, address: Address, file: Path) -> None:
    """Make a database from its dump; the server's own empty one of this name goes first. Raises ToolError."""
    options = ["--create", "--clean", "--if-exists", "--exit-on-error", f"--jobs={_JOBS}", "--no-password"]
    run_program([tools["pg_restore"], *options, "--dbname=template1", str(file)], address)


def check_indexes(tools: Tools, address: Address, names: Sequence[str]) -> None:
    """Check every table and index with pg_amcheck, the index entries against the rows; of all databases without names.

    And with pg_visibility the maps by which a server counts rows without looking at them. Raises ToolError,
    psycopg.Error.
    """
    for name in names or _databases(address):
        extensions = _extensions(address, name)
        if extensions:
            _quieten(address, name)
        if _AMCHECK in extensions:
            options = ["--heapallindexed", "--parent-check", "--rootdescend", "--install-missing", "--no-password"]
            run_program([tools["pg_amcheck"], *options, f"--database={_exactly(name)}"], address)
        if _VISIBILITY in extensions:
            _check_visibility(address, name)


def rename(session: Session, name: str, to: str) -> None:
    """Rename a database: nobody may be connected to it. Raises psycopg.Error."""
    session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def aside_name(name: str, now: datetime) -> str:
    """Another name for a database: a server cuts longer ones, and then they are those of others."""
    ending = f"-before-restore-{now:%Y%m%dT%H%M%SZ}"
    return name.encode()[: LONGEST_NAME - len(ending)].decode("utf-8", "ignore") + ending


def _exactly(name: str) -> str:
    """A name where a pattern is expected."""
    return '"' + name.replace('"', '""') + '"'


def run_program(command: Sequence[str], address: Address, given: bytes | None = None) -> bytes:
    """What a program prints; of its complaint only what is none of the data's: statements may hold passwords, and rows.

    Raises ToolError.
    """
    try:
        return run(command, environment=address.environment().variables, timeout_seconds=LONGEST_SECONDS, given=given)
    except ToolError as error:
        raise type(error)(error.program, error.status, _complaint(error)) from None


def _complaint(error: ToolError) -> str:
    """The first complaint alone: after it come the statement, however long, where in it, and rows."""
    lines = list(dropwhile(lambda line: not _COMPLAINT.search(line), error.lines))
    first = [*lines[:1], *takewhile(lambda line: not (_SAID.search(line) or _COMPLAINT.search(line)), lines[1:])]
    told = " ".join(first)[:_MOST_SAID] or error.detail
    return _SAID.split(told)[0].rstrip("; ")


def make_missing_roles(tools: Tools, address: Address, file: Path, there: set[bytes]) -> None:
    """Make the roles that a server in use lacks, by a dump of what all databases share. Raises ToolError, OSError."""
    if not file.is_file():
        return  # --only left it out
    lines = []
    for line in file.read_bytes().splitlines(keepends=True):
        role = _CREATE_ROLE.match(line) or _ALTER_ROLE.match(line)
        member = _GRANT_ROLE.match(line)
        if (role and _unquoted(role[1]) in there) or (member and _unquoted(member[1]) in there):
            continue
        if _SERVERS.match(line):
            continue
        lines.append(line)
    _psql(tools, address, b"".join(lines))


def _quieten(address: Address, name: str) -> None:
    """Switch event triggers off: one of them may forbid to add the extension that checks."""
    with address.connect(name, read_only=False) as session:
        for (trigger,) in session.execute("SELECT evtname FROM pg_event_trigger WHERE evtenabled <> 'D'").fetchall():
            session.execute(sql.SQL("ALTER EVENT TRIGGER {} DISABLE").format(sql.Identifier(trigger)))


def _databases(address: Address) -> list[str]:
    with address.connect(MAINTENANCE) as session:
        return list(databases(session))


def _extensions(address: Address, name: str) -> set[str]:
    """Those of the extensions that check something which can be had."""
    with address.connect(name) as session:
        found = session.execute(
            "SELECT name FROM pg_available_extensions WHERE name = ANY (%s)", ([_AMCHECK, _VISIBILITY],)
        )
        return {str(row[0]) for row in found.fetchall()}


def _check_visibility(address: Address, name: str) -> None:
    with address.connect(name, read_only=False) as session:
        session.execute("CREATE EXTENSION IF NOT EXISTS pg_visibility WITH SCHEMA pg_catalog")
        row = session.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_visibility'"
        )
        (schema,) = row.fetchone() or ("pg_catalog",)
        for function, claimed in _CLAIMS.items():
            statement = _CLAIMED.format(sql.SQL(schema), sql.Identifier(function))
            wrong = session.execute(statement).fetchall()
            if wrong:
                listed = ", ".join(f"{count} of {table}" for table, count in wrong[:3])
                raise ToolError(
                    _VISIBILITY, None, f"database {name}: rows that the map calls {claimed}, and are not: {listed}"
                )


def _psql(tools: Tools, address: Address, script: bytes) -> None:
    run_program(
        [tools["psql"], "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--dbname=postgres"],
        address,
        script,
    )


def _unquoted(name: bytes) -> bytes:
    return name[1:-1].replace(b'""', b'"') if name.startswith(b'"') else name
