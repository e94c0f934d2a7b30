"""SQLite databases."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import BlockReader, CaptureTree, Entry, EntryKind
from cto_backups.core.watched import Place
from cto_backups.errors import RestoreError, SourceError, VerificationError
from cto_backups.sources import beside, moments
from cto_backups.sources.ledger import Ledger, sample_key
from cto_backups.sources.look import look
from cto_backups.sources.mounts import network_file_system
from cto_backups.sources.names import raw, readable
from cto_backups.sources.options import seconds, text
from cto_backups.sources.sqlite import copy as sqlite_copy
from cto_backups.sources.sqlite import seen as sqlite_seen
from cto_backups.sources.sqlite.rows import ALGORITHMS
from cto_backups.sources.staging import staging
from cto_backups.sources.tree import FileTree


class SqliteSource:
    """Implements `core.ports.Source` for one SQLite database.

    Options: `path`; `lock_seconds`, how long to wait for a lock (30). The recovery point holds a copy made by SQLite's
    own online backup, under the database's own path. Nothing is ever written beside the database.
    """

    kind = "sqlite"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._configured = Path(os.path.normpath(text(options, "path")))
        self._lock_seconds = seconds(options, "lock_seconds", 30.0)
        self._state = state / "sources" / name

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The database; where `path` is a folder, the databases below it."""
        path = self._path()
        if path.is_dir():
            return [resource for resource in look(path) if resource.kind == "sqlite"]
        place = readable(os.fsencode(path))
        return [Resource(f"sqlite:{place}", "sqlite", place, path.stat().st_size, moments.changed_at(_content(path)))]

    def places(self) -> Sequence[Place]:
        """The database with its write-ahead log and journal, and a link that leads there. Raises SourceError."""
        found = [self._path()]
        if self._configured.is_symlink():
            found.append(self._configured.parent.resolve() / self._configured.name)
        return [
            Place(os.fsencode(path.parent), names=frozenset(os.fsencode(each.name) for each in _content(path)))
            for path in found
        ]

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """A copy of the database at one moment. Raises SourceError."""
        path = self._path()
        if not path.is_file():
            raise SourceError(
                f"source {self.name}: {path} is not a file",
                why="a SQLite database is one file",
                todo="name the database itself; `discover` lists those in a folder",
            )
        if not any(each.is_file() and each.stat().st_size for each in _files(path)):
            # SQLite takes it for a new database, whose copy restores and proves as well as any.
            raise SourceError(
                f"source {self.name}: {path} holds no byte",
                why="a database has at least a first page; this is what a broken copy or a full disk leaves",
                todo="bring the database back; if it is meant to be empty, take it out of the policy until it is not",
            )
        with staging(self._state) as folder:
            file = folder / "copy.db"
            status = path.stat()
            # Before the copy: it may hold a little more than that, never less.
            newest, seen = moments.written_at(_content(path), clock.now()), sqlite_copy.states(path)
            staged = sqlite_copy.take(self.name, path, file, sample_key(self.name), self._lock_seconds, limit)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
            remember = partial(sqlite_seen.remember, self._state / "seen", seen, staged.fingerprint, staged.captured_at)
            yield _SqliteCapture(path, file, status, staged, newest, remember)

    def still(self, fingerprint: Fingerprint) -> datetime | None:
        """When the database was seen to be as it was captured with this fingerprint; None when it has to be read."""
        now = clock.now()
        try:
            seen = sqlite_copy.states(self._path())
        except (SourceError, OSError):
            return None
        return now if sqlite_seen.still(self._state / "seen", seen, fingerprint, now) else None

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
        plan = reader.plan(destination or Path("/"), only=only)
        target, _ = self._target(reader, destination)
        standing = [str(path) for path in _files(target) if os.path.lexists(path)]
        if not standing:
            return plan
        return replace(
            plan,
            conflicts=tuple(dict.fromkeys((*plan.conflicts, *standing))),
            notes=(
                *plan.notes,
                f"what stands at {target} is kept beside it as {target.name}.before-restore-…, with its -wal and -shm",
                "programs that use the database must be stopped first: they would go on writing to the former one",
            ),
        )

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
        """Write the database; what stands in its place is kept beside it. Raises RefusedError, RestoreError."""
        target, stored = self._target(reader, destination)
        if existing is Existing.REFUSE and any(os.path.lexists(path) for path in _files(target)):
            raise beside.refuse(f"the database of {self.name}", target)
        if not target.parent.is_dir():
            return reader.restore(destination or Path("/"), only=only, options=options, progress=progress)
        now = clock.now()
        try:
            restored, new, place = beside.written_beside(reader, target, stored, only, options, progress, now)
            try:
                if new is None:
                    return restored
                kept = beside.exchange(new, target, sqlite_copy.SIDECARS, now)
            finally:
                shutil.rmtree(place, ignore_errors=True)
        except OSError as error:
            raise RestoreError(
                f"{target} was not restored",
                why=error.strerror or str(error),
                todo=f"look in {target.parent}: what stood there is kept as {beside.kept_name(target, now)}",
            ) from error
        return replace(restored, places=(str(target), *((str(kept),) if kept else ())))

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Check the restored database with SQLite's integrity_check, then fingerprint its rows."""
        stored = next((sample.fields["path"] for sample in expected.samples if sample.key == "database"), None)
        if stored is None or expected.algorithm not in ALGORITHMS:
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a SQLite database",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        file = restored / os.fsdecode(raw(stored).lstrip(b"/"))
        try:
            with closing(sqlite_copy.open_still(file)) as connection:
                wrong = sqlite_copy.complaints(connection, thorough=True)
            if wrong:
                raise self._broken(file, f"SQLite's integrity_check says: {'; '.join(wrong[:3])}")
            key = bytes.fromhex(expected.checksums.get("sample-key", ""))
            found = sqlite_copy.describe(file, stored, key, algorithm=expected.algorithm)
        except (sqlite3.Error, OSError) as error:
            raise self._broken(file, str(error)) from error
        wanted = {sample.key for sample in expected.samples}
        return replace(found, samples=tuple(sample for sample in found.samples if sample.key in wanted))

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _path(self) -> Path:
        path = self._configured
        try:
            return path.resolve(strict=True)
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {path} is not there",
                why=error.strerror or str(error),
                todo="mount what is not mounted, or correct `path` of this source in the policy",
            ) from error

    def _target(self, reader: PointReader, destination: Path | None) -> tuple[Path, str]:
        """Where the point's database goes, and its path inside the point."""
        files = [os.fsdecode(path) for path, entry in reader.listing() if entry.kind is EntryKind.FILE]
        if len(files) != 1:
            raise RestoreError(
                f"this recovery point of {self.name} does not hold a database",
                why=f"it holds {len(files)} files",
                todo="restore it as files with stock restic, or choose another point",
            )
        return (destination or Path("/")) / files[0].lstrip("/"), files[0]

    def _broken(self, file: Path, why: str) -> VerificationError:
        return VerificationError(
            f"source {self.name}: the restored database does not work",
            why=f"{file.name}: {why}",
            todo="verify the vault, and test an older recovery point",
        )


