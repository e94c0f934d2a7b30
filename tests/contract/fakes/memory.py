"""A vault and a captured tree that live in memory: fast, and easy to damage by hand."""

import random
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from threading import Lock

from cto_backups.core.trees import Arrival, Before, Buffer, Entry, EntryKind, EntryUnreadableError, Patch
from cto_backups.core.vaults import StoredFile, Summed
from cto_backups.errors import SourceError, VaultError, VaultExistsError, VaultMissingError


class MemoryVault:
    """A vault whose stored files are `files`, by key."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.location = f"memory:{name}"
        self.requests_at_once = 1
        self.files: dict[str, bytes] = {}
        self.reads: list[str] = []
        self._lock = Lock()

    def check(self) -> None:
        pass

    def create(self) -> None:
        pass

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        content = b"".join(parts)
        if isinstance(parts, Summed):
            assert sha256(content).digest() == parts.sha256, "who says that it knows the sum knows it"
        with self._lock:
            if key in self.files and not overwrite:
                raise VaultExistsError(f"{key} is in vault {self.name} already")
            self.files[key] = content

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        self.put(key, [bytes(piece) for piece in pieces], overwrite=overwrite)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self.reads.append(key)
        try:
            content = self.files[key]
        except KeyError:
            raise VaultMissingError(f"{key} is not in vault {self.name}") from None
        if length is None:
            return content[offset:]
        if offset + length > len(content):
            raise VaultError(f"{key} in vault {self.name} is too short")
        return content[offset : offset + length]

    def size(self, key: str) -> int:
        try:
            return len(self.files[key])
        except KeyError:
            raise VaultMissingError(f"{key} is not in vault {self.name}") from None

    def list(self, prefix: str) -> Iterator[StoredFile]:
        start = f"{prefix}/" if prefix else ""
        yield from [StoredFile(key, len(self.files[key])) for key in list(self.files) if key.startswith(start)]

    def delete(self, key: str) -> None:
        self.files.pop(key, None)

    def keys(self, part: str) -> Sequence[str]:
        """Keys that contain `part`, sorted."""
        return sorted(key for key in self.files if part in key)

    def flip(self, key: str, at: int) -> None:
        """Change one bit of a stored file; where it is shorter than that, counted from its beginning again."""
        content = bytearray(self.files[key])
        content[at % len(content)] ^= 1
        self.files[key] = bytes(content)


Content = bytes | Entry | Mapping[bytes, "Content"]


class MemoryTree:
    """A captured tree given as nested mappings of names to contents, or ready entries whose content is in `data`."""

    def __init__(self, content: Mapping[bytes, Content], *, mtime_ns: int = 1_700_000_000_123_456_789) -> None:
        self.content = content
        self.mtime_ns = mtime_ns
        self.data: dict[bytes, bytes] = {}
        self.read_paths: list[bytes] = []
        self.unreadable: set[bytes] = set()
        self.reusable = True
        self.during_read: Callable[[bytes], None] = lambda path: None

    @property
    def root(self) -> Entry:
        return Entry(b"", b"", EntryKind.FOLDER)

    def folder(self, entry: Entry) -> Sequence[Entry]:
        here = self._at(entry.path)
        assert isinstance(here, Mapping)
        return [self._entry(entry.path + b"/" + name, name, here[name]) for name in sorted(here)]

    def read(self, entry: Entry) -> bytes:
        self.during_read(entry.path)
        self.read_paths.append(entry.path)
        if entry.path in self.unreadable:
            raise EntryUnreadableError
        return self._bytes(entry)

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        contents: list[bytes | None] = []
        for entry in entries:
            try:
                contents.append(self.read(entry))
            except EntryUnreadableError:
                contents.append(None)
        return contents

    def open(self, entry: Entry) -> "MemoryReader":
        self.read_paths.append(entry.path)
        return MemoryReader(self._bytes(entry), broken=entry.path in self.unreadable)

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        return [self.reusable] * len(entries)

    def _at(self, path: bytes) -> Content:
        here: Content = self.content
        for name in path.split(b"/")[1:]:
            assert isinstance(here, Mapping)
            here = here[name]
        return here

    def _bytes(self, entry: Entry) -> bytes:
        content = self._at(entry.path)
        return content if isinstance(content, bytes) else self.data[entry.path]

    def _entry(self, path: bytes, name: bytes, content: Content) -> Entry:
        if isinstance(content, Entry):
            content.path = path
            content.name = name
            return content
        inode = 1 + hash(path) % (1 << 40)
        if isinstance(content, Mapping):
            return Entry(name, path, EntryKind.FOLDER, stat.S_IFDIR | 0o755, mtime_ns=self.mtime_ns, inode=inode)
        return Entry(
            name,
            path,
            EntryKind.FILE,
            stat.S_IFREG | 0o644,
            size=len(content),
            mtime_ns=self.mtime_ns,
            ctime_ns=self.mtime_ns,
            inode=inode,
        )


class ArrivingMemoryTree:
    """The same, coming in an order of its own."""

    def __init__(self, tree: MemoryTree, order: random.Random) -> None:
        self.tree = tree
        self.root = tree.root
        self.left_out: set[bytes] = set()
        self.kept: set[bytes] = set()
        self.seen: dict[bytes, bytes | None] = {}
        self.breaks_off_in: bytes | None = None
        self.patches: dict[bytes, Patch] = {}
        self.stood_there: dict[bytes, bytes] = {}
        """Of files with a patch, what stood where something else is now."""
        self._order = order

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        entries, waiting = [], [self.root]
        for path in self.kept:
            self.seen[path] = before.content(path) if before else None
            above = path.rpartition(b"/")[0]
            for entry in before.folder(above) if before else ():
                if entry.path == path:
                    yield Arrival(entry, kept=True)
        while waiting:
            inside = [entry for entry in self.tree.folder(waiting.pop()) if entry.path not in self.kept]
            entries += inside
            waiting += [entry for entry in inside if entry.kind is EntryKind.FOLDER]
        self._order.shuffle(entries)
        for entry in entries:
            if entry.path in self.patches:
                patch = self.patches[entry.path]
                yield Arrival(entry, StretchReader(self, entry, patch), patch=patch)
            elif entry.path not in self.left_out:
                reader = self.tree.open(entry) if entry.kind is EntryKind.FILE else None
                yield Arrival(entry, BrokenReader() if entry.path == self.breaks_off_in else reader)


class StretchReader:
    """Reads of a file what differs, in pieces of awkward sizes, and notes what stood there."""

    def __init__(self, tree: ArrivingMemoryTree, entry: Entry, patch: Patch) -> None:
        self._tree = tree
        self._path = entry.path
        whole = tree.tree.read(entry)
        self._content = b"".join(whole[begins : begins + length] for begins, length in patch.stretches)
        self._at = 0
        self._tree.stood_there[entry.path] = b""

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._content) - self._at, 4_099)
        self._tree.stood_there[self._path] += bytes(buffer[:count])
        buffer[:count] = self._content[self._at : self._at + count]
        self._at += count
        return count

    def close(self) -> None:
        assert self._at == len(self._content), "all of it was read"


class BrokenReader:
    """A reader whose other end is gone after a few bytes."""

    def __init__(self) -> None:
        self._read = False

    def readinto(self, buffer: memoryview) -> int:
        if self._read:
            raise SourceError("the connection is gone")
        self._read = True
        buffer[:3] = b"any"
        return 3

    def close(self) -> None:
        """Nothing is open."""


class MemoryReader:
    """Reads a content in order, in pieces of awkward sizes; a `broken` one fails half-way."""

    def __init__(self, content: bytes, *, broken: bool) -> None:
        self._content = content
        self._at = 0
        self._broken = broken

    def readinto(self, buffer: memoryview) -> int:
        if self._broken and self._at >= len(self._content) // 2:
            raise EntryUnreadableError
        count = min(len(buffer), len(self._content) - self._at, 1_000_003)
        buffer[:count] = self._content[self._at : self._at + count]
        self._at += count
        return count

    def close(self) -> None:
        pass
