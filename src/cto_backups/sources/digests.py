"""Digests of files that were read before, so that unchanged files need not be opened again.

One file a source: a header, then records of 48 bytes: a 16-byte token (BLAKE2b over path, size, mtime, ctime and inode)
and the content's SHA-256. It is a cache: a missing, damaged or foreign file means that everything is read again.
"""

import os
import struct
from collections.abc import Mapping
from hashlib import blake2b, sha256
from pathlib import Path

_MAGIC = b"cto.backups digests 1\n"
_RECORD = struct.Struct("16s32s")
_STATE = struct.Struct("<QqqQ")
_HEADER = len(_MAGIC) + 32
_LONG = (1 << 64) - 1


def token(path: bytes, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bytes:
    """What identifies one state of one file."""
    return blake2b(_STATE.pack(size & _LONG, mtime_ns, ctime_ns, inode & _LONG) + path, digest_size=16).digest()


def load(file: Path) -> Mapping[bytes, bytes]:
    """SHA-256 by token; empty when there is no usable cache."""
    try:
        stored = file.read_bytes()
    except OSError:
        return {}
    records = memoryview(stored)[_HEADER:]
    if (
        not stored.startswith(_MAGIC)
        or len(records) % _RECORD.size
        or sha256(records).digest() != stored[len(_MAGIC) : _HEADER]
    ):
        return {}
    return dict(_RECORD.iter_unpack(records))


def save(file: Path, records: bytes | bytearray) -> None:
    """Replace the cache by these records (token ‖ SHA-256 each), whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as out:
            out.write(_MAGIC + sha256(records).digest())
            out.write(records)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
