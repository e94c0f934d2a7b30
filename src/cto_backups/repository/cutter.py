"""Contents of files that are in memory: cut and stored, many at once; and what is counted while a tree is stored."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cto_backups.core.ports import Progress
from cto_backups.core.trees import BlockReader, CaptureTree, Entry
from cto_backups.repository.chunker import SMALLEST, Cuts
from cto_backups.repository.crew import Crew
from cto_backups.repository.depot import Bench
from cto_backups.repository.index import BlobKind
from cto_backups.repository.largefile import BufferPool, Done, LargeFile, LeftOut, store_alone
from cto_backups.repository.options import MIB
from cto_backups.repository.renewed import Renewed
from cto_backups.repository.tree import content_text

BATCH_FILES = 64
BATCH_BYTES = 2 * MIB
READ_WHOLE = 4 * MIB  # larger files are read in parts, and worked on by all threads at once


@dataclass(slots=True)
class Tally:
    """What was stored; `moved` are new files whose content was there already."""

    entries: int = 0
    size_bytes: int = 0
    read_bytes: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int = 0


class Cutting(Protocol):
    """Stores the contents of files; any thread may call, with its own bench."""

    def save_many(self, bench: Bench, contents: Sequence[bytes | None]) -> tuple[list[str | None], list[int]]:
        """Store contents: for each the ids of its blobs as JSON, and the places of those that were there already."""

    def save(self, bench: Bench, plain: bytes) -> str:
        """Store a file's content; its ids as JSON."""

    def large(self, on: "Hands", opened: Callable[[], BlockReader], done: Done, left_out: LeftOut) -> None:
        """Store a large file; `done` or `left_out` is called on a worker once all of it is dealt with."""

    def arriving(self, on: "Hands", reader: BlockReader, done: Done) -> None:
        """Store a large file that has to be read to its end before this returns."""

    def renewed(self, on: "Hands", reader: Renewed, done: Done) -> None:
        """Store a file that differs in places from what the snapshot before has."""

    def alone(self, tree: CaptureTree, entry: Entry, bench: Bench) -> tuple[list[bytes], int]:
        """Store a large file with the calling thread only; its blobs and size. Raises EntryUnreadableError."""

    def finish(self) -> None:
        """All contents came: see to it that what is not in packs can be found."""

    def abandon(self) -> None:
        """None of it is wanted: clear what is not in packs."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Who and what a large file is stored with."""

    crew: Crew[Bench]
    buffers: BufferPool
    progress: Progress


class Cutter:
    """Cuts contents into chunks that lie in packs; implements `Cutting`."""

    def __init__(self, cuts: Callable[[], Cuts]) -> None:
        self._cuts = cuts
        self._chunkers = threading.local()

    def chunker(self) -> Cuts:
        """This thread's chunker."""
        chunker: Cuts | None = getattr(self._chunkers, "chunker", None)
        if chunker is None:
            chunker = self._chunkers.chunker = self._cuts()
        return chunker

    def large(self, on: Hands, opened: Callable[[], BlockReader], done: Done, left_out: LeftOut) -> None:
        """Read and cut it here, while the workers seal its chunks."""
        LargeFile(opened, on.crew, on.buffers, on.progress).store(self.chunker(), done, left_out)

    def arriving(self, on: Hands, reader: BlockReader, done: Done) -> None:
        """Read and cut it here. What arrives is readable, or the whole of it fails: nothing is left out."""
        LargeFile(lambda: reader, on.crew, on.buffers, on.progress).store(self.chunker(), done, lambda _: None)

    def renewed(self, on: Hands, reader: Renewed, done: Done) -> None:
        """Take over what still stands of it, and cut the rest."""
        LargeFile(lambda: reader, on.crew, on.buffers, on.progress).renew(reader, self.chunker(), done)

    def alone(self, tree: CaptureTree, entry: Entry, bench: Bench) -> tuple[list[bytes], int]:
        """Store a large file with the calling thread only; its blobs and size. Raises EntryUnreadableError."""
        return store_alone(tree, entry, bench, self.chunker())

    def finish(self) -> None:
        """All is in packs."""

    def abandon(self) -> None:
        """All is in packs: a later prune deletes those that are full."""

    def save_many(self, bench: Bench, contents: Sequence[bytes | None]) -> tuple[list[str | None], list[int]]:
        """Store contents: for each the ids of its blobs as JSON, and the places of those that were there already."""
        texts, known = bench.save_files(
            [None if plain is None or len(plain) > SMALLEST else plain for plain in contents]
        )
        for place, plain in enumerate(contents):
            if plain is not None and len(plain) > SMALLEST:
                before = bench.native.added_blobs
                texts[place] = self.save(bench, plain)
                if bench.native.added_blobs == before:
                    known.append(place)
        return texts, known

    def save(self, bench: Bench, plain: bytes) -> str:
        """Store a file's content; its ids as JSON."""
        size = len(plain)
        if size <= SMALLEST:
            return f'["{bench.save(BlobKind.DATA, plain).hex()}"]' if size else "[]"
        view = memoryview(plain)
        content = []
        start = 0
        for end in self.chunker().ends(plain, last=True):
            content.append(bench.save(BlobKind.DATA, view[start:end]))
            start = end
        return content_text(content)
