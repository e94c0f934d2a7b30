"""Files among the packs that are no part of the repository. They hurt nothing; a prune or a person may remove them."""

import hashlib
from collections.abc import Container, Iterable, Mapping

from cto_backups.errors import VaultError
from cto_backups.repository.options import MIB
from cto_backups.repository.stored import StoredFiles

_STRETCH = 16 * MIB


def foreign_files(foreign: Iterable[str]) -> list[str]:
    """Name files that no program of ours, nor restic, puts where packs lie."""
    return [f"{key} is no pack: nothing of the repository, and nothing that a prune removes" for key in sorted(foreign)]


def unlisted_packs(files: StoredFiles, sizes: Mapping[bytes, int], listed: Container[bytes]) -> list[str]:
    """Read the packs that no index lists, and name those that are not what their names say.

    That packs are in no index is no fault: a run that was killed leaves them, and so does a prune until a grace ends.
    """
    remarks = []
    for name, size in sorted(sizes.items()):
        if name in listed or not files.named_by_digest(name):
            continue
        what = f"pack {name.hex()[:12]}, which no index lists,"
        try:
            digest = _digest(files, name, size)
        except VaultError as error:
            remarks.append(f"{what} cannot be read: {error.why or error.what}")
            continue
        if digest != name and digest in sizes:
            remarks.append(f"{what} is a copy of pack {digest.hex()[:12]} under another name")
        elif digest != name:
            remarks.append(f"{what} is not what its name says")
    return remarks


def _digest(files: StoredFiles, name: bytes, size: int) -> bytes:
    key = files.key("data", name.hex())
    digest = hashlib.sha256()
    for offset in range(0, size, _STRETCH):
        digest.update(files.vault.read(key, offset, min(_STRETCH, size - offset)))
    return digest.digest()
