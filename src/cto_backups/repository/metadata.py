"""Giving restored entries their owners, modes, extended attributes and times."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence

from cto_backups.core.trees import Entry, EntryKind

Note = Callable[[str, str], None]
_NOT_THERE = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_OURS = ("user.", "system.posix_acl_", "security.capability")
# What nobody expects to come back when root does not restore: attributes that root alone may set.
ROOTS_OWN = ("trusted.", "security.")
PRIVILEGED = "privileged"


def as_root() -> bool:
    """Whether owners, and what else only root may restore, are to be restored."""
    return os.geteuid() == 0


def apply_to_descriptor(descriptor: int, entry: Entry, note: Note) -> None:
    """All metadata of a file or folder, by its descriptor; what cannot be set is told to `note`, as (kind, detail)."""
    if as_root() and _owner_differs(descriptor, entry):
        try:
            os.fchown(descriptor, entry.uid, entry.gid)
        except (OSError, OverflowError) as error:
            note("permission", f"its owner could not be set: {_reason(error)}")
    _remove_others(descriptor, entry, note)
    for name, value in entry.extended:
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            _note_attribute(note, name, error)
    try:
        os.fchmod(descriptor, stat.S_IMODE(entry.mode))
    except OSError as error:
        note("permission", f"its mode could not be set: {_reason(error)}")
    try:
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    except (OSError, OverflowError) as error:
        note("permission", f"its time could not be set: {_reason(error)}")


def _remove_others(descriptor: int, entry: Entry, note: Note) -> None:
    """Take away attributes that the entry does not have: a former file's, or what a folder hands down."""
    wanted = {os.fsdecode(name) for name, _ in entry.extended}
    with contextlib.suppress(OSError):
        for name in os.listxattr(descriptor):
            if name not in wanted and name.startswith(_OURS):
                try:
                    os.removexattr(descriptor, name)
                except OSError as error:
                    _note_attribute(note, os.fsencode(name), error)


def note_lacks(lacks: Sequence[tuple[int, bytes, int]], note: Note) -> None:
    """Tell `note` what could not be set, from how native code says it: which kind of metadata, its name, errno."""
    for kind, name, number in lacks:
        error = OSError(number, os.strerror(number))
        if kind == 1:
            _note_attribute(note, name, error)
        else:
            note("permission", f"its {('owner', '', 'mode', 'time')[kind]} could not be set: {_reason(error)}")


def _owner_differs(descriptor: int, entry: Entry) -> bool:
    if entry.uid or entry.gid:
        return True
    there = os.fstat(descriptor)
    return bool(there.st_uid or there.st_gid)


def apply_to_name(folder: int, path: str, name: bytes, entry: Entry, note: Note) -> None:
    """All metadata of a node that is not opened (symlink, fifo, socket, device); `path` is that of /proc to it."""
    if as_root():
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            note("permission", f"its owner could not be set: {_reason(error)}")
    for attribute, value in entry.extended:
        try:
            os.setxattr(os.fsencode(path), attribute, value, follow_symlinks=False)
        except OSError as error:
            _note_attribute(note, attribute, error)
    if entry.kind is not EntryKind.SYMLINK:
        try:
            os.chmod(name, stat.S_IMODE(entry.mode), dir_fd=folder)
        except OSError as error:
            note("permission", f"its mode could not be set: {_reason(error)}")
    try:
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)
    except (OSError, OverflowError) as error:
        note("permission", f"its time could not be set: {_reason(error)}")


def make_special(folder: int, name: bytes, entry: Entry) -> None:
    """Make a symlink, fifo, socket or device. Raises OSError."""
    if entry.kind is EntryKind.SYMLINK:
        os.symlink(entry.linktarget, name, dir_fd=folder)
    elif entry.kind is EntryKind.FIFO:
        os.mkfifo(name, 0o600, dir_fd=folder)
    elif entry.kind is EntryKind.SOCKET:
        os.mknod(name, stat.S_IFSOCK | 0o600, dir_fd=folder)
    else:
        kind = stat.S_IFBLK if entry.kind is EntryKind.DEVICE else stat.S_IFCHR
        os.mknod(name, kind | 0o600, entry.device, dir_fd=folder)


def _note_attribute(note: Note, name: bytes, error: OSError) -> None:
    text = name.decode("utf-8", "replace")
    if not as_root() and text.startswith(ROOTS_OWN):
        note(PRIVILEGED, text)
        return
    kind = "unsupported" if error.errno in _NOT_THERE else "permission"
    note(kind, f"its extended attribute {text} could not be set: {_reason(error)}")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
