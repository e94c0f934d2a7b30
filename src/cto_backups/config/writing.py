"""Values as YAML that people would write: plain where that is safe, quoted where it is not."""

import json
import re
from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z/~_.](?:[A-Za-z0-9/~_.@+*-]|:(?=[A-Za-z0-9/~_.])| (?=[A-Za-z0-9/~_.]))*\Z")
# Also what YAML 1.1 readers take for something else than text.
_NOT_TEXT = re.compile(
    r"(?:~|null|true|false|yes|no|on|off|y|n|\.nan|[-+]?\.inf|[-+]?\.[0-9][0-9eE+-]*)\Z", re.IGNORECASE
)


def plain(text: str) -> bool:
    """Whether a text may stand without quotes, inside brackets too."""
    return bool(_PLAIN.match(text)) and not _NOT_TEXT.match(text)


def value(thing: object, style: str = "") -> str:
    """One value on one line; a text in the quotes of `style` ("'" or '"') when it can stand in them.

    Mappings and lists stand in brackets.
    """
    if isinstance(thing, str):
        if style == "'" and all(char.isprintable() for char in thing):
            return "'" + thing.replace("'", "''") + "'"
        return thing if style != '"' and plain(thing) else _quoted(thing)
    if isinstance(thing, Mapping):
        return "{" + ", ".join(f"{value(str(name))}: {value(part)}" for name, part in thing.items()) + "}"
    if isinstance(thing, list | tuple):
        return "[" + ", ".join(value(part) for part in thing) + "]"
    return json.dumps(thing)


def _quoted(text: str) -> str:
    """In double quotes. Not by JSON's escapes: it writes a character beyond the first plane as two, YAML as one."""
    shown = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in shown) + '"'


def lines(settings: Mapping[str, object], indent: int) -> list[str]:
    """One line for each setting."""
    return [f"{' ' * indent}{value(str(name))}: {value(thing)}" for name, thing in settings.items()]
