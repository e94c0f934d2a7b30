"""What a restore is about to write: the selected part of a tree, batch by batch, with every blob's places in files.

However many entries there are, only one batch of them is in memory. To read the next one meanwhile takes longer than it
saves: both want the interpreter.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cto_backups.core.model import Problem
from cto_backups.core.payloads import Node
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Location
from cto_backups.repository.places import TEMPORARY
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.selection import Selection
from cto_backups.repository.tree import decode_tree

SLICE = 64
"""So many blobs of a file are looked at in one go."""

BATCH_ENTRIES = 10_000
BATCH_BLOBS = 40_000
"""How large a batch grows, but for its last file: some 15 MB of memory, and enough to read packs in long stretches."""


class RestoredFile:
    """A file to write: in which folder (number), under which name first, and how many blobs it still waits for.

    `starts` says where every SLICE-th blob begins. Where something stood before, `kept` says that it is the file
    already, `intact` where the blobs begin that are there in the file that is written, and `over` that this is the
    standing file itself.
    """

    __slots__ = ("content", "entry", "failed", "folder", "intact", "kept", "name", "over", "size", "starts", "waiting")

    def __init__(self, entry: Entry, folder: int, content: tuple[bytes, ...], starts: tuple[int, ...]) -> None:
        self.entry = entry
        self.folder = folder
        self.name = entry.name
        self.content = content
        self.starts = starts
        self.size = 0
        self.waiting = len(content)
        self.failed = False
        self.kept = False
        self.over = False
        self.intact: set[int] = set()

    @property
    def whole(self) -> bool:
        """Whether it is written in one go."""
        return len(self.content) <= 1


@dataclass(slots=True)
class Outline:
    """All folders so far by number (0 is the destination itself): their names, and the folders that they are in."""

    names: list[bytes] = field(default_factory=lambda: [b""])
    parents: list[int] = field(default_factory=lambda: [0])

    def path(self, folder: int, name: bytes = b"") -> str:
        """A path inside the recovery point, for people."""
        parts = [name] if name else []
        while folder:
            parts.append(self.names[folder])
            folder = self.parents[folder]
        return os.fsdecode(b"/" + b"/".join(reversed(parts)))


@dataclass(slots=True)
class Batch:
    """A part of what is restored: folders to make, in order, what goes into these and earlier ones, and what is done.

    `on_the_way` are folders that lead to the selection and are not part of it. `finished` are folders, of this batch
    and earlier ones, into which nothing more goes, each before those that hold it. `spared` are paths that would be
    selected, and are to be spared.
    """

    outline: Outline
    folders: dict[int, Entry] = field(default_factory=dict)
    files: list[RestoredFile] = field(default_factory=list)
    specials: list[tuple[int, Entry]] = field(default_factory=list)
    links: list[tuple[int, Entry, RestoredFile]] = field(default_factory=list)
    special_links: dict[int, tuple[int, Entry]] = field(default_factory=dict)
    places: dict[bytes, list[tuple[RestoredFile, int]]] = field(default_factory=dict)
    wanted: list[tuple[bytes, Location]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    on_the_way: set[int] = field(default_factory=set)
    finished: list[int] = field(default_factory=list)
    spared: list[bytes] = field(default_factory=list)
    entries: int = 0
    size_bytes: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing more should go in."""
        return self.entries >= BATCH_ENTRIES or len(self.wanted) >= BATCH_BLOBS


def walk(fetcher: Fetcher, root: bytes, selection: Selection) -> Iterator[tuple[bytes, Node, bool]]:
    """Every node on the way to, and of, the selection: path, node, whether it is selected. Raises DamageError."""
    stack: list[tuple[bytes, bytes, bool]] = [(b"", root, selection.everything)]
    while stack:
        path, tree, inherited = stack.pop()
        below = []
        for node in decode_tree(fetcher.tree(tree)):
            inner = path + b"/" + node.entry.name
            selected = inherited or selection.wants(inner)
            if node.subtree is not None:
                if selected or selection.descends(inner):
                    below.append((inner, node, selected))
            elif selected:
                node.entry.path = inner
                yield inner, node, True
        for inner, node, selected in below:
            node.entry.path = inner
            yield inner, node, selected
            assert node.subtree is not None
            stack.append((inner, node.subtree, selected))


