"""A tree with every kind of node and every odd name that a Linux file system holds, the same on each call.

What needs root (devices, owners, trusted.* attributes) is there when `PRIVILEGED`; what nobody but root could read
(a file without permissions) as well. `tests/trees/compare.py` tells such trees apart.
"""

import contextlib
import errno
import hashlib
import os
import random
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PRIVILEGED = os.geteuid() == 0
KIB = 1024
MIB = 1024 * KIB
SECOND = 1_000_000_000
# Where chunkers change their mind: restic's limits and ours, and the sizes at which a reader may work differently.
LIMITS = (64 * KIB, 512 * KIB, 1 * MIB, 8 * MIB)
BEFORE_1970 = -3 * 365 * 86400 * SECOND + 123_456_789
IN_2100 = 4_102_444_800 * SECOND + 987_654_321
NAMES = {
    "new line": b"new\nline",
    "carriage return and tab": b"cr\r tab\t",
    "bell, escape, delete": b"\x01\x07\x1b[31m\x7f",
    "double quotes": b'say "hi"',
    "single quotes": b"it's",
    "backslashes": b"back\\slash\\n\\x41\\u0041",
    "a space before": b" before",
    "a space after": b"after ",
    "a single space": b" ",
    "what HTML escapes": b"<a href=x>&amp;<!--",
    "what shells expand": b"$HOME `id` * ? [a-z] {b,c} ~ ! # %41",
    "a dash first": b"-rf",
    "dots": b"...",
    "line separators": "line\u2028paragraph\u2029next\u0085".encode(),
    "emoji": "\U0001f600 \U0001f469\u200d\U0001f4bb".encode(),
    "composed": "caf\u00e9".encode(),
    "decomposed": "cafe\u0301".encode(),
    "replacement character": "\ufffd".encode(),
    "byte order mark": "\ufeffbom".encode(),
    "right to left": "\u202egnp.txt".encode(),
    "beyond the BMP, unassigned": "\U000e0001\U0010ffff".encode(),
    "noncharacter": "\uffff".encode(),
    "latin-1": b"caf\xe9",
    "every high byte": bytes(range(0x80, 0xFF)),
    "cut UTF-8": b"cut\xe2\x82",
    "overlong UTF-8": b"over\xc0\xaf",
    "surrogate in UTF-8": b"sur\xed\xa0\x80",
    "255 bytes": b"n" * 255,
    "255 bytes in emoji": "\U0001f600".encode() * 63 + b"xyz",
}


@dataclass(frozen=True)
class OddTree:
    """What `build` made: its root, and what this machine could not make (with why)."""

    root: Path
    left_out: dict[str, str] = field(default_factory=dict)


def build(root: Path, *, seed: int = 0) -> OddTree:
    """Make the tree below the new folder `root`; another `seed` gives other contents."""
    root.mkdir(parents=True)
    tree = OddTree(root)
    top = os.fsencode(root)
    for make in (_sizes, _names, _links, _special, _modes, _owners, _attributes, _folders, _times):
        folder = top + b"/" + make.__name__.strip("_").encode()
        os.mkdir(folder)
        make(tree, folder, random.Random(f"{seed} {make.__name__}"))
    _settle(top)
    return tree


