"""A tar archive while it comes: its members one after the other, each read before the next.

Python's tarfile keeps all members in memory, takes an archive that was cut between two of them for a whole one, and
copies each byte several times.
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cto_backups.process import ToolError

_BLOCK: Final = 512
_KINDS: Final = {b"0": stat.S_IFREG, b"\0": stat.S_IFREG, b"5": stat.S_IFDIR, b"2": stat.S_IFLNK}


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its path without a slash at its ends, its st_mode with type bits, and so on."""

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: bytes


class TarReader:
    """Reads the members of an archive that comes in pieces. Raises ToolError for what is none, or ends too soon."""

    def __init__(self, name: str, pieces: Iterator[memoryview]) -> None:
        self._name = name
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Every member; what of its content was not read by `readinto` is passed over."""
        while True:
            self._skip(self._left + self._padding)
            header = self._take(_BLOCK)
            if not header.strip(b"\0"):
                break
            member = self._parsed(header)
            self._left = member.size if stat.S_ISREG(member.mode) else 0
            self._padding = -self._left % _BLOCK
            yield member
        for _ in self._pieces:
            pass  # more empty blocks

    def readinto(self, buffer: memoryview) -> int:
        """Some of this member's content; 0 at its end."""
        if not self._left:
            return 0
        if not self._piece:
            self._next()
        count = min(len(buffer), len(self._piece), self._left)
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        self._left -= count
        return count

    def close(self) -> None:
        """What was not read of this member is passed over later."""

    def _parsed(self, header: bytes) -> Member:
        blank = header[:148] + b" " * 8 + header[156:]
        if sum(blank) != _number(header[148:156]) or header[257:262] != b"ustar":
            raise ToolError(self._name, None, "what comes is no tar archive")
        kind = _KINDS.get(header[156:157])
        path = b"/".join(part for part in (_text(header[345:500]), _text(header[:100])) if part)
        path = path.removeprefix(b"./").strip(b"/")
        names = path.split(b"/")
        if kind is None or not path or any(name in (b"", b".", b"..") for name in names):
            raise ToolError(self._name, None, f"the archive holds something unknown: {path.decode('utf-8', 'replace')}")
        return Member(
            path,
            kind | (_number(header[100:108]) & 0o7777),
            _number(header[108:116]),
            _number(header[116:124]),
            _number(header[124:136]),
            _number(header[136:148]),
            _text(header[157:257]),
        )

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            if not self._piece:
                self._next()
            part = self._piece[: count - len(taken)]
            self._piece = self._piece[len(part) :]
            taken += part
        return taken

    def _skip(self, count: int) -> None:
        self._left = self._padding = 0
        while count:
            if not self._piece:
                self._next()
            part = min(count, len(self._piece))
            self._piece = self._piece[part:]
            count -= part

    def _next(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise ToolError(self._name, None, "the archive ended too soon")
        self._piece = piece


def _text(field: bytes) -> bytes:
    return field.split(b"\0")[0]


def _number(field: bytes) -> int:
    """An octal number; or in GNU's form, for what is too large for that, a binary one."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b"\0 ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise ToolError("tar", None, "the archive holds a number that is none") from None
