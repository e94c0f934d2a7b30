"""One database, or tables of it, out of a point of a server, whichever form that has: as a dump, or on a server in use.

Out of a server's files it comes by way of a throwaway server that recovers from them; tables out of a dump by way of
one that is given their rows and the definitions of the rest.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from cto_backups import clock
from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader
from cto_backups.core.trees import EntryKind
from cto_backups.core.wording import counted, did_you_mean, listed
from cto_backups.errors import NotFoundError, RefusedError, RestoreError, VerificationError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.disposable import Place, disposable
from cto_backups.sources.postgresql import cut, recovery
from cto_backups.sources.postgresql import landing as postgresql_landing
from cto_backups.sources.postgresql import restore as postgresql_restore
from cto_backups.sources.postgresql.archive import Archive
from cto_backups.sources.postgresql.connection import Address, Tools, find_tools
from cto_backups.sources.postgresql.hashes import COLUMNS, RowHash
from cto_backups.sources.postgresql.inventory import databases, unlogged
from cto_backups.sources.postgresql.landing import Landing, default_name, no_room
from cto_backups.sources.postgresql.part import blank, not_needed, number_of, number_of_now
from cto_backups.sources.postgresql.point import DATA, FOLDERS
from cto_backups.sources.postgresql.restore import GLOBALS_FILE
from cto_backups.sources.postgresql.rows import tables
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.sums import LOGICAL_HASHES, PHYSICAL_HASHES, rows_digest
from cto_backups.sources.postgresql.throwaway import throwaway

_ROWS: Final = ": rows"
_MOST_NAMED: Final = 5
_ROLES: Final = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"


@dataclass(frozen=True)
class _Origin:
    """What a point's fingerprint says: whether it is of a server's files, and what that server was.

    `rows` is the digest of all that the tables of the database held; of files, at the moment of their base.
    """

    is_physical: bool
    about: Mapping[str, str]
    rows: str
    row_hash: RowHash

    @property
    def major(self) -> int:
        """The server's version."""
        return int(self.about["version"])


@dataclass(frozen=True)
class _Taken:
    """A database in an archive; `roles` are those of the server it came from; about how large it is, in bytes.

    `rows` is the digest of all that its tables hold, where it is to be compared.
    """

    archive: Archive
    roles: Sequence[str]
    size_bytes: int
    notes: tuple[str, ...] = ()
    rows: str | None = None
    row_hash: RowHash = COLUMNS


@dataclass(frozen=True)
class _Job:
    """A database to take out, in a private place: with programs of the point's version, and of that where it goes."""

    wish: DatabaseWish
    about: Mapping[str, str]
    own: Tools
    tools: Tools
    place: Place

    @property
    def restored(self) -> Path:
        """Where the point's files are."""
        return self.place.data / "restored"


class _AllNeededError(Exception):
    """A server does not recover as it should without the files of its other databases."""


