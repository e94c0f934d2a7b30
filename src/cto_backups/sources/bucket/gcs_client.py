"""How the source talks to Google Cloud Storage: logging in, asking, and asking again.

It speaks the JSON API, https://cloud.google.com/storage/docs/json_api; the login is Google's own library's.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from cto_backups import handshake
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import SourceError

OWN: Final = "https://storage.googleapis.com"
UNREACHED: Final = (
    requests.RequestException,
    HTTPError,
    OSError,
)
BUSY: Final = (408, 429, 500, 502, 503, 504)  # https://cloud.google.com/storage/docs/retry-strategy
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"
_ATTEMPTS: Final = 6
_CONNECTIONS: Final = 32
_TIMEOUT_SECONDS: Final = (15.0, 60.0)  # to connect; and without a single byte
_LONGEST_PAUSE_SECONDS: Final = 32.0


class RefusedError(Exception):
    """What the store said no to: its status, Google's word for the reason, and its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message


class GcsClient:
    """A login at one store. Thread-safe. `project` is that of the login, "" where it says none."""

    def __init__(self, address: StoreAddress, credentials: Any, project: str, session: requests.Session) -> None:
        self.project = project
        self._base = address.endpoint or OWN
        self._credentials = credentials
        self._session = session
        self._login = threading.Lock()

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        stream: bool = False,
        fine: tuple[int, ...] = (),
        attempts: int = _ATTEMPTS,
        **query: str | int | None,
    ) -> requests.Response:
        """The answer, of a status below 300, or one that is `fine`. `body` gives what is sent, anew for each try.

        Raises RefusedError, requests.RequestException and its kin, GoogleAuthError.
        """
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                answer = self._once(method, path, headers or {}, body, stream, query)
            except UNREACHED as error:
                if last or isinstance(error, requests.exceptions.SSLError):
                    raise
                pause(attempt)
                continue
            if answer.status_code < 300 or answer.status_code in fine:
                return answer
            refused = _refusal(answer)
            wait = answer.headers.get("Retry-After", "")
            answer.close()
            if answer.status_code == 401 and attempt == 1:
                self._renew()  # it was taken back before its time: one that is new may do
            elif (answer.status_code in BUSY or "ateLimitExceeded" in refused.reason) and not last:
                pause(attempt, float(wait) if wait.isdigit() else 0.0)
            else:
                raise refused
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Callable[[], Any] | None,
        stream: bool,
        query: Mapping[str, str | int | None],
    ) -> requests.Response:
        sent = {"Accept-Encoding": "identity", **headers}
        with self._login:
            self._credentials.before_request(Request(self._session), method, self._base + path, sent)
        return self._session.request(
            method,
            self._base + path,
            params={name: value for name, value in query.items() if value is not None},
            headers=sent,
            data=body() if body else None,
            auth=lambda request: request,  # the login is in the headers: a file of passwords (netrc) has no say
            stream=stream,
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )

    def _renew(self) -> None:
        with self._login:
            self._credentials.refresh(Request(self._session))


def connected(source: str, address: StoreAddress, cannot: Callable[[str, str], SourceError]) -> GcsClient:
    """A client after a proof of the version of TLS that the store speaks. Raises SourceError, KeyProblemError."""
    try:
        credentials, project = _login(address)
    except ValueError as error:
        raise cannot(
            "what 'credentials' names, or GOOGLE_APPLICATION_CREDENTIALS, is not the key file of a service account",
            "Make one, 'gcloud iam service-accounts keys create', and name it at the source.",
        ) from error
    except GoogleAuthError as error:
        raise cannot(
            f"no login to Google Cloud was found, neither in the policy nor where its programs look: {error}",
            "Name credentials at the source, by a reference; or run 'gcloud auth application-default login', or give "
            "this machine a service account.",
        ) from error
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
    handshake.prove(address.endpoint or OWN, address.tls, f"source {source}", SourceError, certificates)
    session = requests.Session()
    session.verify = certificates or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return GcsClient(address, credentials, project, session)


def _login(address: StoreAddress) -> tuple[Any, str]:
    if "credentials" not in address.logins:
        credentials, project = google.auth.default(scopes=[_SCOPE])
        return credentials, project or ""
    written = json.loads(address.logins["credentials"]())
    if not isinstance(written, dict):
        raise ValueError("no object of JSON")
    credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        written, scopes=[_SCOPE]
    )
    return credentials, str(written.get("project_id", ""))


def pause(attempt: int, at_least: float = 0.0) -> None:
    """Wait before the next try, longer each time, and each thread differently."""
    time.sleep(min(max(at_least, random.uniform(0, 0.5 * 2**attempt)), _LONGEST_PAUSE_SECONDS))


def _refusal(answer: requests.Response) -> RefusedError:
    """From Google's errors as JSON; those of downloads are plain text."""
    try:
        text = answer.text
    except UNREACHED:
        text = ""
    reason, message = "", text
    try:
        error = json.loads(text)["error"]
        message = str(error["message"])
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        pass
    message = " ".join(message.split())[:300]
    return RefusedError(answer.status_code, reason, message or answer.reason or "the store gave no reason")
