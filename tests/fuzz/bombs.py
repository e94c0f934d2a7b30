"""Small content that would expand to gigabytes, or nests deeper than any stack."""

from collections.abc import Callable

import zstandard

GIB = 1 << 30


def _zeros(*, announced: bool) -> bytes:
    """A zstd frame of some 100 kB that holds 3 GiB of zeros."""
    compressor = zstandard.ZstdCompressor(level=3, write_content_size=announced)
    writer = compressor.compressobj(size=3 * GIB if announced else -1)
    part = bytes(64 << 20)
    return b"".join(writer.compress(part) for _ in range(48)) + writer.flush()


def _blob() -> tuple[str, bytes]:
    """As a blob that the index says to be 4 GiB long."""
    return "blob", b"\xff\xff\xff\xff" + _zeros(announced=False)


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "zstd announced": lambda: ("stored file", b"\x02" + _zeros(announced=True)),
    "zstd unannounced": lambda: ("stored file", b"\x02" + _zeros(announced=False)),
    "zstd as blob": _blob,
    "json lists": lambda: ("snapshot", b"[" * (8 << 20)),
    "json objects": lambda: ("tree", b'{"nodes":' * (1 << 20)),
}