def batches(fetcher: Fetcher, root: bytes, selection: Selection) -> Iterator[Batch]:
    """The selection, at least one batch; each but the last is full.

    A damaged tree becomes a problem, and what can be reached is kept; DamageError or VaultError when that is the root.
    """
    return _Surveying(fetcher, root, selection).run()


@dataclass(slots=True)
class _Folder:
    """A folder that is walked: its entry until it is announced to a batch, and how many below are not done."""

    entry: Entry | None
    left: int = 1


class _Surveying:
    def __init__(self, fetcher: Fetcher, root: bytes, selection: Selection) -> None:
        self._fetcher = fetcher
        self._selection = selection
        self._outline = Outline()
        self._batch = Batch(self._outline)
        self._hard_links: dict[tuple[int, int], tuple[RestoredFile, tuple[bytes, ...]]] = {}
        self._special_links: dict[tuple[EntryKind, int, int], tuple[int, Entry]] = {}
        self._open: dict[int, _Folder] = {0: _Folder(None)}
        self._stack: list[tuple[int, bytes, bytes, bool]] = [(0, b"", root, selection.everything)]

    def run(self) -> Iterator[Batch]:
        while self._stack:
            yield from self._walk(*self._stack.pop())
        yield self._batch

    def _walk(self, number: int, path: bytes, tree: bytes, inherited: bool) -> Iterator[Batch]:
        selection = self._selection
        try:
            nodes = decode_tree(self._fetcher.tree(tree))
        except (DamageError, VaultError) as error:
            if number == 0:
                raise
            kind = "missing" if isinstance(error, VaultError) else "damaged"
            what = f"what is in this folder: {error}"
            self._batch.problems.append(Problem(self._outline.path(number), kind, what))
            nodes = []
        nodes.reverse()
        below = []
        while nodes:
            node = nodes.pop()  # so that a long list makes room for what is made of it
            inner = path + b"/" + node.entry.name if selection.by_path else b""
            selected = inherited or selection.wants(inner)
            if inner in selection.spare:
                if selected or selection.descends(inner):
                    self._batch.spared.append(inner)
            elif node.subtree is not None:
                if selected or selection.descends(inner):
                    below.append((node, inner, selected))
            elif selected:
                self._announce(number)
                self._batch.entries += 1
                if node.entry.kind is EntryKind.FILE:
                    self._file(number, node)
                else:
                    self._special(number, node.entry)
                if self._batch.full:
                    yield self._next()
        for node, inner, selected in below:
            self._enter(number, node, inner, selected)
            if self._batch.full:
                yield self._next()
        self._leave(number)

    def _next(self) -> Batch:
        full, self._batch = self._batch, Batch(self._outline)
        return full

    # -- folders ------------------------------------------------------------------------------------------------------

    def _enter(self, above: int, node: Node, path: bytes, selected: bool) -> None:
        assert node.subtree is not None
        outline = self._outline
        number = len(outline.names)
        outline.names.append(node.entry.name)
        outline.parents.append(above)
        self._open[above].left += 1
        self._open[number] = _Folder(node.entry)
        self._stack.append((number, path, node.subtree, selected))
        if selected:
            self._announce(above)
            self._announce(number, on_the_way=False)

    def _announce(self, number: int, *, on_the_way: bool = True) -> None:
        """Have a folder made, and those that it is in: what only led to a pattern's matches, and to none, is not."""
        chain = []
        while (folder := self._open[number]).entry is not None:
            chain.append((number, folder.entry))
            folder.entry = None
            number = self._outline.parents[number]
        for one, entry in reversed(chain):
            self._batch.folders[one] = entry
            self._batch.entries += 1
            if on_the_way:
                self._batch.on_the_way.add(one)

    def _leave(self, number: int) -> None:
        while True:
            folder = self._open[number]
            folder.left -= 1
            if folder.left:
                return
            del self._open[number]
            if folder.entry is None and number:
                self._batch.finished.append(number)
            if not number:
                return
            number = self._outline.parents[number]

    # -- what goes into them ------------------------------------------------------------------------------------------

    def _file(self, folder: int, node: Node) -> None:
        found = self._batch
        entry, content = node.entry, node.content
        key = entry.device_id, entry.inode
        if entry.links > 1 and entry.inode:
            first = self._hard_links.get(key)
            if first is not None and first[1] == content:
                found.links.append((folder, entry, first[0]))
                found.size_bytes += first[0].size
                return
        offset = 0
        pieces = []
        for blob in content:
            places = self._fetcher.index.locate(BlobKind.DATA, blob)
            if not places:
                missing = f"blob {blob.hex()[:12]} of it is in no readable index file"
                found.problems.append(Problem(self._outline.path(folder, entry.name), "damaged", missing))
                return
            pieces.append((blob, offset, places[0]))
            offset += places[0].plain or places[0].length - OVERHEAD
        file = RestoredFile(entry, folder, content, tuple(start for _, start, _ in pieces[::SLICE]))
        for blob, start, place in pieces:
            known = found.places.get(blob)
            if known is None:
                found.places[blob] = [(file, start)]
                found.wanted.append((blob, place))
            else:
                known.append((file, start))
        file.size = offset
        found.size_bytes += offset
        found.files.append(file)
        if entry.links > 1 and entry.inode:
            self._hard_links[key] = file, content

    def _special(self, folder: int, entry: Entry) -> None:
        """A symlink, fifo, socket or device; one with several names is made once."""
        found = self._batch
        if entry.links > 1 and entry.inode:
            first = self._special_links.setdefault((entry.kind, entry.device_id, entry.inode), (folder, entry))
            if first[1] is not entry and first[1].linktarget == entry.linktarget:
                found.special_links[len(found.specials)] = first
        found.specials.append((folder, entry))


