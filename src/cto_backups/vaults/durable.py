"""Putting a file on a local disk so that it is whole or not there, and still there after a power failure.

A temporary file in the same folder, fsync, a rename that refuses to replace, fsync of the folder. Temporary files are
named ``.tmp-<pid>-<n>``; their writer holds a lock (flock) on them, so that a dead writer's can be told from a live
one's, also across containers that see different process ids. Everything here raises plain OSError.

What is made in a folder with the set-group-ID bit, which says that a group shares it, is shared as that folder is: the
group may read files where it may read the folder, and new folders get its mode. All else is for its owner alone.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from cto_backups.core.trees import Buffer

TEMPORARY = ".tmp-"

_PARTS_A_CALL = 1024  # IOV_MAX on every system we know
_counter = itertools.count()


def store(path: str, parts: Iterable[Buffer], *, overwrite: bool) -> None:
    """Write the joined parts to `path`, mode 0600 (0640 in a shared folder); its folder must be there.

    Parts in a sequence are written together, others one by one as they come; what they raise is raised. Raises
    FileExistsError when it is there and `overwrite` is false; then, as after any failure, nothing is left.
    """
    folder, _, _ = path.rpartition("/")
    handle, temporary = _open_temporary(folder)
    try:
        try:
            for together in (parts,) if isinstance(parts, Sequence) else ([part] for part in parts):
                _write(handle, together)
            os.fsync(handle)
            # The lock, held through the handle, outlives the rename: it says "still being written" until then.
            if overwrite:
                Path(temporary).rename(path)
            else:
                _rename_without_replacing(temporary, path)
        finally:
            os.close(handle)
    except BaseException:
        _remove(temporary)
        raise
    try:
        sync_folder(folder)
    except BaseException:
        if not overwrite:  # the name is ours alone: take it back, so that a second try starts afresh
            _remove(path)
        raise


def make_folders(folder: Path) -> None:
    """Make `folder` and the parents it lacks, durably, mode 0700 (in a shared folder, that folder's)."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(mode=0o700)
            if shared := _shared(path.parent):
                path.chmod(shared)
        except FileExistsError:
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync for folders, and need none
            raise
    finally:
        os.close(handle)


def abandoned(path: Path) -> bool:
    """Whether the writer of a temporary file is dead: nobody locks the file, and the process in its name is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no locks on this file system: the process id in the name has to do
    finally:
        os.close(handle)
    try:
        os.kill(int(path.name.removeprefix(TEMPORARY).partition("-")[0]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        return False  # not a name that we give, or somebody else's living process
    return False


def _open_temporary(folder: str) -> tuple[int, str]:
    readable = _shared(folder) & stat.S_IRGRP
    while True:
        temporary = f"{folder}/{TEMPORARY}{os.getpid()}-{next(_counter)}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue  # left by a dead process that had our id
        if readable:
            os.fchmod(handle, 0o600 | readable)  # whatever the umask
        with contextlib.suppress(OSError):  # no locks on this file system: see `abandoned`
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle, temporary


def _shared(folder: str | Path) -> int:
    """The mode of a folder that a group shares (set-group-ID); 0 for any other."""
    mode = stat.S_IMODE(Path(folder).stat().st_mode)
    return mode if mode & stat.S_ISGID else 0


def _write(handle: int, parts: Sequence[Buffer]) -> None:
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    position = 0
    while position < len(left):
        written = os.writev(handle, left[position : position + _PARTS_A_CALL])
        while position < len(left) and written >= len(left[position]):
            written -= len(left[position])
            position += 1
        if written:
            left[position] = left[position][written:]


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # the failure that brought us here is the one to tell
        Path(path).unlink()


def _rename_without_replacing(origin: str, destination: str) -> None:
    """Rename, or raise FileExistsError; two writers of one name cannot both succeed."""
    rename = _kernel_rename()
    if rename is not None:
        number = rename(origin, destination)
        if number == 0:
            return
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), destination)
    os.link(origin, destination)
    _remove(origin)


@cache
def _kernel_rename() -> Callable[[str, str], int] | None:
    """Linux's renameat2(RENAME_NOREPLACE), returning 0 or an error number; None where there is none."""
    import ctypes  # commands that only read do without it

    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    here, no_replace = -100, 1

    def rename(origin: str, destination: str) -> int:
        if function(here, os.fsencode(origin), here, os.fsencode(destination), no_replace) == 0:
            return 0
        return ctypes.get_errno()

    return rename
