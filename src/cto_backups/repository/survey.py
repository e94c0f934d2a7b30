"""What a restore is about to write: the selected part of a tree, flattened, with every blob's places in files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cto_backups.core.model import Problem
from cto_backups.core.payloads import Node
from cto_backups.core.ports import Entry, EntryKind
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Location
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.selection import Selection
from cto_backups.repository.tree import decode_tree

SLICE = 64
"""So many blobs of a file are looked at in one go."""


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
class Survey:
    """Folders by number (0 is the destination itself), and what goes into them.

    `on_the_way` are folders that lead to the selection and are not part of it.
    """

    names: list[bytes] = field(default_factory=lambda: [b""])
    parents: list[int] = field(default_factory=lambda: [0])
    folders: list[Entry | None] = field(default_factory=lambda: [None])
    files: list[RestoredFile] = field(default_factory=list)
    specials: list[tuple[int, Entry]] = field(default_factory=list)
    links: list[tuple[int, Entry, RestoredFile]] = field(default_factory=list)
    special_links: dict[int, tuple[int, Entry]] = field(default_factory=dict)
    places: dict[bytes, list[tuple[RestoredFile, int]]] = field(default_factory=dict)
    wanted: list[tuple[bytes, Location]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    on_the_way: set[int] = field(default_factory=set)
    entries: int = 0
    size_bytes: int = 0

    def path(self, folder: int, name: bytes = b"") -> str:
        """A path inside the recovery point, for people."""
        parts = [name] if name else []
        while folder:
            parts.append(self.names[folder])
            folder = self.parents[folder]
        return os.fsdecode(b"/" + b"/".join(reversed(parts)))


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


def survey(fetcher: Fetcher, root: bytes, selection: Selection) -> Survey:
    """Read the trees of the selection; a damaged tree becomes a problem, and what can be reached is kept."""
    found = Survey()
    hard_links: dict[tuple[int, int], tuple[RestoredFile, tuple[bytes, ...]]] = {}
    special_links: dict[tuple[EntryKind, int, int], tuple[int, Entry]] = {}
    stack: list[tuple[int, bytes, bytes, bool]] = [(0, b"", root, selection.everything)]
    while stack:
        number, path, tree, inherited = stack.pop()
        try:
            nodes = decode_tree(fetcher.tree(tree))
        except (DamageError, VaultError) as error:
            if number == 0:
                raise
            kind = "missing" if isinstance(error, VaultError) else "damaged"
            found.problems.append(Problem(found.path(number), kind, f"what is in this folder: {error}"))
            continue
        below = []
        for node in nodes:
            entry = node.entry
            inner = path + b"/" + entry.name if not selection.everything else b""
            selected = inherited or selection.wants(inner)
            if node.subtree is not None:
                if selected or selection.descends(inner):
                    below.append((node, inner, selected))
            elif selected:
                found.entries += 1
                if entry.kind is EntryKind.FILE:
                    _file(found, fetcher, number, node, hard_links)
                else:
                    _special(found, number, entry, special_links)
        for node, inner, selected in below:
            assert node.subtree is not None
            found.entries += 1
            found.names.append(node.entry.name)
            found.parents.append(number)
            found.folders.append(node.entry)
            stack.append((len(found.names) - 1, inner, node.subtree, selected))
    if not selection.everything:
        _drop_unused(found, selection)
    return found


def _file(
    found: Survey,
    fetcher: Fetcher,
    folder: int,
    node: Node,
    hard_links: dict[tuple[int, int], tuple[RestoredFile, tuple[bytes, ...]]],
) -> None:
    entry, content = node.entry, node.content
    key = entry.device_id, entry.inode
    if entry.links > 1 and entry.inode:
        first = hard_links.get(key)
        if first is not None and first[1] == content:
            found.links.append((folder, entry, first[0]))
            found.size_bytes += first[0].size
            return
    offset = 0
    pieces = []
    for blob in content:
        places = fetcher.index.locate(BlobKind.DATA, blob)
        if not places:
            missing = f"blob {blob.hex()[:12]} of it is in no readable index file"
            found.problems.append(Problem(found.path(folder, entry.name), "damaged", missing))
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
        hard_links[key] = file, content


def _special(
    found: Survey, folder: int, entry: Entry, links: dict[tuple[EntryKind, int, int], tuple[int, Entry]]
) -> None:
    """A symlink, fifo, socket or device; one with several names is made once."""
    if entry.links > 1 and entry.inode:
        first = links.setdefault((entry.kind, entry.device_id, entry.inode), (folder, entry))
        if first[1] is not entry and first[1].linktarget == entry.linktarget:
            found.special_links[len(found.specials)] = first
    found.specials.append((folder, entry))


def _drop_unused(found: Survey, selection: Selection) -> None:
    """Folders that were only walked through on the way to a pattern's matches, and led to none, are not restored."""
    used = {0}
    places = (
        *(file.folder for file in found.files),
        *(number for number, _ in found.specials),
        *(number for number, _, _ in found.links),
    )
    paths: list[bytes] = [b""] * len(found.names)
    taken = [selection.everything] * len(found.names)
    for number in range(1, len(found.names)):
        above = found.parents[number]
        paths[number] = paths[above] + b"/" + found.names[number]
        taken[number] = taken[above] or selection.wants(paths[number])
    for number in (*places, *(number for number in range(1, len(found.names)) if taken[number])):
        while number not in used:
            used.add(number)
            number = found.parents[number]
    dropped = [number for number in range(1, len(found.names)) if number not in used]
    for number in dropped:
        found.folders[number] = None
        found.names[number] = b""
    found.entries -= len(dropped)
    found.on_the_way = {number for number in used if number and not taken[number]}


def conflicts(found: Survey, destination: Path) -> set[tuple[int, bytes]]:
    """What stands in the destination where something else than a folder into a folder would be written."""
    if not os.path.lexists(destination):
        return set()
    standing: set[tuple[int, bytes]] = set()
    paths: list[str | None] = [str(destination), *([None] * (len(found.names) - 1))]
    there: list[frozenset[bytes]] = [frozenset()] * len(found.names)
    there[0] = _listing(str(destination))
    for number in range(1, len(found.names)):
        above, name = found.parents[number], found.names[number]
        if found.folders[number] is None or paths[above] is None or name not in there[above]:
            continue
        path = os.path.join(paths[above] or "", os.fsdecode(name))  # noqa: PTH118 millions of them
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 the same
            paths[number] = path
            there[number] = _listing(path)
        else:
            standing.add((above, name))
    for file in found.files:
        if file.name in there[file.folder]:
            standing.add((file.folder, file.name))
    for number, entry in (*found.specials, *((number, entry) for number, entry, _ in found.links)):
        if entry.name in there[number]:
            standing.add((number, entry.name))
    return standing


def _listing(path: str) -> frozenset[bytes]:
    try:
        return frozenset(os.listdir(os.fsencode(path)))  # noqa: PTH208 bytes, any name
    except OSError:
        return frozenset()
