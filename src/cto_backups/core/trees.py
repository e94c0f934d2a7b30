"""Trees of files as sources offer them and payload stores take them, entry by entry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


class EntryKind(StrEnum):
    """Kinds of nodes in a file tree, by restic's names."""

    FILE = "file"
    FOLDER = "dir"
    SYMLINK = "symlink"
    DEVICE = "dev"
    CHARACTER_DEVICE = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"


UNKNOWN_SIZE: Final = (1 << 63) - 1
"""The size of a stream, known only once it was read: larger than any file, so that it is opened, never read at once.

Of a `CaptureTree`, streams are opened once everything else in it was read."""


@dataclass(slots=True)
class Entry:
    """One node of a captured tree: not frozen, because millions are made.

    `name` is the last component, `path` the place in the source to read it from (bytes, as the kernel gives them).
    `mode` is st_mode with its type bits; times are nanoseconds since 1970; `size` counts only for files, and is
    `UNKNOWN_SIZE` for a stream until its reader came to the end.
    `linktarget` is for symlinks, `device` is st_rdev for devices, `extended` are extended attributes.
    """

    name: bytes
    path: bytes
    kind: EntryKind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device_id: int = 0
    links: int = 1
    device: int = 0
    linktarget: bytes = b""
    extended: tuple[tuple[bytes, bytes], ...] = ()


class EntryUnreadableError(Exception):
    """Reading this entry's content failed for good; the tree has noted the problem, the entry is left out."""


class BlockReader(Protocol):
    """Reads a large file in order, for one thread."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as content goes; 0 at the end. Raises EntryUnreadableError."""

    def close(self) -> None:
        """End; when all was read, the content counts toward the fingerprint and changes while reading are noted."""


class CaptureTree(Protocol):
    """A tree of entries to store, walked by the payload store; the source sees every byte on its way.

    All but `root` may be called from several threads for different entries. Each file is read, opened or reused once
    in the end: that is when it counts.
    """

    @property
    def root(self) -> Entry:
        """The root folder (its name is empty and its metadata is not stored)."""

    def folder(self, entry: Entry) -> Sequence[Entry]:
        """The entries in a folder, strictly sorted by name bytes. An unreadable folder is noted, and empty."""

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The whole contents of small files, in their order; None for one that cannot be read, and is noted.

        All contents are in memory at once: the caller bounds their sum. What changed since is brought up to date.
        """

    def open(self, entry: Entry) -> BlockReader:
        """A reader for a large file. Raises EntryUnreadableError."""

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Count files' contents as already known, in their order; false for one that is not, and must then be read."""


@dataclass(frozen=True, slots=True)
class Patch:
    """How a file differs from what the point before has at its path; all in bytes.

    The first `kept_bytes` of that still count, but where `stretches` are (where each begins, and how long it is; in
    order, apart from each other). What is in neither is zeroes. The entry tells how long the file is now.
    """

    kept_bytes: int
    stretches: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """An entry of a tree that comes in an order of its own; `content` reads a file's bytes, and is None for others.

    One that is `kept` is as the point before has it, a folder with all that is in it: nothing of it is read. With
    `patch`, `content` reads the stretches alone, one behind the other; each buffer that it fills holds what was there.
    """

    entry: Entry
    content: BlockReader | None = None
    kept: bool = False
    patch: Patch | None = None


class Before(Protocol):
    """The point before, as it lies where the new one is written. Everything raises DamageError, VaultError."""

    def folder(self, path: bytes) -> Sequence[Entry]:
        """The entries of a folder (the root is b""), with their paths; none where there is no such folder."""

    def content(self, path: bytes) -> bytes | None:
        """The bytes of a file, which has to be a small one; None where there is no such file."""

    def is_whole(self, path: bytes) -> bool:
        """Whether all that is at a path, and below it, is there to be kept."""


@runtime_checkable
class ArrivingTree(Protocol):
    """A tree that a server sends in an order of its own: nobody can ask for a part of it."""

    @property
    def root(self) -> Entry:
        """The root folder (its name is empty and its metadata is not stored)."""

    def arrivals(self, before: Before | None = None) -> Iterator[Arrival]:
        """Every entry once, also each folder, in any order; `entry.path` is the place in the tree, with a leading '/'.

        A file's content is read to its end, and closed, before the next entry is asked for. Only what is in `before`
        may be kept of it.
        """


AnyTree = CaptureTree | ArrivingTree
