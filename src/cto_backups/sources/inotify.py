"""Linux's inotify(7), called directly: names are bytes, and what the kernel could not tell is told."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IS_FOLDER: Final = 0x4000_0000
APPEARED: Final = 0x180  # created, or moved here
MOVED_AWAY: Final = 0x40
GONE: Final = 0x2000 | 0x400 | 0x800  # unmounted; the watched folder itself was deleted or moved
OVERFLOWED: Final = 0x4000
ENDED: Final = 0x8000
# Written to, attributes changed, deleted; only folders, and nothing of what was unlinked. Not what is only read: that
# would tell of our own reading.
_WANTED: Final = 0x2 | 0x4 | MOVED_AWAY | APPEARED | 0x200 | 0x400 | 0x800 | 0x0100_0000 | 0x0400_0000
_HEADER: Final = struct.Struct("iIII")
_BUFFER: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to the entry `name` of the folder behind `watch` (to the folder itself where it is empty)."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """One queue of events. Raises OSError where the system has none, or allows no further one."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(None, use_errno=True)
            self._add, self._remove = library.inotify_add_watch, library.inotify_rm_watch
            descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        self._add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        if descriptor < 0:
            raise _failure()
        self._descriptor = int(descriptor)

    def add(self, folder: bytes) -> int:
        """Watch a folder; the number of its watch, the same for the same folder. Raises OSError."""
        number = int(self._add(self._descriptor, folder or b"/", _WANTED))
        if number < 0:
            raise _failure()
        return number

    def remove(self, watch: int) -> None:
        """Watch a folder no more; fine when it is gone."""
        self._remove(self._descriptor, watch)

    def events(self) -> Iterator[Event]:
        """What has happened since the last call."""
        while True:
            try:
                read = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(read):
                watch, mask, _, length = _HEADER.unpack_from(read, at)
                at += _HEADER.size + length
                yield Event(watch, mask, read[at - length : at].rstrip(b"\0"))

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)


def most_watches() -> int:
    """How many folders the system lets one user watch."""
    return int(Path("/proc/sys/fs/inotify/max_user_watches").read_text(encoding="ascii"))


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
