"""Which entries of a tree a caller asked for: paths, and shell patterns."""

import re
from collections.abc import Collection, Sequence

_MAGIC = re.compile(r"[*?\[]")


class Selection:
    """`only` as a question: is this path wanted, and may something below it be?

    ``/a/b`` or ``a/b`` is that path and what lies below it. In a pattern ``*`` and ``?`` stay in one name, ``**`` spans
    folders; a pattern without '/' (``*.pdf``) fits that name in any folder. What is at a path of `spare`, or below one,
    is not selected: whoever walks a tree asks for it first.
    """

    def __init__(self, only: Sequence[str] = (), spare: Collection[bytes] = ()) -> None:
        self.everything = not only
        self.spare = spare
        self._paths: set[bytes] = set()
        self._above: set[bytes] = set()
        self._patterns: list[re.Pattern[bytes]] = []
        for one in only:
            text = one.strip("/") if "/" in one else one
            raw = text.encode("utf-8", "surrogateescape")
            if not raw:
                self.everything = True
            elif _MAGIC.search(text):
                anywhere = "/" not in one
                self._patterns.append(_compiled(("**/" if anywhere else "") + text))
                if (literal := b"/" + raw) not in self._paths:
                    self._add_path(literal)  # a file may really be called so
            else:
                self._add_path(b"/" + raw)

    def _add_path(self, path: bytes) -> None:
        self._paths.add(path)
        while path:
            path = path.rpartition(b"/")[0]
            self._above.add(path)

    @property
    def by_path(self) -> bool:
        """Whether paths matter at all."""
        return not self.everything or bool(self.spare)

    def wants(self, path: bytes) -> bool:
        """Whether this path itself was asked for (what lies below it is wanted then, too)."""
        return self.everything or path in self._paths or any(pattern.fullmatch(path) for pattern in self._patterns)

    def descends(self, path: bytes) -> bool:
        """Whether something below this folder may have been asked for."""
        return self.everything or bool(self._patterns) or path in self._above


def _compiled(pattern: str) -> re.Pattern[bytes]:
    out = [b"/"]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if pattern.startswith("**/", at):
            out.append(b"(?:[^/]*/)*")
            at += 3
            continue
        if pattern.startswith("**", at):
            out.append(b".*")
            at += 2
            continue
        closing = pattern.find("]", at + 2) if character == "[" else -1
        if character == "*":
            out.append(b"[^/]*")
        elif character == "?":
            out.append(b"(?:[\\x00-\\x2e\\x30-\\x7f]|[\\xc0-\\xff][\\x80-\\xbf]*|[\\x80-\\xbf])")  # one character
        elif closing > 0:
            inside = pattern[at + 1 : closing].encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\")
            inside = b"^/" + inside[1:] if inside[:1] == b"!" else inside.replace(b"[", b"\\[").replace(b"^", b"\\^")
            out.append(b"[" + inside + b"]")
            at = closing
        else:
            out.append(re.escape(character.encode("utf-8", "surrogateescape")))
        at += 1
    try:
        return re.compile(b"".join(out), re.DOTALL)
    except re.error:
        return re.compile(re.escape(b"/" + pattern.encode("utf-8", "surrogateescape")))