class DatabaseForm:
    """Takes a database out of a point of this server's source, and brings it where it is wanted."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def plan(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """See all that can be seen beforehand. Raises as `core.database_restore.DatabaseSource` says."""
        origin = self._origin(told, wish)
        self._programs(origin, wish)
        entries = [pair for pair in reader.listing(_only(origin, wish)) if pair[1].kind is EntryKind.FILE]
        apart = sum(size for _, size in not_needed(origin.about, wish.database, entries))
        size_bytes = sum(entry.size for _, entry in entries) - apart
        self._see_room(size_bytes)
        notes = []
        if origin.is_physical:
            notes.append(f"a throwaway server recovers from the server's files, in {self._scratch}")
        if wish.folder is not None:
            file = self._file(wish)
            return DatabasePlan(
                file.name, str(wish.folder), size_bytes, str(file) if file.exists() else None, tuple(notes)
            )
        landing = self._looked(origin, wish)
        conflict = landing.name if landing.stands else None
        return DatabasePlan(landing.name, self._server.place, size_bytes, conflict, (*notes, *landing.notes))

    def restore(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring it where it is wanted. Raises as `core.database_restore.DatabaseSource` says."""
        origin = self._origin(told, wish)
        self._programs(origin, wish)
        self._see_room(0)
        if wish.folder is not None:
            self._file(wish)
        landing = None if wish.folder is not None else self._looked(origin, wish)
        with self._taken(fetch, origin, wish, stage, landing) as taken:
            if landing is None:
                return self._kept_as_file(taken, wish)
            return self._landed(taken, origin, wish, stage)

    def _landed(self, taken: _Taken, origin: _Origin, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        with self._wording(wish), postgresql_landing.on(self._server) as session:
            landing = postgresql_landing.look(self._server, session, wish, origin.major)
            postgresql_landing.see_room(self._server, session, taken.size_bytes)
            with stage(f"Loading {landing.name}"):
                notes = postgresql_landing.land(
                    self._server, session, landing, taken.archive, taken.roles, taken.rows, taken.row_hash
                )
            kept = postgresql_landing.open_up(self._server, session, landing, wish, clock.now())
            (size_bytes,) = session.execute("SELECT pg_database_size(%s)", (landing.name,)).fetchone() or (0,)
        return DatabaseRestored(landing.name, self._server.place, int(size_bytes), kept, (*taken.notes, *notes))

    def _kept_as_file(self, taken: _Taken, wish: DatabaseWish) -> DatabaseRestored:
        file = self._file(wish)
        size_bytes = taken.archive.file.stat().st_size
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._see_room(size_bytes, file.parent)
            with tempfile.TemporaryDirectory(prefix=".cto-backups-", dir=file.parent) as folder:
                arrived = Path(shutil.move(taken.archive.file, Path(folder) / file.name))
                arrived.chmod(0o600)
                arrived.replace(file)
        except OSError as error:
            raise RestoreError(
                f"source {self._server.name}: the dump of {wish.database} cannot be written to {file.parent}",
                why=error.strerror or str(error),
                todo="name a folder with --to that this user may write to, and that has room",
            ) from error
        return DatabaseRestored(file.name, str(file.parent), size_bytes, None, taken.notes)

    @contextmanager
    def _taken(
        self, fetch: Fetch, origin: _Origin, wish: DatabaseWish, stage: Stage, landing: Landing | None
    ) -> Iterator[_Taken]:
        """The database in an archive, in a private place."""
        own = self._programs(origin, wish)
        tools = own if landing is None else self._server.programs(landing.major)
        with disposable("pg", scratch=self._server.scratch) as place:
            job = _Job(wish, origin.about, own, tools, place)
            if origin.is_physical:
                yield self._out_of_files(job, fetch, stage)
                return
            fetch(job.restored, only=_only(origin, wish))
            with self._wording(wish):
                if wish.tables:
                    with stage(f"Taking tables out of {wish.database}"):
                        taken = self._tables_of_dump(job)
                else:
                    file = job.restored / _dump(wish.database)
                    roles = postgresql_restore.roles_in(job.restored / GLOBALS_FILE)
                    rows = origin.rows if wish.verify else None
                    taken = _Taken(
                        Archive(tools, file), roles, file.stat().st_size, rows=rows, row_hash=origin.row_hash
                    )
            yield taken

    def _out_of_files(self, job: _Job, fetch: Fetch, stage: Stage) -> _Taken:
        """By a recovery without what other databases hold; or else, where that does not lead there, of all of it."""
        entries = [pair for pair in fetch.listing() if pair[1].kind is EntryKind.FILE]
        apart = dict(not_needed(job.about, job.wish.database, entries))
        try:
            return self._recovered(job, fetch, stage, apart)
        except _AllNeededError:
            for folder in (job.restored, *(job.place.data / name for name in FOLDERS)):
                shutil.rmtree(folder, ignore_errors=True)
            self._see_room(sum(entry.size for _, entry in entries))
            return self._recovered(job, fetch, stage, {})

    def _recovered(self, job: _Job, fetch: Fetch, stage: Stage, apart: Mapping[bytes, int]) -> _Taken:
        """Raises _AllNeededError where it does not recover without the files that are kept `apart`."""
        fetch(job.restored, spare=apart)
        with self._wording(job.wish), stage(f"Recovering {job.wish.database}"), ExitStack() as stack:
            try:
                blank(job.restored, apart)
                brought_up = recovery.brought_up(job.own, job.place, job.restored, job.about, job.wish.at)
                address = stack.enter_context(brought_up)
                with address.connect("postgres") as session:
                    self._see_database(databases(session), job.wish)
                    is_another = number_of(job.about, job.wish.database) != number_of_now(session, job.wish.database)
            except (VerificationError, ToolError, psycopg.Error) as error:
                if apart:
                    raise _AllNeededError from error
                raise
            if apart and is_another:  # of which much may have been copied from files that are not there
                raise _AllNeededError
            taken = self._out_of_server(job, address)
        shutil.rmtree(job.place.data / DATA, ignore_errors=True)  # the room may be needed
        return taken

    def _out_of_server(self, job: _Job, address: Address) -> _Taken:
        wish = job.wish
        with address.connect(wish.database) as session:
            emptied = unlogged(session)
            chosen = cut.choose(session, wish.database, wish.tables) if wish.tables else None
            keys = cut.foreign_keys(session, chosen) if chosen else (0, 0)
        if chosen is None:
            taken = self._dumped(job, address, wish.database)
        else:
            emptied = [pair for pair in emptied if pair in chosen.parts]
            taken = self._cut(job, address, chosen, keys[0] - keys[1])
        if not emptied:
            return taken
        names = listed(".".join(pair) for pair in emptied[:_MOST_NAMED])
        return replace(taken, notes=(*taken.notes, f"empty, as what is unlogged is in no server's files: {names}"))

    def _tables_of_dump(self, job: _Job) -> _Taken:
        wish = job.wish
        with throwaway(job.own, job.about["bootstrap"], scratch=self._server.scratch) as address:
            postgresql_restore.make_globals(job.own, address, job.restored / GLOBALS_FILE)
            archive = Archive(job.own, job.restored / _dump(wish.database))
            chosen, foreign = cut.with_rows_of(archive, address, wish.database, wish.tables)
            return self._cut(job, address, chosen, foreign)

    def _cut(self, job: _Job, address: Address, chosen: cut.Chosen, foreign: int) -> _Taken:
        """The tables in a database of their own; `foreign` keys of theirs are left out."""
        name = default_name(job.wish.database, job.wish.moment)
        try:
            defined = cut.cut(job.own, address, job.wish.database, chosen, name, job.place.data)
        except ToolError as error:
            raise RestoreError(
                f"source {self._server.name}: {listed(chosen.names)} cannot stand without what else is in "
                f"{job.wish.database}",
                why=error.detail,
                todo="restore all of the database under another name: leave out --table",
            ) from error
        left = [f"left out: {counted(foreign, 'foreign key')} to tables that were not taken"] if foreign else []
        if defined:
            left.append(f"without rows, for what was taken refers to how they are made: {listed(defined)}")
        return replace(self._dumped(job, address, name), notes=tuple(left))

    def _dumped(self, job: _Job, address: Address, name: str) -> _Taken:
        with address.connect("postgres") as session:
            roles = [str(role) for (role,) in session.execute(_ROLES).fetchall()]
            (size_bytes,) = session.execute("SELECT pg_database_size(%s)", (name,)).fetchone() or (0,)
        file = job.place.data / "taken.dump"
        self._see_room(int(size_bytes), file.parent)
        compress = f"--compress={int(job.wish.folder is not None)}"
        archive, rows = Archive.of(job.tools, address, name, file, compress), None
        if job.wish.verify:
            with address.connect(name) as session:
                rows = rows_digest(list(tables(session)))
        return _Taken(archive, roles, int(size_bytes), rows=rows)

    def _origin(self, told: Fingerprint, wish: DatabaseWish) -> _Origin:
        about = next((sample.fields for sample in told.samples if sample.key == "server"), None)
        if about is None or told.algorithm not in {**LOGICAL_HASHES, **PHYSICAL_HASHES}:
            raise RestoreError(
                f"source {self._server.name}: the point does not tell which databases are in it",
                why="it has no fingerprint of a PostgreSQL server",
                todo="restore all of it with --to FOLDER",
            )
        names = [key.removesuffix(_ROWS) for key in told.checksums if key.endswith(_ROWS)]
        self._see_database(names, wish)
        row_hash = {**LOGICAL_HASHES, **PHYSICAL_HASHES}[told.algorithm]
        physical = told.algorithm in PHYSICAL_HASHES
        return _Origin(physical, about, told.checksums[f"{wish.database}{_ROWS}"], row_hash)

    def _see_database(self, there: Collection[str], wish: DatabaseWish) -> None:
        if wish.database in there:
            return
        when = f" at {wish.at:%Y-%m-%d %H:%M:%S %Z}" if wish.at is not None else ""
        raise NotFoundError(
            f"There is no database '{wish.database}' in the recovery point{when}{did_you_mean(wish.database, there)}",
            why=f"it has: {', '.join(sorted(there))}",
            todo="Name one of these, or another point or moment.",
        )

    def _looked(self, origin: _Origin, wish: DatabaseWish) -> Landing:
        with self._wording(wish), postgresql_landing.on(self._server) as session:
            landing = postgresql_landing.look(self._server, session, wish, origin.major)
        self._server.programs(landing.major)
        return landing

    def _programs(self, origin: _Origin, wish: DatabaseWish) -> Tools:
        """The programs of the point's version, with a server where one is needed. Raises RestoreError."""
        major = origin.major
        serves = origin.is_physical or bool(wish.tables)
        try:
            tools = find_tools(major, self._server.tools, newer=not origin.is_physical)
            if serves and not Path(tools["postgres"]).is_file():
                raise ToolMissingError("postgres", None, f"there is no server in {tools.folder}")
        except ToolMissingError as error:
            package = f"postgresql-{major}" if serves else f"postgresql-client-{major}"
            raise RestoreError(
                f"source {self._server.name}: the programs of PostgreSQL {major}, of which the point is, are not here",
                why=error.detail,
                todo=f"install them (Debian: apt-get install {package}), or name their folder: `tools`",
            ) from error
        return tools

    @property
    def _scratch(self) -> Path:
        return Path(self._server.scratch or tempfile.gettempdir())

    def _see_room(self, size_bytes: int, folder: Path | None = None) -> None:
        place = folder or self._scratch
        try:
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise RestoreError(
                f"source {self._server.name}: nothing was restored",
                why=f"{place}, where throwaway servers live: {error.strerror}",
                todo="make that folder, or name another one: `scratch` of this source",
            ) from error
        if free < size_bytes:
            raise no_room(f"source {self._server.name}: nothing was restored", place, size_bytes, free)

    def _file(self, wish: DatabaseWish) -> Path:
        """Where a dump goes. Raises RefusedError for one that is there."""
        assert wish.folder is not None
        parts = [wish.database, *(["tables"] if len(wish.tables) > 1 else wish.tables)]
        file = wish.folder / f"{'.'.join(quote(part, safe='') for part in parts)}.dump"
        if file.exists() and wish.existing is Existing.REFUSE:
            raise RefusedError(
                f"There is {file} already",
                why="it would be replaced",
                todo="Add --overwrite if it may be, or name another folder with --to.",
            )
        return file

    @contextmanager
    def _wording(self, wish: DatabaseWish) -> Iterator[None]:
        try:
            yield
        except (ToolError, psycopg.Error) as error:
            raise postgresql_landing.undone(self._server, wish, error) from error
        except VerificationError as error:
            raise RestoreError(f"source {self._server.name}: {error.what}", why=error.why, todo=error.todo) from error
        except OSError as error:
            raise RestoreError(
                f"source {self._server.name}: database {wish.database} was not restored",
                why=f"{error.filename}: {error.strerror}" if error.filename else str(error),
                todo="nothing that stood there was touched; see that there is room where it is made ready: `scratch`",
            ) from error


def _only(origin: _Origin, wish: DatabaseWish) -> Sequence[str]:
    """The files of a point that are needed; none: all of them."""
    return () if origin.is_physical else (f"/{_dump(wish.database)}", f"/{GLOBALS_FILE}")


def _dump(database: str) -> str:
    return f"{quote(database, safe='')}.dump"
