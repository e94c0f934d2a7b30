"""What was restored of a bucket, summed up by nothing but the restored files."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from cto_backups.core.model import Fingerprint
from cto_backups.errors import VerificationError
from cto_backups.sources.bucket.manifest import MANIFEST, OBJECTS, PROPERTIES, lines, name_in
from cto_backups.sources.bucket.names import name_of
from cto_backups.sources.bucket.sums import ALGORITHM, Sums

_PIECE: Final = 1 << 20


def probed(source: str, restored: Path, expected: Fingerprint) -> Fingerprint:
    """The fingerprint of the files below `restored`. Raises VerificationError for what is no point of a bucket."""
    if expected.algorithm != ALGORITHM:
        raise VerificationError(
            f"source {source}: the fingerprint is not one of a bucket",
            why=f"it is {expected.algorithm}",
            todo="make a new recovery point",
        )
    sums = Sums.like(expected)
    base = os.fsencode(restored)
    try:
        for line, read in lines(restored / os.fsdecode(PROPERTIES) / os.fsdecode(MANIFEST)):
            sums.add_line(name_in(read), line, read)
        _add_files(base + b"/" + OBJECTS, sums)
    except (OSError, ValueError) as error:
        raise VerificationError(
            f"source {source}: what was restored cannot be read",
            why=str(error),
            todo="verify the vault, and test an older recovery point",
        ) from error
    return sums.fingerprint()


def _add_files(base: bytes, sums: Sums) -> None:
    buffer = memoryview(bytearray(_PIECE))
    waiting = [base]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
                    continue
                status = each.stat(follow_symlinks=False)
                name = name_of(each.path[len(base) + 1 :])
                sums.add_content(name, status.st_size, status.st_mtime_ns, _digest(each.path, buffer))


def _digest(path: bytes, buffer: memoryview) -> bytes:
    digest = sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - names of files are bytes here
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.digest()
