"""What Google refuses, and the ways to it that fail, told to people: by its own names of permissions and settings.

Permissions are in https://cloud.google.com/bigquery/docs/access-control, reasons in
https://cloud.google.com/bigquery/docs/error-messages.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import requests
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from cto_backups.errors import BackupsError, SourceError
from cto_backups.sources.bigquery.google import UNREACHED, OutOfTimeError, RefusedError

FAILURES: Final = (RefusedError, OutOfTimeError, requests.RequestException, *UNREACHED, GoogleAuthError)
"""Whatever comes from asking Google."""

_PERMISSION: Final = re.compile(r"\b(?:bigquery|storage|resourcemanager)\.[a-z]\w*\.[a-z]\w*\b", re.IGNORECASE)
_HOW_TO: Final = "docs/how-to/protect-bigquery.md has the whole role"
_QUOTA: Final = ("quotaExceeded", "dailyLimitExceeded")
_OFF: Final = ("accessNotConfigured", "SERVICE_DISABLED")
_UNPAID: Final = ("billingNotEnabled", "billingTierLimitExceeded", "userProjectMissing", "accountDisabled")


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
        return "it took longer than `backup_timeout` allows", "raise it, or protect fewer datasets in one source"
    if isinstance(error, RefusedError):
        return _refused(error)
    said = str(error).partition("\n")[0][:300]
    if isinstance(error, DefaultCredentialsError):
        return (
            f"no login to Google Cloud was found, neither in the policy nor where its programs look: {said}",
            "name `credentials` at the source, by a reference; or run 'gcloud auth application-default login', or give"
            " this machine a service account",
        )
    if isinstance(error, RefreshError):
        return (
            f"the login has expired, or was taken back: {said}",
            "log in anew, or see whether the service account and its key are still there",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"the connection could not be secured: {said}",
            "see that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE",
        )
    return f"it is not reached, or does not answer: {said}", "see to the network, its names and proxies"


def _refused(error: RefusedError) -> tuple[str, str]:
    said = error.message
    if error.status == 401:
        return (
            f"Google does not take this login: {said}",
            "log in anew, or see whether the service account and its key are still there",
        )
    if error.reason in _QUOTA:
        return f"a quota is used up: {said} ({error.reason})", "run again when it is renewed, or have it raised"
    if error.reason in _UNPAID:
        return f"the project does not pay for it, or is closed: {said} ({error.reason})", "see to its billing"
    if error.reason in _OFF:
        return (
            f"the service is not switched on in this project: {said}",
            "gcloud services enable bigquery.googleapis.com",
        )
    if error.status == 403 or error.reason == "accessDenied":
        found = _PERMISSION.search(said)
        permission = found[0] if found else error.needs
        return f"{said} ({error.reason}): this login has not {permission}", f"give it {permission}; {_HOW_TO}"
    if error.status == 404 or error.reason == "notFound":
        return (
            f"{said} ({error.reason or error.status})",
            f"see that it is there and in this source's `location`, and that this login may see it ({error.needs})",
        )
    if 300 <= error.status < 400:
        return f"it sends elsewhere ({error.status}), which is not followed", "correct the source's endpoint"
    return f"{said} ({error.reason or error.status})", "see what the project's audit log says of this, then run again"
