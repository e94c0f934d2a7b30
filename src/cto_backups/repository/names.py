"""Names inside trees: bytes on the disk, quoted as Go's `strconv.Quote` does (so that any bytes survive JSON)."""

import re

_PLAIN = re.compile(rb"[ !#-\[\]-~]*").fullmatch
_JSON_PLAIN = re.compile(r"[ !#-%'-;=?-\[\]-~]*").fullmatch
_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_SHORT_BACK = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 0x22, "\\": 0x5C, "'": 0x27}
_ESCAPE = re.compile(
    r"\\(?:([abtnvfr\"'\\])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.S
)
_JSON_ESCAPES = str.maketrans(
    {code: f"\\u{code:04x}" for code in (*range(32), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)}
    | {0x22: '\\"', 0x5C: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}
)


def quote(name: bytes) -> str:
    """The name as `strconv.Quote` writes it, without the quotes around."""
    if _PLAIN(name):
        return name.decode("ascii")
    return "".join(map(_quoted, name.decode("utf-8", "surrogateescape")))


def _quoted(character: str) -> str:
    code = ord(character)
    if code in _SHORT:
        return _SHORT[code]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(text: str) -> bytes:
    """The name's bytes. Raises ValueError for what `strconv.Unquote` would not take."""
    if "\\" not in text:
        return text.encode("utf-8")
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode("utf-8"))
        end = match.end()
        short, byte, four, eight, octal, _ = match.groups()
        if short is not None:
            parts.append(bytes((_SHORT_BACK[short],)))
        elif byte is not None:
            parts.append(bytes((int(byte, 16),)))
        elif octal is not None:
            parts.append(bytes((int(octal, 8),)))
        elif four or eight:
            code = int(four or eight, 16)
            if code > 0x10FFFF:
                raise ValueError("an escape beyond Unicode")
            parts.append(chr(code).encode("utf-8"))
        else:
            raise ValueError("an escape that Go does not know")
    parts.append(text[end:].encode("utf-8"))
    return b"".join(parts)


def json_text(text: str) -> str:
    """Escaped for a JSON string as Go's encoder does, HTML characters included; without the quotes around."""
    return text if _JSON_PLAIN(text) else text.translate(_JSON_ESCAPES)
