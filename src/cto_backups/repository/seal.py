"""Sealing bytes: ``IV(16) | AES-256-CTR ciphertext | Poly1305-AES tag(16)``, as restic's design document has it.

The tag covers the ciphertext; its one-time key is ``r | AES-128_k(IV)``. IVs are random, 128 bits, never zero.
"""

import os
from dataclasses import dataclass, field

from cto_backups import _native
from cto_backups.core.trees import Buffer
from cto_backups.errors import DamageError

OVERHEAD = 32


class SealBrokenError(DamageError):
    """Sealed bytes were altered, or sealed with another key."""


class CameOutWrongError(DamageError):
    """A blob that had just been sealed did not open to what it was: this machine is at fault, not what it reads."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The keys of a repository: AES-256 `encrypt` (32 bytes), and Poly1305-AES `mac_k` and `mac_r` (16 each)."""

    encrypt: bytes = field(repr=False)
    mac_k: bytes = field(repr=False)
    mac_r: bytes = field(repr=False)

    @classmethod
    def random(cls) -> "MasterKey":
        """A new key."""
        return cls.from_bytes(os.urandom(64))

    @classmethod
    def from_bytes(cls, raw: bytes) -> "MasterKey":
        """From 64 bytes: encryption key, k, r."""
        return cls(raw[:32], raw[32:48], _mask_r(raw[48:64]))


def _mask_r(r: bytes) -> bytes:
    """Clear the bits that Poly1305 requires to be zero."""
    mask = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    return (int.from_bytes(r, "little") & mask).to_bytes(16, "little")


class Sealer:
    """Seals and opens with one master key; any thread may call. `native` does it, here and in the inner loops."""

    def __init__(self, key: MasterKey) -> None:
        self.key = key
        self.native = _native.Sealer(key.encrypt, key.mac_k, key.mac_r)

    def seal(self, plain: Buffer) -> bytes:
        """The sealed bytes."""
        return self.native.seal(plain)

    def open(self, sealed: Buffer) -> bytes:
        """The plain bytes. Raises SealBrokenError."""
        return self.native.open(sealed)
