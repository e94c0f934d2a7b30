# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211
"""A recovery point in memory: what a payload store would keep of a captured tree, and would write back.

It shares no code with the repository, so that a test of a source tests the source.
"""

import copy
import fnmatch
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cto_backups.core.model import Problem
from cto_backups.core.ports import Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import (
    UNKNOWN_SIZE,
    AnyTree,
    Arrival,
    ArrivingTree,
    CaptureTree,
    Entry,
    EntryKind,
    EntryUnreadableError,
)
from cto_backups.errors import NotFoundError, RefusedError


class MemoryPoint:
    """Implements `core.ports.PointReader` over entries and contents by their path inside the point."""

    def __init__(self, entries: dict[bytes, tuple[Entry, bytes]]) -> None:
        self.entries = entries
        self.reused = 0

    @classmethod
    def of(
        cls,
        tree: AnyTree,
        *,
        threads: int = 1,
        known: "MemoryPoint | None" = None,
        block: int = 0,
        together: bool = False,
    ) -> "MemoryPoint":
        """Store a tree; files that `known` has and the tree knows are not read. `block`: files from this size on are
        read in pieces; `together`: the other files of a folder are read at once."""
        if isinstance(tree, ArrivingTree):
            return cls({arrival.entry.path: (arrival.entry, _arrived(arrival)) for arrival in tree.arrivals()})
        return cls._walked(tree, threads, known, block, together)

    @classmethod
    def _walked(
        cls, tree: CaptureTree, threads: int, known: "MemoryPoint | None", block: int, together: bool
    ) -> "MemoryPoint":
        point = cls({})
        block = block or UNKNOWN_SIZE
        with ThreadPoolExecutor(threads) as pool:

            def visit(path: bytes, folder: Entry) -> None:
                children = tree.folder(folder)
                names = [child.name for child in children]
                assert names == sorted(set(names)), "a folder's entries are strictly sorted by name"
                files = [child for child in children if child.kind is EntryKind.FILE]
                if together:
                    contents = read_together(path, files)
                else:
                    contents = dict(zip(map(id, files), pool.map(lambda child: read(path, child), files), strict=True))
                for child in children:
                    where = path + b"/" + child.name
                    if child.kind is EntryKind.FILE:
                        content = contents[id(child)]
                        if content is not None:
                            point.entries[where] = (copy.copy(child), content)
                    else:
                        point.entries[where] = (copy.copy(child), b"")
                    if child.kind is EntryKind.FOLDER:
                        visit(where, child)

            def read(path: bytes, child: Entry) -> bytes | None:
                former = known.entries.get(path + b"/" + child.name) if known else None
                if former is not None and tree.reuse_many([child])[0]:
                    point.reused += 1
                    return former[1]
                if block <= child.size:
                    return read_in_blocks(tree, child, min(block, 1 << 16))  # of a stream, nobody knows the size
                return tree.read_many([child])[0]

            def read_together(path: bytes, files: Sequence[Entry]) -> dict[int, bytes | None]:
                formers = known.entries if known else {}
                likely = [child for child in files if path + b"/" + child.name in formers]
                reused = {id(child) for child, same in zip(likely, tree.reuse_many(likely), strict=True) if same}
                point.reused += len(reused)
                rest = [child for child in files if id(child) not in reused and child.size < block]
                contents = dict(zip(map(id, rest), tree.read_many(rest), strict=True))
                for child in files:
                    if id(child) in reused:
                        contents[id(child)] = formers[path + b"/" + child.name][1]
                    elif id(child) not in contents:
                        contents[id(child)] = read(path, child)
                return contents

            assert tree.root.name == b""
            visit(b"", tree.root)
        return point

    def listing(self, only: Sequence[str] = ()) -> Iterator[tuple[bytes, Entry]]:
        for path, (entry, _) in self._chosen(only):
            yield path, entry

    def plan(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        chosen = self._chosen(only, options)
        if only and not chosen:
            raise NotFoundError("nothing matches")
        sizes = sum(entry.size for _, (entry, _) in chosen if entry.kind is EntryKind.FILE)
        kept = self._kept(destination, only, options) if existing is Existing.OVERWRITE else {}
        conflicts = tuple(
            place for place in self._conflicts(destination, only, options) if os.fsencode(place) not in kept
        )
        notes = self._spared(destination, only, options)
        plan = RestorePlan(destination, len(chosen), sizes, conflicts, notes, len(kept), sum(kept.values()))
        if not options or not options.delete or existing is not Existing.OVERWRITE:
            return plan
        gone, topmost = self._extraneous(destination, only, options)
        names = tuple(os.fsdecode(place) for place in topmost)
        return replace(plan, extraneous=names, deleted_entries=len(gone), deleted_bytes=_sizes(gone))

    def restore(
        self,
        destination: Path,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        conflicts = self._conflicts(destination, only, options)
        if conflicts and existing is Existing.REFUSE:
            raise RefusedError("it is there already", why=", ".join(conflicts))
        chosen = self._chosen(only, options)
        notes = self._spared(destination, only, options)
        if options and options.spare and only and not chosen:
            raise RefusedError("it is in use", why=", ".join(notes))
        kept = self._kept(destination, only, options)
        inodes: dict[tuple[int, int], bytes] = {}
        for path, (entry, content) in chosen:
            place = os.fsencode(destination) + path
            os.makedirs(os.path.dirname(place), exist_ok=True)
            first = inodes.setdefault((entry.device_id, entry.inode), place) if entry.links > 1 else place
            if place not in kept:
                _write(place, entry, content, first)
        for path, (entry, _) in reversed(chosen):
            _attributes(os.fsencode(destination) + path, entry)
        size = sum(len(content) for _, (_, content) in chosen)
        altered = self._altered(destination, only, options) if options and options.verify else ()
        restored = Restored(len(chosen), size, 0.0, (str(destination),), altered, len(kept), sum(kept.values()), notes)
        if not options or not options.delete or existing is not Existing.OVERWRITE:
            return restored
        gone, _ = self._extraneous(destination, only, options)
        size_bytes = _sizes(gone)
        for place in gone:
            if os.path.isdir(place) and not os.path.islink(place):
                os.rmdir(place)
            else:
                os.unlink(place)
        for path, (entry, _) in reversed(chosen):
            _attributes(os.fsencode(destination) + path, entry)
        return replace(restored, deleted_entries=len(gone), deleted_bytes=size_bytes)

    def _extraneous(
        self, destination: Path, only: Sequence[str], options: RestoreOptions
    ) -> tuple[list[bytes], list[bytes]]:
        """What is to go, each folder after what it holds; and the topmost of it."""
        base = os.fsencode(destination)
        chosen = self._chosen(only, options)
        folders = [path for path, (entry, _) in chosen if entry.kind is EntryKind.FOLDER]
        gone: list[bytes] = []
        topmost = []

        def clear(path: bytes) -> bool:
            place = base + path
            folder = os.path.isdir(place) and not os.path.islink(place)
            if options.leave is not None and options.leave(path, folder):
                return False
            if folder and not all([clear(path + b"/" + name) for name in os.listdir(place)]):
                return False
            gone.append(place)
            return True

        for folder in folders if only else [b"", *folders]:
            if os.path.isdir(base + folder) and not os.path.islink(base + folder):
                for name in sorted(os.listdir(base + folder)):
                    if folder + b"/" + name not in self.entries:
                        before = len(gone)
                        clear(folder + b"/" + name)
                        topmost += [base + folder + b"/" + name] if len(gone) > before else []
        return gone, topmost

    def _kept(self, destination: Path, only: Sequence[str], options: RestoreOptions | None) -> dict[bytes, int]:
        """What stands there as it should, apart from folders, with its size."""
        kept = {}
        for path, (entry, content) in self._chosen(only, options):
            place = os.fsencode(destination) + path
            if entry.kind is EntryKind.FOLDER or not os.path.lexists(place):
                continue
            there = os.lstat(place)
            same = stat.S_IFMT(there.st_mode) == stat.S_IFMT(entry.mode) and there.st_nlink == 1 == entry.links
            if same and entry.kind is EntryKind.FILE:
                trusted = options is not None and options.trust_times and there.st_mtime_ns == entry.mtime_ns
                same = there.st_size == len(content) and (trusted or _content(place) == content)
            if same and (entry.kind is not EntryKind.SYMLINK or os.readlink(place) == entry.linktarget):
                kept[place] = len(content)
        return kept

    def _altered(self, destination: Path, only: Sequence[str], options: RestoreOptions) -> tuple[Problem, ...]:
        return tuple(
            Problem(os.fsdecode(path), "altered", "its content is not what was written")
            for path, (entry, content) in self._chosen(only, options)
            if entry.kind is EntryKind.FILE and _content(os.fsencode(destination) + path) != content
        )

    def _spared(self, destination: Path, only: Sequence[str], options: RestoreOptions | None) -> tuple[str, ...]:
        """A note for each path that is selected and to be spared."""
        spare = options.spare if options else ()
        return tuple(f"{destination}{os.fsdecode(path)} is spared" for path, _ in self._chosen(only) if path in spare)

    def _chosen(
        self, only: Sequence[str], options: RestoreOptions | None = None
    ) -> list[tuple[bytes, tuple[Entry, bytes]]]:
        spare = options.spare if options else ()

        def wanted(path: bytes) -> bool:
            text = os.fsdecode(path)
            if any(path == one or path.startswith(one + b"/") for one in spare):
                return False
            return not only or any(
                fnmatch.fnmatch(text, pattern) or text == pattern or text.startswith(pattern.rstrip("/") + "/")
                for pattern in only
            )

        return [(path, self.entries[path]) for path in sorted(self.entries, key=_depth_first) if wanted(path)]

    def _conflicts(self, destination: Path, only: Sequence[str], options: RestoreOptions | None) -> tuple[str, ...]:
        places = [
            os.fsencode(destination) + path
            for path, (entry, _) in self._chosen(only, options)
            if entry.kind is not EntryKind.FOLDER
        ]
        return tuple(os.fsdecode(place) for place in places if os.path.lexists(place))


_implements: type[PointReader] = MemoryPoint


@dataclass(frozen=True)
class MemoryFetch:
    """Implements `core.database_restore.Fetch` over a point in memory."""

    point: MemoryPoint

    def listing(self) -> Iterator[tuple[bytes, Entry]]:
        return self.point.listing()

    def __call__(self, place: Path, *, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        self.point.restore(place, only=only)


def read_in_blocks(tree: CaptureTree, entry: Entry, block: int) -> bytes | None:
    parts = []
    buffer = memoryview(bytearray(block))
    try:
        reader = tree.open(entry)
        try:
            while count := reader.readinto(buffer):
                parts.append(bytes(buffer[:count]))
        finally:
            reader.close()
    except EntryUnreadableError:
        return None
    return b"".join(parts)


def _sizes(places: Sequence[bytes]) -> int:
    return sum(os.lstat(place).st_size for place in places if stat.S_ISREG(os.lstat(place).st_mode))


def _content(place: bytes) -> bytes:
    with open(place, "rb") as file:
        return file.read()


def _depth_first(path: bytes) -> list[bytes]:
    return path.split(b"/")


def _write(place: bytes, entry: Entry, content: bytes, first: bytes) -> None:
    if entry.kind is EntryKind.FOLDER:
        os.makedirs(place, mode=0o700, exist_ok=True)
        return
    if os.path.lexists(place):
        os.unlink(place)
    if first != place:
        os.link(first, place, follow_symlinks=False)
    elif entry.kind is EntryKind.FILE:
        with open(place, "wb") as out:
            out.write(content)
    elif entry.kind is EntryKind.SYMLINK:
        os.symlink(entry.linktarget, place)
    elif entry.kind is EntryKind.FIFO:
        os.mkfifo(place)
    elif entry.kind is not EntryKind.SOCKET:
        os.mknod(place, entry.mode, entry.device)


def _attributes(place: bytes, entry: Entry) -> None:
    if entry.kind is EntryKind.SOCKET:
        return
    if os.geteuid() == 0:
        os.chown(place, entry.uid, entry.gid, follow_symlinks=False)
    for name in os.listxattr(place, follow_symlinks=False):
        if name.startswith("user."):
            os.removexattr(place, name, follow_symlinks=False)
    for name, value in entry.extended:
        os.setxattr(place, name, value, follow_symlinks=False)
    if entry.kind is not EntryKind.SYMLINK:
        os.chmod(place, stat.S_IMODE(entry.mode))
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _arrived(arrival: Arrival) -> bytes:
    content, buffer = bytearray(), memoryview(bytearray(1 << 20))
    if arrival.content is not None:
        while count := arrival.content.readinto(buffer):
            content += buffer[:count]
        arrival.content.close()
    return bytes(content)
