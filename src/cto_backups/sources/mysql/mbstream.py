"""What mariadb-backup and xtrabackup write with ``--stream``, while it comes: its files one after the other.

A stream is a series of chunks. Each begins with ``XBSTCK01``, a byte of flags, a letter, the length of a path (4 bytes,
the least first) and the path. ``P`` is followed by the size of a piece of that file (8 bytes), where in it the piece
belongs (8), the CRC-32 of the piece (4) and the piece; with ``E`` the file is complete. Of a file with holes,
xtrabackup writes ``S``, the number of its holes (4), then as with ``P``; between the CRC-32, which is of the rest
together, and the piece come pairs of numbers (4 each): how long a hole is, and how much of the piece follows it.
Nothing says that the stream is complete: that is for the program's status to tell. Chunks of several files may come
between each other. Format: https://mariadb.com/kb/en/mbstream/, storage/innobase/xtrabackup/doc/source/xbstream.md of
Percona XtraBackup, and mariadb-backup's own output.
"""

import struct
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cto_backups.process import ToolError
from cto_backups.sources.streams import Giver

_MAGIC: Final = b"XBSTCK01"
_HEADER: Final = struct.Struct("<8sBcI")
_PIECE: Final = struct.Struct("<QQI")
_COUNT: Final = struct.Struct("<I")
_HOLE: Final = struct.Struct("<II")
_MOST_HOLES: Final = 1 << 16
_LONGEST_WITH_HOLES: Final = 1 << 26
"""Of a piece: xtrabackup makes them of what it reads at once, which are 10 MB."""
_LONGEST_PATH: Final = 4096
_PART: Final = 1 << 18


@dataclass(slots=True)
class _Spooled:
    """A file whose chunks come between those of others, as far as it has come."""

    file: BinaryIO
    size: int = 0


