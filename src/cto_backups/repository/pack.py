"""Packs: sealed blobs one after the other, a sealed header that lists them, the header's length (u32, little-endian).

A header entry is type u8, length u32, plain length u32 for compressed blobs, id (32 bytes); types are 0 data, 1 tree,
2 compressed data, 3 compressed tree.
"""

import hashlib
import struct
from collections.abc import Sequence

from cto_backups.core.ports import Buffer
from cto_backups.errors import DamageError
from cto_backups.repository.index import BlobKind, PackedBlob
from cto_backups.repository.options import MIB
from cto_backups.repository.seal import OVERHEAD, Hand, SealBrokenError

_LENGTH = struct.Struct("<I")
_PLAIN_ENTRY = struct.Struct("<BI32s")
_COMPRESSED_ENTRY = struct.Struct("<BII32s")
_COMPRESSED = 2
MOST_HEADER_BYTES = 16 * MIB
MOST_BLOBS = 300_000  # far below what a header of 16 MiB holds


def encode_header(blobs: Sequence[PackedBlob]) -> bytes:
    """The plain header of a pack that holds these blobs, in order and without gaps."""
    return b"".join(
        _COMPRESSED_ENTRY.pack(blob.kind | _COMPRESSED, blob.length, blob.plain, blob.id)
        if blob.plain
        else _PLAIN_ENTRY.pack(blob.kind, blob.length, blob.id)
        for blob in blobs
    )


def header_range(size: int, tail: bytes) -> tuple[int, int]:
    """Offset and length of the sealed header of a pack of `size` bytes ending in `tail` (4). Raises DamageError."""
    length = _LENGTH.unpack(tail)[0] if len(tail) == _LENGTH.size else -1
    if not OVERHEAD <= length <= min(MOST_HEADER_BYTES, size - _LENGTH.size):
        raise DamageError("A pack is damaged", why="the length of its header is out of range")
    return size - _LENGTH.size - length, length


def parse_header(hand: Hand, sealed: memoryview, end: int) -> list[PackedBlob]:
    """The blobs that a sealed header lists; they must fill the pack up to `end`. Raises DamageError."""
    try:
        plain = hand.open(sealed)
    except SealBrokenError as error:
        raise DamageError("A pack is damaged", why="its header does not open") from error
    blobs = []
    at = offset = 0
    while at < len(plain):
        kind = plain[at]
        shape = _COMPRESSED_ENTRY if kind & _COMPRESSED else _PLAIN_ENTRY
        if kind > 3 or at + shape.size > len(plain):
            raise DamageError("A pack is damaged", why="its header is of no known shape")
        if shape is _COMPRESSED_ENTRY:
            _, length, size, blob = shape.unpack_from(plain, at)
        else:
            (_, length, blob), size = shape.unpack_from(plain, at), 0
        if length < OVERHEAD or offset + length > end:
            raise DamageError("A pack is damaged", why="its header lists more than the pack holds")
        blobs.append(PackedBlob(BlobKind(kind & 1), blob, offset, length, size))
        offset += length
        at += shape.size
    if offset != end:
        raise DamageError("A pack is damaged", why="its header lists less than the pack holds")
    return blobs


class PackBuilder:
    """A pack being filled by one thread, sealed in place in one buffer that is used again and again."""

    def __init__(self, kind: BlobKind, capacity: int) -> None:
        self.kind = kind
        self.size = 0
        self.blobs: list[PackedBlob] = []
        self._capacity = capacity
        self._buffer = bytearray(capacity)
        self._view = memoryview(self._buffer)

    def add(self, hand: Hand, blob: bytes, stored: Buffer, plain: int) -> memoryview:
        """Seal a blob's stored form (compressed, or plain when `plain` is 0) at the end; the sealed bytes."""
        start = self.size
        needed = start + len(stored) + OVERHEAD
        if needed > len(self._buffer):
            self._grow(needed)
        end = hand.seal_into(stored, self._view, start)
        self.blobs.append(PackedBlob(self.kind, blob, start, end - start, plain))
        self.size = end
        return self._view[start:end]

    def drop_last(self) -> None:
        """Take the last blob out again."""
        self.size = self.blobs.pop().offset

    def absorb(self, other: "PackBuilder") -> None:
        """Take over another builder's blobs: sealed bytes do not depend on where they lie."""
        needed = self.size + other.size
        if needed > len(self._buffer):
            self._grow(needed)
        self._view[self.size : needed] = other._view[: other.size]
        self.blobs += [blob._replace(offset=blob.offset + self.size) for blob in other.blobs]
        self.size = needed
        other.clear()

    def finish(self, hand: Hand) -> tuple[bytes, list[Buffer]]:
        """The pack's id, and the parts of its file, valid until `clear`."""
        header = encode_header(self.blobs)
        sealed = bytearray(len(header) + OVERHEAD)
        hand.seal_into(header, memoryview(sealed), 0)
        tail = bytes(sealed) + _LENGTH.pack(len(sealed))
        body = self._view[: self.size]
        digest = hashlib.sha256(body)
        digest.update(tail)
        return digest.digest(), [body, tail]

    def clear(self) -> None:
        """Start anew, with the buffer at its usual size."""
        self.size = 0
        self.blobs = []
        if len(self._buffer) > self._capacity:
            self._view = memoryview(b"")
            self._buffer = bytearray(self._capacity)
            self._view = memoryview(self._buffer)

    def _grow(self, needed: int) -> None:
        larger = bytearray(needed + needed // 4)
        larger[: self.size] = self._view[: self.size]
        self._buffer = larger
        self._view = memoryview(larger)
