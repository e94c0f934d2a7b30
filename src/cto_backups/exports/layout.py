"""Where natively stored objects lie in a vault, and the arithmetic by which they are seen as packs.

Below a prefix such as ``exports/main``::

    data/objects/ab/ab12…   a file as it is. Up to PART bytes: named by the SHA-256 of its content (64 digits); a larger
                            one: by a random id (48 digits), since it is stored while it is read for the first time
    data/trees/ab/ab12…     folders, as a repository's packs of trees
    parts/ab/ab12…          of each object with a random id: size, checksums, and the SHA-256 of every part; sealed
    manifests/…             of each point: every file with its object and its checksums; JSON Lines, gzip
    index/ snapshots/ locks/ unlisted/   as in a repository

An object is read in parts of PART bytes. PARTS of them are a section, which is what a pack is to a repository: what an
index lists, what a verification reads at a time. Packs seal each blob and end with a header; the sizes here are of what
`view` shows. All of this is fixed for ever.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from cto_backups.repository.chunker import EVEN
from cto_backups.repository.seal import OVERHEAD

PART: Final = EVEN
PARTS: Final = 16
SECTION: Final = PART * PARTS
SEALED_PART: Final = PART + OVERHEAD
OBJECTS: Final = "data/objects"

_MARK: Final = b"part"
_ID_BYTES: Final = 24
_ENTRY: Final = 37  # of a blob that is not compressed, in a pack's header: type, length, id
_TAIL: Final = 4


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an object: the object's name, as its key ends, and where in the object it begins."""

    object: str
    start: int


def new_object_id() -> bytes:
    """A random id for an object of several parts."""
    from os import urandom

    return urandom(_ID_BYTES)


def is_random(name: bytes) -> bool:
    """Whether a pack's name is of a section of an object with a random id; a digest never is, see `may_name`."""
    return name[_ID_BYTES : _ID_BYTES + len(_MARK)] == _MARK


def may_name(digest: bytes) -> bool:
    """Whether an object may be named by this digest: one in four thousand million looks like a section's name."""
    return not is_random(digest)


def section_of(pack: bytes) -> Section:
    """The section that a pack's name means."""
    if not is_random(pack):
        return Section(pack.hex(), 0)
    return Section(pack[:_ID_BYTES].hex(), int.from_bytes(pack[_ID_BYTES + len(_MARK) :], "big") * SECTION)


def section_names(name: str, size: int) -> list[bytes]:
    """The names by which the sections of an object of `size` bytes are known as packs."""
    raw = bytes.fromhex(name)
    if len(raw) != _ID_BYTES:
        return [raw]
    return [raw + _MARK + number.to_bytes(4, "big") for number in range(ceil(size / SECTION))]


def is_object_name(text: str) -> bool:
    """Whether an object's key may end so."""
    return len(text) in (2 * _ID_BYTES, 64) and all(digit in "0123456789abcdef" for digit in text)


def body_bytes(plain: int) -> int:
    """How many bytes the sealed parts of so many plain bytes are."""
    return plain + OVERHEAD * ceil(plain / PART)


def header_bytes(plain: int) -> int:
    """How many bytes a pack's header for so many plain bytes is, sealed, without its length behind it."""
    return _ENTRY * ceil(plain / PART) + OVERHEAD


def pack_bytes(plain: int) -> int:
    """How large a section of so many plain bytes is as a pack."""
    return body_bytes(plain) + header_bytes(plain) + _TAIL