class _SqliteCapture:
    """Implements `core.ports.Capture` over the staged copy."""

    staged = True

    def __init__(
        self,
        path: Path,
        file: Path,
        status: os.stat_result,
        staged: sqlite_copy.Staged,
        newest_content_at: datetime | None,
        remember: Callable[[], None],
    ) -> None:
        self.captured_at: datetime = staged.captured_at
        self.newest_content_at = newest_content_at
        self.paths = (readable(os.fsencode(path)),)
        self._files = FileTree([os.fsencode(path)], Ledger(b"", ()), base=os.fsencode(file), prefix=os.fsencode(path))
        self.tree: CaptureTree = _OriginalAttributes(self._files, os.fsencode(file), os.fsencode(path), status)
        self._fingerprint = staged.fingerprint
        self._remember = remember
        self.notes = _notes(path, staged.fingerprint)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._files.problems

    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def stored(self) -> None:
        """Remember what the files were like: while they stay so, nothing has to be read."""
        self._remember()


def _notes(path: Path, fingerprint: Fingerprint) -> tuple[str, ...]:
    notes = []
    if not fingerprint.counts["tables"]:
        notes.append("the database is empty: it holds no table")
    if (kind := network_file_system(os.fsencode(path))) is not None:
        notes.append(
            f"the database is on a network file system ({kind}), where SQLite's locks may not hold: use it from one"
            " machine alone, this one"
        )
    return tuple(notes)


class _OriginalAttributes:
    """Implements `core.trees.CaptureTree`: the copy with the original's mode, owner and extended attributes."""

    def __init__(self, tree: FileTree, copy: bytes, original: bytes, status: os.stat_result) -> None:
        self._tree = tree
        self._copy = copy
        self._status = status
        try:
            names = os.listxattr(original)
            self._extended = tuple((os.fsencode(name), os.getxattr(original, name)) for name in sorted(names))
        except OSError:
            self._extended = ()

    @property
    def root(self) -> Entry:
        return self._tree.root

    def folder(self, entry: Entry) -> Sequence[Entry]:
        entries = self._tree.folder(entry)
        for child in entries:
            if child.path == self._copy:
                child.mode, child.uid, child.gid = self._status.st_mode, self._status.st_uid, self._status.st_gid
                child.extended = self._extended
        return entries

    def read(self, entry: Entry) -> bytes:
        content = self._tree.read(entry)
        self._settle(entry)
        return content

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        contents = self._tree.read_many(entries)
        for entry, content in zip(entries, contents, strict=True):
            if content is not None:
                self._settle(entry)
        return contents

    def open(self, entry: Entry) -> BlockReader:
        return _SettlingReader(self._tree.open(entry), lambda: self._settle(entry))

    def _settle(self, entry: Entry) -> None:
        """Give the copy what stays the same from run to run, so that an unchanged database adds nothing."""
        entry.ctime_ns, entry.inode = self._status.st_ctime_ns, self._status.st_ino
        entry.device_id, entry.links = self._status.st_dev, 1

    def reuse(self, entry: Entry) -> bool:
        return False

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        return [False] * len(entries)


class _SettlingReader:
    """Implements `core.trees.BlockReader`; does something more at the end."""

    def __init__(self, reader: BlockReader, settle: Callable[[], None]) -> None:
        self._reader = reader
        self._settle = settle

    def readinto(self, buffer: memoryview) -> int:
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()
        self._settle()


def _files(target: Path) -> tuple[Path, ...]:
    return (target, *(Path(f"{target}{ending}") for ending in sqlite_copy.SIDECARS))


def _content(database: Path) -> tuple[Path, ...]:
    """The files that hold what is in a database."""
    return (database, *(Path(f"{database}{ending}") for ending in sqlite_copy.CARRIED))
