"""What stands in restored folders and is not in the recovery point: found, and removed once all else is written.

Point and destination are walked side by side, the names of one folder at a time. Folders are opened name by name from
the destination down, each with O_NOFOLLOW: nobody who swaps one for a symlink leads a removal elsewhere. What is
mounted below a restored folder is not entered.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cto_backups.core.model import Problem
from cto_backups.core.ports import Leave
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.metadata import as_root
from cto_backups.repository.places import at_work_on, status
from cto_backups.repository.selection import Selection
from cto_backups.repository.tree import decode_tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MOST_OPEN = 64

Mount = tuple[int, int]
"""What tells one mounted file system from another: device, and the mount's number (two mounts may share a device)."""


@dataclass(frozen=True, slots=True)
class Extraneous:
    """What was removed, or would be: how many entries, and the bytes of the files among them.

    `names` are the topmost of what would be removed; of what was removed, nobody keeps a list.
    """

    entries: int
    size_bytes: int
    names: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def find(fetcher: Fetcher, root: bytes, selection: Selection, destination: Path, leave: Leave | None) -> Extraneous:
    """What `remove` would remove. Raises OSError when the destination cannot be opened, FileNotFoundError aside."""
    return _walked(fetcher, selection, destination, leave, root, remove=False)


def remove(fetcher: Fetcher, root: bytes, selection: Selection, destination: Path, leave: Leave | None) -> Extraneous:
    """Remove what is not in the point from the selected folders, but for what is to be left; what fails is a problem.

    Whatever is removed when the process is killed, the next run removes the rest. Raises OSError as `find`.
    """
    return _walked(fetcher, selection, destination, leave, root, remove=True)


