"""Writing into a destination folder without ever following a symlink inside it.

Folders are reached from the destination name by name, each opened with O_NOFOLLOW below its parent: neither a tree with
hostile names nor somebody who swaps a folder for a symlink meanwhile can lead a write elsewhere.
"""

import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 64


class Folders:
    """The destination's folders by number (0 is the destination), opened when asked for; one such for each thread."""

    def __init__(self, destination: Path, parents: Sequence[int], names: Sequence[bytes]) -> None:
        self._parents = parents
        self._names = names
        self._root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[int, int] = OrderedDict()

    def descriptor(self, number: int) -> int:
        """A descriptor of a folder, valid until the next call. Raises OSError."""
        if number == 0:
            return self._root
        found = self._open.get(number)
        if found is not None:
            return found
        chain = [number]
        while (above := self._parents[chain[-1]]) and above not in self._open:
            chain.append(above)
        descriptor = self._open[above] if above else self._root
        for step in reversed(chain):
            descriptor = os.open(self._names[step], _FOLDER_FLAGS, dir_fd=descriptor)
            self._open[step] = descriptor
        while len(self._open) > _MOST_OPEN + len(chain):
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return descriptor

    def close(self) -> None:
        """Close all."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        os.close(self._root)


def status(folder: int, name: bytes) -> os.stat_result | None:
    """What stands there (a symlink is not followed), None when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def make_folder(folder: int, name: bytes, *, replace: bool) -> bool:
    """Make a folder, or find it there (false); with `replace`, anything else there gives way. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
        return True
    except FileExistsError:
        there = status(folder, name)
        if there is not None and stat.S_ISDIR(there.st_mode):
            return False
        if not replace:
            raise
        os.unlink(name, dir_fd=folder)
        os.mkdir(name, 0o700, dir_fd=folder)
        return True


def temporary_name() -> bytes:
    """A name that nothing else has."""
    return b".cto-backups-restore-" + secrets.token_hex(8).encode("ascii")


def create_file(folder: int, name: bytes) -> int:
    """A new file that nobody else may read yet. Raises OSError, FileExistsError above all."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def open_file(folder: int, name: bytes) -> int:
    """A file that `create_file` made, for writing. Raises OSError."""
    return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
