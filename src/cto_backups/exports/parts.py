"""What lies beside an object with a random id: its size, its checksums, and the SHA-256 of each of its parts.

Plain form: format byte 1, the object's id (24 bytes), size (8, big-endian), SHA-256 of the whole (32), CRC-32C of the
whole (4, big-endian), then 32 bytes for each part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from cto_backups.errors import DamageError
from cto_backups.exports.layout import PART

_FORMAT = b"\x01"
_FIXED = 1 + 24 + 8 + 32 + 4


@dataclass(frozen=True, slots=True)
class Parts:
    """An object of several parts; `ids` are the SHA-256 of each."""

    object: str
    size: int
    sha256: bytes
    crc32c: int
    ids: Sequence[bytes]

    def encoded(self) -> bytes:
        """Its plain form."""
        numbers = self.size.to_bytes(8, "big") + self.sha256 + self.crc32c.to_bytes(4, "big")
        return b"".join((_FORMAT, bytes.fromhex(self.object), numbers, *self.ids))


def decoded(plain: bytes, name: str) -> Parts:
    """The parts of the object `name`. Raises DamageError when this is not of that object."""
    size = int.from_bytes(plain[25:33], "big")
    count = ceil(size / PART)
    if plain[:1] != _FORMAT or plain[1:25].hex() != name or not count or len(plain) != _FIXED + 32 * count:
        raise DamageError(
            f"What is known of object {name[:12]} is damaged", why="it is of another object, or makes no sense"
        )
    ids = [plain[at : at + 32] for at in range(_FIXED, len(plain), 32)]
    return Parts(name, size, plain[33:65], int.from_bytes(plain[65:69], "big"), ids)
