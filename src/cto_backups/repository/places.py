"""What is made in a folder that is open: nothing here follows a symlink. See native/src/repository/restore.rs."""

import contextlib
import os
import re
import secrets
import stat

TEMPORARY = b".cto-backups-restore-"
_LEFTOVER = re.compile(rb"\.cto-backups-restore-([0-9a-f]{8})[0-9a-f]{8}")


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
    """A name that nothing else has; it begins with our process's number."""
    return TEMPORARY + f"{os.getpid():08x}{secrets.token_hex(4)}".encode("ascii")


def remove_leftovers(folder: int) -> None:
    """Remove the temporary files of a restore that was killed, and of none that another process is at."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            leftover = _LEFTOVER.fullmatch(os.fsencode(name))
            if leftover and not _at_work(int(leftover[1], 16)):
                os.unlink(name, dir_fd=folder)


def at_work_on(name: bytes) -> bool:
    """Whether this is the temporary file of another process that restores here, too."""
    leftover = _LEFTOVER.fullmatch(name)
    return leftover is not None and _at_work(int(leftover[1], 16))


def _at_work(process: int) -> bool:
    """Whether another process of this number runs. Ours makes the files that it will need later."""
    if process == os.getpid() or not 0 < process < 1 << 22:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def create_file(folder: int, name: bytes) -> int:
    """A new file that nobody else may read yet. Raises OSError, FileExistsError above all."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def open_file(folder: int, name: bytes, *, write: bool = True) -> int:
    """A file that stands there. Raises OSError."""
    access = os.O_RDWR if write else os.O_RDONLY
    return os.open(name, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
