"""Where every blob lies: index files in memory. The tables themselves are in native/src/repository/index.rs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from cto_backups import _native
from cto_backups.errors import DamageError, NotFoundError
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.together import each


class BlobKind(IntEnum):
    """What a blob holds; the value is that of its uncompressed form in a pack's header."""

    DATA = 0
    TREE = 1


class Location(NamedTuple):
    """Where a blob lies: pack number, offset and length there, plain length (0 when it is not compressed)."""

    pack: int
    offset: int
    length: int
    plain: int


class PackedBlob(NamedTuple):
    """A blob as a pack's header or an index lists it; `plain` is 0 when it is not compressed."""

    kind: BlobKind
    id: bytes
    offset: int
    length: int
    plain: int


@dataclass(slots=True)
class Index:
    """The packs of a repository and the blobs in them; any thread may look up and add.

    `files` are the index files it was read from, each with the number of its packs; `damages` are those that could not
    be read, and why. `to_delete` are packs that rustic has marked: they are still there, but nothing relies on them.
    """

    native: _native.BlobIndex = field(default_factory=_native.BlobIndex)
    files: dict[str, int] = field(default_factory=dict)
    damages: list[tuple[str, str]] = field(default_factory=list)
    to_delete: set[bytes] = field(default_factory=set)

    def add_pack(self, pack: bytes, blobs: Collection[PackedBlob]) -> int:
        """Note a pack's blobs; its number. A pack that is known already keeps what is known of it."""
        return self.native.add_pack(pack, list(blobs))

    @property
    def pack_count(self) -> int:
        """How many packs are known; their numbers are below it."""
        return self.native.pack_count

    def pack_name(self, number: int) -> bytes:
        """A pack's name, 32 bytes."""
        return self.native.pack(number)[0]

    def pack_end(self, number: int) -> int:
        """Where the last of a pack's blobs ends."""
        return self.native.pack(number)[2]

    def pack_of(self, kind: BlobKind, blob: bytes) -> int:
        """The number of a pack that holds the blob, -1 when none does."""
        return self.native.pack_of(kind, blob)

    def locate(self, kind: BlobKind, blob: bytes) -> list[Location]:
        """Every place of a blob, in the order they became known."""
        return [Location(*place) for place in self.native.locate(kind, blob)]

    def only(self, packs: Collection[int]) -> "Index":
        """These packs alone, in the same order."""
        return Index(self.native.only(set(packs)))

    def blobs_in(self, packs: Collection[int]) -> list[tuple[BlobKind, bytes, Location]]:
        """Every blob of these packs."""
        return [(BlobKind(kind), blob, Location(*place)) for kind, blob, place in self.native.blobs_in(set(packs))]


def packed_blobs(index: Index, packs: Collection[int]) -> dict[int, list[PackedBlob]]:
    """The blobs of each of these packs."""
    found: dict[int, list[PackedBlob]] = {number: [] for number in packs}
    for kind, blob, place in index.blobs_in(packs):
        found[place.pack].append(PackedBlob(kind, blob, place.offset, place.length, place.plain))
    return found


def load_index(
    files: StoredFiles, *, usable: dict[bytes, int] | None = None, names: Sequence[str] | None = None
) -> Index:
    """Read every index file; damaged ones are named in the result's `damages`, the others serve.

    With `usable` (packs that are really there), blobs of other packs are left out: what is gone is not relied on.
    `names` are the files, where somebody has listed them.
    """
    index = Index()
    listed = files.names("index") if names is None else names
    for name, content in zip(listed, each(files.vault, partial(_read, files), listed), strict=True):
        try:
            if isinstance(content, DamageError):
                raise content
            if content is not None:
                index.files[name], to_delete = index.native.load(content, usable)
                index.to_delete.update(to_delete)
        except DamageError as error:
            index.damages.append((name, error.why or error.what))
    return index


def _read(files: StoredFiles, name: str) -> bytes | DamageError | None:
    """An index file's JSON, or why there is none; None for one that was replaced by whoever rewrote the index."""
    try:
        return files.load_plain("index", name)
    except NotFoundError:
        return None
    except DamageError as error:
        return error


def save_index(files: StoredFiles, packs: Sequence[_native.Pack]) -> str:
    """Store an index file for these packs; its name."""
    return files.save_plain("index", _native.index_json(packs))


def save_listing(files: StoredFiles, index: Index, most_blobs: int) -> list[str]:
    """Store index files that list every pack of `index`, about `most_blobs` blobs each; their names."""
    names: list[str] = []
    start = 0
    while start < index.pack_count:
        json, start = index.native.listing(start, most_blobs)
        names.append(files.save_plain("index", json))
    return names


def see_that_packs_are_there(files: StoredFiles, index: Index, done: str) -> None:
    """Before others go: every pack of a new index is there, whole. Raises DamageError; `done` says what was not."""
    sizes = files.pack_sizes()
    for number in range(index.pack_count):
        name = index.pack_name(number)
        if sizes.get(name, 0) <= index.pack_end(number):
            raise DamageError(
                f"{files.prefix} in vault {files.vault.name} was not {done}: pack {name.hex()[:12]} vanished meanwhile",
                why="something deleted it in spite of the lock",
                todo="The index still lists what it listed before. Find out who deletes there, then run again.",
            )
