"""Databases as dumps: each in one snapshot of it, and what all databases share."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import psycopg

from cto_backups import clock
from cto_backups.core.limits import at_most
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.errors import RestoreError, SourceError
from cto_backups.process import ToolError, run
from cto_backups.sources import pipes
from cto_backups.sources.postgresql import landing
from cto_backups.sources.postgresql import restore as postgresql_restore
from cto_backups.sources.postgresql.connection import Address, Tools, by_name, find_tools
from cto_backups.sources.postgresql.dumping import Held, Hold, Moments, PostgresqlCapture
from cto_backups.sources.postgresql.inventory import databases
from cto_backups.sources.postgresql.restore import GLOBALS_FILE, settings_of_all
from cto_backups.sources.postgresql.rows import SequenceAt, Session, hold, sequences
from cto_backups.sources.postgresql.server import Server, said
from cto_backups.sources.postgresql.standby import is_standby, reached
from cto_backups.sources.postgresql.sums import (
    LOGICAL_HASHES,
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
from cto_backups.sources.postgresql.throwaway import throwaway
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import Ready, Stream, StreamTree

_AT_ONCE: Final = 2
_TRIES: Final = 5
_OF_STANDBY: Final = "The server is a standby, which has no rows of unlogged tables: these come back empty"


class LogicalForm:
    """What a source does with databases that are dumped by pg_dump and pg_dumpall."""

    def __init__(self, server: Server, state: Path, chosen: Sequence[str], *, role_passwords: bool) -> None:
        self._server = server
        self._state = state
        self._chosen = chosen
        self._role_passwords = role_passwords

    @contextmanager
    def capture(self, holder: Hold | None = None, more: Sequence[Stream] = ()) -> Iterator[PostgresqlCapture]:
        """Each database at one moment of its own, from when its dump begins. Raises SourceError.

        With `holder` somebody else holds them, each in a session of its own; `more` goes into the point beside dumps.
        """
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
            session = stack.enter_context(self._server.session("postgres"))
            names = self._names(session)
            tools = self._server.programs(session.info.server_version // 10_000)
            now = clock.now()
            has_all_until, notes = (reached(session, now), (_OF_STANDBY,)) if is_standby(session) else (now, ())
            common, shared = self._shared(session, tools)
            moments = Moments(holder or self._held, partial(self._dump, tools), self._summed, pool, stack)
            dumps = [
                Stream(_file(name).encode(), partial(moments.begin, name), partial(self._server.refusal, name))
                for name in names
            ]
            whole = Stream(
                postgresql_restore.GLOBALS_FILE.encode(),
                partial(Ready, common),
                partial(self._server.refusal, "all databases"),
            )
            streams = StreamTree([whole, *dumps, *more], now)
            try:
                yield PostgresqlCapture(streams, has_all_until, moments, shared, notes)
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
        with self._server.session("postgres") as session:
            there = databases(session)
        wanted = postgresql_restore.databases_in(reader, only)
        conflicts = tuple(name for name in wanted if name in there)
        notes = [f"the server {self._server.place} gets: {', '.join(wanted) or 'nothing'}"]
        if conflicts:
            notes.append(f"what is there is kept under another name: {', '.join(conflicts)}")
        return replace(plan, destination=Path(self._server.place), conflicts=conflicts, notes=(*plan.notes, *notes))

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
        with self._server.session("template1", read_only=False) as session, staging(self._state) as place:
            postgresql_restore.refuse_standing(
                self._server.name, postgresql_restore.databases_in(reader, only), databases(session), existing
            )
            restored = reader.restore(place, only=only, options=options, progress=progress)
            if restored.problems:
                return replace(restored, places=())  # another vault may have it whole
            try:
                tools = self._server.programs(session.info.server_version // 10_000)
                kept = landing.land_all(self._server, tools, session, place, clock.now())
            except ToolError as error:
                raise RestoreError(
                    f"source {self._server.name}: its databases were restored in part",
                    why=str(error),
                    todo="look at the server: the one that failed is as it was; others were replaced, and kept beside",
                ) from error
            except psycopg.Error as error:
                raise RestoreError(
                    f"source {self._server.name}: its databases were not restored",
                    why=said(error),
                    todo="let nobody use a database that is to be replaced, and run this again",
                ) from error
        notes = tuple(f"what stood there as {was} is kept as {now}" for was, now in kept.items())
        return replace(restored, places=(self._server.place,), notes=(*restored.notes, *notes))

    def probe(self, restored: Path, server: Mapping[str, str], expected: Fingerprint) -> Fingerprint:
        """Make the databases anew on a throwaway server of the same version, check their indexes, sum them up.

        Raises ToolError, psycopg.Error, VerificationError.
        """
        tools = find_tools(int(server["version"]), self._server.tools)
        with throwaway(tools, server["bootstrap"], scratch=self._server.scratch) as address:
            files = sorted(restored.glob("*.dump"))
            postgresql_restore.make_globals(tools, address, restored / GLOBALS_FILE)
            for file in files:
                postgresql_restore.make_database(tools, address, file)
            names = [unquote(file.name.removesuffix(".dump")) for file in files]
            found = self._found_there(address, names, expected)
            postgresql_restore.check_indexes(tools, address, names)  # adds an extension
            return found

    def _names(self, session: Session) -> list[str]:
        there = databases(session)
        missing = [name for name in self._chosen if name not in there]
        if missing or not there:
            what = ", ".join(missing) or "at all"
            raise SourceError(
                f"source {self._server.name}: there is no database {what} at {self._server.place}",
                why=f"there are: {', '.join(there) or 'none that can be connected to'}",
                todo="correct `databases` of this source in the policy",
            )
        return list(self._chosen or there)

    @contextmanager
    def _held(self, name: str) -> Iterator[Held]:
        """A database at one moment, held until it is dumped and summed up."""
        with self._server.session(name) as session:
            try:
                snapshot = hold(session)
                # Before the dump looks at them: they are in no snapshot, and only move on.
                ahead = sequences(session)
            except psycopg.Error as error:
                raise self._server.unreadable(name, error) from error
            unencoded = session.info.parameter_status("server_encoding") == "SQL_ASCII"
            yield Held(name, session, snapshot, ahead, unencoded)

    def _shared(self, session: Session, tools: Tools) -> tuple[bytes, Shared]:
        """What all databases share, dumped, and summed up at the same moment: again where it changed meanwhile."""
        for _ in range(_TRIES):
            before = shared_lines(session)
            dumped = self._dump_globals(session, tools)
            if shared_lines(session) == before:
                return dumped, Shared(*before, bootstrap(session), session.info.server_version // 10_000)
        raise SourceError(
            f"source {self._server.name}: roles of {self._server.place} change faster than they are dumped",
            why=f"they were others after each of {_TRIES} dumps",
            todo="back up when nobody makes or drops roles",
        )

    def _summed(self, held: Held) -> Summed:
        try:
            return summed_up(held.session, held.name)
        except psycopg.Error as error:
            raise self._server.unreadable(held.name, error) from error

    def _found_there(self, address: Address, names: Sequence[str], expected: Fingerprint) -> Fingerprint:
        """The fingerprint of a server that was made anew. A sequence is as it was, or further on."""
        summed: list[Summed] = []
        come: dict[str, SequenceAt] = {}
        for name in names:
            with address.connect(name) as session:
                summed.append(summed_up(session, name, LOGICAL_HASHES[expected.algorithm]))
                come |= {sequence_key(name, each): each for each in sequences(session)}
        with address.connect("postgres") as session:
            shared, roles = shared_lines(session)
        known = {sample.key: sample for sample in expected.samples}
        samples = [known["server"]]
        for key, sample in known.items():
            if "last" in sample.fields and key in come:
                before = sequence_from(sample)
                samples.append(sample if come[key].reached(before) else sequence_sample(key, come[key]))
        found = fingerprint_of(summed, shared, roles, samples, expected.algorithm)
        wanted = tuple(sample for sample in found.samples if sample.key in known)
        return replace(found, samples=wanted)

    def _dump(self, tools: Tools, held: Held) -> pipes.Output:
        # Not compressed here: the repository finds what is there already, and compresses what is new.
        return self._server.output(
            [
                tools["pg_dump"],
                "--format=custom",
                "--compress=0",
                f"--snapshot={held.snapshot}",
                "--no-password",
                f"--lock-wait-timeout={int(self._server.address.lock_seconds * 1000)}",
                "--create",
                # What is in no encoding is taken as it is.
                *(["--encoding=SQL_ASCII"] if held.unencoded else []),
                f"--dbname={by_name(held.name)}",
            ]
        )

    def _dump_globals(self, session: Session, tools: Tools) -> bytes:
        command = [tools["pg_dumpall"], "--globals-only", "--no-password", "--database=postgres"]
        if not self._role_passwords:
            command.append("--no-role-passwords")
        try:
            variables = self._server.address.environment(PGAPPNAME="cto.backups pg_dumpall").variables
            longest = at_most(self._server.address.limit, self._server.timeout_seconds)
            dumped = run(command, environment=variables, timeout_seconds=longest)
            return dumped + settings_of_all(session)
        except ToolError as error:
            raise self._server.refusal("what all databases share", error) from error


def _file(database: str) -> str:
    return f"{quote(database, safe='')}.dump"