class MbstreamReader:
    """Reads the files of a stream. Raises ToolError for what is none, or ends too soon; OSError where no room is left.

    Files that come between others are kept in the folder `spool` until they are complete; those that are named in
    `beside` always, as they are written all the while.
    """

    def __init__(self, name: str, giver: Giver, spool: Path, beside: frozenset[bytes]) -> None:
        self._name, self._giver, self._spool, self._beside = name, giver, spool, beside
        self._spooled: dict[bytes, _Spooled] = {}
        self._complete: deque[bytes] = deque()
        self._begun: set[bytes] = set()
        self._current: bytes | None = None
        self._reading: BinaryIO | None = None
        self._size = 0
        self._left = 0
        self._runs: deque[tuple[bool, int]] = deque()
        """Of the piece that has begun: whether it is a hole that comes next, and how many bytes long that is."""
        self._sum = self._expected = 0

    def files(self) -> Iterator[bytes]:
        """The path of every file; what of its content was not read by `readinto` is passed over."""
        try:
            passed_over = memoryview(bytearray(_PART))
            while True:
                path = self._next()
                if path is None:
                    return
                yield path
                while self.readinto(passed_over):
                    pass
        finally:
            for spooled in self._spooled.values():
                spooled.file.close()

    def readinto(self, buffer: memoryview) -> int:
        """Some of this file's content; 0 at its end."""
        if self._reading is not None:
            count = int(self._reading.readinto(buffer))  # type: ignore[attr-defined]
            if not count:
                self._reading.close()
                self._reading = None
            return count
        while self._current is not None and not self._left:
            self._chunk(self._header())
        if self._current is None:
            return 0
        return self._taken(buffer[: min(len(buffer), self._left)])

    def close(self) -> None:
        """What was not read of this file is passed over later."""

    def _next(self) -> bytes | None:
        while not self._complete:
            header = self._header()
            if header is None:
                if self._spooled:
                    raise self._broken(f"{_shown(next(iter(self._spooled)))} has no end")
                return None
            path = header[1]
            if path in self._beside or path in self._spooled:
                self._chunk(header)
                continue
            self._begin(path)
            self._current, self._size = path, 0
            self._chunk(header)
            return path
        path = self._complete.popleft()
        spooled = self._spooled.pop(path)
        spooled.file.seek(0)
        self._reading = spooled.file
        return path

    def _chunk(self, header: tuple[bytes, bytes] | None) -> None:
        """Take what follows a header: of the file that is read the chunk's beginning, of others all of it."""
        if header is None:
            raise self._broken(f"it ended in the middle of {_shown(self._current or b'')}")
        kind, path = header
        if path == self._current:
            if kind == b"E":
                self._current = None
            else:
                self._size += self._piece(kind, path, self._size)
            return
        if path not in self._spooled:
            self._begin(path)
            self._spooled[path] = _Spooled((self._spool / f"spooled.{len(self._begun)}").open("w+b", buffering=0))
        if kind == b"E":
            self._complete.append(path)
            return
        spooled = self._spooled[path]
        spooled.size += self._piece(kind, path, spooled.size)
        part = memoryview(bytearray(min(self._left, _PART)))
        while self._left:
            count = self._taken(part[: min(len(part), self._left)])
            written = 0
            while written < count:
                written += spooled.file.write(part[written:count])

    def _begin(self, path: bytes) -> None:
        if path in self._begun:
            raise self._broken(f"{_shown(path)} comes twice")
        self._begun.add(path)

    def _header(self) -> tuple[bytes, bytes] | None:
        """The letter and the path of the next chunk; None at the end."""
        header = self._exactly(_HEADER.size, at_end=True)
        if not header:
            return None
        magic, _, kind, length = _HEADER.unpack(header)
        if magic != _MAGIC or not 0 < length <= _LONGEST_PATH:
            raise self._broken("what comes is no mbstream")
        path = self._exactly(length)
        names = path.split(b"/")
        if kind not in (b"P", b"S", b"E") or b"\0" in path or any(name in (b"", b".", b"..") for name in names):
            raise self._broken(f"it holds something unknown: {_shown(path)}")
        return kind, path

    def _piece(self, kind: bytes, path: bytes, so_far: int) -> int:
        """Begin a piece of a file; its size, with its holes."""
        holes = _COUNT.unpack(self._exactly(_COUNT.size))[0] if kind == b"S" else 0
        size, offset, self._expected = _PIECE.unpack(self._exactly(_PIECE.size))
        if offset != so_far:
            raise self._broken(f"{_shown(path)} goes on at {offset}, and had come to {so_far}")
        if holes > _MOST_HOLES:
            raise self._broken(f"{_shown(path)} has {holes} holes in one piece")
        told = self._exactly(holes * _HOLE.size)
        self._sum = zlib.crc32(told)
        self._runs.clear()
        for hole, content in _HOLE.iter_unpack(told):
            self._runs += [(True, hole), (False, content)]
        if kind != b"S":
            self._runs.append((False, size))
        elif size != sum(count for hole, count in self._runs if not hole):
            raise self._broken(f"{_shown(path)} has holes that do not fit what is between them")
        self._left = sum(count for _, count in self._runs)
        if kind == b"S" and self._left > _LONGEST_WITH_HOLES:
            raise self._broken(f"{_shown(path)} has a piece of {self._left} bytes with its holes")
        self._end_of_piece()
        return self._left

    def _taken(self, buffer: memoryview) -> int:
        """Some of the piece that has begun; what is wrong with it shows at its end."""
        while not self._runs[0][1]:
            self._runs.popleft()
        hole, run = self._runs[0]
        if hole:
            count = min(run, len(buffer))
            buffer[:count] = bytes(count)
        else:
            count = self._giver.readinto(buffer[:run])
            if not count:
                raise self._broken("it ended too soon")
            self._sum = zlib.crc32(buffer[:count], self._sum)
        self._runs[0] = (hole, run - count)
        self._left -= count
        self._end_of_piece()
        return count

    def _end_of_piece(self) -> None:
        if not self._left and self._sum != self._expected:
            raise self._broken("a piece of it is not as it was sent")

    def _exactly(self, count: int, *, at_end: bool = False) -> bytes:
        taken = bytearray(count)
        have = 0
        with memoryview(taken) as view:
            while have < count:
                more = self._giver.readinto(view[have:])
                if not more:
                    if at_end and not have:
                        return b""
                    raise self._broken("it ended too soon")
                have += more
        return bytes(taken)

    def _broken(self, why: str) -> ToolError:
        return ToolError(self._name, None, f"its stream is not whole: {why}")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")