def _walked(
    fetcher: Fetcher, selection: Selection, destination: Path, leave: Leave | None, root: bytes, *, remove: bool
) -> Extraneous:
    walk = _Walk(destination, leave or _leave_nothing, remove=remove)
    try:
        way = _Way(os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except FileNotFoundError:
        return walk.result()
    with contextlib.closing(way):
        walk.run(way, fetcher, root, selection)
    return walk.result()


def _leave_nothing(_path: bytes, _folder: bool) -> bool:
    return False


class _Way:
    """The folders from the destination (whose descriptor it takes over) to the one last asked for.

    Only the last of them are open: a path may be deeper than any process may have files open.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._names: list[bytes] = []
        self._open: dict[int, int] = {}  # by depth

    def to(self, path: bytes) -> int:
        """A folder's descriptor, valid until the next call. Raises OSError."""
        names = path.split(b"/")[1:]
        known = 0
        for here, there in zip(self._names, names, strict=False):
            if here != there:
                break
            known += 1
        for depth in range(known, len(self._names)):
            self._let_go(depth)
        self._names = names
        at = len(names)
        while at and at - 1 not in self._open:
            at -= 1
        folder = self._open[at - 1] if at else self._root
        for depth in range(at, len(names)):
            folder = self._open[depth] = os.open(names[depth], _FOLDER, dir_fd=folder)
            self._let_go(depth - _MOST_OPEN)
        return folder

    def _let_go(self, depth: int) -> None:
        if (folder := self._open.pop(depth, None)) is not None:
            os.close(folder)

    def close(self) -> None:
        """Let go of all."""
        for depth in list(self._open):
            self._let_go(depth)
        os.close(self._root)


class _Walk:
    def __init__(self, destination: Path, leave: Leave, *, remove: bool) -> None:
        self._destination = destination
        self._leave = leave
        self._remove = remove
        self._entries = self._size_bytes = 0
        self._left = 0  # how many entries stay so far: a folder with one of them stays, too
        self._left_out = 0
        self._names: list[str] = []
        self._mounts: list[str] = []
        self._problems: list[Problem] = []

    def result(self) -> Extraneous:
        notes = [f"{place} was not looked into for extraneous entries: it is mounted there." for place in self._mounts]
        if self._left_out:
            left = counted(self._left_out, "extraneous entry", "extraneous entries")
            notes.append(f"{left} stay: the source leaves such out, or this installation uses them.")
        return Extraneous(self._entries, self._size_bytes, tuple(self._names), tuple(notes), tuple(self._problems))

    def run(self, way: _Way, fetcher: Fetcher, root: bytes, selection: Selection) -> None:
        """Walk point and destination side by side, until all is seen or a tree cannot be read."""
        self._way = way
        stack: list[tuple[bytes, bytes, bool, Mount | None]] = [(b"", root, selection.everything, None)]
        while stack:
            path, tree, inherited, mount = stack.pop()
            try:
                nodes = decode_tree(fetcher.tree(tree))
            except (DamageError, VaultError) as error:
                self._problem(path, f"what should be in it is not known, and nothing more was removed: {error}")
                return
            here = None
            if inherited:
                here = self._compare(path, {node.entry.name for node in nodes}, mount)
                if here is None:
                    continue
            for node in nodes:
                inner = path + b"/" + node.entry.name
                if node.subtree is not None and inner not in selection.spare:
                    selected = inherited or selection.wants(inner)
                    if selected or selection.descends(inner):
                        stack.append((inner, node.subtree, selected, here))

    def _compare(self, path: bytes, known: set[bytes], mount: Mount | None) -> Mount | None:
        """Remove what a folder holds beside the known names. Its mount; None where nothing below is to be looked at."""
        try:
            folder = self._way.to(path)
            here = _mount(folder)
            if mount is not None and here != mount:
                self._mounts.append(self._shown(path))
                return None
            names = set(_listing(folder))
            others = sorted(names - known)
            if others:
                same = _identities(folder, known - names)
                with self._unchanged(path, folder):
                    for name in others:
                        self._look_at(path, name, here, same)
        except OSError as error:
            if error.errno in _NOT_THERE and not self._remove:
                return None
            self._failed(path, error)
            return None
        return here

    def _look_at(self, path: bytes, name: bytes, mount: Mount, same: set[tuple[int, int]]) -> None:
        there = status(self._way.to(path), name)
        # Where file systems fold cases, what was just restored may be listed under another name than the point's.
        if there is None or (there.st_dev, there.st_ino) in same or at_work_on(name):
            return
        before = self._entries
        self._clear(path + b"/" + name, mount)
        if self._entries > before and not self._remove:
            self._names.append(self._shown(path + b"/" + name))

    @contextmanager
    def _unchanged(self, path: bytes, folder: int) -> Iterator[None]:
        """Keep times and mode of a folder of the point, which was restored before; we must be able to write to it."""
        if not self._remove:
            yield
            return
        before, entries = os.fstat(folder), self._entries
        narrow = not as_root() and before.st_uid == os.geteuid() and before.st_mode & 0o300 != 0o300
        if narrow:
            os.fchmod(folder, stat.S_IMODE(before.st_mode) | stat.S_IRWXU)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it may be somebody else's, or be gone
                folder = self._way.to(path)
                if narrow:
                    os.fchmod(folder, stat.S_IMODE(before.st_mode))
                if self._entries > entries:
                    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))

    # -- what is extraneous -------------------------------------------------------------------------------------------

    def _clear(self, topmost: bytes, mount: Mount) -> None:
        """Remove an entry and all below it, each folder after what it holds."""
        stack: list[tuple[bytes, int | None]] = [(topmost, None)]
        while stack:
            path, left = stack.pop()
            try:
                if left is None:
                    stack += self._enter(path, mount)
                elif left == self._left:
                    above, _, name = path.rpartition(b"/")
                    self._take(_rmdir, above, name, 0)
            except FileNotFoundError:
                pass  # somebody else removed it
            except OSError as error:
                if error.errno == errno.EBUSY:
                    self._stays_mounted(path)
                else:
                    self._failed(path, error)

    def _enter(self, path: bytes, mount: Mount) -> list[tuple[bytes, int | None]]:
        """Remove what is no folder; of a folder, what is to be done then, the last first. Raises OSError."""
        above, _, name = path.rpartition(b"/")
        there = os.stat(name, dir_fd=self._way.to(above), follow_symlinks=False)
        is_folder = stat.S_ISDIR(there.st_mode)
        if self._leave(path, is_folder):
            self._left += 1
            self._left_out += 1
            return []
        if not is_folder:
            self._take(_unlink, above, name, there.st_size if stat.S_ISREG(there.st_mode) else 0)
            return []
        if self._remove and not as_root() and there.st_mode & 0o700 != 0o700:
            _open_up(self._way.to(above), name, mount)
        folder = self._way.to(path)
        if _mount(folder) != mount:
            self._stays_mounted(path)
            return []
        return [(path, self._left), *((path + b"/" + inner, None) for inner in _listing(folder))]

    def _take(self, do: Callable[[bytes, int], None], above: bytes, name: bytes, size_bytes: int) -> None:
        if self._remove:
            do(name, self._way.to(above))
        self._entries += 1
        self._size_bytes += size_bytes

    def _stays_mounted(self, path: bytes) -> None:
        self._left += 1
        self._mounts.append(self._shown(path))

    def _failed(self, path: bytes, error: OSError) -> None:
        self._left += 1
        done = "could not be removed" if self._remove else "cannot be looked into"
        self._problem(path, f"what is not in the recovery point {done}: {error.strerror or error}")

    def _problem(self, path: bytes, detail: str) -> None:
        self._problems.append(Problem(os.fsdecode(path) or "/", "extraneous", detail))

    def _shown(self, path: bytes) -> str:
        return os.fspath(self._destination).rstrip("/") + os.fsdecode(path)


def _rmdir(name: bytes, folder: int) -> None:
    os.rmdir(name, dir_fd=folder)


def _unlink(name: bytes, folder: int) -> None:
    os.unlink(name, dir_fd=folder)


def _mount(folder: int) -> Mount:
    """The mount that an open folder is in; where the kernel does not tell, its device has to do."""
    device = os.fstat(folder).st_dev
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{folder}", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"mnt_id:"):
                return device, int(line[7:])
    return device, 0


def _listing(folder: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(folder)]


def _identities(folder: int, names: set[bytes]) -> set[tuple[int, int]]:
    """Device and inode of those names that stand there although no listing has them."""
    found = [there for name in names if (there := status(folder, name)) is not None]
    return {(there.st_dev, there.st_ino) for there in found}


def _open_up(folder: int, name: bytes, mount: Mount) -> None:
    """Let the owner of a folder that is to be removed into it, but not of one that is mounted there or linked to."""
    with contextlib.suppress(OSError):  # what is not ours says so when it is opened
        descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if _mount(descriptor) == mount:
                os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # noqa: PTH101
        finally:
            os.close(descriptor)
