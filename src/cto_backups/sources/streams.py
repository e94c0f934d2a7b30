"""A tree of named streams, whose sizes are known only at their ends, and the fingerprint ``stream/1`` of what passed.

``content`` is the SHA-256 of a line for each stream, in the order of their names: name, size and SHA-256, with a NUL
between them and a line feed at the end. A stream's name, size and SHA-256 are a sample; so are the SHA-256 of its
blocks of 1 MiB with the numbers 0, 1, 2, 4, 8 and so on, which say about where a difference begins.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.trees import UNKNOWN_SIZE, BlockReader, Entry, EntryKind
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.names import readable

ALGORITHM: Final = "stream/1"
_BLOCK: Final = 1 << 20


class Giver(Protocol):
    """What gives a stream's bytes (`pipes.Output`)."""

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 once the stream is whole. Raises ToolError when it will never be."""

    def close(self) -> None:
        """Give no more, wherever it stands."""


class Ready:
    """Implements `Giver` for what is there already."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: memoryview) -> int:
        """Some of it; 0 at the end."""
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its name in the tree, what begins it, and what its failure means to people."""

    name: bytes
    begin: Callable[[], Giver]
    refuse: Callable[[ToolError], SourceError]


class Sums:
    """What is said of one stream, however it is cut on its way."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = sha256()
        self._sampled: dict[int, str] = {}
        self._block = sha256()

    def add(self, data: memoryview) -> None:
        """Take the bytes that follow."""
        self._whole.update(data)
        while data:
            number, inside = divmod(self.size, _BLOCK)
            part = data[: _BLOCK - inside]
            if not number & (number - 1):
                if not inside:
                    self._block = sha256()
                self._block.update(part)
                self._sampled[number] = self._block.hexdigest()
            self.size += len(part)
            data = data[len(part) :]

    @property
    def digest(self) -> str:
        """The SHA-256 of what was added."""
        return self._whole.hexdigest()

    def samples(self, name: str) -> list[Sample]:
        """The stream and its sampled blocks."""
        whole = Sample(name, {"name": name, "size": str(self.size), "sha256": self.digest})
        blocks = sorted(self._sampled.items())
        return [whole, *(Sample(f"{name}@{number}", {"sha256": digest}) for number, digest in blocks)]


def fingerprint(streams: Mapping[bytes, Sums]) -> Fingerprint:
    """The fingerprint of whole streams by their names."""
    content = sha256()
    samples: list[Sample] = []
    for name, sums in sorted(streams.items()):
        content.update(b"%s\0%d\0%s\n" % (name, sums.size, sums.digest.encode()))
        samples += sums.samples(readable(name))
    return Fingerprint(
        algorithm=ALGORITHM,
        checksums={"content": content.hexdigest()},
        counts={"streams": len(streams), "bytes": sum(sums.size for sums in streams.values())},
        samples=tuple(samples),
    )


class StreamTree:
    """Implements `core.trees.CaptureTree`: a folder of streams, each of which begins when it is opened.

    Streams may be read one after the other or at once. A stream that fails, or ends without a byte, fails the capture:
    its reader raises SourceError.
    """

    def __init__(self, streams: Sequence[Stream], captured_at: datetime) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._moment_ns = int(captured_at.timestamp() * 1_000_000) * 1000
        self._whole: dict[bytes, Sums] = {}

    @property
    def root(self) -> Entry:
        """The folder of the streams."""
        return Entry(b"", b"", EntryKind.FOLDER)

    def folder(self, entry: Entry) -> Sequence[Entry]:
        """The streams, for their owner alone to read."""
        return [
            Entry(
                name,
                b"/" + name,
                EntryKind.FILE,
                stat.S_IFREG | 0o600,
                os.geteuid(),
                os.getegid(),
                UNKNOWN_SIZE,
                self._moment_ns,
                self._moment_ns,
            )
            for name in sorted(self._streams)
        ]

    def read_many(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """None of these: nobody knows whether a stream fits into memory. Raises TypeError."""
        if entries:
            raise TypeError("what has no size yet is to be opened")
        return []

    def open(self, entry: Entry) -> BlockReader:
        """Begin a stream."""
        return _StreamReader(self, self._streams[entry.name], entry)

    def reuse_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Nothing is known of a stream before it was read."""
        return [False] * len(entries)

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all streams. Raises RuntimeError while one is not whole."""
        lacking = self._streams.keys() - self._whole.keys()
        if lacking:
            raise RuntimeError(f"streams that were not read to their ends: {sorted(lacking)}")
        return fingerprint(self._whole)

    def whole(self, entry: Entry, sums: Sums) -> None:
        """A stream has come to its end."""
        entry.size = sums.size
        self._whole[entry.name] = sums


class _StreamReader:
    """Implements `core.trees.BlockReader`."""

    def __init__(self, tree: StreamTree, stream: Stream, entry: Entry) -> None:
        self._tree = tree
        self._stream = stream
        self._entry = entry
        self._sums = Sums()
        try:
            self._giver = stream.begin()
        except ToolError as error:
            raise stream.refuse(error) from error

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 once the stream is whole. Raises SourceError."""
        try:
            count = self._giver.readinto(buffer)
            if not count and not self._sums.size:
                # Whatever dumps something begins with a few words about it: this is a failure that was not told.
                raise ToolError(readable(self._stream.name), 0, "it ended well, but without giving a single byte")
        except ToolError as error:
            raise self._stream.refuse(error) from error
        if count:
            self._sums.add(buffer[:count])
        else:
            self._tree.whole(self._entry, self._sums)
        return count

    def close(self) -> None:
        self._giver.close()
