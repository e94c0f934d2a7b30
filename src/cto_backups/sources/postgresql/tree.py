"""The files of a server, and the log that belongs to them, as a tree that arrives.

`data` is as the server has it, `tablespaces` go by number, `wal` goes up to the end. A server that is started on `data`
finds what it needs by paths that begin there.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from cto_backups import clock
from cto_backups.core.trees import Arrival, Before, BlockReader, Entry, EntryKind
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql import incremental, recovery
from cto_backups.sources.postgresql.between import Between
from cto_backups.sources.postgresql.incremental import LABEL, MANIFEST, Changes, Earlier
from cto_backups.sources.postgresql.log import LogReceiver, written_bytes
from cto_backups.sources.postgresql.manifest import without_maps
from cto_backups.sources.postgresql.moments import HeldMoments, is_quiet, mark
from cto_backups.sources.postgresql.point import AUTO_CONF, DATA, LOG, MOMENTS, TABLESPACES, Moments
from cto_backups.sources.postgresql.replication import BaseBackup, Place, Replication, lsn_text
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.spaces import made_in
from cto_backups.sources.streams import Ready
from cto_backups.sources.tar import Member, TarReader

_REWRITTEN: Final = frozenset({AUTO_CONF, "tablespace_map"})
"""What is written anew once the whole of the server is there."""


class ServerTree:
    """Implements `core.trees.ArrivingTree`: a base backup; or with `between`, when one was made not long ago, what is
    in the point before, and the log since. All files are read every `full_every`, or else what changed in them where
    the server can tell.
    """

    def __init__(
        self,
        server: Server,
        spool: Path,
        held: HeldMoments,
        names: Sequence[str],
        stack: ExitStack,
        *,
        max_rate_kib: int | None,
        between: Between | None,
        full_every: timedelta,
    ) -> None:
        self.root = Entry(b"", b"", EntryKind.FOLDER)
        self.moments: Moments | None = None
        """What the point tells, once all has arrived."""
        self.marked_at: datetime | None = None
        """When the log was marked for the last time, by our clock: what was committed until then is in the point."""
        self.went_on = False
        """Whether the log was added to the point before; else this is a base backup."""
        self.made_slot = False
        """Whether a slot was made that was not there before."""
        self.notes: tuple[str, ...] = ()
        """What a person may want to know of how the server's files were read."""
        self._server = server
        self._spool = spool
        self._held = held
        self._names = names
        self._stack = stack
        self._max_rate_kib = max_rate_kib
        self._between = between
        self._full_every = full_every
        self._owner = os.geteuid(), os.getegid()
        self._given_apart: dict[str, bytes] = {}
        self._receiver: LogReceiver | None = None

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """The server's files, and what follows from them. Raises SourceError, also where a file's bytes are read."""
        try:
            for arrival in self._arriving(before):
                content = arrival.content
                yield arrival if content is None else replace(arrival, content=_Told(content, self._unreadable))
        except ToolError as error:
            raise self._unreadable(error) from error

    def _arriving(self, before: Before | None) -> Iterator[Arrival]:
        log = self._connected()
        place = log.place()
        told = self._between.goes_on(before, place, self._names) if self._between is not None else None
        if before is not None and told is not None:
            yield from self._gone_on(log, before, told)
        else:
            yield from self._based(log, place, before)

    def _unreadable(self, error: ToolError) -> SourceError:
        return SourceError(
            f"source {self._server.name}: the files of the server at {self._server.place} could not be read",
            why=error.detail,
            todo="nothing of this attempt was kept; see that the user may replicate, and what the server says",
        )

    def safe(self) -> None:
        """The point is in a vault: the server may forget the log that is in it. Raises ToolError."""
        if self._receiver is not None and self._between is not None and self.moments is not None:
            self._receiver.safe(self.moments.ends)

    def _connected(self) -> Replication:
        return self._stack.enter_context(Replication(self._server.address, self._server.timeout_seconds))

    # -- all of it -----------------------------------------------------------------------------------------------------

    def _based(self, log: Replication, place: Place, before: Before | None) -> Iterator[Arrival]:
        if self._between is not None:
            slot = self._between.slot
            self.made_slot = self._between.hold(log)
        else:
            slot = f"cto_backups_{secrets.token_hex(6)}"
            log.hold_log(slot)
        begun_at = clock.now()
        started = incremental.started(self._server)
        found = incremental.earlier(self._server, before, place, self._full_every, started)
        files, base, earlier = self._begun(found)
        # Until the base is in a vault, the point before and what is streamed after it go on from what the slot holds.
        receiver = self._received(log, slot, base.begins, base.timeline, lasting=self._between is not None)
        yield from self._files(base, earlier)
        for name in self._names:
            self._held.hold(name)
        self.marked_at = clock.now()
        end = mark(self._server)
        self._compare_tablespaces(base.tablespaces, end.tablespaces)
        self.moments = Moments(
            system=place.system,
            timeline=base.timeline,
            databases=self._held.places,
            target=end.target,
            ends=end.ends,
            begins=base.begins,
            base_at=begun_at,
            since=end.at,
            until=end.at,
            transactions=end.transactions,
            tablespaces=end.tablespaces,
            first=end.target,
            full_at=earlier.moments.full_at if earlier is not None else begun_at,
            started=started,
        )
        spaces = self._given_apart.get("tablespace_map")
        if spaces is not None:
            yield self._given(f"{DATA}/tablespace_map", recovery.tablespace_map(spaces))
        yield self._settings(self._given_apart.get(AUTO_CONF, b""))
        yield self._given(f"{DATA}/recovery.signal", b"")
        if self._makes_tablespace(receiver, base.begins, end.ends):
            self._refuse_tablespaces()
        yield self._folder(LOG)
        yield from self._segments(receiver)
        if base.timeline > 1:
            name, history = files.history(base.timeline)
            yield self._given(f"{LOG}/{name}", history)
        yield self._folder(DATA)
        yield self._given(MOMENTS, self.moments.written())

    def _begun(self, earlier: Earlier | str) -> tuple[Replication, BaseBackup, Earlier | None]:
        """A base backup that builds on an earlier one, or is of all files where the server cannot do that."""
        label = f"cto.backups {self._server.name}".replace("'", " ")
        why = earlier if isinstance(earlier, str) else ""
        if isinstance(earlier, Earlier):
            files = self._connected()
            try:
                files.tell_earlier(without_maps(earlier.manifest))
                base = files.base_backup(label, self._max_rate_kib, incremental=True)
            except ToolError as error:
                files.close()
                why = f"the server does not tell what changed since {earlier.moments.base_at:%Y-%m-%d}: {error.detail}"
            else:
                self.notes = (f"Of the files, what changed since {earlier.moments.base_at:%Y-%m-%d %H:%M} was read",)
                return files, base, earlier
        if why:
            self.notes = (f"All files of the server were read: {why}",)
        files = self._connected()
        return files, files.base_backup(label, self._max_rate_kib), None

    def _files(self, base: BaseBackup, earlier: Earlier | None) -> Iterator[Arrival]:
        yield self._folder(TABLESPACES)
        changes = Changes(earlier) if earlier is not None else None
        for archive, pieces in base.archives():
            if archive == "manifest":
                manifest = b"".join(bytes(piece) for piece in pieces)
                if changes is not None:
                    yield self._given(f"{DATA}/{LABEL.decode()}", changes.label)
                    manifest = changes.manifest(manifest)
                yield self._given(MANIFEST, manifest)
                continue
            oid = archive.removesuffix(".tar")
            within = DATA if oid == "base" else f"{TABLESPACES}/{oid}"
            reader = TarReader(archive, pieces)
            for member in reader.members():
                self._owner = member.uid, member.gid
                name = os.fsdecode(member.path)
                if within == DATA and name in _REWRITTEN:
                    self._given_apart[name] = _read(reader)
                elif changes is not None and within == DATA and member.path == LABEL:
                    changes.take_label(_read(reader))
                elif changes is not None and (changed := changes.file(within, member, reader)) is not None:
                    entry, _ = _entry(within, changed.member, reader)
                    yield Arrival(entry, changed, patch=changed.patch)
                elif not stat.S_ISLNK(member.mode):  # a link to a tablespace: tablespace_map has them all
                    yield Arrival(*_entry(within, member, reader))
            if within != DATA:
                yield self._folder(within)

    # -- the log alone -------------------------------------------------------------------------------------------------

    def _gone_on(self, log: Replication, before: Before, told: Moments) -> Iterator[Arrival]:
        self.went_on = True
        self.marked_at = clock.now()
        top = before.folder(b"")
        if is_quiet(self._server, told.transactions):
            self.moments = told
            yield from (Arrival(entry, kept=True) for entry in top)
            return
        assert self._between is not None
        receiver = self._received(log, self._between.slot, told.ends, told.timeline, lasting=True)
        self.marked_at = clock.now()
        end = mark(self._server)
        self._compare_tablespaces(told.tablespaces, end.tablespaces)
        self.moments = replace(told, target=end.target, ends=end.ends, until=end.at, transactions=end.transactions)
        segments = receiver.until(end.ends, self._server.timeout_seconds)
        is_other = not _continues(before, segments[0], told.ends % receiver.segment_bytes)
        if is_other or self._makes_tablespace(receiver, told.ends, end.ends):
            # The server was set back, and has come further than it was then: its log is another one. Or a tablespace
            # was made that the server does not tell of: it waits for a standby, or was dropped again.
            receiver.close()
            self._receiver, self.moments, self.went_on = None, None, False
            for segment in segments:
                segment.unlink()
            again = self._connected()
            self.notes = ("All files of the server were read: it was set back since the point before",)
            yield from self._based(again, again.place(), None)
            return
        fresh = {segment.name for segment in segments}
        for entry in top:
            self._owner = entry.uid, entry.gid
            match os.fsdecode(entry.name):
                case "data":
                    yield Arrival(entry)
                    yield from self._kept(before, entry, but={AUTO_CONF})
                    yield self._settings(before.content(entry.path + b"/" + AUTO_CONF.encode()) or b"")
                case "wal":
                    yield Arrival(entry)
                    yield from self._kept(before, entry, but=fresh)
                    yield from self._segments(receiver)
                case "moments.json":
                    yield self._given(MOMENTS, self.moments.written())
                case _:
                    yield Arrival(entry, kept=True)

    def _compare_tablespaces(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """What makes a tablespace stands in the log with the server's own path, and would make it again there."""
        if before != after:
            self._refuse_tablespaces()

    def _refuse_tablespaces(self) -> NoReturn:
        raise SourceError(
            f"source {self._server.name}: tablespaces of {self._server.place} were made or dropped meanwhile",
            why="a server that recovered from this would use the paths of the one that it was",
            todo="back up again",
        )

    def _makes_tablespace(self, receiver: LogReceiver, since: int, ends: int) -> bool:
        segments = receiver.until(ends, self._server.timeout_seconds)
        return made_in(segments, since - since % receiver.segment_bytes, since) is not None

    def _kept(self, before: Before, folder: Entry, but: set[str]) -> Iterator[Arrival]:
        for entry in before.folder(folder.path):
            if os.fsdecode(entry.name) not in but:
                yield Arrival(entry, kept=True)

    # -- what both have ------------------------------------------------------------------------------------------------

    def _received(
        self, log: Replication, slot: str, begins: int, timeline: int, *, lasting: bool = False
    ) -> LogReceiver:
        receiver = LogReceiver(log, slot, self._spool, begins, timeline, lasting=lasting)
        self._receiver = self._stack.enter_context(receiver)
        return self._receiver

    def _segments(self, receiver: LogReceiver) -> Iterator[Arrival]:
        assert self.moments is not None
        for segment in receiver.until(self.moments.ends, self._server.timeout_seconds):
            entry = self._own(f"{LOG}/{segment.name}", EntryKind.FILE, stat.S_IFREG | 0o600)
            entry.size = written_bytes(segment)
            yield Arrival(entry, _FileReader(segment, entry.size))

    def _settings(self, before: bytes) -> Arrival:
        """What makes a server that is started on these files recover to the end of the log that is with them."""
        assert self.moments is not None and self._receiver is not None
        target, timeline = lsn_text(self.moments.target), self.moments.timeline
        content = recovery.settings(before, target, timeline, self._receiver.segment_bytes)
        return self._given(f"{DATA}/{AUTO_CONF}", content)

    def _folder(self, path: str) -> Arrival:
        return Arrival(self._own(path, EntryKind.FOLDER, stat.S_IFDIR | 0o700))

    def _given(self, path: str, content: bytes) -> Arrival:
        entry = self._own(path, EntryKind.FILE, stat.S_IFREG | 0o600)
        entry.size = len(content)
        return Arrival(entry, Ready(content))

    def _own(self, path: str, kind: EntryKind, mode: int) -> Entry:
        uid, gid = self._owner
        now = int(clock.now().timestamp()) * 1_000_000_000
        whole = b"/" + os.fsencode(path)
        return Entry(whole.rpartition(b"/")[2], whole, kind, mode, uid, gid, 0, now, now)


def _continues(before: Before, segment: Path, size: int) -> bool:
    """Whether a file of the log begins as the point before has it, as far as that has come."""
    kept = before.content(f"/{LOG}/{segment.name}".encode()) if size else None
    if kept is None:
        return True  # that one was complete
    with segment.open("rb") as file:
        return file.read(size) == kept[:size].ljust(size, b"\0")


class _Told:
    """Implements `core.trees.BlockReader`: what goes wrong while a file comes is told as what it means to people."""

    def __init__(self, reader: BlockReader, refuse: Callable[[ToolError], SourceError]) -> None:
        self._reader, self._refuse = reader, refuse

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._reader.readinto(buffer)
        except ToolError as error:
            raise self._refuse(error) from error

    def close(self) -> None:
        self._reader.close()


class _FileReader:
    """Implements `core.trees.BlockReader` for the beginning of a file of ours."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._left = size

    def readinto(self, buffer: memoryview) -> int:
        count = self._file.readinto(buffer[: min(len(buffer), self._left)]) or 0
        self._left -= count
        return count

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
