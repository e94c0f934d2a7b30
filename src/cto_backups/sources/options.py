"""Options of a source, as the policy gives them: checked once more where they are used."""

from collections.abc import Mapping

from cto_backups.core.policy import Tls
from cto_backups.errors import PolicyError


def texts(options: Mapping[str, object], name: str) -> tuple[str, ...]:
    """An option that is a list of texts; empty when it is not given. Raises PolicyError."""
    value = options.get(name) or ()
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise _wrong(name, "a list of texts")


def text(options: Mapping[str, object], name: str, default: str | None = None) -> str:
    """An option that is a text. Raises PolicyError, also when it is missing and has no default."""
    value = options.get(name, default)
    if isinstance(value, str) and value:
        return value
    raise _wrong(name, "a text")


def flag(options: Mapping[str, object], name: str) -> bool:
    """An option that is yes or no; no when it is not given. Raises PolicyError."""
    value = options.get(name, False)
    if isinstance(value, bool):
        return value
    raise _wrong(name, "yes or no")


def seconds(options: Mapping[str, object], name: str, default: float) -> float:
    """An option that is a number of seconds above zero. Raises PolicyError."""
    value = options.get(name, default)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise _wrong(name, "a number of seconds above zero")


def lowest_tls(options: Mapping[str, object]) -> Tls | None:
    """The lowest version of TLS that a service has to speak; None when it is not given. Raises PolicyError."""
    value = options.get("tls")
    if value is None:
        return None
    try:
        return Tls(str(value))
    except ValueError as error:
        raise _wrong("tls", "a version of TLS") from error


def _wrong(name: str, wanted: str) -> PolicyError:
    return PolicyError(f"option `{name}` of a source is wrong", why=f"it must be {wanted}", todo="correct the policy")
