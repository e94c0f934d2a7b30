"""Where every blob lies: index files in memory, at less than a hundred bytes a blob.

A table keeps fixed records (id, pack, offset, length, plain length) of 48 bytes in buckets picked by the first bits of
the id, and searches a bucket with `bytes.find`: a handful of bytes beside each record instead of several objects.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from cto_backups.errors import DamageError, NotFoundError
from cto_backups.repository.stored import StoredFiles

_RECORD = struct.Struct(">32sIIII")
_BUCKET_BITS = 12
_GROWN_BITS = 16
_GROW_AT = 48 << _BUCKET_BITS
_LARGEST = 0xFFFFFFFF


class BlobKind(IntEnum):
    """What a blob holds; the value is that of its uncompressed form in a pack's header."""

    DATA = 0
    TREE = 1


_KIND_NAMES = {"data": BlobKind.DATA, "tree": BlobKind.TREE}


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


class BlobTable:
    """Records by id; several for one id are allowed. Any thread may look up and add."""

    def __init__(self) -> None:
        self._shift = 16 - _BUCKET_BITS
        self._buckets = [bytearray() for _ in range(1 << _BUCKET_BITS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, blob: bytes, pack: int, offset: int, length: int, plain: int) -> None:
        """Note one place of a blob."""
        buckets, shift = self._buckets, self._shift
        buckets[(blob[0] << 8 | blob[1]) >> shift] += _RECORD.pack(blob, pack, offset, length, plain)
        self._count += 1

    def grow(self) -> None:
        """Spread over more buckets when there are many records; only while no other thread uses the table."""
        if self._count > _GROW_AT and self._shift:
            old = self._buckets
            self._shift = 16 - _GROWN_BITS
            self._buckets = [bytearray() for _ in range(1 << _GROWN_BITS)]
            for bucket in old:
                for start in range(0, len(bucket), _RECORD.size):
                    self._buckets[bucket[start] << 8 | bucket[start + 1]] += bucket[start : start + _RECORD.size]

    def pack_of(self, blob: bytes) -> int:
        """The number of a pack that holds the blob, -1 when none does."""
        bucket = self._buckets[(blob[0] << 8 | blob[1]) >> self._shift]
        at = bucket.find(blob)
        while at > 0 and at % 48:
            at = bucket.find(blob, at + 1)
        return -1 if at < 0 else int.from_bytes(bucket[at + 32 : at + 36], "big")

    def __contains__(self, blob: bytes) -> bool:
        return self.pack_of(blob) >= 0

    def locate(self, blob: bytes) -> list[Location]:
        """Every place of a blob."""
        bucket = self._buckets[(blob[0] << 8 | blob[1]) >> self._shift]
        found = []
        at = bucket.find(blob)
        while at >= 0:
            if at % 48 == 0:
                found.append(Location(*_RECORD.unpack_from(bucket, at)[1:]))
            at = bucket.find(blob, at + 1)
        return found

    def __iter__(self) -> Iterator[tuple[bytes, Location]]:
        for bucket in self._buckets:
            for start in range(0, len(bucket), _RECORD.size):
                blob, *place = _RECORD.unpack_from(bucket, start)
                yield blob, Location(*place)


@dataclass(slots=True)
class Index:
    """The packs of a repository and the blobs in them. `damages` are index files that could not be read, and why."""

    tables: dict[BlobKind, BlobTable] = field(
        default_factory=lambda: {BlobKind.DATA: BlobTable(), BlobKind.TREE: BlobTable()}
    )
    packs: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    blobs_in_pack: list[int] = field(default_factory=list)
    pack_ends: list[int] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    damages: list[tuple[str, str]] = field(default_factory=list)

    @property
    def data(self) -> BlobTable:
        """Places of data blobs."""
        return self.tables[BlobKind.DATA]

    @property
    def trees(self) -> BlobTable:
        """Places of tree blobs."""
        return self.tables[BlobKind.TREE]

    def add_pack(self, pack: bytes, blobs: Iterable[PackedBlob]) -> int:
        """Note a pack's blobs; its number. A pack that is known already keeps what is known of it."""
        number = self.numbers.get(pack)
        if number is not None:
            return number
        number = len(self.packs)
        self.packs.append(pack)
        count = end = 0
        for kind, blob, offset, length, plain in blobs:
            self.tables[kind].add(blob, number, offset, length, plain)
            count += 1
            end = max(end, offset + length)
        self.blobs_in_pack.append(count)
        self.pack_ends.append(end)
        self.numbers[pack] = number
        return number

    def grow(self) -> None:
        """After loading: see BlobTable.grow."""
        for table in self.tables.values():
            table.grow()


def load_index(files: StoredFiles, *, usable: dict[bytes, int] | None = None) -> Index:
    """Read every index file; damaged ones are named in the result's `damages`, the others serve.

    With `usable` (packs that are really there), blobs of other packs are left out: what is gone is not relied on.
    """
    index = Index()
    for name in files.names("index"):
        try:
            document = files.load("index", name)
            packs = list(_parse(document))
        except NotFoundError:
            continue  # replaced meanwhile by whoever rewrote the index
        except DamageError as error:
            index.damages.append((name, error.why or error.what))
            continue
        index.files[name] = len(packs)
        for pack, blobs in packs:
            if usable is None or usable.get(pack, -1) >= _end(blobs):
                index.add_pack(pack, blobs)
        index.grow()
    return index


def _end(blobs: Sequence[PackedBlob]) -> int:
    return max((blob.offset + blob.length for blob in blobs), default=0)


def _parse(document: Any) -> Iterator[tuple[bytes, list[PackedBlob]]]:
    try:
        for pack in document["packs"] or ():
            blobs = []
            for blob in pack["blobs"]:
                plain = blob.get("uncompressed_length", 0)
                offset, length = blob["offset"], blob["length"]
                identifier = bytes.fromhex(blob["id"])
                if not (0 <= offset <= _LARGEST and 32 <= length <= _LARGEST and 0 <= plain <= _LARGEST):
                    raise ValueError("a length or offset is out of range")
                if len(identifier) != 32:
                    raise ValueError("an id of the wrong length")
                blobs.append(PackedBlob(_KIND_NAMES[blob["type"]], identifier, offset, length, plain))
            identifier = bytes.fromhex(pack["id"])
            if len(identifier) != 32:
                raise ValueError("a pack's id of the wrong length")
            yield identifier, blobs
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamageError("An index file is damaged", why=f"it makes no sense ({error!r:.80})") from error


def save_index(files: StoredFiles, packs: Sequence[tuple[bytes, Sequence[PackedBlob]]]) -> str:
    """Store an index file for these packs; its name."""
    return files.save(
        "index",
        {
            "packs": [
                {
                    "id": pack.hex(),
                    "blobs": [
                        {
                            "id": blob.id.hex(),
                            "type": blob.kind.name.lower(),
                            "offset": blob.offset,
                            "length": blob.length,
                        }
                        | ({"uncompressed_length": blob.plain} if blob.plain else {})
                        for blob in blobs
                    ],
                }
                for pack, blobs in packs
            ]
        },
    )
