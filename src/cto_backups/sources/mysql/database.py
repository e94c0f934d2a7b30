"""One database out of a point of dumps: beside what runs, under a name of its own; where there is none; or as a file.

No server gives a database another name, so it is loaded under the name that it gets, and a table in it says that it is
not whole until it is. Under another name than it had, its events do not run: those of the one that runs do.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pymysql

from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.core.wording import did_you_mean, listed
from cto_backups.errors import NotFoundError, RefusedError, RestoreError, UsageError
from cto_backups.process import ToolError
from cto_backups.sources.mysql import log as mysql_log
from cto_backups.sources.mysql import restore as mysql_restore
from cto_backups.sources.mysql import unfinished
from cto_backups.sources.mysql.catalogue import catalogue
from cto_backups.sources.mysql.connection import Session, Tools, do, quoted, rows, said, version_of
from cto_backups.sources.mysql.dump import VIEWS_FILE, database_of, file_of, mark_of
from cto_backups.sources.mysql.hashes import HASHES
from cto_backups.sources.mysql.inventory import databases, missing_rights, rights
from cto_backups.sources.mysql.moment import rows_digest
from cto_backups.sources.mysql.server import Server
from cto_backups.sources.mysql.summing import summed_up
from cto_backups.sources.names import readable
from cto_backups.sources.staging import staging

LONGEST_NAME: Final = 64
"""Characters of a database's name."""
_BLOCK: Final = 1 << 20
_NEEDED: Final = ("SELECT", "INSERT", "CREATE", "DROP", "ALTER", "LOCK TABLES")
# Both programs write an event so, with what the server says of it.
_EVENT: Final = re.compile(
    rb"^(?P<before>/\*!50106 CREATE\*/ (?:/\*!50117 [^\n]*?\*/ )?/\*!50106 EVENT `(?P<name>(?:[^`]|``)*)` ON SCHEDULE "
    rb"(?:AT|EVERY) [^\n`]*? ON COMPLETION (?:NOT )?PRESERVE )ENABLE\b"
)
_TURNED: Final = re.compile(rb"^ALTER DATABASE (`(?:[^`]|``)*`)(?= CHARACTER SET \w+ COLLATE \w+ ;$)")
_DEFINED: Final = re.compile(
    rb"^(/\*!50(?:003|106) CREATE\*/ /\*!50(?:017|117) |/\*!50013 |"
    rb"CREATE (?=DEFINER=[^\n]* (?:FUNCTION|PROCEDURE|PACKAGE) ))"
    rb"DEFINER=`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)? ?",
    re.MULTILINE,
)
# A text, a comment's line, or a name: as a server prints a view, which names what is of its own database by that, too,
# once something in it is of another.
_WORD: Final = re.compile(
    rb"'(?:[^'\\]|\\.|'')*'|^--[^\n]*|`(?:[^`]|``)*`(?P<within>\.(?=`))?", re.MULTILINE | re.DOTALL
)
_DEFINING: Final = frozenset({"SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"})
"""Who has one of these may make what somebody else defines."""
_MAKING: Final = b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ "
_NAMING: Final = {
    "routine": "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s",
    "trigger": "SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s",
    "event": "SELECT EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s",
    "column": "SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME), COLUMN_DEFAULT FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s AND COLUMN_DEFAULT IS NOT NULL",
}
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class DatabaseForm:
    """Takes a database out of a point of this server's source; what is needed on the way lies below `state`.

    `goes_on`: a log leads on from its points.
    """

    server: Server
    state: Path
    goes_on: bool = False

    def plan(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """See all that can be seen beforehand. Raises as `core.database_restore.DatabaseSource` says."""
        entries = [pair for pair in reader.listing() if pair[1].kind is EntryKind.FILE]
        self._see(entries, told, wish)
        needed = {f"/{file_of(wish.database)}", f"/{VIEWS_FILE}"}
        size_bytes = sum(entry.size for path, entry in entries if readable(path) in needed)
        self._see_room(size_bytes)
        if wish.folder is not None:
            file = self._file(wish)
            return DatabasePlan(file.name, str(wish.folder), size_bytes, str(file) if file.exists() else None)
        with self._on_server(wish) as session:
            name = self._name(session, wish)
        return DatabasePlan(name, self.server.place, size_bytes)

    def restore(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring it where it is wanted. Raises as `core.database_restore.DatabaseSource` says."""
        self._see([pair for pair in fetch.listing() if pair[1].kind is EntryKind.FILE], told, wish)
        with self._wording(wish), staging(self.state) as place:
            if wish.folder is not None:
                self._file(wish)
                fetch(place, only=_only(wish))
                return self._kept_as_file(place, wish)
            with self._on_server(wish) as session, unfinished.alone(self.server.name, session):
                name = self._name(session, wish)
                fetch(place, only=_only(wish))
                renaming = _Renaming(wish.database, name, defined=bool(rights(session, name) & _DEFINING), events=[])
                _renamed(place, renaming)
                with self._undone(session, name):
                    notes = self._made(session, place, renaming, stage)
                    if wish.verify:
                        with stage(f"Comparing {name}"):
                            self._compare(session, name, told, wish)
                unfinished.finish(session, [name])
                size_bytes = databases(session).get(name, 0)
        return DatabaseRestored(name, self.server.place, size_bytes, None, tuple(notes))

    def _made(self, session: Session, place: Path, renaming: "_Renaming", stage: Stage) -> list[str]:
        """Load it, under the name that says so in it; what people should know."""
        name = renaming.name
        with stage(f"Loading {name}"):
            notes = self._loaded(session, place)
        if not renaming.defined:
            notes.append("views, triggers and routines work as its user, who may not say that they are others'")
        if name != renaming.database:
            notes += [*_kept_still(session, name, renaming.events), *_still_naming(session, name, renaming.database)]
        return notes

    def _loaded(self, session: Session, place: Path) -> list[str]:
        with staging(self.state) as private, mysql_restore.eased(session, log=False):
            tools = Tools(version_of(session)[0], self.server.tools)
            loader = mysql_restore.Loader(tools, self.server.address, private, first=unfinished.LOCK_OF_CLIENTS)
            return mysql_restore.into(loader, session, place, everything=False)

    @contextmanager
    def _undone(self, session: Session, name: str) -> Iterator[None]:
        """Where something fails, what was made goes."""
        try:
            yield
        except BaseException:
            with suppress(pymysql.MySQLError):
                if name in unfinished.unfinished(session):
                    do(session, f"DROP DATABASE {quoted(name)}")
            raise

    def _compare(self, session: Session, name: str, told: Fingerprint, wish: DatabaseWish) -> None:
        """Raise RestoreError where its rows are not those of the point."""
        version = version_of(session)[0]
        found = catalogue(session, name)
        made_of = replace(found, tables=[each for each in found.tables if each.name != unfinished.TABLE])
        do(session, "START TRANSACTION READ ONLY")
        (summed,) = summed_up([session], [made_of], history=version.keeps_history, row_hash=HASHES[told.algorithm])
        if rows_digest(summed.tables) != told.checksums[f"{wish.database}: rows"]:
            raise RestoreError(
                f"source {self.server.name}: database {wish.database} was not restored",
                why="once loaded, its rows were not those of the recovery point",
                todo="verify the vault; restore another recovery point, or from another vault: --vault",
            )

    def _see(self, entries: Collection[tuple[bytes, Entry]], told: Fingerprint, wish: DatabaseWish) -> None:
        """Raise what keeps such a point, or such a wish, from being fulfilled."""
        paths = [readable(path.lstrip(b"/")) for path, _ in entries]
        there = [name for name in map(database_of, paths) if name is not None]
        why = ""
        if told.algorithm not in HASHES or not there:
            why = "it has no dumps: all of a server's files come back, or nothing"
        elif wish.at is not None or self.goes_on or any(path.startswith(mysql_log.PREFIX) for path in paths):
            why = "a log leads on from its dumps, and is carried out on all databases or none"
        elif wish.tables:
            why = "a dump of MySQL comes back as a whole"
        if why:
            raise RefusedError(
                f"source {self.server.name}: {'a single table' if wish.tables else 'a single database'} does not come"
                " out of this recovery point",
                why=why,
                todo="leave out --table: the database comes under another name, and tables can be taken from it"
                if wish.tables and why.endswith("whole")
                else "restore all of it with --to FOLDER, and take from a server that is made from it what you need",
            )
        if wish.database not in there:
            raise NotFoundError(
                f"There is no database '{wish.database}' in the recovery point{did_you_mean(wish.database, there)}",
                why=f"it has: {', '.join(sorted(there))}",
                todo="Name one of these, or another point.",
            )

    def _name(self, session: Session, wish: DatabaseWish) -> str:
        """What it is called there. Raises UsageError, RefusedError, RestoreError, pymysql.MySQLError."""
        name = wish.database if wish.in_place else wish.name or _default_name(wish)
        if len(name) > LONGEST_NAME or not name.isprintable() or name != name.rstrip() or max(name) > "\uffff":
            raise UsageError(
                f"A database cannot be called {name!r}",
                why=f"names have {LONGEST_NAME} characters at most, no space at their end, and none that is not printed"
                " or of four bytes",
                todo="Choose another one: --as NAME.",
            )
        if mysql_restore.standing(session, [name]):
            raise RefusedError(
                f"source {self.server.name}: there is a database {name} on {self.server.place} already",
                why="what is in it would be replaced, and a MySQL or MariaDB server cannot keep it under another name",
                todo="leave out --in-place, and it comes under another name; or drop that one first"
                if wish.in_place
                else "choose another name with --as NAME, or drop that one if it is needed no longer",
            )
        lacking = missing_rights(session, [name], _NEEDED)
        if lacking:
            pattern = name if wish.in_place or wish.name else f"{wish.database}_restored_%"
            shown = quoted(pattern.replace("_", "\\_"))
            raise RestoreError(
                f"source {self.server.name}: its user may not make database {name} at {self.server.place}",
                why=f"it lacks {', '.join(lacking)} there",
                todo=f"as an administrator: GRANT ALL PRIVILEGES ON {shown}.* TO that user; or restore it as a dump:"
                " --to FOLDER",
            )
        return name

    def _file(self, wish: DatabaseWish) -> Path:
        """Where a dump goes. Raises RefusedError for one that is there."""
        assert wish.folder is not None
        file = wish.folder / f"{quote(wish.database, safe='')}.sql"
        if file.exists() and wish.existing is Existing.REFUSE:
            raise RefusedError(
                f"There is {file} already",
                why="it would be replaced",
                todo="Add --overwrite if it may be, or name another folder with --to.",
            )
        return file

    def _kept_as_file(self, place: Path, wish: DatabaseWish) -> DatabaseRestored:
        """The dump with the views behind it, as any server takes it."""
        file = self._file(wish)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._see_room((place / file_of(wish.database)).stat().st_size, file.parent)
        with tempfile.TemporaryDirectory(prefix=".cto-backups-", dir=file.parent) as folder:
            arrived = Path(shutil.move(place / file_of(wish.database), Path(folder) / file.name))
            with arrived.open("ab") as writing:
                writing.writelines(statements for _, statements in _views(place, wish.database))
            arrived.chmod(0o600)
            arrived.replace(file)
        return DatabaseRestored(file.name, str(file.parent), file.stat().st_size)

    def _see_room(self, size_bytes: int, folder: Path | None = None) -> None:
        place = folder or next(each for each in (self.state, *self.state.parents) if each.exists())
        free = shutil.disk_usage(place).free
        if free < size_bytes:
            raise RestoreError(
                f"source {self.server.name}: nothing was restored",
                why=f"it needs {-(-size_bytes >> 20)} MiB in {place}, and {free >> 20} MiB are free",
                todo="make room there; or, where it is made ready, name another folder: `state` in the policy",
            )

    @contextmanager
    def _on_server(self, wish: DatabaseWish) -> Iterator[Session]:
        """A session on the server in use. Raises RestoreError."""
        with self._wording(wish):
            session = self.server.address.connect()
            try:
                yield session
            finally:
                session.close()

    @contextmanager
    def _wording(self, wish: DatabaseWish) -> Iterator[None]:
        try:
            yield
        except (ToolError, pymysql.MySQLError, OSError) as error:
            why = said(error) if isinstance(error, pymysql.MySQLError) else str(error)
            if isinstance(error, OSError) and error.filename:
                why = f"{error.filename}: {error.strerror}"
            raise RestoreError(
                f"source {self.server.name}: database {wish.database} was not restored",
                why=why,
                todo="nothing that stood there was touched; see what the server says, and what its user may do; with"
                " --to FOLDER the database comes as a dump, and that server is not needed",
            ) from error


def _only(wish: DatabaseWish) -> Sequence[str]:
    return [f"/{file_of(wish.database)}", f"/{VIEWS_FILE}"]


def _default_name(wish: DatabaseWish) -> str:
    """What a database is called that comes beside the one it was; in UTC, as moments in other names are."""
    suffix = f"_restored_{wish.moment.astimezone(UTC):%Y%m%d_%H%M%S}"
    return wish.database[: LONGEST_NAME - len(suffix)] + suffix


def _views(place: Path, database: str) -> list[tuple[str, bytes]]:
    return [(name, statements) for name, statements in mysql_restore.views_in(place) if name == database]


def _renamed(place: Path, renaming: "_Renaming") -> None:
    """Make of what was fetched a dump under the new name, with the views of that database alone. Raises OSError."""
    views = _views(place, renaming.database)
    file, made = place / file_of(renaming.database), place / "renamed"
    _rewritten(file, made, renaming)
    file.unlink()
    made.rename(place / file_of(renaming.name))
    was, becomes = (mark_of(each) + b"USE " + quoted(each).encode() for each in (renaming.database, renaming.name))
    statements = b"".join(renaming.of_view(told.replace(was, becomes, 1)) for _, told in views)
    (place / VIEWS_FILE).write_bytes(statements if renaming.defined else _DEFINED.sub(rb"\1", statements))


@dataclass(frozen=True)
class _Renaming:
    """What becomes of a dump's lines.

    `defined`: things stay defined by whoever defined them. `events` are those that are kept from running: under another
    name, all that would.
    """

    database: str
    name: str
    defined: bool
    events: list[str]

    def __call__(self, line: bytes) -> bytes:
        old, new = quoted(self.database).encode(), quoted(self.name).encode()
        if line.startswith(_MAKING + old):
            return _MAKING + new + line[len(_MAKING + old) :]
        if line == b"USE " + old + b";\n":
            return b"USE " + new + b";\n"
        turned = _TURNED.match(line)  # around what was made while the database had another character set
        if turned is not None and turned[1] == old:
            return line[: turned.start(1)] + new + line[turned.end(1) :]
        event = _EVENT.match(line)
        if event is not None and old != new:
            self.events.append(event["name"].replace(b"``", b"`").decode("utf-8", "replace"))
            line = event["before"] + b"DISABLE" + line[event.end() :]
        return line if self.defined else _DEFINED.sub(rb"\1", line, count=1)

    def of_view(self, statements: bytes) -> bytes:
        """What becomes of views that name what they show by its database."""
        old, new = quoted(self.database).encode() + b".", quoted(self.name).encode() + b"."
        return _WORD.sub(lambda word: new if word["within"] and word[0] == old else word[0], statements)


def _rewritten(file: Path, into: Path, line_of: Callable[[bytes], bytes]) -> None:
    """Copy a dump, whose lines may be as long as a row is; of a long one, the beginning is looked at."""
    with file.open("rb") as reading, into.open("xb") as writing:
        begins = True
        while part := reading.readline(_BLOCK):
            writing.write(line_of(part) if begins else part)
            begins = part.endswith(b"\n")


def _kept_still(session: Session, name: str, events: list[str]) -> list[str]:
    """See that no event runs in a database, and say which would have. Raises pymysql.MySQLError."""
    enabled = "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s AND STATUS = 'ENABLED'"
    for (event,) in rows(session, enabled, name):
        do(session, f"ALTER EVENT {quoted(name)}.{quoted(str(event))} DISABLE")
        events.append(str(event))
    if not events:
        return []
    return [f"events do not run in it, until you say ALTER EVENT … ENABLE: {_some(sorted(set(events)))}"]


def _still_naming(session: Session, name: str, database: str) -> list[str]:
    """What in a database says the name that it had, and so means that one. Raises pymysql.MySQLError."""
    bare = re.escape(database)
    pattern = re.compile(rf"{re.escape(quoted(database))}\s*\.|(?<![\w$`]){bare}\s*\.")
    found = [
        f"{kind} {each}"
        for kind, statement in _NAMING.items()
        for each, words in rows(session, statement, name)
        if words is not None and pattern.search(str(words))
    ]
    return [f"these name {database}, and go on using that one: {_some(found)}"] if found else []


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return listed(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMED])} and {more} more"
