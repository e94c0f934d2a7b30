"""A PostgreSQL server as a source: a dump of each database in one snapshot of it, and of what all databases share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import psycopg

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Resource
from cto_backups.core.ports import (
    Capture,
    Existing,
    PointReader,
    Progress,
    Restored,
    RestoreOptions,
    RestorePlan,
)
from cto_backups.errors import PolicyError, RestoreError, SourceError, VerificationError
from cto_backups.process import ToolError, ToolMissingError, run
from cto_backups.sources import pipes, postgresql_restore
from cto_backups.sources.options import seconds, text, texts
from cto_backups.sources.postgresql_connection import Address, Tools, find_tools
from cto_backups.sources.postgresql_inventory import closed, databases, holds_anything
from cto_backups.sources.postgresql_moment import (
    ALGORITHM,
    Held,
    Moments,
    PostgresqlCapture,
    Ready,
    Shared,
    Summed,
    bootstrap,
    fingerprint_of,
    sequence_from,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)
from cto_backups.sources.postgresql_restore import GLOBALS_FILE
from cto_backups.sources.postgresql_rows import SequenceAt, Session, hold, sequences
from cto_backups.sources.postgresql_throwaway import throwaway
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Stream, StreamTree

_AT_ONCE: Final = 2
_TRIES: Final = 5


class PostgresqlSource:
    """Implements `core.ports.Source` for the databases of one server, dumped by pg_dump and pg_dumpall.

    Options: `host`, `port`, `user`, `password` (what reveals it), `databases` (all when empty), `sslmode`,
    `sslrootcert`; `tools`, the folder of PostgreSQL's programs; `lock_seconds`, how long a dump may wait for a lock;
    `timeout_seconds`, how long a program may be silent; `role_passwords`; `scratch`, where throwaway servers live.
    """

    kind = "postgresql"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._address = Address(
            host=text(options, "host"),
            port=int(seconds(options, "port", 5432)),
            user=str(options.get("user") or ""),
            password=_revealed(options),
            sslmode=str(options.get("sslmode") or ""),
            sslrootcert=str(options.get("sslrootcert") or ""),
            lock_seconds=seconds(options, "lock_seconds", 30.0),
        )
        self._chosen = texts(options, "databases")
        self._tools = str(options.get("tools") or "")
        self._timeout_seconds = seconds(options, "timeout_seconds", 3600.0)
        self._role_passwords = options.get("role_passwords", True) is True
        self._scratch = str(options.get("scratch") or "")
        self._state = state / "sources" / name

    def discover(self) -> Sequence[Resource]:
        """The server, and every database of it; those that nobody named are found, and not covered."""
        with self._session("postgres") as session:
            found, shut = databases(session), closed(session)
            # Everybody connects to it, and hardly anybody keeps anything there.
            if not self._is_covered("postgres") and not holds_anything(session):
                found.pop("postgres", None)
        place = self._address.place
        server = f"{place}/.s.PGSQL.{self._address.port}" if place.startswith("/") else place
        return [
            Resource(f"postgresql:{server}", "postgresql", server),
            *(
                Resource(
                    f"postgresql:{place}/{name}",
                    "postgresql",
                    f"{place}/{name}",
                    size,
                    covered=self._is_covered(name),
                )
                for name, size in found.items()
            ),
            *(Resource(f"postgresql:{place}/{name}", "postgresql", f"{place}/{name}", covered=False) for name in shut),
        ]

    @contextmanager
    def capture(self) -> Iterator[Capture]:
        """Each database at one moment of its own, from when its dump begins. Raises SourceError."""
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
            session = stack.enter_context(self._session("postgres"))
            names = self._names(session)
            tools = self._found(session.info.server_version // 10_000)
            now = clock.now()
            common, shared = self._shared(session, tools)
            moments = Moments(self._held, partial(self._dump, tools), self._summed, pool, stack)
            dumps = [
                Stream(_file(name).encode(), partial(moments.begin, name), partial(self._refusal, name))
                for name in names
            ]
            whole = Stream(
                postgresql_restore.GLOBALS_FILE.encode(),
                partial(Ready, common),
                partial(self._refusal, "all databases"),
            )
            streams = StreamTree([whole, *dumps], now)
            try:
                yield PostgresqlCapture(streams, now, moments, shared)
            except SourceError as error:
                # What ended a database's transaction is the reason, and not that its snapshot is gone.
                raise moments.first_failure() or error from None
            finally:
                moments.cancel()

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; in place, which databases it would make, and what becomes of those there."""
        if destination is not None:
            return reader.plan(destination, only=only, existing=existing, options=options)
        plan = reader.plan(Path("/"), only=only)
        with self._session("postgres") as session:
            there = databases(session)
        wanted = postgresql_restore.databases_in(reader, only)
        conflicts = tuple(name for name in wanted if name in there)
        notes = [f"the server {self._address.place} gets: {', '.join(wanted) or 'nothing'}"]
        if conflicts:
            notes.append(f"what is there is kept under another name: {', '.join(conflicts)}")
        return replace(plan, destination=Path(self._address.place), conflicts=conflicts, notes=(*plan.notes, *notes))

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the dumps; in place, make the databases from them. Raises RefusedError, RestoreError."""
        if destination is not None:
            return reader.restore(destination, only=only, existing=existing, options=options, progress=progress)
        with self._session("template1", read_only=False) as session, staging(self._state) as place:
            postgresql_restore.refuse_standing(
                self.name, postgresql_restore.databases_in(reader, only), databases(session), existing
            )
            restored = reader.restore(place, only=only, options=options, progress=progress)
            if restored.problems:
                return replace(restored, places=())  # another vault may have it whole
            try:
                tools = self._found(session.info.server_version // 10_000)
                kept = postgresql_restore.into(tools, self._address, session, place, self._timeout_seconds, clock.now())
            except ToolError as error:
                raise RestoreError(
                    f"source {self.name}: its databases were restored in part",
                    why=str(error),
                    todo="look at the server: the one that failed is as it was; others were replaced, and kept beside",
                ) from error
            except psycopg.Error as error:
                raise RestoreError(
                    f"source {self.name}: its databases were not restored",
                    why=_said(error),
                    todo="let nobody use a database that is to be replaced, and run this again",
                ) from error
        notes = tuple(f"what stood there as {was} is kept as {now}" for was, now in kept.items())
        return replace(restored, places=(self._address.place,), notes=(*restored.notes, *notes))

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Make the databases anew on a throwaway server of the same version, check their indexes, sum them up."""
        server = next((sample.fields for sample in expected.samples if sample.key == "server"), None)
        if server is None or expected.algorithm != ALGORITHM:
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a PostgreSQL server",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        try:
            tools = find_tools(int(server["version"]), self._tools)
            with throwaway(tools, server["bootstrap"], scratch=self._scratch) as address:
                files = sorted(restored.glob("*.dump"))
                postgresql_restore.make_globals(tools, address, restored / GLOBALS_FILE)
                for file in files:
                    postgresql_restore.make_database(tools, address, file, self._timeout_seconds)
                names = [unquote(file.name.removesuffix(".dump")) for file in files]
                found = self._found_there(address, names, expected)
                postgresql_restore.check_indexes(tools, address, names, self._timeout_seconds)  # adds an extension
                return found
        except ToolError as error:
            raise VerificationError(
                f"source {self.name}: the restored databases do not work",
                why=str(error),
                todo="verify the vault, and test an older recovery point",
            ) from error
        except psycopg.Error as error:
            raise VerificationError(
                f"source {self.name}: the restored databases cannot be read",
                why=_said(error),
                todo="verify the vault, and test an older recovery point",
            ) from error

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _is_covered(self, database: str) -> bool:
        return not self._chosen or database in self._chosen

    # -- sessions ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _session(self, database: str, *, read_only: bool = True) -> Iterator[Session]:
        """A session; what keeps it from opening is a SourceError. Its own errors are the caller's."""
        try:
            session = self._address.connect(database, read_only=read_only)
        except psycopg.Error as error:
            raise self._unreadable(database, error) from error
        with session:
            try:
                yield session
            except psycopg.Error as error:
                raise self._unreadable(database, error) from error

    def _names(self, session: Session) -> list[str]:
        there = databases(session)
        missing = [name for name in self._chosen if name not in there]
        if missing or not there:
            raise SourceError(
                f"source {self.name}: there is no database {', '.join(missing) or 'at all'} at {self._address.place}",
                why=f"there are: {', '.join(there) or 'none that can be connected to'}",
                todo="correct `databases` of this source in the policy",
            )
        return list(self._chosen or there)

    @contextmanager
    def _held(self, name: str) -> "Iterator[Held]":
        """A database at one moment, held until it is dumped and summed up."""
        with self._session(name) as session:
            try:
                snapshot = hold(session)
                # Before the dump looks at them: they are in no snapshot, and only move on.
                ahead = sequences(session)
            except psycopg.Error as error:
                raise self._unreadable(name, error) from error
            yield Held(name, session, snapshot, ahead)

    def _shared(self, session: Session, tools: Tools) -> tuple[bytes, Shared]:
        """What all databases share, dumped, and summed up at the same moment: again where it changed meanwhile."""
        for _ in range(_TRIES):
            before = shared_lines(session)
            dumped = self._dump_globals(tools)
            if shared_lines(session) == before:
                return dumped, Shared(*before, bootstrap(session), session.info.server_version // 10_000)
        raise SourceError(
            f"source {self.name}: roles of {self._address.place} change faster than they are dumped",
            why=f"they were others after each of {_TRIES} dumps",
            todo="back up when nobody makes or drops roles",
        )

    def _summed(self, held: "Held") -> "Summed":
        try:
            return summed_up(held.session, held.name)
        except psycopg.Error as error:
            raise self._unreadable(held.name, error) from error

    def _found_there(self, address: Address, names: Sequence[str], expected: Fingerprint) -> Fingerprint:
        """The fingerprint of a server that was made anew. A sequence is as it was, or further on."""
        summed: list[Summed] = []
        reached: dict[str, SequenceAt] = {}
        for name in names:
            with address.connect(name) as session:
                summed.append(summed_up(session, name))
                reached |= {sequence_key(name, each): each for each in sequences(session)}
        with address.connect("postgres") as session:
            shared, roles = shared_lines(session)
        known = {sample.key: sample for sample in expected.samples}
        samples = [known["server"]]
        for key, sample in known.items():
            if "last" in sample.fields and key in reached:
                before = sequence_from(sample)
                samples.append(sample if reached[key].reached(before) else sequence_sample(key, reached[key]))
        found = fingerprint_of(summed, shared, roles, samples)
        wanted = tuple(sample for sample in found.samples if sample.key in known)
        return replace(found, samples=wanted)

    # -- programs ------------------------------------------------------------------------------------------------------

    def _found(self, major: int) -> Tools:
        try:
            return find_tools(major, self._tools)
        except ToolMissingError as error:
            raise SourceError(
                f"source {self.name}: its server is PostgreSQL {major}, whose programs are not here",
                why=error.detail,
                todo=f"install them (Debian: apt-get install postgresql-client-{major}), or name their folder: `tools`",
            ) from error

    def _dump(self, tools: Tools, held: "Held") -> pipes.Output:
        # Not compressed here: the repository finds what is there already, and compresses what is new.
        return self._output(
            [
                tools["pg_dump"],
                "--format=custom",
                "--compress=0",
                f"--snapshot={held.snapshot}",
                "--no-password",
                f"--lock-wait-timeout={int(self._address.lock_seconds * 1000)}",
                "--create",
                f"--dbname={_quoted(held.name)}",
            ]
        )

    def _dump_globals(self, tools: Tools) -> bytes:
        command = [tools["pg_dumpall"], "--globals-only", "--no-password", "--database=postgres"]
        if not self._role_passwords:
            command.append("--no-role-passwords")
        try:
            variables = self._address.environment(PGAPPNAME="cto.backups pg_dumpall").variables
            return run(command, environment=variables, timeout_seconds=self._timeout_seconds)
        except ToolError as error:
            raise self._refusal("what all databases share", error) from error

    def _output(self, command: Sequence[str]) -> pipes.Output:
        return pipes.Output(
            command,
            environment=self._address.environment(PGAPPNAME=f"cto.backups {Path(command[0]).name}"),
            folder=Path("/"),
            silent_seconds=self._timeout_seconds,
        )

    # -- words ---------------------------------------------------------------------------------------------------------

    def _refusal(self, what: str, error: ToolError) -> SourceError:
        return SourceError(
            f"source {self.name}: {what} could not be dumped",
            why=str(error),
            todo="nothing of this attempt was kept; see what the server says, and what this user may read",
        )

    def _unreadable(self, database: str, error: psycopg.Error) -> SourceError:
        return SourceError(
            f"source {self.name}: database {database} at {self._address.place} cannot be read",
            why=_said(error),
            todo="see that the server runs, and what this user may read: `user` and `password` of this source",
        )


def _file(database: str) -> str:
    return f"{quote(database, safe='')}.dump"


def _quoted(database: str) -> str:
    """A name that is no connection string, whatever is in it."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _said(error: psycopg.Error) -> str:
    said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return "; ".join((said, *getattr(error, "__notes__", ())))


def _revealed(options: Mapping[str, object]) -> Callable[[], str] | None:
    value = options.get("password")
    if value is None or callable(value):
        return value
    raise PolicyError(
        "option `password` of a source is wrong", why="it must say where it is", todo="correct the policy"
    )
