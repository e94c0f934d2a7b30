"""Taking stock before a prune: the packs there are, and every blob that a snapshot needs. Any damage ends it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cto_backups import _native
from cto_backups.core.pruning import Pack
from cto_backups.errors import DamageError, NotFoundError, VaultError, VaultMissingError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.headers import read_header
from cto_backups.repository.index import BlobKind, Index, PackedBlob, load_index
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.stored import StoredFiles

_AT_ONCE = 2048  # packs whose blobs are asked of the index at a time


@dataclass(frozen=True, slots=True)
class Stock:
    """What a repository holds. `needed` are the ids of data and of tree blobs; see `core.pruning` for the others."""

    index: Index
    packs: tuple[Pack, ...]
    needed: tuple[set[bytes], set[bytes]]
    unlisted: dict[str, int]
    gone: tuple[str, ...]
    relisted: tuple[str, ...]
    to_delete: tuple[str, ...]


def take_stock(files: StoredFiles) -> Stock:
    """Read snapshots, index and trees, under a lock of the caller's.

    Raises DamageError, naming it, for anything that cannot be read or is missing; VaultError.
    """
    snapshots = files.names("snapshots")
    index = load_index(files)
    if index.damages:
        name, why = index.damages[0]
        raise _refused(files, f"index file {name[:12]} cannot be read", why)
    sizes = files.pack_sizes()
    listed = {index.pack_name(number): index.pack_end(number) for number in range(index.pack_count)}
    gone = {name for name, end in listed.items() if sizes.get(name, 0) <= end}
    if gone:
        index = load_index(files, usable={name: size for name, size in sizes.items() if name not in gone})
    strays = _Strays(files, {name: size for name, size in sizes.items() if name not in listed})
    needed = _needed(files, Fetcher(files, index), snapshots, strays)
    packs = list(_packs(index, sizes))
    held: tuple[set[bytes], set[bytes]] = set(), set()
    for pack in packs:
        for kind, blob, _ in pack.blobs:
            held[kind].add(blob)
    for kind in BlobKind:
        for blob in needed[kind] - held[kind]:
            if strays.relist(index, kind, blob) is None:
                what = f"{kind.name.lower()} blob {blob.hex()[:12]} is missing"
                raise _refused(files, what, "a snapshot needs it, and no pack that is there holds it")
    return Stock(
        index=index,
        packs=tuple(packs) if not strays.relisted else tuple(_packs(index, sizes)),
        needed=needed,
        unlisted={name.hex(): size for name, size in strays.sizes.items() if name not in strays.relisted},
        gone=tuple(sorted(name.hex() for name in gone)),
        relisted=tuple(sorted(name.hex() for name in strays.relisted)),
        to_delete=tuple(sorted(name.hex() for name in index.to_delete)),
    )


class _Strays:
    """Packs that no index lists. What a snapshot needs is looked for in them before it is called missing.

    A writer that slept through a prune may have relied on a pack that the prune took out of the index.
    """

    def __init__(self, files: StoredFiles, sizes: dict[bytes, int]) -> None:
        self.sizes = sizes
        self.relisted: set[bytes] = set()
        self._files = files
        self._holders: dict[tuple[int, bytes], bytes] = {}
        self._blobs: dict[bytes, list[PackedBlob]] | None = None

    def relist(self, index: Index, kind: BlobKind, blob: bytes) -> bytes | None:
        """The name of the pack that holds the blob, which is in the index from now; None when there is none."""
        if self._blobs is None:
            self._blobs = dict(self._headers())
            for name, blobs in self._blobs.items():
                self._holders.update(((one.kind, one.id), name) for one in blobs)
        holder = self._holders.get((kind, blob))
        if holder is not None and holder not in self.relisted:
            index.add_pack(holder, self._blobs[holder])
            self.relisted.add(holder)
        return holder

    def _headers(self) -> Iterator[tuple[bytes, list[PackedBlob]]]:
        """What the packs' own headers list; a pack that was cut off has none."""
        for name, size in self.sizes.items():
            try:
                yield name, read_header(self._files, name, size)
            except (DamageError, VaultError):
                continue


def _needed(
    files: StoredFiles, fetcher: Fetcher, snapshots: Iterable[str], strays: _Strays
) -> tuple[set[bytes], set[bytes]]:
    """The ids of the data blobs and of the trees that the snapshots refer to."""
    data: set[bytes] = set()
    trees: set[bytes] = set()
    for name in snapshots:
        try:
            stack = [load_snapshot(files, name).tree]
        except (DamageError, NotFoundError) as error:
            raise _refused(files, f"snapshot {name[:12]} cannot be read", error.why or error.what) from error
        while stack:
            tree = stack.pop()
            if tree in trees:
                continue
            try:
                content, subtrees = _native.tree_references(_tree(fetcher, tree, strays))
            except (DamageError, VaultMissingError) as error:
                what = f"tree {tree.hex()[:12]} of snapshot {name[:12]} cannot be read"
                raise _refused(files, what, str(error)) from error
            trees.add(tree)
            data.update(content)
            stack.extend(subtrees)
    return data, trees


def _tree(fetcher: Fetcher, tree: bytes, strays: _Strays) -> bytes:
    try:
        return fetcher.tree(tree)
    except (DamageError, VaultMissingError):
        if strays.relist(fetcher.index, BlobKind.TREE, tree) is None:
            raise
        return fetcher.tree(tree)


def _packs(index: Index, sizes: dict[bytes, int]) -> Iterator[Pack]:
    """The packs of the index, with their blobs in order."""
    for start in range(0, index.pack_count, _AT_ONCE):
        part = range(start, min(start + _AT_ONCE, index.pack_count))
        blobs: dict[int, list[tuple[int, int, bytes, int]]] = {number: [] for number in part}
        for kind, blob, place in index.blobs_in(part):
            blobs[place.pack].append((place.offset, int(kind), blob, place.length))
        for number, found in blobs.items():
            name = index.pack_name(number)
            yield Pack(name.hex(), sizes[name], tuple(one[1:] for one in sorted(found)))


def _refused(files: StoredFiles, what: str, why: str) -> DamageError:
    return DamageError(
        f"{files.prefix} in vault {files.vault.name} was not pruned: {what}",
        why=why,
        todo=f"Nothing was removed. Run 'cto.backups repair {files.vault.name}', then prune again.",
    )
