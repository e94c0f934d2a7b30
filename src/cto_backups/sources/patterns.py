"""Which paths a list of shell patterns names, in the manner of a .gitignore file.

- ``*.log``, ``node_modules``: an entry of that name, anywhere.
- ``cache/``: a folder of that name only.
- ``/srv/data/tmp``: exactly this path; ``build/out``: a path that ends so.
- ``*`` and ``?`` stay within one name, ``**`` crosses folders, ``[a-z]`` and ``[!a-z]`` are classes, ``\\`` takes
  the next character as it is.
- ``!keep.log``: not this one after all. The last pattern that fits decides.

What lies in a folder that is left out is never looked at, so nothing in it can be taken back in.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from cto_backups._native import Literals

_SPECIAL = re.compile(rb"[*?\[\\]")


def literal(path: Path) -> str:
    """The pattern that names just this path, whatever characters are in it."""
    return re.sub(r"([*?\[\\])", r"\\\1", str(path))


class Patterns:
    """A compiled list of patterns; false when it is empty."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._groups: list[_Group] = []
        for text in patterns:
            pattern = os.fsencode(text)
            negated = pattern.startswith(b"!")
            pattern = pattern[1:] if negated else pattern
            if not pattern.strip(b"/"):
                continue
            if not self._groups or self._groups[-1].negated is not negated:
                self._groups.append(_Group(negated))
            self._groups[-1].add(pattern)
        for group in self._groups:
            group.compile()
        self._groups.reverse()

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def literals(self) -> Literals | None:
        """What an empty list, or one of names and paths without anything special, names; None for any other list."""
        if not self._groups:
            return Literals(frozenset(), frozenset())
        return self._groups[0].literals if len(self._groups) == 1 else None

    def match(self, path: bytes, name: bytes, folder: bool) -> bool:
        """Whether the entry at the absolute `path`, whose last component is `name`, is named."""
        if folder:
            path += b"/"
            name += b"/"
        for group in self._groups:
            if group.match(path, name):
                return not group.negated
        return False


class _Group:
    """Neighbouring patterns of the same sense, merged; a folder is matched with a slash at its end."""

    def __init__(self, negated: bool) -> None:
        self.negated = negated
        self._names: set[bytes] = set()
        self._paths: set[bytes] = set()
        self._name_parts: list[bytes] = []
        self._path_parts: list[bytes] = []
        self._name_regex: re.Pattern[bytes] | None = None
        self._path_regex: re.Pattern[bytes] | None = None

    def add(self, pattern: bytes) -> None:
        body = pattern.rstrip(b"/")
        endings = (b"/",) if body != pattern else (b"", b"/")
        tail = b"/" if body != pattern else b"/?"
        if b"/" not in body:
            if _SPECIAL.search(body):
                self._name_parts.append(_regex(body) + tail)
            else:
                self._names.update(body + ending for ending in endings)
        elif body.startswith(b"/"):
            if _SPECIAL.search(body):
                self._path_parts.append(_regex(body) + tail)
            else:
                self._paths.update(body + ending for ending in endings)
        else:
            self._path_parts.append(b".*/" + _regex(body) + tail)

    def compile(self) -> None:
        if self._name_parts:
            self._name_regex = re.compile(b"|".join(self._name_parts), re.DOTALL)
        if self._path_parts:
            self._path_regex = re.compile(b"|".join(self._path_parts), re.DOTALL)

    @property
    def literals(self) -> Literals | None:
        special = self.negated or self._name_parts or self._path_parts
        return None if special else Literals(self._names, self._paths)

    def match(self, path: bytes, name: bytes) -> bool:
        return (
            name in self._names
            or (bool(self._paths) and path in self._paths)
            or (self._name_regex is not None and self._name_regex.fullmatch(name) is not None)
            or (self._path_regex is not None and self._path_regex.fullmatch(path) is not None)
        )


def _regex(pattern: bytes) -> bytes:
    """The regular expression for a shell pattern, in which only ``**`` crosses a slash."""
    out: list[bytes] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith(b"**/", at) and (at == 0 or pattern[at - 1 : at] == b"/"):
            out.append(b"(?:[^/]+/)*")
            at += 3
            continue
        if pattern.startswith(b"**", at):
            out.append(b".*")
            at += 2
            continue
        sign = pattern[at : at + 1]
        at += 1
        if sign == b"*":
            out.append(b"[^/]*")
        elif sign == b"?":
            out.append(b"[^/]")
        elif sign == b"[":
            at = _character_class(pattern, at, out)
        elif sign == b"\\" and at < len(pattern):
            out.append(re.escape(pattern[at : at + 1]))
            at += 1
        else:
            out.append(re.escape(sign))
    return b"".join(out)


def _character_class(pattern: bytes, at: int, out: list[bytes]) -> int:
    """Translate a ``[…]`` that begins before `at`; where it goes on. Without an end it is an ordinary character."""
    end = at + 1 if pattern[at : at + 1] in (b"!", b"^") else at
    end = pattern.find(b"]", end + 1)  # a bracket right at the start is part of the class
    if end < 0:
        out.append(rb"\[")
        return at
    body = pattern[at:end]
    sense = b""
    if body[:1] in (b"!", b"^"):
        sense, body = b"^", body[1:]
    members: list[bytes] = []
    spot = 0
    while spot < len(body):
        if body[spot + 1 : spot + 2] == b"-" and spot + 2 < len(body):
            low, high = body[spot], body[spot + 2]
            if low <= high:
                members.append(b"\\x%02x-\\x%02x" % (low, high))
            spot += 3
        else:
            members.append(b"\\x%02x" % body[spot])
            spot += 1
    if members:
        # Never a slash: a class stands for one character of one name.
        out.append(b"(?!/)[" + sense + b"".join(members) + b"]")
    else:
        out.append(b"[^/]" if sense else b"(?!)")
    return end + 1
