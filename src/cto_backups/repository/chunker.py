"""Cutting large files into chunks by their content (FastCDC), so that a change moves few boundaries.

All of this is fixed for ever: a repository whose boundaries moved would store everything again. `tests/golden` pins it.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyfastcdc import FastCDC

from cto_backups.core.trees import Buffer
from cto_backups.repository.options import KIB, MIB

SMALLEST = 512 * KIB
NORMAL = 1 * MIB
LARGEST = 8 * MIB
EVEN = 4 * MIB
NORMALIZED: Literal[1] = 1
_SEED_PURPOSE = b"cto.backups fastcdc 1"


def seed_of(polynomial: int) -> int:
    """The seed of the gear table: a secret of the installation, against guessing content by the sizes of chunks.

    The first 63 bits of HKDF-SHA256 (key: the polynomial as 8 bytes, big-endian; no salt).
    """
    key = HKDF(algorithm=SHA256(), length=8, salt=None, info=_SEED_PURPOSE).derive(polynomial.to_bytes(8, "big"))
    return int.from_bytes(key, "big") >> 1  # the library doubles it, in 64 bits, and refuses what does not fit


class Cuts(Protocol):
    """Cuts buffers; one for each thread."""

    def ends(self, buffer: Buffer, *, last: bool) -> Iterator[int]:
        """Where chunks end in a buffer that starts at a boundary.

        Unless it is the `last` of its file, what follows the last end belongs to the next buffer.
        """


class EvenCuts:
    """Cuts every `EVEN` bytes, as the parts of natively stored objects are; see docs/adr/0037."""

    def ends(self, buffer: Buffer, *, last: bool) -> Iterator[int]:
        """Where chunks end in a buffer that starts at a boundary; the last one may be shorter."""
        size = len(buffer)
        yield from range(EVEN, size + 1, EVEN)
        if last and size % EVEN:
            yield size


class Chunker:
    """Cuts buffers by their content; one for each thread."""

    def __init__(self, seed: int) -> None:
        self._fastcdc = FastCDC(NORMAL, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZED, seed=seed)

    def ends(self, buffer: Buffer, *, last: bool) -> Iterator[int]:
        """Where chunks end in a buffer that starts at a boundary.

        Unless it is the `last` of its file, what follows the last end belongs to the next buffer: a boundary there
        may depend on bytes that are not here yet.
        """
        size = len(buffer)
        for chunk in self._fastcdc.cut_buf(buffer):
            end = chunk.offset + chunk.length
            if end == size and not last and chunk.length < LARGEST:
                return
            yield end
