# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH120
"""Folders to restore into: private, named after the process that uses them, gone afterwards."""

import array
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from cto_backups.errors import RestoreError
from cto_backups.process import started

# <linux/fs.h>: reading and setting the flags that chattr(1) shows.
_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_PROTECTED = 0x10 | 0x20  # immutable, append-only
_NAME = re.compile(r".+\.(\d+)\.(\d+)\.[0-9a-f]{8}")


class FolderSandbox:
    """Implements `core.sandboxes.Sandbox`: folders in `root`, named ``<label>.<pid>.<start of process>.<random>``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, label: str) -> Path:
        """A new, empty folder that only this user may enter. Raises RestoreError."""
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-")[:60] or "place"
        pid = os.getpid()
        place = self._root / f"{slug}.{pid}.{started(pid) or 0}.{secrets.token_hex(4)}"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700)
        except OSError as error:
            raise RestoreError(
                f"cannot make a place for {label} in {self._root}",
                why=error.strerror or str(error),
                todo="free space there, make it writable, or choose another folder for restore tests",
            ) from error
        return place

    def close(self, place: Path) -> None:
        """Remove the folder with all that is in it, whatever its modes. Raises RestoreError when something stays."""
        if place.parent != self._root or not _NAME.fullmatch(place.name):
            raise RestoreError(
                f"{place} is not a place of this sandbox",
                why=f"only folders that were made in {self._root} are removed",
                todo="remove it by hand if it is not needed",
            )
        failures: list[str] = []
        _remove(os.fsencode(place), failures)
        if failures:
            raise RestoreError(
                f"cannot remove all of {place}",
                why="; ".join(failures[:3]) + (f"; and {len(failures) - 3} more" if len(failures) > 3 else ""),
                todo=f"remove it by hand: it holds restored data. rm -rf {place}",
            )

    def sweep(self) -> int:
        """Remove what killed processes left; how many folders."""
        try:
            places = list(self._root.iterdir())
        except OSError:
            return 0  # not there yet, or another user's: whoever needs it now is told by `open`
        swept = 0
        for place in places:
            owner = _NAME.fullmatch(place.name)
            if owner is None or not stat.S_ISDIR(place.lstat().st_mode):
                continue
            if started(int(owner[1])) != int(owner[2]):
                self.close(place)
                swept += 1
        return swept


def _remove(top: bytes, failures: list[str]) -> None:
    """Remove a folder and all below it, without following links; what stays is added to `failures`."""
    pending = [(top, False)]
    while pending:
        folder, emptied = pending.pop()
        if emptied:
            _attempt(folder, os.rmdir, failures)
            continue
        pending.append((folder, True))
        try:
            names = _listed(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(f"{os.fsdecode(folder)!r}: {error.strerror}")
            continue
        for path, is_folder in names:
            if is_folder:
                pending.append((path, False))
            else:
                _attempt(path, os.unlink, failures)


def _listed(folder: bytes) -> list[tuple[bytes, bool]]:
    try:
        return _scan(folder)
    except PermissionError:
        os.chmod(folder, 0o700)
        return _scan(folder)


def _scan(folder: bytes) -> list[tuple[bytes, bool]]:
    with os.scandir(folder) as listing:
        return [(item.path, item.is_dir(follow_symlinks=False)) for item in listing]


def _attempt(path: bytes, remove: Callable[[bytes], None], failures: list[str]) -> None:
    try:
        try:
            remove(path)
        except PermissionError:
            parent = os.path.dirname(path)
            _unprotect(parent)
            os.chmod(parent, 0o700)
            _unprotect(path)
            remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        failures.append(f"{os.fsdecode(path)!r}: {error.strerror}")


def _unprotect(path: bytes) -> None:
    """Take off the flags that forbid even root to remove a file; only root can, on file systems that have them."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        if flags[0] & _PROTECTED:
            flags[0] &= ~_PROTECTED
            fcntl.ioctl(descriptor, _SET_FLAGS, flags, True)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
