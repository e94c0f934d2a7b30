"""Taking stock before a prune: the packs there are, and every blob that a snapshot needs. Any damage ends it."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cto_backups import _native
from cto_backups.core.pruning import PackUse
from cto_backups.errors import DamageError, NotFoundError, VaultError, VaultMissingError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.headers import read_header
from cto_backups.repository.index import BlobKind, Index, PackedBlob, load_index
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.stored import StoredFiles

InPack = tuple[int, bytes, int]
"""A blob in a pack: its kind, its id, the pack's number."""


@dataclass(frozen=True, slots=True)
class Held:
    """Which pack each needed blob is needed of: the uses of the packs that the index lists, in order.

    `contested` are the blobs that lie in several packs; `duplicate_blobs` is how many places that is beyond one each.
    """

    uses: tuple[PackUse, ...]
    contested: tuple[InPack, ...]
    duplicate_blobs: int


@dataclass(frozen=True, slots=True)
class Stock:
    """What a repository holds; see `core.pruning.plan_prune`. `needs` says of each blob whether a snapshot needs it."""

    index: Index
    needs: _native.Needs
    sizes: dict[bytes, int]
    unlisted: dict[str, int]
    gone: tuple[str, ...]
    relisted: tuple[str, ...]
    to_delete: tuple[str, ...]

    def held(self, damaged: AbstractSet[InPack]) -> Held:
        """Each blob needed of one pack, `damaged` places left out. Raises DamageError for one that is in no other."""
        found, contested, duplicate_blobs = self.needs.uses(damaged)
        return Held(tuple(_uses(self.index, self.sizes, found)), tuple(contested), duplicate_blobs)


def take_stock(files: StoredFiles, expected: Iterable[str] = ()) -> Stock:
    """Read snapshots, index and trees, under a lock of the caller's.

    Raises DamageError, naming it, for anything that cannot be read or is missing, an expected snapshot among it;
    VaultError.
    """
    snapshots = files.names("snapshots")
    if missing := sorted(set(expected) - set(snapshots)):
        why = "the catalog knows its copy here: the vault shows an old listing, or somebody else removed it"
        raise _refused(files, f"snapshot {missing[0][:12]} is not listed", why)
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
    needs = _needs(files, Fetcher(files, index), snapshots, strays)
    for kind in BlobKind:
        for blob in needs.missing(kind):
            if strays.relist(index, kind, blob) is None:
                what = f"{kind.name.lower()} blob {blob.hex()[:12]} is missing"
                raise _refused(files, what, "a snapshot needs it, and no pack that is there holds it")
    there = [index.pack_name(number) for number in range(index.pack_count)]
    for pack in files.companions(there, strays.left()):
        if not strays.relist_pack(index, pack):
            what = f"pack {pack.hex()[:12]} cannot be read"
            raise _refused(files, what, "no index lists it, but it would be deleted with one that is listed")
    return Stock(
        index=index,
        needs=needs,
        sizes=sizes,
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
        self._look()
        holder = self._holders.get((kind, blob))
        if holder is not None:
            self.relist_pack(index, holder)
        return holder

    def relist_pack(self, index: Index, name: bytes) -> bool:
        """Have a pack in the index from now; whether its header could be read."""
        blobs = self._look().get(name)
        if blobs is not None and name not in self.relisted:
            index.add_pack(name, blobs)
            self.relisted.add(name)
        return blobs is not None

    def left(self) -> list[bytes]:
        """The packs that are in no index yet."""
        return [name for name in self.sizes if name not in self.relisted]

    def _look(self) -> dict[bytes, list[PackedBlob]]:
        """What the packs' own headers list, which are read once."""
        if self._blobs is None:
            self._blobs = dict(self._headers())
            for name, blobs in self._blobs.items():
                self._holders.update(((one.kind, one.id), name) for one in blobs)
        return self._blobs

    def _headers(self) -> Iterator[tuple[bytes, list[PackedBlob]]]:
        """What the packs' own headers list; a pack that was cut off has none."""
        for name, size in self.sizes.items():
            try:
                yield name, read_header(self._files, name, size)
            except (DamageError, VaultError):
                continue


def _needs(files: StoredFiles, fetcher: Fetcher, snapshots: Iterable[str], strays: _Strays) -> _native.Needs:
    """Every blob that the snapshots refer to."""
    needs = _native.Needs(fetcher.index.native)
    for name in snapshots:
        try:
            needs.add(load_snapshot(files, name).tree)
        except (DamageError, NotFoundError) as error:
            raise _refused(files, f"snapshot {name[:12]} cannot be read", error.why or error.what) from error
        while (tree := needs.next()) is not None:
            try:
                needs.enter(_tree(fetcher, tree, strays))
            except (DamageError, VaultMissingError) as error:
                what = f"tree {tree.hex()[:12]} of snapshot {name[:12]} cannot be read"
                raise _refused(files, what, str(error)) from error
    return needs


def _tree(fetcher: Fetcher, tree: bytes, strays: _Strays) -> bytes:
    try:
        return fetcher.tree(tree)
    except (DamageError, VaultMissingError):
        if strays.relist(fetcher.index, BlobKind.TREE, tree) is None:
            raise
        return fetcher.tree(tree)


def _uses(index: Index, sizes: Mapping[bytes, int], found: Iterable[tuple[int, int, int, int]]) -> Iterator[PackUse]:
    """The packs of the index, in order."""
    for number, (kinds, used_bytes, unused_bytes, used_blobs) in enumerate(found):
        name = index.pack_name(number)
        kind = ("data", "data", "tree", "mixed")[kinds]
        yield PackUse(name.hex(), kind, sizes[name], used_bytes, unused_bytes, used_blobs)


def _refused(files: StoredFiles, what: str, why: str) -> DamageError:
    return DamageError(
        f"{files.prefix} in vault {files.vault.name} was not pruned: {what}",
        why=why,
        todo=f"Nothing was removed. Run 'cto.backups repair {files.vault.name}', then prune again.",
    )
