"""A bucket as a tree to store: ``/objects`` with a file for each object, and the manifest, which comes last."""

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from threading import Lock
from typing import Final

from cto_backups.core.model import Problem
from cto_backups.core.trees import UNKNOWN_SIZE, BlockReader, Entry, EntryKind, EntryUnreadableError
from cto_backups.errors import SourceError
from cto_backups.sources.bucket.inventory import Inventory, Row
from cto_backups.sources.bucket.manifest import MANIFEST, OBJECTS, PROPERTIES, written
from cto_backups.sources.bucket.reading import GoneError, ObjectReader, whole
from cto_backups.sources.bucket.stores import Found, ObjectStore, UnreadableError
from cto_backups.sources.bucket.sums import Sums
from cto_backups.sources.moments import NewestContent, nanoseconds
from cto_backups.sources.names import readable

_AT_ONCE: Final = 16
"""Requests under way: an answer from a store is waited for longer than it takes to read a small one."""


@dataclass(slots=True)
class ObjectEntry(Entry):
    """A file of an object, by the object's `key`."""

    key: bytes = b""


class BucketTree:
    """Implements `core.trees.CaptureTree`. `sums` are complete once the manifest was read to its end."""

    def __init__(self, store: ObjectStore, inventory: Inventory, sums: Sums, place: str, captured_at: datetime) -> None:
        self._store = store
        self._inventory = inventory
        self._sums = sums
        self._place = place
        self._captured_ns = nanoseconds(captured_at)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="objects")
        self._lock = Lock()
        self._problems: list[Problem] = []
        self.gone = 0
        self.newest_content: Final = NewestContent()

    @property
    def root(self) -> Entry:
        """The folder of the two."""
        return Entry(b"", b"", EntryKind.FOLDER)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read so far."""
        with self._lock:
            return tuple(self._problems)

    def folder(self, entry: Entry) -> Sequence[Entry]:
        """The entries in a folder, sorted by name."""
        if not entry.path:
            return [_folder(b"", OBJECTS), _folder(b"", PROPERTIES)]
        if entry.path == b"/" + PROPERTIES:
            manifest = _file(Entry(MANIFEST, entry.path + b"/" + MANIFEST, EntryKind.FILE, size=UNKNOWN_SIZE))
            manifest.mtime_ns = manifest.ctime_ns = self._captured_ns
            return [manifest]
        inside = entry.path[len(OBJECTS) + 2 :]
        found: list[Entry] = [_folder(entry.path, name) for name in self._inventory.folders(inside)]
        found += [_object(entry.path, row) for row in self._inventory.files(inside)]
        found.sort(key=lambda each: each.name)
        self.newest_content.see(found)
        return found

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The content of small objects, asked for at once; None for one that cannot be read, or is gone."""
        return list(self._pool.map(self._read, entries))

    def _read(self, entry: Entry) -> bytes | None:
        assert isinstance(entry, ObjectEntry)
        try:
            found, content, digest = whole(self._store, self._inventory.get(entry.key).found)
        except GoneError:
            self._is_gone()
        except UnreadableError as error:
            self._note(entry, error)
        else:
            _renew(entry, found)
            self._inventory.learn(found, digest)
            return content
        return None

    def open(self, entry: Entry) -> BlockReader:
        """A reader for a large object, or for the manifest."""
        if not isinstance(entry, ObjectEntry):
            return _ManifestReader(self._lines())
        try:
            reader = ObjectReader(
                self._store,
                self._inventory.get(entry.key).found,
                self._inventory.learn,
                lambda error: self._note(entry, error),
            )
        except GoneError:
            self._is_gone()
            raise EntryUnreadableError(readable(entry.path)) from None
        except UnreadableError as error:
            raise self._note(entry, error) from error
        _renew(entry, reader.found)
        return reader

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Count the content of each of these objects as known; false for one that is not."""
        return [isinstance(entry, ObjectEntry) and self._inventory.reuse(entry.key) for entry in entries]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _lines(self) -> Iterator[bytes]:
        """The manifest, now that everything was read; what it says is summed up on the way."""
        if self.gone:
            next(iter(self._store.listing()), None)  # says so if it is the bucket that is gone
        any_counted = False
        for row in self._inventory.counted():
            any_counted = True
            line = written(row)
            found, digest = row.found, row.sha256 or b""
            self._sums.add_content(found.name, found.size, found.made_ns, digest)
            self._sums.add_line(found.name, line, {**found.told, **found.more})
            yield line
        if not any_counted:
            problems = self.problems
            why = f"{problems[0].path}: {problems[0].detail}" if problems else "they were deleted while it was read"
            raise SourceError(
                f"{self._place}: not one of its objects can be read",
                why=why,
                todo="see what this login may do; docs/how-to/protect-a-bucket.md has the whole role",
            )

    def _is_gone(self) -> None:
        with self._lock:
            self.gone += 1

    def _note(self, entry: Entry, error: UnreadableError) -> EntryUnreadableError:
        with self._lock:
            self._problems.append(Problem(readable(entry.path), error.kind, error.detail))
        return EntryUnreadableError(readable(entry.path))


class _ManifestReader:
    """Implements `core.trees.BlockReader` over lines that are made as they are read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end."""
        filled = 0
        while filled < len(buffer):
            if not self._left:
                self._left = memoryview(next(self._lines, b""))
            if not self._left:
                break
            part = self._left[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            self._left = self._left[len(part) :]
            filled += len(part)
        return filled

    def close(self) -> None:
        """Nothing is open."""


def _folder(parent: bytes, name: bytes) -> Entry:
    mode = stat.S_IFDIR | 0o700
    return Entry(name, parent + b"/" + name, EntryKind.FOLDER, mode, os.geteuid(), os.getegid())


def _file(entry: Entry) -> Entry:
    entry.mode, entry.uid, entry.gid = stat.S_IFREG | 0o600, os.geteuid(), os.getegid()
    return entry


def _object(parent: bytes, row: Row) -> ObjectEntry:
    entry = ObjectEntry(row.file, parent + b"/" + row.file, EntryKind.FILE, key=row.found.name)
    _file(entry)
    _renew(entry, row.found)
    return entry


def _renew(entry: Entry, found: Found) -> None:
    """What an object's file is told by: its state stands where an inode's number does, so that a new one is noticed."""
    entry.size = found.size
    entry.mtime_ns = entry.ctime_ns = found.made_ns
    entry.inode = int.from_bytes(sha256(found.state.encode()).digest()[:8], "big") >> 1
