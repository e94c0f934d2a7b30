"""Names of objects are any text; paths are not. Both ways, without loss.

An object's name is cut at its slashes. What a file cannot be called is written with a percent sign: ``%25`` for a
percent sign, ``%00`` for a NUL, ``%2E`` for each dot of ``.`` and ``..``, and ``%-`` for nothing (as in ``a//b``, or at
the end of ``a/``). A part that is longer than a file's name may be goes on in the folder that is called by its
beginning and ``%~``. An object that is called as a folder of others (``a`` beside ``a/b``) is ``%o`` in that folder.
Every other name is its own path.
"""

from typing import Final

ITSELF: Final = b"%o"
"""The file, within a folder, of the object that is called as the folder is."""

_NOTHING: Final = b"%-"
_GOES_ON: Final = b"%~"
_LONGEST: Final = 240  # of the 255 bytes that file systems have for a name


def path_of(name: bytes) -> bytes:
    """The path of an object, without a slash before it, as long as no other object lies below its name."""
    return b"/".join(_split(_escaped(part)) for part in name.split(b"/"))


def name_of(path: bytes) -> bytes:
    """The name of the object at a path that `path_of` gave, or at ``%o`` in such a path."""
    parts: list[bytes] = []
    begun = b""
    components = path.split(b"/")
    if components[-1] == ITSELF:
        components.pop()
    for component in components:
        if component.endswith(_GOES_ON):
            begun += component[: -len(_GOES_ON)]
        else:
            parts.append(_unescaped(begun + component))
            begun = b""
    return b"/".join(parts)


def _escaped(part: bytes) -> bytes:
    if not part:
        return _NOTHING
    if part in (b".", b".."):
        return part.replace(b".", b"%2E")
    return part.replace(b"%", b"%25").replace(b"\0", b"%00")


def _unescaped(part: bytes) -> bytes:
    if part == _NOTHING:
        return b""
    return part.replace(b"%2E", b".").replace(b"%00", b"\0").replace(b"%25", b"%")


def _split(part: bytes) -> bytes:
    """A part in pieces that fit; none of them is a dot or two, and no character is cut through."""
    pieces = []
    while len(part) > _LONGEST:
        end = min(_LONGEST, len(part) - 3)
        while end > 1 and part[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(part[:end] + _GOES_ON)
        part = part[end:]
    return b"/".join([*pieces, part])
