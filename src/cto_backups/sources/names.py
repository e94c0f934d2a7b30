"""File names are bytes; people, JSON and catalogs want text. Both ways, without loss."""

import re

_UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f\\]")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def readable(path: bytes) -> str:
    r"""A path as text that is safe to print: UTF-8, with ``\xNN`` for control bytes, backslashes and what is no UTF-8.

    Two different paths never read the same.
    """
    if _UNPRINTABLE.search(path):
        path = _UNPRINTABLE.sub(lambda found: b"\\x%02x" % found[0][0], path)
    return path.decode("utf-8", "backslashreplace")


def raw(text: str) -> bytes:
    """The path that `readable` rendered."""
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text.encode("utf-8", "surrogateescape"))
