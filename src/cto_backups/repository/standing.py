"""What stands where a restore writes, compared with the point: by the same look, what was written is read back."""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from cto_backups import _native
from cto_backups._native import Folders
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.metadata import as_root
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.survey import SLICE, Batch, Outline, RestoredFile

_TOGETHER = 512
_TOGETHER_BYTES = 64 << 20
FORMATS = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.FOLDER: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.DEVICE: stat.S_IFBLK,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.SOCKET: stat.S_IFSOCK,
}


class Look:
    """One entry to look at: in which folder, and of a file which slice of its content."""

    __slots__ = ("entry", "file", "folder", "number", "slice")

    def __init__(
        self, folder: int, entry: Entry, file: RestoredFile | None = None, part: int = 0, number: int = 0
    ) -> None:
        self.folder = folder
        self.entry = entry
        self.file = file
        self.slice = part
        self.number = number

    @property
    def content(self) -> Sequence[bytes]:
        """The blobs of this slice."""
        return self.file.content[self.slice * SLICE : (self.slice + 1) * SLICE] if self.file else ()

    @property
    def start(self) -> int:
        """Where they begin in the file."""
        return self.file.starts[self.slice] if self.file and self.file.starts else 0

    @property
    def size(self) -> int:
        """How many bytes they are."""
        if self.file is None:
            return 0
        after = self.slice + 1
        return (self.file.starts[after] if after < len(self.file.starts) else self.file.size) - self.start

    def described(self) -> "_native._Expected":
        """As native code takes it."""
        entry = self.entry
        metadata = (entry.uid, entry.gid, entry.mode, entry.mtime_ns, entry.extended)
        size = self.file.size if self.file else 0
        return (
            *(self.folder, entry.name, FORMATS[entry.kind], entry.device, entry.linktarget, metadata),
            *(size, self.start, self.content),
        )


Take = Callable[[Look, "_native._Seen"], None]


def slices(file: RestoredFile) -> Iterator[Look]:
    """A file in pieces that several threads may look at."""
    return (Look(file.folder, file.entry, file, part) for part in range(max(1, len(file.starts))))


def look_at(
    crew: Crew[Folders],
    fetcher: Fetcher,
    looks: Iterator[Look],
    take: Take,
    *,
    trust_times: bool = False,
    from_disk: bool = False,
) -> None:
    """Have a crew look at entries; `take` is told of each, by any thread."""

    def work(folders: Folders, batch: Sequence[Look]) -> None:
        described = [one.described() for one in batch]
        seen = _native.compare_entries(folders, fetcher.index.native, described, as_root(), trust_times, from_disk)
        for one, found in zip(batch, seen, strict=True):
            take(one, found)

    for batch in _batches(looks):
        crew.submit(partial(work, batch=batch))


def _batches(looks: Iterator[Look]) -> Iterator[list[Look]]:
    """Not too many entries together, nor too much content."""
    batch: list[Look] = []
    size_bytes = 0
    for one in looks:
        batch.append(one)
        size_bytes += one.size
        if len(batch) >= _TOGETHER or size_bytes >= _TOGETHER_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


class Comparison:
    """Compares what stands in a destination with a batch: marks files that may be kept, and what of others is intact.

    `kept` are the other entries (folder, name) that stand there as they should, `kept_links` such further names of
    files (by their number in the batch). `stale` are files that are kept but whose metadata is not right, `own` those
    that have parts that are intact, and no other name.
    """

    def __init__(self, found: Batch, standing: set[tuple[int, bytes]]) -> None:
        self._found = found
        self.standing = standing
        self._lock = threading.Lock()
        self._seen: dict[RestoredFile, _native._Seen] = {}
        self._links: dict[int, tuple[int, int]] = {}
        self.kept: set[tuple[int, bytes]] = set()
        self.kept_links: set[int] = set()
        self.stale: list[RestoredFile] = []
        self.own: set[RestoredFile] = set()

    def run(self, fetcher: Fetcher, destination: Path, threads: int, *, trust_times: bool) -> None:
        """Look at everything that stands there. Raises OSError when the destination cannot be opened."""
        if not self.standing:
            return
        with Crew(threads, lambda: open_folders(self._found.outline, destination), name="compare") as crew:
            look_at(crew, fetcher, self._looks(), self._take, trust_times=trust_times)
        self._judge()

    def _looks(self) -> Iterator[Look]:
        found, standing = self._found, self.standing
        for file in found.files:
            if (file.folder, file.name) in standing:
                yield from slices(file)
        for number, (folder, entry, _) in enumerate(found.links):
            if (folder, entry.name) in standing:
                yield Look(folder, entry, number=number)
        for number, (folder, entry) in enumerate(found.specials):
            if (folder, entry.name) in standing and number not in found.special_links and entry.links <= 1:
                yield Look(folder, entry)

    def _take(self, look: Look, seen: "_native._Seen") -> None:
        failed, kind, links, identity, _, intact, differs = seen
        if failed or kind != FORMATS[look.entry.kind]:
            return
        with self._lock:
            if look.file is not None:
                self._seen[look.file] = seen
                look.file.intact.update(intact)
            elif look.entry.kind is EntryKind.FILE:
                self._links[look.number] = identity
            elif not differs and links == 1:
                self.kept.add((look.folder, look.entry.name))

    def _judge(self) -> None:
        others: dict[RestoredFile, list[tuple[int, tuple[int, int]]]] = {}
        for number, identity in self._links.items():
            others.setdefault(self._found.links[number][2], []).append((number, identity))
        for file, (_, _, links, identity, size, _, differs) in self._seen.items():
            # What is written to a file changes it under all of its names, and some may be nobody's business here.
            same = [number for number, other in others.get(file, ()) if other == identity]
            ours = links == 1 + len(same)
            as_it_was = not differs and file.entry.links == links
            if len(file.intact) == len(file.content) and size == file.size and (ours or as_it_was):
                file.kept = True
                self.kept_links.update(same)
                if differs:
                    self.stale.append(file)
            elif len(file.content) <= 1:
                file.intact.clear()  # it is written in one go
            elif links == 1:
                self.own.add(file)
        self._seen.clear()

    @property
    def entries(self) -> int:
        """How many entries stand there already."""
        return sum(file.kept for file in self._found.files) + len(self.kept) + len(self.kept_links)

    def all_kept(self) -> set[tuple[int, bytes]]:
        """Everything that stands there as it should, files too: (folder, name)."""
        files = {(file.folder, file.name) for file in self._found.files if file.kept}
        links = {(self._found.links[number][0], self._found.links[number][1].name) for number in self.kept_links}
        return self.kept | files | links

    def strike_out(self) -> int:
        """Take out of the batch what need not be written to files; how many bytes that is."""
        found = self._found
        if not self.standing:
            return 0
        size_bytes = sum(found.links[number][2].size for number in self.kept_links)
        wanted = []
        for blob, place in found.wanted:
            there = found.places[blob]
            left = [(file, offset) for file, offset in there if not file.kept and offset not in file.intact]
            size_bytes += (place.plain or place.length - OVERHEAD) * (len(there) - len(left))
            if left:
                found.places[blob] = left
                wanted.append((blob, place))
            else:
                del found.places[blob]
        found.wanted = wanted
        return size_bytes


def open_folders(outline: Outline, destination: Path) -> Folders:
    """The folders so far below the destination, for one thread. Raises OSError."""
    return Folders(os.fsencode(destination), outline.parents, outline.names)
