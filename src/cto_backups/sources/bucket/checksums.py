"""The store's own checksums of an object, compared with the bytes that came.

An ETag of several parts ("…-7") is the MD5 of the parts' MD5s; how large the parts were is asked separately. What is
encrypted with a key of the customer has an ETag that is no checksum.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Final

from cto_backups import _native

_PLAIN: Final = re.compile(r"[0-9a-f]{32}\Z")
_PARTS: Final = re.compile(r"([0-9a-f]{32})-(\d+)\Z")


def claims_of_etag(etag: str, *, is_digest: bool, size: int, part_size: int = 0) -> dict[str, str]:
    """What an ETag says of the content; nothing where it is none of a kind that can be computed."""
    if is_digest and _PLAIN.match(etag):
        return {"md5": etag}
    found = _PARTS.match(etag)
    if is_digest and found and part_size and -(-size // part_size) == int(found[2]):
        return {f"parts-of-{part_size}": etag}
    return {}


def parts_of_etag(etag: str) -> int:
    """Of how many parts an object was put together, by its ETag; 0 when that does not say."""
    found = _PARTS.match(etag)
    return int(found[2]) if found else 0


def as_hex(encoded: str) -> str:
    """A checksum in base64, as stores write them, in hexadecimal."""
    return base64.b64decode(encoded).hex()


class Checksums:
    """Takes an object's bytes in their order; tells its SHA-256, and whether each claim holds.

    `claims` are expected digests in hexadecimal by algorithm: ``md5``, ``sha1``, ``sha256``, ``crc32``, ``crc32c``,
    ``parts-of-N``.
    """

    def __init__(self, claims: Mapping[str, str]) -> None:
        self._claims = claims
        self._sha256 = hashlib.sha256()
        self._hashes = {
            name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1") if name in self._claims
        }
        self._crc32 = self._crc32c = 0
        parts = next((name for name in claims if name.startswith("parts-of-")), "")
        self._part_size = int(parts.rpartition("-")[2]) if parts else 0
        self._part = hashlib.md5(usedforsecurity=False)
        self._in_part = 0
        self._parts: list[bytes] = []

    def add(self, data: memoryview) -> None:
        """Take the bytes that follow."""
        self._sha256.update(data)
        for each in self._hashes.values():
            each.update(data)
        if "crc32" in self._claims:
            self._crc32 = zlib.crc32(data, self._crc32)
        if "crc32c" in self._claims:
            self._crc32c = _native.crc32c(data, self._crc32c)
        while self._part_size and data:
            piece = data[: self._part_size - self._in_part]
            self._part.update(piece)
            self._in_part += len(piece)
            data = data[len(piece) :]
            if self._in_part == self._part_size:
                self._end_part()

    def _end_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._in_part = 0

    @property
    def sha256(self) -> bytes:
        """Of all that was added."""
        return self._sha256.digest()

    def broken(self) -> tuple[str, ...]:
        """The claims that do not hold, once all bytes were added: by algorithm."""
        if self._part_size and self._in_part:
            self._end_part()
        return tuple(name for name, expected in self._claims.items() if self._found(name) != expected)

    def _found(self, name: str) -> str:
        if name == "sha256":
            return self.sha256.hex()
        if name in self._hashes:
            return self._hashes[name].hexdigest()
        if name == "crc32":
            return f"{self._crc32:08x}"
        if name == "crc32c":
            return f"{self._crc32c:08x}"
        whole = hashlib.md5(b"".join(self._parts), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._parts)}"
