"""A blob's way from plain bytes to compressed ones and back, for one thread at a time.

A blob is compressed as one zstd frame, or left alone where that gains nothing. Stored bytes are never trusted: what a
frame says about its size is compared with what the index recorded before any memory is spent on it.
"""

import hashlib

import zstandard

from cto_backups.core.ports import Buffer
from cto_backups.errors import DamageError
from cto_backups.repository.options import KIB, MIB

LARGEST_BLOB = 1024 * MIB  # trees of folders with millions of entries get big; nothing sane gets this big
_PROBE_FROM = 64 * KIB
_PROBE_PART = 8 * KIB
_WORTH_IT = 0.97


class Squeezer:
    """One thread's compressor and decompressor."""

    def __init__(self, level: int) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._probe = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def squeeze(self, plain: Buffer, *, always: bool = False) -> bytes | None:
        """The zstd frame, or None when the plain bytes should be stored as they are; `always` compresses."""
        size = len(plain)
        if not always and size >= _PROBE_FROM and not self._promising(memoryview(plain)):
            return None
        frame = self._compressor.compress(plain)
        if len(frame) < size * _WORTH_IT or len(frame) + 64 < size or always:
            return frame
        return None

    def _promising(self, plain: memoryview) -> bool:
        """Whether some part of it gets smaller: six small parts are tried."""
        size = len(plain)
        step = (size - _PROBE_PART) // 5
        for number in range(6):
            start = number * step
            if len(self._probe.compress(plain[start : start + _PROBE_PART])) < _PROBE_PART * _WORTH_IT:
                return True
        return False

    def expand(self, frame: Buffer, size: int) -> bytes:
        """The plain bytes, exactly `size` of them. Raises DamageError."""
        return expand(frame, size, self._decompressor)


def expand(frame: Buffer, size: int, decompressor: zstandard.ZstdDecompressor | None = None) -> bytes:
    """The content of one zstd frame that must be `size` bytes long. Raises DamageError."""
    try:
        announced = zstandard.frame_content_size(frame)
        if announced not in (-1, size) or size > LARGEST_BLOB:
            raise DamageError("A compressed blob is damaged", why=f"it announces {announced} bytes instead of {size}")
        plain = (decompressor or zstandard.ZstdDecompressor()).decompress(frame, max_output_size=size)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DamageError("A compressed blob is damaged", why=str(error)) from error
    if len(plain) != size:
        raise DamageError("A compressed blob is damaged", why=f"it holds {len(plain)} bytes instead of {size}")
    return plain


def expand_unsized(frame: Buffer, limit: int) -> bytes:
    """The content of a zstd frame of unknown size, at most `limit` bytes. Raises DamageError."""
    try:
        announced = zstandard.frame_content_size(frame)
        if announced > limit:
            raise DamageError("A stored file is damaged", why=f"it announces {announced} bytes")
        if announced >= 0:
            return expand(frame, announced)
        reader = zstandard.ZstdDecompressor().stream_reader(bytes(frame))
        plain = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise DamageError("A stored file is damaged", why=str(error)) from error
    if len(plain) > limit:
        raise DamageError("A stored file is damaged", why=f"it expands to more than {limit} bytes")
    return plain


def identify(plain: Buffer) -> bytes:
    """The id of a blob: the SHA-256 of its plain bytes."""
    return hashlib.sha256(plain).digest()
