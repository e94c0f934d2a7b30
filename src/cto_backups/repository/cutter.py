"""Contents of files that are in memory: cut and stored, many at once; and what is counted while a tree is stored."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cto_backups.repository.chunker import SMALLEST, Chunker
from cto_backups.repository.depot import Bench
from cto_backups.repository.index import BlobKind
from cto_backups.repository.options import MIB
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


class Cutter:
    """Cuts and stores contents; any thread may call, with its own bench."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chunkers = threading.local()

    def chunker(self) -> Chunker:
        """This thread's chunker."""
        chunker: Chunker | None = getattr(self._chunkers, "chunker", None)
        if chunker is None:
            chunker = self._chunkers.chunker = Chunker(self._seed)
        return chunker

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
