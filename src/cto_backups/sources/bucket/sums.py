"""The fingerprint of a bucket's objects, ``objects/1``: sums modulo 2**256 of the SHA-256 of a record for each object.

============  ==========================================================================
``content``   name, size, and the SHA-256 of the bytes
``times``     name, and when it was written, in nanoseconds since 1970
``metadata``  its line in the manifest
============  ==========================================================================

Fields have a NUL between them. The order does not matter. ``sample-key`` is the key of the hash that picks the samples.
"""

import heapq
from collections.abc import Collection, Mapping
from hashlib import blake2b, sha256
from typing import Final

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.sources.ledger import SAMPLES, as_hex
from cto_backups.sources.names import raw, readable

ALGORITHM: Final = "objects/1"
_SHOWN: Final = ("content_type", "content_encoding", "metadata", "storage_class", "generation", "version", "etag")


class Sums:
    """Adds objects up. `wanted`, when given, are the names to sample, instead of those with the smallest keyed hash."""

    def __init__(self, key: bytes, wanted: Collection[bytes] | None = None) -> None:
        self._key = key
        self._wanted = None if wanted is None else frozenset(wanted)
        self._content = self._times = self._metadata = 0
        self._objects = self._lines = self._bytes = 0
        self._picked: list[tuple[int, bytes]] = []
        self._fields: dict[bytes, dict[str, str]] = {}

    @classmethod
    def like(cls, expected: Fingerprint) -> "Sums":
        """Sums that sample what `expected` did."""
        key = bytes.fromhex(expected.checksums.get("sample-key", ""))
        return cls(key, {raw(sample.key) for sample in expected.samples})

    def add_content(self, name: bytes, size: int, made_ns: int, digest: bytes) -> None:
        """Count an object by its bytes."""
        self._content += _number(b"%s\0%d\0%s" % (name, size, digest))
        self._times += _number(b"%s\0%d" % (name, made_ns))
        self._objects += 1
        self._bytes += size
        if self._picks(name):
            self._sample(name, {"size": str(size), "sha256": digest.hex(), "made_ns": str(made_ns)})

    def add_line(self, name: bytes, line: bytes, told: Mapping[str, object]) -> None:
        """Count an object by its line in the manifest."""
        self._metadata += _number(line)
        self._lines += 1
        if self._picks(name):
            self._sample(name, {field: str(told[field]) for field in _SHOWN if field in told})

    def fingerprint(self) -> Fingerprint:
        """What was added up."""
        return Fingerprint(
            algorithm=ALGORITHM,
            checksums={
                "content": as_hex(self._content),
                "times": as_hex(self._times),
                "metadata": as_hex(self._metadata),
                "sample-key": self._key.hex(),
            },
            counts={"objects": self._objects, "described": self._lines, "bytes": self._bytes},
            samples=tuple(Sample(readable(name), fields) for name, fields in sorted(self._fields.items())),
        )

    def _picks(self, name: bytes) -> bool:
        """Whether an object is to be sampled, as far as is known yet; of two calls for one object both say the same
        unless another came between.
        """
        if self._wanted is not None:
            return name in self._wanted
        if name in self._fields:
            return True
        rank = int.from_bytes(blake2b(name, key=self._key, digest_size=8).digest(), "big")
        if len(self._picked) < SAMPLES:
            heapq.heappush(self._picked, (-rank, name))
            return True
        if rank >= -self._picked[0][0]:
            return False
        _, dropped = heapq.heappushpop(self._picked, (-rank, name))
        self._fields.pop(dropped, None)
        return True

    def _sample(self, name: bytes, fields: Mapping[str, str]) -> None:
        self._fields.setdefault(name, {"name": readable(name)}).update(fields)


def _number(record: bytes) -> int:
    return int.from_bytes(sha256(record).digest(), "big")
