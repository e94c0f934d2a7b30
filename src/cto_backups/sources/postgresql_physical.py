"""The files of a whole server with the log that makes them one moment, and the moments of its databases."""

import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.ports import (
    AnyTree,
    Arrival,
    BlockReader,
    Capture,
    Entry,
    EntryKind,
    Existing,
    PointReader,
    Progress,
    Restored,
    RestoreOptions,
    RestorePlan,
)
from cto_backups.errors import RefusedError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources import postgresql_recovery
from cto_backups.sources.postgresql_inventory import databases
from cto_backups.sources.postgresql_log import LogReceiver
from cto_backups.sources.postgresql_moment import (
    Ready,
    Summed,
    bootstrap,
    fingerprint_of,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)
from cto_backups.sources.postgresql_moments import Moment, moment
from cto_backups.sources.postgresql_recovery import AUTO_CONF, DATA, LOG, MOMENTS, PHYSICAL, TABLESPACES, Moments
from cto_backups.sources.postgresql_replication import BaseBackup, Replication, lsn, lsn_text
from cto_backups.sources.postgresql_rows import Session
from cto_backups.sources.postgresql_server import Server
from cto_backups.sources.staging import staging
from cto_backups.sources.tar import Member, TarReader

_AT_ONCE: Final = 2
_KEPT_WHOLE: Final = frozenset({AUTO_CONF, "tablespace_map"})
"""What is written anew once the whole of the server is there."""


