"""Taking stock before a prune: the packs there are, and every blob that a snapshot needs. Any damage ends it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cto_backups import _native
from cto_backups.core.pruning import PackUse
from cto_backups.errors import DamageError, NotFoundError, VaultError, VaultMissingError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, Index, PackedBlob, load_index
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.stored import StoredFiles


@dataclass(frozen=True, slots=True)
class Stock:
    """What a repository holds; see `core.pruning.plan_prune`. `needs` says of each blob whether a snapshot needs it."""

    index: Index
    needs: _native.Needs
    uses: tuple[PackUse, ...]
    contested: tuple[tuple[int, bytes], ...]
    duplicate_blobs: int
    unlisted: dict[str, int]
    gone: tuple[str, ...]
    relisted: tuple[str, ...]


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
    needs = _needs(files, Fetcher(files, index), snapshots, strays)
    for kind in BlobKind:
        for blob in needs.missing(kind):
            if strays.relist(index, kind, blob) is None:
                what = f"{kind.name.lower()} blob {blob.hex()[:12]} is missing"
                raise _refused(files, what, "a snapshot needs it, and no pack that is there holds it")
    found, contested, duplicate_blobs = needs.uses()
    return Stock(
        index=index,
        needs=needs,
        uses=tuple(_uses(index, sizes, found)),
        contested=tuple(contested),
        duplicate_blobs=duplicate_blobs,
        unlisted={name.hex(): size for name, size in strays.sizes.items() if name not in strays.relisted},
        gone=tuple(sorted(name.hex() for name in gone)),
        relisted=tuple(sorted(name.hex() for name in strays.relisted)),
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
        vault, sealer = self._files.vault, self._files.sealer.native
        for name, size in self.sizes.items():
            key = self._files.key("data", name.hex())
            try:
                length = int.from_bytes(vault.read(key, size - 4, 4), "little") if size > 4 else 0
                end = size - 4 - length
                if length and end >= 0:
                    found = _native.read_header(sealer, vault.read(key, end, length), end)
                    yield name, [PackedBlob(BlobKind(one[0]), *one[1:]) for one in found]
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
        todo=f"Nothing was removed. Run 'cto.backups verify {files.vault.name}' to see what else is damaged.",
    )
