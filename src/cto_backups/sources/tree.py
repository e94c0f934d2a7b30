# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH116
"""A tree of real files, offered for storing: every byte and every attribute passes the ledger on its way.

Speed matters here: folders are listed natively, each system call is made once, nothing is opened to learn what the
listing already said, and an entry is the only object made for a file.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Final

from cto_backups._native import KnownDigests, LearnedDigests, Lister, Literals, extended_attributes, token
from cto_backups.core.model import Problem
from cto_backups.core.trees import BlockReader, Entry, EntryKind, EntryUnreadableError
from cto_backups.sources.ledger import Ledger
from cto_backups.sources.moments import NewestContent
from cto_backups.sources.names import readable
from cto_backups.sources.selection import Selection, is_cache, routes

_KINDS: Final = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFBLK: EntryKind.DEVICE,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
}
# Never waits for the other end of a fifo that took a file's place, never follows a link that did.
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_NOATIME: Final = getattr(os, "O_NOATIME", 0)
# Threads that list folders ahead: it is one thread that asks for them.
_AHEAD: Final = max(1, min(4, (os.cpu_count() or 1) // 2))
_ATTEMPTS: Final = 3
_GROWTH: Final = 64 << 20
_RACY_NS: Final = 2_000_000_000


@dataclass(slots=True)
class TreeEntry(Entry):
    """An entry of a `FileTree`.

    `inside`: a root, or below one. `taken`: a folder above it was named by an include pattern. `token` identifies a
    file's state, `known` is the SHA-256 of its content when that state was read before.
    """

    inside: bool = True
    taken: bool = False
    token: bytes = b""
    known: bytes | None = None


class FileTree:
    """Implements `core.trees.CaptureTree` over folders of this machine.

    `roots` are paths inside the snapshot; the content of a root lies at `base` plus the root without `prefix` (both
    empty: at the root's own path). Folders above the roots are taken from their own paths. `known` has the SHA-256 of
    file states that were read before; `captured_ns` is when the capture began.

    Each entry is to be listed and read once: that is when it is counted.
    """

    def __init__(
        self,
        roots: Collection[bytes],
        ledger: Ledger,
        *,
        base: bytes = b"",
        prefix: bytes = b"",
        selection: Selection | None = None,
        known: KnownDigests | None = None,
        captured_ns: int = 0,
    ) -> None:
        self._ledger = ledger
        self._base = base
        self._cut = len(base)
        self._prefix = prefix
        self._selection = selection or Selection()
        literals = self._selection.exclude.literals
        known = KnownDigests(b"") if known is None else known
        self._lister = Lister(
            TreeEntry,
            _KINDS,
            known,
            Literals(frozenset(), frozenset()) if literals is None else literals,
            0 if self._selection.one_file_system else _AHEAD,  # never into what is not to be looked into
        )
        self._every_choice = literals is None or bool(self._selection.include)
        self._roots = frozenset(roots)
        self._routes = routes(self._roots)
        self._learned = LearnedDigests(captured_ns - _RACY_NS, known)
        self._euid = os.geteuid()
        self._lock = Lock()
        self._problems: list[Problem] = []
        self.newest_content: Final = NewestContent()

    # -- what the payload store calls -------------------------------------------------------------------------------

    @property
    def root(self) -> Entry:
        """The root folder; without a name, its metadata is not stored."""
        whole = b"" in self._roots
        path = self._base if whole else b""
        status = os.stat(path or b"/")
        return TreeEntry(b"", path, EntryKind.FOLDER, status.st_mode, device_id=status.st_dev, inside=whole)

    def folder(self, entry: Entry) -> Sequence[Entry]:
        """The entries in a folder that count, sorted by name; call it once for each folder."""
        inside = isinstance(entry, TreeEntry) and entry.inside
        found = self._listed(entry) if inside else self._on_the_way(entry)
        self.newest_content.see(found)
        self._ledger.add_listed(found, self._prefix, self._cut)
        return found

    def read(self, entry: Entry) -> bytes:
        """The whole content of a file, read again when it changed meanwhile."""
        stable = False
        for attempt in range(_ATTEMPTS):
            descriptor = self._open(entry)
            try:
                if attempt:
                    self._renew(entry, os.fstat(descriptor))
                data = os.read(descriptor, entry.size + 1)
                if attempt or len(data) > 1 << 30:
                    data = _to_the_end(descriptor, data, entry.size + _GROWTH)
                after = os.fstat(descriptor)
            except OSError as error:
                raise self._unreadable(entry, error) from error
            finally:
                os.close(descriptor)
            stable = _same(entry, after)
            if stable and (attempt or len(data) == entry.size):
                break
        entry.size = len(data)
        if not stable:
            self._note(entry.path, "changed-while-read", f"it kept changing during {_ATTEMPTS} attempts to read it")
        self._count(entry, sha256(data).digest(), stable)
        return data

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The whole content of each of these files; None for one that cannot be read, which is noted."""
        contents = self._ledger.read(list(entries), self._prefix, self._cut, self._euid, self._learned)
        for place, content in enumerate(contents):
            if content is None:
                contents[place] = self._read_or_none(entries[place])
        return contents

    def open(self, entry: Entry) -> BlockReader:
        """A reader for a large file, bounded by the size that the file has now."""
        descriptor = self._open(entry)
        try:
            status = os.fstat(descriptor)
            if not _same(entry, status):
                self._renew(entry, status)
        except BaseException:
            os.close(descriptor)
            raise
        return _FileReader(self, entry, descriptor)

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Whether the content of each of these files is known for just its state, and is thereby counted."""
        return self._ledger.add_known(list(entries), self._prefix, self._cut, self._learned)

    # -- what the source asks ---------------------------------------------------------------------------------------

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read so far."""
        with self._lock:
            return tuple(self._problems)

    @property
    def learned(self) -> Iterator[bytes]:
        """Records for `digests.save`: token and SHA-256 of each file that was read or reused, and surely settled."""
        number = 0
        while (part := self._learned.part(number)) is not None:
            yield part
            number += 1

    def walk(self) -> None:
        """Read everything, to fill the ledger; what cannot be read is noted and left out."""
        from cto_backups.sources.walking import read_everything  # not needed where nothing changed

        read_everything(self)

    # -- listing ----------------------------------------------------------------------------------------------------

    def _listed(self, folder: Entry) -> list[TreeEntry]:
        """What a folder below a root holds."""
        selection = self._selection
        taken = isinstance(folder, TreeEntry) and folder.taken
        forced = self._routes.get(folder.path, frozenset())
        only = b"CACHEDIR.TAG" if selection.exclude_caches and is_cache(folder.path) else None
        choose = None
        if forced or only or self._every_choice:
            choose = partial(selection.choose, folder.path, taken, forced, only, self._roots)
        found, troubles = self._lister.folder(folder.path, choose)
        self._note_all(troubles)
        if selection.one_file_system:
            found = [entry for entry in found if self._on_its_file_system(folder, entry)]
        return found

    def _on_its_file_system(self, folder: Entry, entry: TreeEntry) -> bool:
        """Whether an entry belongs to the folder's file system; a folder of another one stays, to mount on again."""
        if entry.device_id == folder.device_id:
            return True
        entry.inside = entry.path in self._roots
        return entry.kind is EntryKind.FOLDER

    def _on_the_way(self, folder: Entry) -> list[TreeEntry]:
        """What stands in a folder above the roots (or in one that is left out): the way to the roots."""
        found: list[TreeEntry] = []
        for name in sorted(self._routes.get(folder.path, ())):
            path = folder.path + b"/" + name
            is_root = path in self._roots
            place = self._base + path[len(self._prefix) :] if is_root else path
            taken = is_root and bool(self._selection.include.match(path, name, True))
            entry, troubles = self._lister.one(name, place, not is_root, is_root, taken)
            self._note_all(troubles)
            if entry is not None:
                found.append(entry)
        return found

    def _note_all(self, troubles: Sequence[tuple[bytes, int, bool]]) -> None:
        for path, number, extended in troubles:
            kind, detail = _reason(OSError(number, os.strerror(number)))
            self._note(path, kind, f"extended attributes: {detail}" if extended else detail)

    def _extended(self, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        try:
            return extended_attributes(path)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA, errno.ENOENT):
                self._note_all([(path, error.errno or 0, True)])
            return ()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _open(self, entry: Entry) -> int:
        try:
            if _NOATIME and self._euid in (0, entry.uid):
                try:
                    descriptor = os.open(entry.path, _OPEN | _NOATIME)
                except PermissionError:
                    descriptor = os.open(entry.path, _OPEN)
            else:
                descriptor = os.open(entry.path, _OPEN)
        except OSError as error:
            raise self._unreadable(entry, error) from error
        return descriptor

    def _read_or_none(self, entry: Entry) -> bytes | None:
        try:
            return self.read(entry)
        except EntryUnreadableError:
            return None

    def _renew(self, entry: Entry, status: os.stat_result) -> None:
        """Take over what the file is now, so that its metadata and its content belong together."""
        if not stat.S_ISREG(status.st_mode):
            self._note(entry.path, "changed-while-read", "it is no longer a regular file")
            raise EntryUnreadableError(readable(entry.path))
        entry.mode, entry.uid, entry.gid = status.st_mode, status.st_uid, status.st_gid
        entry.size, entry.mtime_ns, entry.ctime_ns = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        entry.inode, entry.links, entry.device_id = status.st_ino, status.st_nlink, status.st_dev
        entry.extended = self._extended(entry.path)
        if isinstance(entry, TreeEntry):
            entry.token = token(entry.path, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
            entry.known = None

    def _count(self, entry: Entry, digest: bytes, stable: bool) -> None:
        self._ledger.add(self._prefix + entry.path[self._cut :], entry, digest)
        if stable and isinstance(entry, TreeEntry):
            self._learned.add(entry.token, digest, max(entry.mtime_ns, entry.ctime_ns))

    def _unreadable(self, entry: Entry, error: OSError) -> EntryUnreadableError:
        self._note(entry.path, *_reason(error))
        return EntryUnreadableError(readable(entry.path))

    def _note(self, path: bytes, kind: str, detail: str) -> None:
        with self._lock:
            self._problems.append(Problem(readable(path or b"/"), kind, detail))


class _FileReader:
    """Implements `core.trees.BlockReader`: reads up to the size the file had when it was opened."""

    def __init__(self, tree: FileTree, entry: Entry, descriptor: int) -> None:
        self._tree = tree
        self._entry = entry
        self._descriptor = descriptor
        self._digest = sha256()
        self._left = entry.size
        self._ended = entry.size == 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as content goes."""
        filled = 0
        while not self._ended and filled < len(buffer):
            part = buffer[filled : filled + self._left]
            try:
                count = os.readv(self._descriptor, [part])
            except OSError as error:
                raise self._tree._unreadable(self._entry, error) from error
            self._digest.update(part[:count])
            filled += count
            self._left -= count
            self._ended = count == 0 or self._left == 0
        return filled

    def close(self) -> None:
        """Count the file when all of it was read."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not self._ended:
            return
        entry = self._entry
        stable = _same(entry, after) and self._left == 0
        if not stable:
            self._tree._note(entry.path, "changed-while-read", "it was written to while it was read")
        entry.size -= self._left
        self._tree._count(entry, self._digest.digest(), stable)


def _same(entry: Entry, status: os.stat_result) -> bool:
    return (
        entry.size == status.st_size
        and entry.mtime_ns == status.st_mtime_ns
        and entry.ctime_ns == status.st_ctime_ns
        and entry.inode == status.st_ino
    )


def _to_the_end(descriptor: int, data: bytes, limit: int) -> bytes:
    """Read on; a file may hold more than its size says, but one that grows while it is read must come to an end."""
    parts = [data]
    length = len(data)
    while length < limit and (part := os.read(descriptor, min(1 << 20, limit - length))):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _reason(error: OSError) -> tuple[str, str]:
    """Kind and detail of a problem."""
    detail = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "vanished", detail
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission", detail
    if error.errno == errno.ELOOP:
        return "changed-while-read", "it became a symbolic link"
    return "unreadable", detail
