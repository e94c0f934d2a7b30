"""Storing a tree: one thread walks it beside its parent's tree, workers read, cut, seal and build the trees.

A folder's tree is built when its last file and subfolder are stored, by whichever thread stored that. What the parent
has with the same size, times and inode is not opened, provided that its blobs are there and the source agrees.
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cto_backups.core.ports import CaptureTree, Entry, EntryKind, EntryUnreadableError, Progress
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.chunker import SMALLEST, Chunker
from cto_backups.repository.crew import Crew
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.gotime import format_ns, parse_ns
from cto_backups.repository.index import BlobKind
from cto_backups.repository.largefile import BufferPool, LargeFile, store_alone
from cto_backups.repository.names import quote
from cto_backups.repository.options import MIB
from cto_backups.repository.tree import content_text, encode_node, encode_tree, raw_nodes

_BATCH_FILES = 64
_BATCH_BYTES = 2 * MIB
_READ_WHOLE = 4 * MIB  # larger files are read in parts, and worked on by all threads at once
_NO_NODES: dict[str, dict[str, Any]] = {}


@dataclass(slots=True)
class Tally:
    """What was stored."""

    entries: int = 0
    size_bytes: int = 0
    read_bytes: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0


class _Folder:
    """A folder whose tree is not built yet; `waiting` counts its nodes that are not known."""

    __slots__ = ("entry", "nodes", "parent", "place", "waiting")

    def __init__(self, entry: Entry, parent: "_Folder | None", place: int) -> None:
        self.entry = entry
        self.parent = parent
        self.place = place
        self.nodes: list[str | None] = []
        self.waiting = 0


@dataclass(slots=True)
class _Linked:
    """The content of a file with several names, or who waits for it."""

    content: str | None = None
    size: int = 0
    waiting: list[tuple[_Folder, int, Entry]] = field(default_factory=list)


class TreeWriter:
    """Stores one tree through a depot."""

    def __init__(self, tree: CaptureTree, depot: Depot, fetcher: Fetcher, seed: int, progress: Progress) -> None:
        self.tally = Tally()
        self._tree = tree
        self._depot = depot
        self._fetcher = fetcher
        self._seed = seed
        self._progress = progress
        self._lock = threading.Lock()
        self._links: dict[tuple[int, int], _Linked] = {}
        self._root = b""
        self._batch: list[tuple[_Folder, int, Entry]] = []
        self._batch_bytes = 0
        self._chunkers = threading.local()
        self._buffers: BufferPool | None = None

    def run(self, parent_tree: bytes | None, threads: int) -> bytes:
        """Store everything; the root tree's id. Leaves the depot to be finished by the caller."""
        with Crew(threads, self._depot.bench, name="store") as crew:
            self._crew = crew
            self._buffers = BufferPool(crew, threads)
            bench = self._depot.bench()
            stack: list[tuple[_Folder, bytes | None]] = [(_Folder(self._tree.root, None, 0), parent_tree)]
            while stack:
                folder, old_tree = stack.pop()
                stack.extend(reversed(self._folder(bench, folder, old_tree)))
            self._send_batch()
        return self._root

    # -- the walking thread -------------------------------------------------------------------------------------------

    def _folder(self, bench: Bench, folder: _Folder, old_tree: bytes | None) -> list[tuple[_Folder, bytes | None]]:
        """Deal with a folder's entries; the subfolders are left to do."""
        entries = self._tree.folder(folder.entry)
        olds = self._old_nodes(old_tree)
        nodes: list[str | None] = [None] * len(entries)
        folder.nodes = nodes
        folder.waiting = len(entries) + 1
        subfolders: list[tuple[_Folder, bytes | None]] = []
        known = 1
        unchanged = new = changed = unchanged_bytes = 0
        for place, entry in enumerate(entries):
            old = olds.get(quote(entry.name)) if olds else None
            kind = entry.kind
            if old is None or old.get("type") != kind.value:
                old = None
                new += 1
                same = False
            elif _same(old, entry):
                same = True
            else:
                same = False
                changed += 1
            if kind is EntryKind.FILE:
                if same:
                    content = self._reusable(old, entry)
                    if content is not None:
                        nodes[place] = encode_node(entry, content=content, size=entry.size)
                        known += 1
                        unchanged += 1
                        unchanged_bytes += entry.size
                        continue
                    changed += 1
                self._file(folder, place, entry)
                continue
            if same:
                unchanged += 1
            if kind is EntryKind.FOLDER:
                subfolders.append((_Folder(entry, folder, place), _subtree(old)))
            else:
                nodes[place] = encode_node(entry)
                known += 1
        with self._lock:
            tally = self.tally
            tally.entries += len(entries)
            tally.size_bytes += unchanged_bytes
            tally.new += new
            tally.changed += changed
            tally.unchanged += unchanged
        self._progress.advance(entries=known - 1 + len(subfolders), size_bytes=unchanged_bytes)
        self._known(bench, folder, known)
        return subfolders

    def _old_nodes(self, tree: bytes | None) -> dict[str, dict[str, Any]]:
        """The parent's nodes by quoted name; nothing when they cannot be read (then everything is read anew)."""
        if tree is None:
            return _NO_NODES
        try:
            return {node["name"]: node for node in raw_nodes(self._fetcher.tree(tree))}
        except (DamageError, VaultError, KeyError, TypeError):
            return _NO_NODES

    def _reusable(self, old: dict[str, Any] | None, entry: Entry) -> str | None:
        """The content of an unchanged file as JSON, when all of it is stored and the source knows it."""
        if old is None:
            return None
        try:
            content = [bytes.fromhex(blob) for blob in old.get("content") or ()]
            known = self._depot.known
            if not all(len(blob) == 32 and known(BlobKind.DATA, blob) for blob in content):
                return None
        except (TypeError, ValueError):
            return None
        if not content and entry.size:
            return None
        return content_text(content) if self._tree.reuse(entry) else None

    def _file(self, folder: _Folder, place: int, entry: Entry) -> None:
        """Leave a file to the workers."""
        if entry.links > 1:
            key = entry.device_id, entry.inode
            with self._lock:
                linked = self._links.get(key)
                if linked is None:
                    self._links[key] = _Linked()
                elif linked.content is None:
                    linked.waiting.append((folder, place, entry))
                    return
        if entry.size > _READ_WHOLE:
            self._large(folder, place, entry)
            return
        self._batch.append((folder, place, entry))
        self._batch_bytes += entry.size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._send_batch()

    def _send_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._crew.submit(lambda bench: self._work_batch(bench, batch))

    def _large(self, folder: _Folder, place: int, entry: Entry) -> None:
        """Read and cut a large file here, while the workers seal its chunks."""
        assert self._buffers is not None

        def done(bench: Bench, content: list[bytes], size: int) -> None:
            self._stored(bench, folder, place, entry, content, size)

        def left_out(bench: Bench) -> None:
            self._left_out(bench, folder, place, entry)

        LargeFile(self._tree, entry, self._crew, self._buffers, self._progress).store(self._chunker(), done, left_out)

    # -- any thread ---------------------------------------------------------------------------------------------------

    def _work_batch(self, bench: Bench, batch: Sequence[tuple[_Folder, int, Entry]]) -> None:
        """Read and store small files, counting for each folder once where its files follow each other."""
        read = self._tree.read
        size_bytes = 0
        current: _Folder | None = None
        count = left_out = 0
        for folder, place, entry in batch:
            if folder is not current:
                if current is not None:
                    self._known(bench, current, count)
                current, count = folder, 0
            count += 1
            if entry.links > 1:
                count -= 1  # these count themselves, together with who waits for them
                size_bytes += self._linked_file(bench, folder, place, entry)
                continue
            try:
                plain = read(entry)
            except EntryUnreadableError:
                left_out += 1
                continue
            content = self._save(bench, plain)
            folder.nodes[place] = encode_node(entry, content=content, size=len(plain))
            size_bytes += len(plain)
        if current is not None:
            self._known(bench, current, count)
        with self._lock:
            self.tally.size_bytes += size_bytes
            self.tally.read_bytes += size_bytes
            self.tally.entries -= left_out
        self._progress.advance(entries=len(batch), size_bytes=size_bytes)

    def _save(self, bench: Bench, plain: bytes) -> str:
        """Store a file's content; its ids as JSON."""
        size = len(plain)
        if size <= SMALLEST:
            return f'["{bench.save(BlobKind.DATA, plain).hex()}"]' if size else "[]"
        view = memoryview(plain)
        content = []
        start = 0
        for end in self._chunker().ends(plain, last=True):
            content.append(bench.save(BlobKind.DATA, view[start:end]))
            start = end
        return content_text(content)

    def _chunker(self) -> Chunker:
        chunker: Chunker | None = getattr(self._chunkers, "chunker", None)
        if chunker is None:
            chunker = self._chunkers.chunker = Chunker(self._seed)
        return chunker

    def _linked_file(self, bench: Bench, folder: _Folder, place: int, entry: Entry) -> int:
        """A file with several names; its size."""
        with self._lock:
            linked = self._links[entry.device_id, entry.inode]
            content, size = linked.content, linked.size
        if content is None or not self._tree.reuse(entry):
            try:
                if entry.size > _READ_WHOLE:
                    blobs, size = store_alone(self._tree, entry, bench, self._chunker())
                    content = content_text(blobs)
                else:
                    plain = self._tree.read(entry)
                    content, size = self._save(bench, plain), len(plain)
            except EntryUnreadableError:
                self._left_out(bench, folder, place, entry)
                return 0
        folder.nodes[place] = encode_node(entry, content=content, size=size)
        self._share(bench, entry, content, size)
        self._known(bench, folder, 1)
        return size

    def _stored(
        self, bench: Bench, folder: _Folder, place: int, entry: Entry, content: Sequence[bytes], size: int
    ) -> None:
        """A large file is stored."""
        text = content_text(content)
        folder.nodes[place] = encode_node(entry, content=text, size=size)
        with self._lock:
            self.tally.size_bytes += size
            self.tally.read_bytes += size
        self._progress.advance(entries=1)
        if entry.links > 1:
            self._share(bench, entry, text, size)
        self._known(bench, folder, 1)

    def _left_out(self, bench: Bench, folder: _Folder, place: int, entry: Entry) -> None:
        """A file could not be read; another name of it may fare better."""
        folder.nodes[place] = None
        with self._lock:
            self.tally.entries -= 1
        if entry.links > 1:
            self._share(bench, entry, None, 0)
        self._known(bench, folder, 1)

    def _share(self, bench: Bench, entry: Entry, content: str | None, size: int) -> None:
        """Give a file's content to its other names; those that the source wants to be read are read again."""
        with self._lock:
            linked = self._links[entry.device_id, entry.inode]
            if content is None:
                self._links[entry.device_id, entry.inode] = _Linked()
            else:
                linked.content, linked.size = content, size
            waiting, linked.waiting = linked.waiting, []
        for one in waiting:
            self._work_batch(bench, [one])

    def _known(self, bench: Bench, folder: _Folder | None, count: int) -> None:
        """So many more nodes of a folder are known; when all are, build its tree, and so on upwards."""
        if not count:
            return  # whoever brought the last one builds the tree, and nobody else
        while folder is not None:
            with self._lock:
                folder.waiting -= count
                if folder.waiting:
                    return
            tree = bench.save(BlobKind.TREE, encode_tree([node for node in folder.nodes if node is not None]))
            folder.nodes = []
            above = folder.parent
            if above is None:
                self._root = tree
                return
            above.nodes[folder.place] = encode_node(folder.entry, subtree=tree.hex())
            folder, count = above, 1


def _same(old: dict[str, Any], entry: Entry) -> bool:
    """Whether the parent's node describes this very state of the entry."""
    if old.get("inode", 0) != entry.inode:
        return False
    if entry.kind is EntryKind.FILE and old.get("size", 0) != entry.size:
        return False
    return _same_time(old.get("mtime"), entry.mtime_ns) and _same_time(old.get("ctime"), entry.ctime_ns)


def _same_time(text: object, nanoseconds: int) -> bool:
    if text == format_ns(nanoseconds):
        return True
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(text, str) and not text.endswith("Z") and parse_ns(text) == nanoseconds
    return False


def _subtree(old: dict[str, Any] | None) -> bytes | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        tree = bytes.fromhex(old["subtree"]) if old is not None else b""
        if len(tree) == 32:
            return tree
    return None