def write(path: bytes, content: bytes = b"") -> None:
    """A new file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(handle, "wb") as file:
        file.write(content)


def _attempt(tree: OddTree, what: str, make: Callable[[], object]) -> None:
    """Make something that not every machine allows."""
    try:
        make()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL):
            raise
        tree.left_out[what] = os.strerror(error.errno)


def _sizes(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    write(folder + b"/empty")
    write(folder + b"/one-byte", b"x")
    write(folder + b"/small", b"small text, compressible, compressible\n" * 40)
    write(folder + b"/same-as-small", b"small text, compressible, compressible\n" * 40)
    write(folder + b"/zeros", bytes(3 * MIB))
    for limit in LIMITS[:-1]:
        for size in (limit - 1, limit, limit + 1):
            write(folder + b"/random-%d" % size, chance.randbytes(size))
    line = hashlib.sha256(chance.randbytes(8)).hexdigest().encode() + b" SELECT something FROM somewhere;\n"
    write(folder + b"/text-at-largest", (line * (LIMITS[-1] // len(line) + 1))[: LIMITS[-1]])
    write(folder + b"/many-chunks", chance.randbytes(12 * MIB + 17))
    _sparse(folder + b"/hole-at-start", 5 * MIB, {4 * MIB: chance.randbytes(1 * MIB)})
    _sparse(folder + b"/hole-in-middle", 6 * MIB, {0: chance.randbytes(MIB), 5 * MIB: chance.randbytes(MIB)})
    _sparse(folder + b"/hole-at-end", 5 * MIB + 1, {0: chance.randbytes(64 * KIB)})
    _sparse(folder + b"/hole-only", 16 * MIB, {})
    _sparse(folder + b"/holes-odd", 700_001, {1: b"x", 300_000: chance.randbytes(5)})


def _sparse(path: bytes, size: int, parts: dict[int, bytes]) -> None:
    write(path)
    with open(path, "r+b") as file:
        for offset, content in parts.items():
            file.seek(offset)
            file.write(content)
        file.truncate(size)


def _names(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    for what, name in NAMES.items():
        _attempt(tree, f"the name {what}", lambda name=name, what=what: write(folder + b"/" + name, what.encode()))
    for name in (b"folder \xff\n", NAMES["255 bytes"][:-1] + b"d", "\U0001f4c1 \u2028".encode()):
        os.mkdir(folder + b"/" + name)
        write(folder + b"/" + name + b"/inside \xfe", name)


def _links(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    os.mkdir(folder + b"/a")
    os.mkdir(folder + b"/b")
    write(folder + b"/a/hard-1", chance.randbytes(5000))
    for other in (b"/a/hard-2", b"/b/hard-3", b"/b/hard \xff"):
        os.link(folder + b"/a/hard-1", folder + other)
    write(folder + b"/a/large-hard-1", chance.randbytes(3 * MIB))
    os.link(folder + b"/a/large-hard-1", folder + b"/b/large-hard-2")
    write(folder + b"/a/empty-hard-1")
    os.link(folder + b"/a/empty-hard-1", folder + b"/b/empty-hard-2")
    for name, target in {
        b"to-file": b"a/hard-1",
        b"to-folder": b"b",
        b"to-itself": b"to-itself",
        b"dangling": b"not/there",
        b"absolute": b"/etc/hostname",
        b"upwards": b"../../..",
        b"new line": b"two\nlines",
        b"not-utf-8": b"caf\xe9/\xff",
        b"unicode": "\u2028<&>\U0001f600".encode(),
        b"spaces": b" ",
        b"long": b"x/" * 1500 + b"y",
    }.items():
        os.symlink(target, folder + b"/" + name)
    _attempt(
        tree,
        "hard links to a symbolic link",
        lambda: os.link(folder + b"/dangling", folder + b"/b/dangling", follow_symlinks=False),
    )


def _special(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    os.mkfifo(folder + b"/fifo", 0o640)
    os.mkfifo(folder + b"/fifo \xff", 0o600)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        # The path of a socket is short: reach the folder by its descriptor.
        server.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    for name, kind, device in (
        (b"null", stat.S_IFCHR, os.makedev(1, 3)),
        (b"tty", stat.S_IFCHR, os.makedev(5, 0)),
        (b"loop", stat.S_IFBLK, os.makedev(7, 200)),
        (b"large-minor", stat.S_IFBLK, os.makedev(259, 70_000)),
        (b"large-major", stat.S_IFCHR, os.makedev(511, 1_000_000)),
    ):
        if PRIVILEGED:
            path = folder + b"/" + name
            _attempt(tree, "device nodes", lambda p=path, k=kind, d=device: os.mknod(p, k | 0o620, d))


def _modes(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    modes = [0o400, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1644, 0o6711, 0o7777, 0o4644]
    if PRIVILEGED:
        modes += [0o000, 0o111, 0o222]
    for mode in modes:
        path = folder + b"/file-%04o" % mode
        write(path, b"%o" % mode)
        os.chmod(path, mode)
    modes = [0o500, 0o700, 0o755, 0o1777, 0o2775, 0o3777, 0o4755]
    if PRIVILEGED:
        modes += [0o000, 0o333]
    for mode in modes:
        path = folder + b"/folder-%04o" % mode
        os.mkdir(path)
        write(path + b"/inside", b"%o" % mode)
        os.chmod(path, mode)


def _owners(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    write(folder + b"/mine", b"mine")
    if not PRIVILEGED:
        return
    for name, uid, gid in (
        (b"nobody", 65534, 65534),
        (b"without-a-name", 123_456, 654_321),
        (b"largest", 2**32 - 2, 2**32 - 2),
        (b"daemon-root", 1, 0),
    ):
        write(folder + b"/" + name, name)
        os.chown(folder + b"/" + name, uid, gid)
        os.mkdir(folder + b"/folder-" + name)
        os.chown(folder + b"/folder-" + name, uid, gid)
    os.symlink(b"mine", folder + b"/link")
    os.chown(folder + b"/link", 123_456, 654_321, follow_symlinks=False)
    write(folder + b"/setuid-of-another", b"x")
    os.chown(folder + b"/setuid-of-another", 123_456, 654_321)
    os.chmod(folder + b"/setuid-of-another", 0o6755)


def _attributes(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    write(folder + b"/file", b"with attributes")
    os.mkdir(folder + b"/folder")
    os.symlink(b"file", folder + b"/link")
    for name, value in {
        "user.text": b"value",
        "user.empty": b"",
        "user.binary": bytes(range(256)),
        "user.caf\u00e9 \u2028": "\U0001f600".encode(),
        "user.long": chance.randbytes(1500),
    }.items():
        for target in (b"/file", b"/folder"):
            path = folder + target
            _attempt(tree, "user.* attributes", lambda p=path, n=name, v=value: os.setxattr(p, n, v))
    # POSIX ACL: owner rwx, uid 65534 r, group r, mask r, others none.
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, permissions, who)
        for tag, permissions, who in (
            (1, 6, 2**32 - 1),
            (2, 4, 65534),
            (4, 4, 2**32 - 1),
            (16, 4, 2**32 - 1),
            (32, 0, 2**32 - 1),
        )
    )
    write(folder + b"/acl", b"with an access control list")
    _attempt(tree, "access control lists", lambda: os.setxattr(folder + b"/acl", "system.posix_acl_access", acl))
    if not PRIVILEGED:
        return
    for target in (b"/file", b"/folder", b"/link"):
        path = folder + target
        _attempt(
            tree,
            "trusted.* attributes",
            lambda p=path: os.setxattr(p, "trusted.odd", b"\0\xff", follow_symlinks=False),
        )
    write(folder + b"/capable", b"#!/bin/sh\n")
    os.chmod(folder + b"/capable", 0o755)
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
    _attempt(tree, "file capabilities", lambda: os.setxattr(folder + b"/capable", "security.capability", capability))


def _folders(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    os.mkdir(folder + b"/empty")
    os.mkdir(folder + b"/only-folders")
    os.mkdir(folder + b"/only-folders/empty")
    os.mkdir(folder + b"/many")
    for number in range(300):
        write(folder + b"/many/%d" % number, b"%d\n" % number)
    # Names around each other's prefix: sorted by bytes, not by path.
    for name in (b"a", b"a-b", b"a.b"):
        os.mkdir(folder + b"/" + name)
        write(folder + b"/" + name + b"/file", name)
    path = folder + b"/deep"
    os.mkdir(path)
    for _ in range(80):
        path += b"/d"
        os.mkdir(path)
    write(path + b"/bottom", b"deep down")
    path = folder + b"/long"
    os.mkdir(path)
    for _ in range(10):
        path += b"/" + b"l" * 255
        os.mkdir(path)
    write(path + b"/bottom", b"far away")


def _times(tree: OddTree, folder: bytes, chance: random.Random) -> None:
    for name, moment in (
        (b"before-1970", BEFORE_1970),
        (b"one-nanosecond-before-1970", -1),
        (b"1970", 0),
        (b"one-nanosecond", 1),
        (b"after-2038", (2**31 + 5) * SECOND + 1),
        (b"in-2100", IN_2100),
        (b"all-digits", 1_234_567_890_123_456_789),
        (b"trailing-zeros", 1_234_567_890_100_000_000),
    ):
        write(folder + b"/" + name, name)
        os.mkdir(folder + b"/folder-" + name)
        os.symlink(name, folder + b"/link-" + name)
        for path in (folder + b"/" + name, folder + b"/folder-" + name, folder + b"/link-" + name):
            os.utime(path, ns=(moment, moment), follow_symlinks=False)


def _settle(top: bytes) -> None:
    """Give everything that was not given a time one of its own, folders after what they hold."""
    moment = 1_600_000_000 * SECOND
    for folder, folders, files in os.walk(top, topdown=False):
        for name in sorted(files) + sorted(folders):
            path = folder + b"/" + name
            if b"/times/" not in path:
                moment += 1_000_000_007
                os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(top + b"/times", ns=(moment, moment))
    os.utime(top, ns=(moment, moment))
