"""What Google refuses, and the ways to it that fail, told to people: by its own names of permissions and settings.

Permissions are in https://cloud.google.com/bigquery/docs/access-control, reasons in
https://cloud.google.com/bigquery/docs/error-messages.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from cto_backups.errors import BackupsError, SourceError
from cto_backups.providers.google import FAILED, OutOfTimeError, RefusedError
from cto_backups.providers.google_words import GoogleWords

FAILURES: Final = (RefusedError, OutOfTimeError, *FAILED)
"""Whatever comes from asking Google."""

_PERMISSION: Final = re.compile(r"\b(?:bigquery|storage|resourcemanager)\.[a-z]\w*\.[a-z]\w*\b", re.IGNORECASE)
_HOW_TO: Final = "docs/how-to/protect-bigquery.md has the whole role"
_WORDS: Final = GoogleWords("source", "it", "bigquery.googleapis.com", "bigquery")


class _Made(Protocol):
    def __call__(self, what: str, *, why: str = "", todo: str = "") -> BackupsError: ...


@contextmanager
def telling(what: str, kind: _Made = SourceError) -> Iterator[None]:
    """Raise what fails inside as an error for people, that says what could not be done."""
    try:
        yield
    except FAILURES as error:
        why, todo = explained(error)
        raise kind(what, why=why, todo=todo) from error


def explained(error: Exception) -> tuple[str, str]:
    """Why, and what to do."""
    if isinstance(error, OutOfTimeError):
        return "it took longer than `backup_timeout` allows", "Raise it, or protect fewer datasets in one source."
    if isinstance(error, RefusedError):
        return _refused(error)
    return _WORDS.unreached(error)


def _refused(error: RefusedError) -> tuple[str, str]:
    told = _WORDS.refused(error)
    if told is not None:
        return told
    said = error.message
    if error.status == 403 or error.reason == "accessDenied":
        found = _PERMISSION.search(said)
        permission = found[0] if found else error.needs
        return f"{said} ({error.reason}): this login has not {permission}", f"Give it {permission}; {_HOW_TO}."
    if error.status == 404 or error.reason == "notFound":
        return (
            f"{said} ({error.reason or error.status})",
            f"See that it is there and in this source's `location`, and that this login may see it ({error.needs}).",
        )
    return f"{said} ({error.reason or error.status})", "See what the project's audit log says of this, then run again."
