"""Digests of files that were read before, so that unchanged files need not be opened again.

One file a source: a header, then records of 48 bytes: a 16-byte token (BLAKE2b over path, size, mtime, ctime and inode)
and the content's SHA-256. It is a cache: a missing, damaged or foreign file means that everything is read again.
"""

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cto_backups._native import KnownDigests
from cto_backups.sources.staging import make_private

_MAGIC = b"cto.backups digests 1\n"
_RECORD = 48
_HEADER = len(_MAGIC) + 32


def load(file: Path) -> KnownDigests:
    """SHA-256 by token; empty when there is no usable cache."""
    try:
        stored = file.read_bytes()
    except OSError:
        return KnownDigests(b"")
    records = memoryview(stored)[_HEADER:]
    if (
        not stored.startswith(_MAGIC)
        or len(records) % _RECORD
        or sha256(records).digest() != stored[len(_MAGIC) : _HEADER]
    ):
        return KnownDigests(b"")
    return KnownDigests(stored, _HEADER)


def save(file: Path, parts: Iterable[bytes]) -> None:
    """Replace the cache by the records in these parts (token ‖ SHA-256 each), whole or not at all."""
    make_private(file.parent)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
            digest = sha256()
            out.write(_MAGIC + digest.digest())
            for part in parts:
                digest.update(part)
                out.write(part)
            out.seek(len(_MAGIC))
            out.write(digest.digest())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
