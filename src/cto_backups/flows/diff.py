"""Diff: what is different between two recovery points; folders that are the same in both are not read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from cto_backups.core.payloads import Node
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import NotFoundError
from cto_backups.flows.browse import PointContents


class Difference(StrEnum):
    """How an entry differs."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    TYPE = "type"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that differs; `fields` says which metadata do, where nothing else does."""

    difference: Difference
    path: bytes
    before: Entry | None
    after: Entry | None
    fields: tuple[str, ...] = ()


@dataclass
class Totals:
    """How many entries differ in each way, and the bytes in files that are only in one point or not the same."""

    counts: dict[Difference, int] = field(default_factory=lambda: dict.fromkeys(Difference, 0))
    bytes_before: int = 0
    bytes_after: int = 0

    def add(self, change: Change) -> None:
        """Count a change."""
        self.counts[change.difference] += 1
        if change.difference is not Difference.METADATA:
            self.bytes_before += size_of(change.before)
            self.bytes_after += size_of(change.after)

    @property
    def equal(self) -> bool:
        """Whether nothing was counted."""
        return not any(self.counts.values())


def size_of(entry: Entry | None) -> int:
    """The bytes in a file; 0 for all else."""
    return entry.size if entry is not None and entry.kind is EntryKind.FILE else 0


def diff(
    before: PointContents, after: PointContents, paths: Sequence[bytes] = (), *, metadata: bool = False
) -> Iterator[Change]:
    """What differs below these paths, or in all, in the order of the paths. Raises NotFoundError for one in neither.

    With `metadata`, also what differs only in mode, owner, time or extended attributes. A folder that cannot be read in
    one of the points is a problem of that one, and nothing is said of what is in it.
    """
    pairs = [(path, *_at(before, after, path)) for path in paths or (b"",)]
    return chain.from_iterable(_pair(before, after, *pair, metadata=metadata) for pair in pairs)


def _at(before: PointContents, after: PointContents, path: bytes) -> tuple[Node | None, Node | None]:
    found: list[Node | None] = []
    lacking: NotFoundError | None = None
    for contents in (before, after):
        try:
            found.append(contents.find(path))
        except NotFoundError as error:
            found.append(None)
            lacking = error
    if found == [None, None]:
        assert lacking is not None
        raise lacking
    return found[0], found[1]


def _pair(
    before: PointContents, after: PointContents, path: bytes, old: Node | None, new: Node | None, *, metadata: bool
) -> Iterator[Change]:
    """What differs between two nodes at one path, and below it."""
    stack = [iter([(path, old, new)])]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            continue
        path, old, new = pair
        if path and (change := judged(path, old, new, metadata=metadata)) is not None:
            yield change
        subtrees = old.subtree if old else None, new.subtree if new else None
        if subtrees[0] != subtrees[1]:
            stack.append(_inside(before, after, path, old, new))


def _inside(
    before: PointContents, after: PointContents, path: bytes, old: Node | None, new: Node | None
) -> Iterator[tuple[bytes, Node | None, Node | None]]:
    known = len(before.problems) + len(after.problems)
    left, right = (
        {one.entry.name: one for one in contents.known(path, node)} if node and node.subtree else {}
        for contents, node in ((before, old), (after, new))
    )
    if len(before.problems) + len(after.problems) > known:
        return
    for name in sorted(left.keys() | right.keys()):
        yield path + b"/" + name, left.get(name), right.get(name)


def judged(path: bytes, old: Node | None, new: Node | None, *, metadata: bool) -> Change | None:
    """How an entry differs from what it was, if it does; a folder does not because of what is in it."""
    if old is None or new is None:
        difference = Difference.ADDED if old is None else Difference.REMOVED
        return Change(difference, path, old.entry if old else None, new.entry if new else None)
    was, now = old.entry, new.entry
    if was.kind is not now.kind:
        return Change(Difference.TYPE, path, was, now)
    if (old.content, was.linktarget, was.device) != (new.content, now.linktarget, now.device):
        return Change(Difference.MODIFIED, path, was, now)
    fields = metadata_fields(was, now) if metadata else ()
    return Change(Difference.METADATA, path, was, now, fields) if fields else None


def metadata_fields(was: Entry, now: Entry) -> tuple[str, ...]:
    """Which metadata differ: mode, owner, time, attributes (extended ones)."""
    compared = {
        "mode": (was.mode, now.mode),
        "owner": ((was.uid, was.gid), (now.uid, now.gid)),
        "time": (was.mtime_ns, now.mtime_ns),
        "attributes": (was.extended, now.extended),
    }
    return tuple(name for name, (one, other) in compared.items() if one != other)
