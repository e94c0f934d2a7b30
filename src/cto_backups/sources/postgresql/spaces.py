"""Log that makes a tablespace, found in its bytes: whoever goes through it makes that at the path that the server used.

A server that is asked which tablespaces it has does not tell of one that waits for a standby to confirm it, nor of one
that was dropped again. As the sources of PostgreSQL have it (`xlogrecord.h`, `xlog_internal.h`, `tablespace.h`; the
same in 15 to 18): pages of 8 KiB begin with a header of 24 or 40 bytes, records begin at multiples of eight.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = 8192
_SHORT_HEADER, _LONG_HEADER, _IS_LONG = 24, 40, 0x0002
_RECORD: Final = struct.Struct("<IIQBBHI")
_OF_TABLESPACES: Final = b"\x05\x00\x00"
"""The resource manager's number, and the two bytes of padding after it."""
_AT: Final = 17
_MAKES: Final = 0x00
_DATA_SHORT, _DATA_LONG = 255, 254
_LONGEST_RECORD: Final = 2048
"""More than one of these takes: its path has 1,023 bytes at most."""
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """A tablespace that the log makes: its path, and up to where the log surely does not make it."""

    at: int
    path: str


class SpaceWatch:
    """Looks through the log as it comes, from a position on."""

    def __init__(self, position: int) -> None:
        self._at = position
        self._raw = b""
        self._kept = bytearray()  # what may be the beginning of a record, without the headers of pages
        self._kept_from = position  # its place modulo eight is that of the first byte; headers are multiples of eight

    def find(self, data: bytes | memoryview) -> Made | None:
        """The first tablespace made in what came by now, if any."""
        begins = self._at
        self._raw += bytes(data)
        self._strip()
        found = self._look()
        surplus = (len(self._kept) - _LONGEST_RECORD) // 8 * 8
        if surplus > 0:
            del self._kept[:surplus]
            self._kept_from += surplus
        return Made(max(begins - _LONGEST_RECORD - _LONG_HEADER, 0), found) if found is not None else None

    def _strip(self) -> None:
        raw, used = memoryview(self._raw), 0
        while used < len(raw):
            inside = self._at % _PAGE_BYTES
            if inside:
                part = raw[used : used + _PAGE_BYTES - inside]
                self._kept += part
                used, self._at = used + len(part), self._at + len(part)
                continue
            header = raw[used : used + _LONG_HEADER]
            if len(header) < 4:
                break
            size = _LONG_HEADER if header[2] & _IS_LONG else _SHORT_HEADER
            if len(header) < size:
                break
            used, self._at = used + size, self._at + size
        self._raw = bytes(raw[used:])

    def _look(self) -> str | None:
        kept, at = self._kept, -1
        while (at := kept.find(_OF_TABLESPACES, at + 1)) >= 0:
            begins = at - _AT
            if begins >= 0 and (self._kept_from + begins) % 8 == 0:
                path = _path(kept, begins)
                if path is not None:
                    return path
        return None


def _path(kept: bytearray, begins: int) -> str | None:
    """The path in a whole record that makes a tablespace; None: it is not one, or has not come yet."""
    data = begins + _RECORD.size
    if data >= len(kept):
        return None
    total, _, _, info, _, _, _ = _RECORD.unpack_from(kept, begins)
    ends = begins + total
    if info & 0xF0 != _MAKES or not _RECORD.size < total <= _LONGEST_RECORD or ends > len(kept):
        return None
    if kept[data] == _DATA_SHORT:
        size, data = kept[data + 1], data + 2
    elif kept[data] == _DATA_LONG:
        size, data = int.from_bytes(kept[data + 1 : data + 5], "little"), data + 5
    else:
        return None
    path = bytes(kept[data + 4 : ends])  # after the tablespace's number
    if data + size != ends or not path.endswith(b"\0") or not path.startswith(b"/") or b"\0" in path[:-1]:
        return None
    return os.fsdecode(path[:-1])


def made_in(segments: Iterable[Path], begins: int, since: int) -> Made | None:
    """The first tablespace that files of the log make, from the position `since` on; the first file begins at `begins`.

    Raises OSError.
    """
    watch, skipped = SpaceWatch(since), since - begins
    for segment in segments:
        with segment.open("rb") as file:
            file.seek(skipped)
            skipped = 0
            while data := file.read(_READ_BYTES):
                if (found := watch.find(data)) is not None:
                    return found
    return None
