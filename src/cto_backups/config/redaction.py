"""Keeping secrets out of logs, messages and printed lines of the policy file.

Three nets, one after the other: values that were resolved as secrets in this process (`remember`), values under names
that sound like a password, and credentials inside URLs or written as ``password=…``. They overlap on purpose.
"""

import re
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "[hidden]"

_SHORTEST = 6  # a shorter value would blank innocent text wherever it occurs
_SENSITIVE = re.compile(
    r"pass(word|wd|phrase|code)|secret|credential|authori[sz]ation|cookie|(^|[_\-.])token($|[_\-.])"
    r"|token$|(api|access|private|signing|encryption|account|shared)[_\-.]?key",
    re.IGNORECASE,
)
# Every repetition is bounded or cannot overlap itself: text from anywhere must cost time in proportion to its length.
_ASSIGNED = re.compile(
    r"(?P<name>(?:password|passwd|passphrase|secret|token|credential|signature|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|account[_-]?key)[A-Za-z0-9_.\-]{0,40}[\"']?\s{0,4}(?:=|:\s)\s{0,4})"
    r"(?P<value>\"[^\"\n]{0,2000}\"|'[^'\n]{0,2000}'|[\"']?[^\s,;&}\]\"']+)",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]{0,30}://)(?P<userinfo>[^\s/?#\"']*)@")
_AUTHORIZATION = re.compile(r"\b(?P<kind>Bearer|Basic)\s+[A-Za-z0-9+/=_.~\-]{6,}", re.IGNORECASE)
_KNOWN_SHAPES = re.compile(
    r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_\-]{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[abprs]-[A-Za-z0-9\-]{10,})\b"
)
# RESTIC_PASSWORD_FILE=/path tells where a secret is, as a reference does.
_NAMES_A_PLACE = re.compile(r"[_-](file|path|command)[\"']?\s*(=|:\s)\s*\Z", re.IGNORECASE)
_REFERENCE = re.compile(r"[\"']?(file|env|command):")

_lock = threading.Lock()
_known: tuple[str, ...] = ()


def remember(value: str) -> None:
    """Hide `value` from now on, in its plain, URL-quoted and escaped forms, wherever `redact` looks."""
    global _known
    forms = {value, value.strip(), quote(value, safe=""), quote_plus(value), value.encode("unicode_escape").decode()}
    with _lock:
        # The longest first, so that no form leaves the tail of a longer one behind.
        fresh = {form for form in forms if len(form) >= _SHORTEST}
        _known = tuple(sorted(fresh.union(_known), key=len, reverse=True))


def is_sensitive(name: str) -> bool:
    """Whether a setting or log field of this name sounds as if it held a secret."""
    return bool(_SENSITIVE.search(name))


def has_credentials(url: str) -> bool:
    """Whether a URL carries a password or a token: in its user part, or as an argument."""
    match = _USERINFO.search(url)
    if match:
        scheme, user = match["scheme"].lower(), match["userinfo"]
        # A bare user name is no secret, except where services take the token as the user.
        if ":" in user or (scheme.startswith("http") and user and (len(user) >= 20 or _KNOWN_SHAPES.search(user))):
            return True
    _, _, arguments = url.partition("?")
    return bool(_KNOWN_SHAPES.search(url) or _ASSIGNED.search(arguments))


def redact(text: str) -> str:
    """The text with everything that is, or looks like, a secret replaced by ``[hidden]``."""
    for value in _known:
        if value in text:
            text = text.replace(value, HIDDEN)
    text = _USERINFO.sub(_hide_userinfo, text)
    text = _AUTHORIZATION.sub(rf"\g<kind> {HIDDEN}", text)
    text = _KNOWN_SHAPES.sub(HIDDEN, text)
    return _ASSIGNED.sub(_hide_assigned, text)


def _hide_userinfo(match: re.Match[str]) -> str:
    scheme, userinfo = match["scheme"], match["userinfo"]
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{scheme}{user}:{HIDDEN}@"
    if scheme.lower().startswith("http") and len(user) >= 20:
        return f"{scheme}{HIDDEN}@"
    return match[0]


def _hide_assigned(match: re.Match[str]) -> str:
    value = match["value"]
    if (
        _NAMES_A_PLACE.search(match["name"])
        or _REFERENCE.match(value)
        or value.startswith(HIDDEN.rstrip("]"))
        or value in {"", '""', "''", "|", ">"}
    ):
        return match[0]
    return f"{match['name']}{HIDDEN}"


def redact_processor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks secrets in every field; place it after the ones that render exceptions."""
    for name in list(event):
        event[name] = _redact_field(name, event[name], 0)
    return event


def _redact_field(name: object, value: Any, depth: int) -> Any:
    if isinstance(name, str) and name != "event" and isinstance(value, str | bytes) and value and is_sensitive(name):
        return HIDDEN
    return _redact_value(value, depth)


def _redact_value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    if depth < 8:
        if isinstance(value, Mapping):
            return {
                redact(name) if isinstance(name, str) else name: _redact_field(name, part, depth + 1)
                for name, part in value.items()
            }
        if isinstance(value, list | set | frozenset) or type(value) is tuple:
            return type(value)(_redact_value(part, depth + 1) for part in value)
    shown = repr(value)
    clean = redact(shown)
    return value if clean == shown else clean
