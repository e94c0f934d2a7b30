"""Copying a snapshot into another repository: every blob is opened on the way, and sealed anew still compressed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

from cto_backups import _native
from cto_backups.core.ports import Progress
from cto_backups.core.vaults import requests_at_once
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.crew import Crew
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.fetch import Fetcher, Reach, Room
from cto_backups.repository.index import BlobKind, Location
from cto_backups.repository.seal import CameOutWrongError

Wanted = tuple[bytes, Location]


def ranges(wanted: Sequence[Wanted], reach: Reach) -> Iterator[list[Wanted]]:
    """Blobs grouped so that each group is one read of a pack: neighbours, in order, a few MiB, and one blob at most.

    Neighbours that are too many for one read are divided evenly: a small rest would cost a request of its own.
    """
    run: list[Wanted] = []
    end = pack = -1
    for blob, place in sorted(wanted, key=lambda pair: pair[1][:2]):
        if run and (place.pack != pack or place.offset - end > reach.gap_bytes):
            yield from _parts(run, end, reach)
            run = []
        ends = place.offset + place.length
        end = max(end, ends) if run else ends
        pack = place.pack
        run.append((blob, place))
    if run:
        yield from _parts(run, end, reach)


def _parts(run: Sequence[Wanted], end: int, reach: Reach) -> Iterator[list[Wanted]]:
    """A run of neighbours, which reaches to `end`, in parts of about equal length."""
    first = run[0][1].offset
    share = (end - first) / reach.reads(end - first)
    part: list[Wanted] = []
    for one in run:
        if part and one[1].offset - part[0][1].offset >= share:
            yield part
            part = []
        part.append(one)
    yield part


class Benches:
    """Benches of a depot for threads that read, of which there may be more: whoever has read takes one that is free."""

    def __init__(self, depot: Depot, count: int) -> None:
        self._free: SimpleQueue[Bench] = SimpleQueue()
        for _ in range(count):
            self._free.put(depot.bench())

    @contextmanager
    def one(self) -> Iterator[Bench]:
        """One of them, as soon as one is free."""
        bench = self._free.get()
        try:
            yield bench
        finally:
            self._free.put(bench)


def carriers(origin: Fetcher, depot: Depot, name: str) -> tuple["Crew[Room]", Benches]:
    """Threads that read from the origin, and as many benches as there is work for: each has packs in memory."""
    threads = depot.options.threads
    return Crew(max(threads, requests_at_once(origin.files.vault)), Room, name=name), Benches(depot, threads)


def copy_tree(origin: Fetcher, root: bytes, depot: Depot, progress: Progress) -> None:
    """Bring a tree and all that it refers to into the depot, which the caller finishes. Raises DamageError, VaultError.

    Data goes first and trees last, deepest first, so that a tree that is there has had its content there.
    """
    data, trees = _missing(origin, root, depot)
    crew, benches = carriers(origin, depot, "copy")
    bring = partial(copy_group, benches=benches, origin=origin, kind=BlobKind.DATA, progress=progress)
    with crew:
        for group in ranges(data, origin.reach):
            crew.submit(partial(bring, group=group))
    bench = depot.bench()
    for tree in reversed(trees):
        if not depot.known(BlobKind.TREE, tree):
            bench.save(BlobKind.TREE, origin.tree(tree))


def _missing(origin: Fetcher, root: bytes, depot: Depot) -> tuple[list[Wanted], list[bytes]]:
    """The data blobs that the destination lacks, with their places at the origin, and the trees, parents first."""
    seen_data: set[bytes] = set()
    seen_trees = {root}
    data: list[Wanted] = []
    trees: list[bytes] = []
    stack = [root]
    while stack:
        tree = stack.pop()
        if not depot.known(BlobKind.TREE, tree):
            trees.append(tree)
        blobs, subtrees = _native.tree_references(origin.tree(tree))
        for blob in blobs:
            if blob in seen_data:
                continue
            seen_data.add(blob)
            if depot.known(BlobKind.DATA, blob):
                continue
            places = origin.index.locate(BlobKind.DATA, blob)
            if not places:
                raise DamageError(
                    f"Data blob {blob.hex()[:12]} is missing in vault {origin.files.vault.name}",
                    why="no readable index file of the repository lists it",
                    todo="repair that vault, or copy from another one",
                )
            data.append((blob, places[0]))
        for subtree in subtrees:
            if subtree not in seen_trees:
                seen_trees.add(subtree)
                stack.append(subtree)
    return data, trees


def copy_group(
    room: Room, benches: Benches, origin: Fetcher, kind: BlobKind, group: Sequence[Wanted], progress: Progress
) -> None:
    """Bring blobs of one kind and one read over, each opened on the way; one that is damaged, from another place.

    Raises DamageError when a blob is intact nowhere, VaultError.
    """
    first, last = group[0][1], group[-1][1]
    sealed = room.of(last.offset + last.length - first.offset)
    try:
        origin.read_into(first.pack, first.offset, sealed)
    except VaultError:
        sealed = memoryview(b"")  # each blob is looked for on its own below
    with benches.one() as bench:
        for blob, place in group:
            start = place.offset - first.offset
            part = sealed[start : start + place.length]
            try:
                brought = bench.copy(origin.files.sealer, kind, blob, part, place.plain)
            except CameOutWrongError:
                raise
            except DamageError:
                # From another place, or the error that names the pack.
                plain = origin.data(blob) if kind is BlobKind.DATA else origin.tree(blob)
                brought = len(plain)
                bench.save(kind, plain)
            progress.advance(size_bytes=brought)