class PhysicalForm:
    """What a source does with a server whose files are copied while it works."""

    def __init__(self, server: Server, state: Path, max_rate_kib: int | None) -> None:
        self._server = server
        self._state = state
        self._max_rate_kib = max_rate_kib

    def made(self, reader: PointReader) -> bool:
        """Whether a point is of this form."""
        return any(True for _ in reader.listing([f"/{DATA}/PG_VERSION"]))

    @contextmanager
    def capture(self) -> Iterator[Capture]:
        """The server's files, and each database at a moment after them. Raises SourceError."""
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fingerprint") as pool:
            with self._server.session("postgres") as session:
                self._refuse_standby(session)
                names = list(databases(session))
                first = bootstrap(session)
                major = session.info.server_version // 10_000
            spool = stack.enter_context(staging(self._state))
            tree = _ServerTree(self._server, spool, names, pool, stack, self._max_rate_kib)
            capture = PhysicalCapture(tree, {"version": str(major), "bootstrap": first})
            try:
                yield capture
            finally:
                tree.cancel()

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do."""
        return reader.plan(self._somewhere(destination), only=only, existing=existing, options=options)

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
        """Write a data directory that a server recovers by itself once it is started. Raises RefusedError."""
        place = self._somewhere(destination)
        return reader.restore(place, only=only, existing=existing, options=options, progress=progress)

    def probe(self, restored: Path, server: Mapping[str, str], expected: Fingerprint) -> Fingerprint:
        """Recover to each database's moment and sum it up, then to the end, and check the indexes.

        Raises ToolError, psycopg.Error, VerificationError.
        """
        return postgresql_recovery.recovered(self._server, restored, server, expected)

    def _somewhere(self, destination: Path | None) -> Path:
        if destination is not None:
            return destination
        raise RefusedError(
            f"source {self._server.name}: the files of a server are not restored into one that is running",
            why="it would have to stop, and its files to go, before they can be replaced",
            todo="restore with --to FOLDER, and start a server on the folder `data` in it",
        )

    def _refuse_standby(self, session: Session) -> None:
        (standby,) = session.execute("SELECT pg_is_in_recovery()").fetchone() or (False,)
        if standby:
            raise SourceError(
                f"source {self._server.name}: the server at {self._server.place} is a standby",
                why="a standby does not tell at which moments its databases were summed up",
                todo="name its primary in the policy, or use `method: logical`",
            )


class PhysicalCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()
    newest_content_at: datetime | None = None
    paths = ("/",)

    def __init__(self, tree: "_ServerTree", server: Mapping[str, str]) -> None:
        self.tree: AnyTree = tree
        self._arriving = tree
        self._server = server
        self._begun_at = clock.now()

    @property
    def captured_at(self) -> datetime:
        """When the first database was held: what was committed until then is in the point."""
        return self._arriving.held_at or self._begun_at

    def fingerprint(self) -> Fingerprint:
        """Complete once every table was summed up. Raises SourceError."""
        return self._arriving.fingerprint(self._server)

    def stored(self) -> None:
        """Nothing is remembered."""


class _ServerTree:
    """Implements `core.ports.ArrivingTree`: `data` as the server has it, `tablespaces` by number, `wal` up to the end.

    A server that is started on `data` finds what it needs by paths that begin there.
    """

    def __init__(
        self,
        server: Server,
        spool: Path,
        names: Sequence[str],
        pool: ThreadPoolExecutor,
        stack: ExitStack,
        max_rate_kib: int | None,
    ) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.held_at: datetime | None = None
        self._server = server
        self._spool = spool
        self._names = names
        self._pool = pool
        self._stack = stack
        self._max_rate_kib = max_rate_kib
        self._owner = os.geteuid(), os.getegid()
        self._rewritten: dict[str, bytes] = {}
        self._taken: list[tuple[Moment, Future[Summed]]] = []
        self._shared: tuple[dict[str, str], int] = ({}, 0)

    def arrivals(self) -> Iterator[Arrival]:
        """The server's files, and what follows from them."""
        try:
            yield from self._arrivals()
        except ToolError as error:
            raise SourceError(
                f"source {self._server.name}: the files of the server at {self._server.place} could not be read",
                why=error.detail,
                todo="nothing of this attempt was kept; see that the user may replicate, and what the server says",
            ) from error

    def _arrivals(self) -> Iterator[Arrival]:
        slot = f"cto_backups_{secrets.token_hex(6)}"
        log = self._stack.enter_context(Replication(self._server.address, self._server.timeout_seconds))
        log.hold_log(slot)
        files = self._stack.enter_context(Replication(self._server.address, self._server.timeout_seconds))
        place = files.place()
        base = files.base_backup(f"cto.backups {self._server.name}".replace("'", " "), self._max_rate_kib)
        receiver = self._stack.enter_context(LogReceiver(log, slot, self._spool, base.begins, base.timeline))
        yield from self._files(base)
        for name in self._names:
            self._hold(name)
        target, end = self._mark()
        yield from self._recovery(base.timeline, target)
        segments = receiver.until(end, self._server.timeout_seconds)
        yield self._folder(LOG)
        for segment in segments:
            yield self._given(f"{LOG}/{segment.name}", _FileReader(segment), segment.stat().st_size)
        if base.timeline > 1:
            name, history = files.history(base.timeline)
            yield self._given(f"{LOG}/{name}", Ready(history), len(history))
        yield self._folder(DATA)
        databases = {held.name: held.at for held, _ in self._taken}
        told = Moments(place.system, base.timeline, target, databases).written()
        yield self._given(MOMENTS, Ready(told), len(told))

    def _files(self, base: BaseBackup) -> Iterator[Arrival]:
        yield self._folder(TABLESPACES)
        for archive, pieces in base.archives():
            if archive == "manifest":
                content = b"".join(bytes(piece) for piece in pieces)
                yield self._given(f"{DATA}/backup_manifest", Ready(content), len(content))
                continue
            oid = archive.removesuffix(".tar")
            within = DATA if oid == "base" else f"{TABLESPACES}/{oid}"
            reader = TarReader(archive, pieces)
            for member in reader.members():
                self._owner = member.uid, member.gid
                name = os.fsdecode(member.path)
                if within == DATA and name in _KEPT_WHOLE:
                    self._rewritten[name] = _read(reader)
                elif not stat.S_ISLNK(member.mode):  # a link to a tablespace: tablespace_map has them all
                    yield Arrival(*_entry(within, member, reader))
            if within != DATA:
                yield self._folder(within)

    def _recovery(self, timeline: int, target: int) -> Iterator[Arrival]:
        """What makes a server that is started on these files recover to the end of the log that is with them."""
        spaces = self._rewritten.get("tablespace_map")
        if spaces is not None:
            content = postgresql_recovery.tablespace_map(spaces)
            yield self._given(f"{DATA}/tablespace_map", Ready(content), len(content))
        content = postgresql_recovery.settings(self._rewritten.get(AUTO_CONF, b""), lsn_text(target), timeline)
        yield self._given(f"{DATA}/{AUTO_CONF}", Ready(content), len(content))
        yield self._given(f"{DATA}/recovery.signal", Ready(b""), 0)

    # -- moments -------------------------------------------------------------------------------------------------------

    def _hold(self, name: str) -> None:
        """Hold a database at a moment, and begin to sum it up."""
        begun = clock.now()
        held = moment(self._server, name)
        self._stack.callback(held.release.close)
        if not self._taken:
            self.held_at = begun
            self._shared = shared_lines(held.session)
        self._taken.append((held, self._pool.submit(self._summed, held)))

    def _summed(self, held: Moment) -> Summed:
        try:
            return summed_up(held.session, held.name, unlogged=False)
        except psycopg.Error as error:
            raise self._server.unreadable(held.name, error) from error
        finally:
            held.release.close()

    def _mark(self) -> tuple[int, int]:
        """Write something into the log, after all moments: where it is, and up to where the log is needed.

        A server that recovers stops after what follows a place: at the very end of a log it would not find any.
        """
        with self._server.session("postgres", read_only=False) as session:
            session.execute("SET synchronous_commit = local")
            marked = session.execute("SELECT pg_logical_emit_message(true, 'cto.backups', 'end')::text").fetchone()
            flushed = session.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert marked is not None and flushed is not None
        return lsn(marked[0]), lsn(flushed[0])

    def cancel(self) -> None:
        """Let go of everything: nobody asks for the sums any more, or all are there."""
        for held, future in self._taken:
            if not future.cancel() and not future.done():
                held.session.cancel()

    def fingerprint(self, server: Mapping[str, str]) -> Fingerprint:
        """The fingerprint of the databases, each at its moment."""
        samples = [Sample("server", server)]
        for held, _ in self._taken:
            samples += [sequence_sample(sequence_key(held.name, each), each) for each in held.ahead]
        summed = [future.result() for _, future in self._taken]
        return fingerprint_of(summed, *self._shared, samples, PHYSICAL)

    # -- entries -------------------------------------------------------------------------------------------------------

    def _folder(self, path: str) -> Arrival:
        return Arrival(self._own(path, EntryKind.FOLDER, stat.S_IFDIR | 0o700))

    def _given(self, path: str, reader: BlockReader, size: int) -> Arrival:
        entry = self._own(path, EntryKind.FILE, stat.S_IFREG | 0o600)
        entry.size = size
        return Arrival(entry, reader)

    def _own(self, path: str, kind: EntryKind, mode: int) -> Entry:
        uid, gid = self._owner
        now = int(clock.now().timestamp()) * 1_000_000_000
        whole = b"/" + os.fsencode(path)
        return Entry(whole.rpartition(b"/")[2], whole, kind, mode, uid, gid, 0, now, now)


class _FileReader:
    """Implements `core.ports.BlockReader` for a file of ours."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()


def _entry(within: str, member: Member, reader: TarReader) -> tuple[Entry, TarReader | None]:
    path = b"/" + os.fsencode(within) + b"/" + member.path
    is_file = stat.S_ISREG(member.mode)
    moment_ns = member.mtime * 1_000_000_000
    entry = Entry(
        path.rpartition(b"/")[2],
        path,
        EntryKind.FILE if is_file else EntryKind.FOLDER,
        member.mode,
        member.uid,
        member.gid,
        member.size if is_file else 0,
        moment_ns,
        moment_ns,
    )
    return entry, reader if is_file else None


def _read(reader: TarReader) -> bytes:
    content = bytearray()
    buffer = bytearray(1 << 16)
    while count := reader.readinto(memoryview(buffer)):
        content += buffer[:count]
    return bytes(content)
