"""Storing a tree: one thread walks it beside its parent's tree, workers read, cut, seal and build the trees.

A folder's tree is built when its last file and subfolder are stored, by whichever thread stored that. What the parent
has with the same size, times and inode is not opened, provided that its blobs are there and the source agrees. Streams,
whose size nobody knows, are opened once all else was read: one of them may tell of that.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from cto_backups import _native
from cto_backups.core.ports import Progress
from cto_backups.core.trees import UNKNOWN_SIZE, CaptureTree, Entry, EntryUnreadableError
from cto_backups.repository.crew import Crew
from cto_backups.repository.cutter import BATCH_BYTES, BATCH_FILES, READ_WHOLE, Cutting, Hands, Tally
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.largefile import BufferPool
from cto_backups.repository.tree import content_text


class _Folder:
    """A folder whose tree is not built yet; `waiting` counts its nodes that are not known.

    `new_files` are the places of those that the parent does not have; None where it has nothing at all.
    """

    __slots__ = ("entry", "new_files", "nodes", "parent", "place", "waiting")

    def __init__(self, entry: Entry, parent: "_Folder | None", place: int) -> None:
        self.entry = entry
        self.parent = parent
        self.place = place
        self.nodes = _native.Nodes(0)
        self.new_files: set[int] | None = None
        self.waiting = 0

    def is_new(self, place: int) -> bool:
        """Whether the file at this place is new, once the folder was compared with the parent."""
        return self.new_files is None or place in self.new_files


@dataclass(slots=True)
class _Linked:
    """The content of a file with several names, or who waits for it."""

    content: str | None = None
    size: int = 0
    waiting: list[tuple[_Folder, int, Entry]] = field(default_factory=list)


class TreeWriter:
    """Stores one tree through a depot."""

    def __init__(self, tree: CaptureTree, depot: Depot, fetcher: Fetcher, cutter: Cutting, progress: Progress) -> None:
        self.tally = Tally()
        self._tree = tree
        self._depot = depot
        self._fetcher = fetcher
        self._cutter = cutter
        self._progress = progress
        self._lock = threading.Lock()
        self._links: dict[tuple[int, int], _Linked] = {}
        self._root = b""
        self._batch: list[tuple[_Folder, int, Entry]] = []
        self._batch_bytes = 0
        self._hands: Hands | None = None
        self._streams: list[tuple[_Folder, int, Entry]] = []

    def run(self, parent_tree: bytes | None, threads: int) -> bytes:
        """Store everything; the root tree's id. Leaves the depot to be finished by the caller."""
        with self._crew_of(threads):
            bench = self._depot.bench()
            stack: list[tuple[_Folder, bytes | None]] = [(_Folder(self._tree.root, None, 0), parent_tree)]
            while stack:
                folder, old_tree = stack.pop()
                stack.extend(reversed(self._folder(bench, folder, old_tree)))
            self._send_batch()
        if self._streams:
            with self._crew_of(threads):
                for folder, place, entry in self._streams:
                    self._large(folder, place, entry)
        return self._root

    @contextmanager
    def _crew_of(self, threads: int) -> Iterator[None]:
        """Workers, who have done all that they were given in the end."""
        with Crew(threads, self._depot.bench, name="store") as crew:
            self._crew = crew
            self._hands = Hands(crew, BufferPool(crew, threads), self._progress)
            yield

    # -- the walking thread -------------------------------------------------------------------------------------------

    def _folder(self, bench: Bench, folder: _Folder, old_tree: bytes | None) -> list[tuple[_Folder, bytes | None]]:
        """Deal with a folder's entries; the subfolders are left to do."""
        entries = list(self._tree.folder(folder.entry))
        folder.nodes = nodes = _native.Nodes(len(entries))
        folder.waiting = len(entries) + 1
        to_read, stored, below, folder.new_files, new, changed, unchanged = nodes.compare(
            entries, self._fetcher.tree_if_readable(old_tree), self._depot.claims
        )
        unchanged_bytes = 0
        if stored:
            kept = self._tree.reuse_many([entries[place] for place in stored])
            for place, counted in zip(stored, kept, strict=True):
                if counted:
                    unchanged += 1
                    unchanged_bytes += entries[place].size
                else:  # the source wants it to be read
                    nodes.leave_out(place)
                    to_read.append(place)
                    changed += 1
        for place in to_read:
            self._file(folder, place, entries[place])
        known = len(entries) - len(to_read) - len(below)
        with self._lock:
            tally = self.tally
            tally.entries += len(entries)
            tally.size_bytes += unchanged_bytes
            tally.new += new
            tally.changed += changed
            tally.unchanged += unchanged
        self._progress.advance(entries=known + len(below), size_bytes=unchanged_bytes)
        self._known(bench, folder, known + 1)
        return [(_Folder(entries[place], folder, place), subtree) for place, subtree in below]

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
        if entry.size == UNKNOWN_SIZE:
            self._streams.append((folder, place, entry))
            return
        if entry.size > READ_WHOLE:
            self._large(folder, place, entry)
            return
        self._batch.append((folder, place, entry))
        self._batch_bytes += entry.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self._send_batch()

    def _send_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._crew.submit(lambda bench: self._work_batch(bench, batch))

    def _large(self, folder: _Folder, place: int, entry: Entry) -> None:
        """Have a large file stored."""
        assert self._hands is not None

        def done(bench: Bench, content: list[bytes], size: int, known: bool) -> None:
            with self._lock:
                self.tally.moved += known and folder.is_new(place)
            self._stored(bench, folder, place, entry, content, size)

        def left_out(bench: Bench) -> None:
            self._left_out(bench, folder, place, entry)

        self._cutter.large(self._hands, partial(self._tree.open, entry), done, left_out)

    # -- any thread ---------------------------------------------------------------------------------------------------

    def _work_batch(self, bench: Bench, batch: Sequence[tuple[_Folder, int, Entry]]) -> None:
        """Read and store small files, counting for each folder once where its files follow each other."""
        linked = [one for one in batch if one[2].links > 1]  # asked now: reading may renew what an entry says
        alone = [one for one in batch if one[2].links <= 1] if linked else batch
        contents = self._tree.read_many([entry for _, _, entry in alone])
        texts, known = self._cutter.save_many(bench, contents)
        moved = sum(alone[number][0].is_new(alone[number][1]) for number in known)
        files = []
        size_bytes = left_out = 0
        for (folder, place, entry), plain, text in zip(alone, contents, texts, strict=True):
            if plain is None or text is None:
                left_out += 1
            else:
                files.append((folder.nodes, place, entry, text, len(plain)))
                size_bytes += len(plain)
        _native.put_files(files)
        for folder, count in _runs(alone):
            self._known(bench, folder, count)
        for folder, place, entry in linked:  # these count themselves, together with who waits for them
            size_bytes += self._linked_file(bench, folder, place, entry)
        with self._lock:
            self.tally.size_bytes += size_bytes
            self.tally.read_bytes += size_bytes
            self.tally.entries -= left_out
            self.tally.moved += moved
        self._progress.advance(entries=len(batch), size_bytes=size_bytes)

    def _linked_file(self, bench: Bench, folder: _Folder, place: int, entry: Entry) -> int:
        """A file with several names; its size."""
        with self._lock:
            linked = self._links[entry.device_id, entry.inode]
            content, size = linked.content, linked.size
        if content is None or not self._tree.reuse_many([entry])[0]:
            content, size = self._stored_alone(bench, entry)
            if content is None:
                self._left_out(bench, folder, place, entry)
                return 0
        folder.nodes.file(place, entry, content, size)
        self._share(bench, entry, content, size)
        self._known(bench, folder, 1)
        return size

    def _stored_alone(self, bench: Bench, entry: Entry) -> tuple[str | None, int]:
        """Store one file with this thread only: its ids as JSON, None when it cannot be read; its size."""
        if entry.size > READ_WHOLE:
            try:
                blobs, size = self._cutter.alone(self._tree, entry, bench)
            except EntryUnreadableError:
                return None, 0
            return content_text(blobs), size
        (plain,) = self._tree.read_many([entry])
        return (None, 0) if plain is None else (self._cutter.save(bench, plain), len(plain))

    def _stored(
        self, bench: Bench, folder: _Folder, place: int, entry: Entry, content: Sequence[bytes], size: int
    ) -> None:
        """A large file is stored."""
        text = content_text(content)
        folder.nodes.file(place, entry, text, size)
        with self._lock:
            self.tally.size_bytes += size
            self.tally.read_bytes += size
        self._progress.advance(entries=1)
        if entry.links > 1:
            self._share(bench, entry, text, size)
        self._known(bench, folder, 1)

    def _left_out(self, bench: Bench, folder: _Folder, place: int, entry: Entry) -> None:
        """A file could not be read; another name of it may fare better."""
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
            tree = bench.save_tree(folder.nodes)
            above = folder.parent
            if above is None:
                self._root = tree
                return
            above.nodes.folder(folder.place, folder.entry, tree)
            folder, count = above, 1


def _runs(batch: Sequence[tuple[_Folder, int, Entry]]) -> Iterator[tuple[_Folder, int]]:
    """The folders of a batch, each with how many of its files follow each other."""
    for folder, files in groupby(batch, key=lambda one: one[0]):
        yield folder, sum(1 for _ in files)
