"""What Google refuses whatever it is asked for, and the ways to it that fail, told to people: why, and what to do.

Who asks adds what is its own: the permission that was missing, and where the guide to its role is. Google's reasons are
in https://cloud.google.com/storage/docs/json_api/v1/status-codes and
https://cloud.google.com/bigquery/docs/error-messages.
"""

from dataclasses import dataclass
from typing import Final

import requests
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

from cto_backups.errors import KeyProblemError
from cto_backups.providers.google import RefusedError

_SKEWED: Final = ("short-lived token", "reasonable timeframe", "iat and exp")  # of a token from the past or the future
_QUOTA: Final = ("quotaExceeded", "dailyLimitExceeded")
_OFF: Final = ("accessNotConfigured", "SERVICE_DISABLED")
_UNPAID: Final = (
    "accountDisabled",
    "billingDisabled",
    "billingNotEnabled",
    "billingTierLimitExceeded",
    "projectDisabled",
    "userProjectMissing",
)
_LOGIN_TODO: Final = "Log in anew, or see whether the service account and its key are still there; then run again."


@dataclass(frozen=True)
class GoogleWords:
    """Words for one that asks.

    `whose` is what the policy calls it, "vault" or "source"; `what` it asks, as in "the store"; `service` is the name
    by which a project switches that on, as in "bigquery.googleapis.com"; `scope` is what a login has to cover.
    """

    whose: str
    what: str
    service: str
    scope: str

    def unreached(self, error: Exception) -> tuple[str, str]:
        """What failed on this side: no login, no network, no answer."""
        if isinstance(error, KeyProblemError):
            return str(error), error.todo
        said = str(error).partition("\n")[0][:300]
        if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
            return (
                "what 'credentials' names, or GOOGLE_APPLICATION_CREDENTIALS, is not the key file of a service account",
                f"Make one, 'gcloud iam service-accounts keys create', and name it at the {self.whose}.",
            )
        if isinstance(error, DefaultCredentialsError):
            return (
                f"no login to Google Cloud was found, neither in the policy nor where its programs look: {said}",
                f"Name credentials at the {self.whose}, by a reference; or run 'gcloud auth "
                "application-default login', or give this machine a service account.",
            )
        if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
            if any(words in said for words in _SKEWED):
                return (
                    f"the clock of this machine and Google's differ by more than it allows: {said}",
                    "Set the clock of this machine, then run again.",
                )
            return f"the login has expired, or was taken back: {said}", _LOGIN_TODO
        if isinstance(error, requests.exceptions.SSLError):
            return (
                f"the connection could not be secured: {said}",
                "See that the server's certificate is valid; an authority of your own is named in SSL_CERT_FILE.",
            )
        return (
            f"{self.what} cannot be reached, or does not answer: {said}",
            f"See to the network, its names and proxies; or correct the {self.whose}'s endpoint.",
        )

    def refused(self, error: RefusedError) -> tuple[str, str] | None:
        """What means the same of every service; None for what does not, such as a right that is missing."""
        said, named = error.message, error.reason or str(error.status)
        if error.status == 401:
            return f"Google does not take this login: {said}", _LOGIN_TODO
        if error.reason in _QUOTA:
            return f"a quota is used up: {said} ({named})", "Run again when it is renewed, or have it raised."
        if error.reason in _UNPAID:
            return (
                f"the project does not pay for it, or is closed: {said} ({named})",
                "See to its billing.",
            )
        if error.reason in _OFF:
            return f"the service is not switched on in this project: {said}", f"gcloud services enable {self.service}"
        if error.reason == "insufficientPermissions":
            return (
                f"the login has too narrow a scope: {said}",
                f"Let this machine have the scope {self.scope}, or name credentials at the {self.whose}.",
            )
        if error.is_busy:
            is_down = error.status in (500, 502, 504)
            why = (
                f"{self.what} fails ({named})"
                if is_down
                else f"{self.what} is busy and asks for fewer requests ({named})"
            )
            todo = "Run again later" + ("; if it stays, see what the audit log says of this." if is_down else ".")
            return f"{why}; it was tried again and again: {said}", todo
        if 300 <= error.status < 400:
            return (
                f"{self.what} sends elsewhere ({error.status}), which is not followed",
                f"Correct the {self.whose}'s endpoint in the policy.",
            )
        return None
