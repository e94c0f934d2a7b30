"""What two file trees differ in: content, kind, mode, owner, time to the nanosecond, attributes, links, devices.

Times of access and of change are left out: reading changes the one, and nothing can set the other.
"""

import hashlib
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_KIND = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Node:
    """One node, as comparable values; `linked` is the first path of those that share its inode."""

    kind: str
    mode: str
    uid: int
    gid: int
    mtime_ns: int
    size: int
    sha256: str
    target: bytes
    device: tuple[int, int]
    attributes: tuple[tuple[str, bytes], ...]
    linked: bytes


def look(root: Path | bytes, *, without: Collection[str] = ()) -> dict[bytes, Node]:
    """Every node below `root` by its relative path; `without` leaves out kinds such as "socket"."""
    top = os.fsencode(root)
    found: dict[bytes, Node] = {}
    inodes: dict[tuple[int, int], bytes] = {}
    pending = [b""]
    while pending:
        folder = pending.pop()
        for name in sorted(os.listdir(top + b"/" + folder)):
            path = folder + b"/" + name if folder else name
            status = os.lstat(top + b"/" + path)
            kind = _KIND[stat.S_IFMT(status.st_mode)]
            if kind in without:
                continue
            if kind == "folder":
                pending.append(path)
            found[path] = _node(top + b"/" + path, kind, status, path)
    for path in sorted(found):  # by path, not by the order of the walk, which is the same for equal trees only
        status = os.lstat(top + b"/" + path)
        if found[path].kind != "folder" and status.st_nlink > 1:
            first = inodes.setdefault((status.st_dev, status.st_ino), path)
            found[path] = _linked(found[path], first)
    return found


def differences(
    expected: Path | bytes | dict[bytes, Node], actual: Path | bytes | dict[bytes, Node], **options: Collection[str]
) -> list[str]:
    """In sentences, what is not the same; empty when all is."""
    one = expected if isinstance(expected, dict) else look(expected, **options)
    other = actual if isinstance(actual, dict) else look(actual, **options)
    lines = [f"{path!r} is missing" for path in sorted(one.keys() - other.keys())]
    lines += [f"{path!r} should not be there" for path in sorted(other.keys() - one.keys())]
    for path in sorted(one.keys() & other.keys()):
        for name in Node.__dataclass_fields__:
            wanted, got = getattr(one[path], name), getattr(other[path], name)
            if wanted != got:
                lines.append(f"{path!r}: {name} should be {wanted!r}, is {got!r}")
    return lines


def _node(full: bytes, kind: str, status: os.stat_result, path: bytes) -> Node:
    return Node(
        kind=kind,
        mode="" if kind == "symlink" else f"{stat.S_IMODE(status.st_mode):04o}",
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if kind in ("file", "symlink") else 0,
        sha256=_digest(full) if kind == "file" else "",
        target=os.readlink(full) if kind == "symlink" else b"",
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if kind.endswith("device") else (0, 0),
        attributes=tuple(
            (name, os.getxattr(full, name, follow_symlinks=False))
            for name in sorted(os.listxattr(full, follow_symlinks=False))
        ),
        linked=b"",
    )


def _linked(node: Node, first: bytes) -> Node:
    return Node(**{name: getattr(node, name) for name in Node.__dataclass_fields__} | {"linked": first})


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
