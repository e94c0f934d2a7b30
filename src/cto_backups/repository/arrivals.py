"""Storing a tree that comes in an order of its own: contents as they arrive, and the trees once all of it is there."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

from cto_backups import _native
from cto_backups.core.ports import Progress
from cto_backups.core.trees import Arrival, ArrivingTree, BlockReader, Entry, EntryKind, Patch
from cto_backups.errors import DamageError, SourceError
from cto_backups.repository.before import SnapshotBefore
from cto_backups.repository.crew import Crew
from cto_backups.repository.cutter import BATCH_BYTES, BATCH_FILES, READ_WHOLE, Cutting, Hands, Tally
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.largefile import BufferPool
from cto_backups.repository.renewed import AHEAD, Former, Renewed
from cto_backups.repository.tree import content_text

_READ = 256 * 1024


class ArrivalWriter:
    """Stores one arriving tree through a depot.

    The entries, and the ids of their blobs, are in memory until the end: some 500 bytes a file, and 66 a blob.
    """

    def __init__(self, tree: ArrivingTree, depot: Depot, fetcher: Fetcher, cutter: Cutting, progress: Progress) -> None:
        self.tally = Tally()
        self._tree = tree
        self._depot = depot
        self._fetcher = fetcher
        self._cutter = cutter
        self._progress = progress
        self._lock = threading.Lock()
        self._inside: dict[bytes, list[Entry]] = {}
        self._stored: dict[bytes, tuple[str, int]] = {}
        self._known: set[bytes] = set()
        self._as_before: set[bytes] = set()
        self._before: SnapshotBefore | None = None
        self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch")  # of which none begins unless it is needed
        self._batch: list[tuple[Entry, bytes]] = []
        self._batch_bytes = 0

    def run(self, parent_tree: bytes | None, threads: int) -> bytes:
        """Store everything; the root tree's id. Leaves the depot to be finished by the caller."""
        self._before = SnapshotBefore(self._fetcher, self._depot, parent_tree) if parent_tree is not None else None
        with self._pool, Crew(threads, self._depot.bench, name="store") as crew:
            hands = Hands(crew, BufferPool(crew, threads), self._progress)
            for arrival in self._tree.arrivals(self._before):
                if arrival.kept:
                    self._keep_as_it_was(arrival.entry)
                elif arrival.patch is not None:
                    self._renew(hands, arrival, arrival.patch)
                else:
                    self._take(hands, arrival)
            self._send_batch(crew)
        root = self._tree.root
        homeless = self._inside.keys() - {root.path} - self._folders()
        if homeless:
            raise SourceError(
                f"A folder did not arrive, although something in it did: {min(homeless).decode('utf-8', 'replace')}",
                why="what sent this tree left it out",
                todo="make the recovery point again",
            )
        return self._build(self._depot.bench(), root, parent_tree)

    def _folders(self) -> set[bytes]:
        return {entry.path for inside in self._inside.values() for entry in inside if entry.kind is EntryKind.FOLDER}

    def _take(self, hands: Hands, arrival: Arrival) -> None:
        entry, reader = arrival.entry, arrival.content
        self._inside.setdefault(entry.path.rpartition(b"/")[0], []).append(entry)
        if entry.kind is not EntryKind.FILE or reader is None:
            self._progress.advance(entries=1)
        elif entry.size > READ_WHOLE:

            def done(_: Bench, content: list[bytes], size: int, known: bool) -> None:
                self._keep(entry, content_text(content), size, known=known)

            self._cutter.arriving(hands, reader, done)
        else:
            self._put_into_batch(hands.crew, entry, _whole(reader))

    def _renew(self, hands: Hands, arrival: Arrival, patch: Patch) -> None:
        """A file that differs in places from what the point before has."""
        entry = arrival.entry
        self._inside.setdefault(entry.path.rpartition(b"/")[0], []).append(entry)
        node = self._before.node(entry.path) if self._before is not None else None
        if node is None or node.entry.kind is not EntryKind.FILE:
            raise self._changed_since(entry)
        former = Former(self._fetcher, self._depot, self._pool, node.content)
        reader = Renewed(former, patch, entry.size, arrival.content)
        with self._lock:
            self.tally.read_bytes -= entry.size - reader.new_bytes  # as if all of it was read, it is counted later
        if entry.size > READ_WHOLE or reader.is_as_before:

            def done(_: Bench, content: list[bytes], size: int, known: bool) -> None:
                self._keep(entry, content_text(content), size, known=known)

            self._cutter.renewed(hands, reader, done)
        else:
            self._put_into_batch(hands.crew, entry, _whole(reader))

    def _keep_as_it_was(self, entry: Entry) -> None:
        self._inside.setdefault(entry.path.rpartition(b"/")[0], []).append(entry)
        self._as_before.add(entry.path)
        self._progress.advance(entries=1, size_bytes=entry.size if entry.kind is EntryKind.FILE else 0)

    def _put_into_batch(self, crew: Crew[Bench], entry: Entry, plain: bytes) -> None:
        self._batch.append((entry, plain))
        self._batch_bytes += entry.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self._send_batch(crew)

    def _send_batch(self, crew: Crew[Bench]) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            crew.submit(lambda bench: self._save(bench, batch))

    def _save(self, bench: Bench, batch: Sequence[tuple[Entry, bytes]]) -> None:
        texts, known = self._cutter.save_many(bench, [plain for _, plain in batch])
        for place, ((entry, plain), text) in enumerate(zip(batch, texts, strict=True)):
            assert text is not None
            self._keep(entry, text, len(plain), known=place in known)
            self._progress.advance(size_bytes=len(plain))

    def _keep(self, entry: Entry, text: str, size: int, *, known: bool) -> None:
        entry.size = size
        with self._lock:
            self._stored[entry.path] = text, size
            if known:
                self._known.add(entry.path)
            self.tally.size_bytes += size
            self.tally.read_bytes += size
        self._progress.advance(entries=1)

    def _build(self, bench: Bench, folder: Entry, old_tree: bytes | None) -> bytes:
        """The tree of a folder, those below it first; compared with the parent's to tell what is new in it."""
        entries = sorted(self._inside.pop(folder.path, ()), key=attrgetter("name"))
        nodes = _native.Nodes(len(entries))
        to_read, alike, below, new_files, new, changed, unchanged = nodes.compare(
            entries, self._fetcher.tree_if_readable(old_tree), self._depot.claims
        )
        arrived = list(to_read)
        for place in alike:
            if entries[place].path in self._as_before:
                self.tally.size_bytes += entries[place].size  # it stands in `nodes` already
            else:
                nodes.leave_out(place)
                arrived.append(place)
        for place in arrived:
            entry = entries[place]
            if entry.path in self._as_before:
                raise self._changed_since(entry)
            nodes.file(place, entry, *self._stored[entry.path])
            if entry.path in self._known and (new_files is None or place in new_files):
                self.tally.moved += 1
        for place, subtree in below:
            entry = entries[place]
            if entry.path in self._as_before:
                nodes.folder(place, entry, self._whole_folder(entry, subtree))
            else:
                nodes.folder(place, entry, self._build(bench, entry, subtree))
        self.tally.entries += len(entries)
        self.tally.new += new
        self.tally.changed += changed
        self.tally.unchanged += unchanged + len(alike)
        return bench.save_tree(nodes)

    def _whole_folder(self, entry: Entry, subtree: bytes | None) -> bytes:
        """A folder that is kept with all that is in it, counted."""
        if subtree is None or self._before is None:
            raise self._changed_since(entry)
        count, size_bytes = self._before.counted(subtree)
        self.tally.entries += count
        self.tally.unchanged += count
        self.tally.size_bytes += size_bytes
        return subtree

    def _changed_since(self, entry: Entry) -> DamageError:
        return DamageError(
            f"What the recovery point before has at {entry.path.decode('utf-8', 'replace')} is not whole",
            why="it was to be kept as it is, and its data is not there",
            todo="run 'cto.backups verify' on this vault, then 'repair'; or back up to another vault",
        )


def _whole(reader: BlockReader) -> bytes:
    parts = []
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    try:
        while count := reader.readinto(view):
            parts.append(bytes(view[:count]))
    finally:
        reader.close()
    return b"".join(parts)
