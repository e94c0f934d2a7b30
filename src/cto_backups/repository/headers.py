"""What a pack says of itself: the header at its end, which lists its blobs and fills the pack with them."""

from cto_backups import _native
from cto_backups.errors import DamageError
from cto_backups.repository.index import BlobKind, PackedBlob
from cto_backups.repository.stored import StoredFiles

_TAIL = 4  # the length of the header


def read_header(files: StoredFiles, name: bytes, size: int) -> list[PackedBlob]:
    """The blobs of a stored pack of `size` bytes, in order. Raises DamageError, VaultError."""
    key = files.key("data", name.hex())
    length = int.from_bytes(files.vault.read(key, size - _TAIL, _TAIL), "little") if size > _TAIL else 0
    end = size - _TAIL - length
    if not length or end < 0:
        raise DamageError("A pack is damaged", why="the length of its header is out of range")
    found = _native.read_header(files.sealer.native, files.vault.read(key, end, length), end)
    return [PackedBlob(BlobKind(one[0]), *one[1:]) for one in found]
