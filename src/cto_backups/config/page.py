"""The policy file's text as messages may quote it: lines, columns, and no secrets."""

import re

from cto_backups.config.document import Node, Span
from cto_backups.config.mistakes import Mistake
from cto_backups.config.redaction import HIDDEN, has_credentials, is_sensitive, redact
from cto_backups.config.repository_key import parse_key_reference
from cto_backups.errors import KeyProblemError

# For text that could not be parsed: a key written where its reference belongs.
_INLINE_KEY = re.compile(r"((?:repository|evidence)[\"']?\s*:\s*)(?![\"']?(?:file|env|command):)([^\s,}#][^,}\n]*)")


class Page:
    """A text, and the spans in it that nobody may see."""

    def __init__(self, text: str, root: Node | None = None) -> None:
        self._text = text
        self._hidden = tuple(_secret_spans(root)) if root else ()

    def mistake(
        self,
        span: Span | None,
        message: str,
        *,
        setting: str = "",
        allowed: tuple[str, ...] = (),
        closest: str | None = None,
        todo: str = "",
    ) -> Mistake:
        """A mistake at a place of the text; without a place, of the file as a whole."""
        if span is None:
            return Mistake(redact(message), setting=setting, allowed=allowed, closest=closest, todo=todo)
        start = min(span.start, len(self._text))
        line_start = self._text.rfind("\n", 0, start) + 1
        line_end = self._text.find("\n", start)
        line_end = len(self._text) if line_end < 0 else line_end
        end = max(start, min(span.end, line_end))
        before, value = self._visible(line_start, start), self._visible(start, end)
        after = self._visible(end, line_end).rstrip("\r")
        line = _INLINE_KEY.sub(rf"\g<1>{HIDDEN}", redact(before + value + after))
        return Mistake(
            redact(message),
            line=self._text.count("\n", 0, start) + 1,
            column=start - line_start + 1,
            setting=redact(setting),
            value=redact(value),
            source_line=line,
            caret=len(before),
            width=max(1, len(value.rstrip())),
            allowed=allowed,
            closest=closest,
            todo=redact(todo),
        )

    def _visible(self, start: int, end: int) -> str:
        parts = []
        for hidden in self._hidden:
            if hidden.end <= start or hidden.start >= end:
                continue
            parts += [self._text[start : max(start, hidden.start)], HIDDEN]
            start = min(end, hidden.end)
        return "".join([*parts, self._text[start:end]])


def _secret_spans(root: Node) -> list[Span]:
    spans = {
        (node.span.start, node.span.end)
        for names, node in root.walk()
        if isinstance(node.scalar, str | int | float) and _is_secret(names, str(node.scalar))
    }
    keys = root.get("keys")
    for name, item in (keys.items if keys else {}).items():
        if name not in {"repository", "evidence", "evidence_fingerprints", "escrow"} and len(name) > 16:
            spans.add((item.key.start, item.key.end))
    return [Span(start, end) for start, end in sorted(spans)]


def _is_secret(names: tuple[str, ...], text: str) -> bool:
    # Addresses of services that call or chat hold their secrets: the whole of it is one.
    of_channel = names[:2] == ("alerts", "channels") and names[-1:] in (("url",), ("key",), ("password",))
    of_key = names[:1] == ("keys",) and names[:2] != ("keys", "escrow")
    of_key = of_key or (names[:1] == ("vaults",) and names[2:3] == ("key",))
    if of_key or of_channel or (names and is_sensitive(names[-1])):
        try:
            parse_key_reference(text)
        except KeyProblemError:
            return True
        return False
    return has_credentials(text)
