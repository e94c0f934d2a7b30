"""Sealing bytes: ``IV(16) | AES-256-CTR ciphertext | Poly1305-AES tag(16)``, as restic's design document has it.

The tag covers the ciphertext; its one-time key is ``r | AES-128_k(IV)``. IVs are random, 128 bits, never zero.
"""

import hmac
import os
import threading
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from cto_backups.core.ports import Buffer
from cto_backups.errors import DamageError

IV_BYTES = 16
TAG_BYTES = 16
OVERHEAD = IV_BYTES + TAG_BYTES
_ZERO_IV = bytes(IV_BYTES)


class SealBrokenError(DamageError):
    """Sealed bytes were altered, or sealed with another key."""


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
    """Seals and opens with one master key. Each thread gets its own cipher contexts, which are costly to set up."""

    def __init__(self, key: MasterKey) -> None:
        self.key = key
        self._local = threading.local()

    def hand(self) -> "Hand":
        """The calling thread's own sealer, to be kept while working on many blobs."""
        hand: Hand | None = getattr(self._local, "hand", None)
        if hand is None:
            hand = self._local.hand = Hand(self.key)
        return hand

    def seal(self, plain: Buffer) -> bytes:
        """The sealed bytes."""
        out = bytearray(len(plain) + OVERHEAD)
        self.hand().seal_into(plain, memoryview(out), 0)
        return bytes(out)

    def open(self, sealed: Buffer) -> bytes:
        """The plain bytes. Raises SealBrokenError."""
        return self.hand().open(memoryview(sealed))


class Hand:
    """One thread's sealer; not for two threads."""

    def __init__(self, key: MasterKey) -> None:
        self._mac_r = key.mac_r
        self._ctr = Cipher(algorithms.AES(key.encrypt), modes.CTR(_ZERO_IV)).encryptor()
        self._mac_block = Cipher(algorithms.AES(key.mac_k), modes.ECB()).encryptor()

    def seal_into(self, plain: Buffer, out: memoryview, at: int) -> int:
        """Write the sealed bytes into `out` from `at` (32 more than the plain ones); where they end."""
        iv = os.urandom(IV_BYTES)
        while iv == _ZERO_IV:  # pragma: no cover
            iv = os.urandom(IV_BYTES)
        start = at + IV_BYTES
        end = start + len(plain)
        out[at:start] = iv
        self._ctr.reset_nonce(iv)
        self._ctr.update_into(plain, out[start : end + TAG_BYTES])  # the room for the tag is the slack it asks for
        out[end : end + TAG_BYTES] = Poly1305.generate_tag(self._mac_r + self._mac_block.update(iv), out[start:end])
        return end + TAG_BYTES

    def check(self, sealed: memoryview) -> None:
        """Raise SealBrokenError unless the tag fits."""
        if len(sealed) < OVERHEAD:
            raise SealBrokenError("Sealed bytes are too short", why=f"{len(sealed)} bytes")
        iv = bytes(sealed[:IV_BYTES])
        tag = Poly1305.generate_tag(self._mac_r + self._mac_block.update(iv), sealed[IV_BYTES:-TAG_BYTES])
        if not hmac.compare_digest(tag, sealed[-TAG_BYTES:]):
            raise SealBrokenError("Sealed bytes do not open", why="their authentication tag does not fit")

    def open(self, sealed: memoryview) -> bytes:
        """The plain bytes. Raises SealBrokenError."""
        self.check(sealed)
        self._ctr.reset_nonce(bytes(sealed[:IV_BYTES]))
        return self._ctr.update(sealed[IV_BYTES:-TAG_BYTES])

    def open_into(self, sealed: memoryview, scratch: bytearray) -> memoryview:
        """The plain bytes, in `scratch`, which is at least as long as `sealed`. Raises SealBrokenError."""
        self.check(sealed)
        self._ctr.reset_nonce(bytes(sealed[:IV_BYTES]))
        count = self._ctr.update_into(sealed[IV_BYTES:-TAG_BYTES], scratch)
        return memoryview(scratch)[:count]
