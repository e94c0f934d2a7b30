"""Names inside trees: bytes on the disk, quoted as Go's `strconv.Quote` does (so that any bytes survive JSON).

Plain ASCII names, which are nearly all, do not come here: see native/src/repository, which also reads them back.
"""

import re

_PLAIN = re.compile(rb"[ !#-\[\]-~]*").fullmatch
_JSON_PLAIN = re.compile(r"[ !#-%'-;=?-\[\]-~]*").fullmatch
_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
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


def json_text(text: str) -> str:
    """Escaped for a JSON string as Go's encoder does, HTML characters included; without the quotes around."""
    return text if _JSON_PLAIN(text) else text.translate(_JSON_ESCAPES)