def conflicts(found: Batch, destination: Path, leftovers: set[int] | None = None) -> set[tuple[int, bytes]]:
    """What stands in the destination where something else than a folder into a folder would be written.

    To `leftovers` go the folders in which an earlier restore may have left something.
    """
    if not os.path.lexists(destination):
        return set()
    below = _Below(found.outline, destination)
    standing: set[tuple[int, bytes]] = set()
    for number in found.folders:
        above, name = found.outline.parents[number], found.outline.names[number]
        if name in below.names(above) and below.path(number) is None:
            standing.add((above, name))
    for file in found.files:
        if file.name in below.names(file.folder):
            standing.add((file.folder, file.name))
    for number, entry in (*found.specials, *((number, entry) for number, entry, _ in found.links)):
        if entry.name in below.names(number):
            standing.add((number, entry.name))
    if leftovers is not None:
        leftovers.update(below.leftovers())
    return standing


class _Below:
    """What there is in the folders of a destination, each listed once; no symlink is followed."""

    def __init__(self, outline: Outline, destination: Path) -> None:
        self._outline = outline
        self._paths: dict[int, str | None] = {0: str(destination)}
        self._names: dict[int, frozenset[bytes]] = {}

    def path(self, number: int) -> str | None:
        """Where a folder is; None where none stands, or something else."""
        chain = []
        while number not in self._paths:
            chain.append(number)
            number = self._outline.parents[number]
        path = self._paths[number]
        for one in reversed(chain):
            if path is not None:
                path = os.path.join(path, os.fsdecode(self._outline.names[one]))  # noqa: PTH118 millions of them
                if not _is_folder(path):
                    path = None
            self._paths[one] = path
        return path

    def names(self, number: int) -> frozenset[bytes]:
        """What is in a folder."""
        if number not in self._names:
            path = self.path(number)
            self._names[number] = frozenset() if path is None else _listing(path)
        return self._names[number]

    def leftovers(self) -> Iterator[int]:
        """The listed folders with a temporary name in them."""
        for number, names in self._names.items():
            if any(name.startswith(TEMPORARY) for name in names):
                yield number


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _listing(path: str) -> frozenset[bytes]:
    try:
        return frozenset(os.listdir(os.fsencode(path)))  # noqa: PTH208 bytes, any name
    except OSError:
        return frozenset()
