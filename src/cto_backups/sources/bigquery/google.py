"""A login at Google Cloud, and how its services are asked, and asked again.

Shared by the two services that are spoken to: BigQuery, https://cloud.google.com/bigquery/docs/reference/rest, and the
bucket on the way, https://cloud.google.com/storage/docs/json_api. Which answers are worth another try is in
https://cloud.google.com/bigquery/docs/error-messages and https://cloud.google.com/storage/docs/retry-strategy.
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
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from cto_backups.core.limits import UNLIMITED, Limit

SCOPES: Final = [
    "https://www.googleapis.com/auth/bigquery",
    "https://www.googleapis.com/auth/devstorage.read_write",
]
UNREACHED: Final = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    HTTPError,
    OSError,
)
PASSING: Final = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "rateLimitExceeded",
        "jobRateLimitExceeded",
    }
)
"""Reasons that pass by themselves, whatever the status; a job that failed for one of them may be tried anew."""

_ATTEMPTS: Final = 6
_CONNECTIONS: Final = 64
_TIMEOUT_SECONDS: Final = (15.0, 60.0)  # to connect; and without a single byte
_LONGEST_PAUSE_SECONDS: Final = 32.0
_BUSY: Final = {408, 429, 500, 502, 503, 504}


class RefusedError(Exception):
    """What a service said no to: its status, Google's word for the reason, its message; `needs` is the permission."""

    def __init__(self, status: int, reason: str, message: str, needs: str = "") -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message
        self.needs = needs


class OutOfTimeError(Exception):
    """The backup may work no longer."""


class Login:
    """One login, and the connections made with it. Thread-safe."""

    def __init__(self, credentials: Callable[[], str] | None, limit: Limit = UNLIMITED) -> None:
        """`credentials` reveals the key file of a service account; None: what this machine is logged in with.

        Raises GoogleAuthError, and ValueError for what is no such file.
        """
        if credentials is not None:
            written = json.loads(credentials())
            if not isinstance(written, dict):
                raise ValueError("no object of JSON")
            self._credentials: Any = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                written, scopes=SCOPES
            )
        else:
            self._credentials, _ = google.auth.default(scopes=SCOPES)
        self.limit = limit
        self._session = requests.Session()
        certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
        self._session.verify = certificates or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        address: str,
        *,
        needs: str,
        sent: Any = None,
        body: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        fine: tuple[int, ...] = (),
        **query: str | int | None,
    ) -> requests.Response:
        """The answer, of a status below 300, or one that is `fine`. `needs` is the permission that it takes.

        `sent` goes as JSON; `body` gives what is sent instead, anew for each try. Raises RefusedError, OutOfTimeError,
        requests.RequestException and its kin, GoogleAuthError.
        """
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._once(method, address, sent, body, headers or {}, stream, query)
            except UNREACHED as error:
                if attempt >= _ATTEMPTS or isinstance(error, requests.exceptions.SSLError):
                    raise
                self.pause(attempt)
                continue
            if answer.status_code < 300 or answer.status_code in fine:
                return answer
            refused = _refusal(answer, needs)
            wait = answer.headers.get("Retry-After", "")
            answer.close()
            if answer.status_code == 401 and not renewed:
                renewed = True  # it was taken back before its time: one that is new may do
                with self._lock:
                    self._credentials.refresh(Request(self._session))
                attempt -= 1
            elif (refused.status in _BUSY or refused.reason in PASSING) and attempt < _ATTEMPTS:
                self.pause(attempt, float(wait) if wait.isdigit() else 0.0)
            else:
                raise refused

    def json(self, method: str, address: str, *, needs: str, **more: Any) -> Any:
        """What the answer says; None where it says nothing. Raises as `ask` does."""
        answer = self.ask(method, address, needs=needs, **more)
        return answer.json() if answer.content else None

    def wait(self, seconds: float) -> None:
        """Let some time pass. Raises OutOfTimeError once there is none left."""
        left = self.limit.left()
        if left is not None and left <= 0:
            raise OutOfTimeError
        time.sleep(seconds if left is None else min(seconds, left))

    def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before the next try, longer each time, and each thread differently. Raises OutOfTimeError."""
        self.wait(min(max(at_least, random.uniform(0, 0.5 * 2**attempt)), _LONGEST_PAUSE_SECONDS))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _once(
        self,
        method: str,
        address: str,
        sent: Any,
        body: Callable[[], Any] | None,
        headers: Mapping[str, str],
        stream: bool,
        query: Mapping[str, str | int | None],
    ) -> requests.Response:
        given = {"Accept-Encoding": "identity" if stream else "gzip", **headers}
        content = body() if body else None
        if sent is not None:
            content, given["Content-Type"] = json.dumps(sent).encode(), "application/json"
        with self._lock:
            self._credentials.before_request(Request(self._session), method, address, given)
        return self._session.request(
            method,
            address,
            params={name: value for name, value in query.items() if value is not None},
            headers=given,
            data=content,
            auth=lambda request: request,  # the login is in the headers: a file of passwords (netrc) has no say
            stream=stream,
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )


def _refusal(answer: requests.Response, needs: str) -> RefusedError:
    """From Google's errors as JSON; those of downloads are plain text."""
    try:
        text = answer.text
    except UNREACHED:
        text = ""
    reason, message = "", text
    try:
        error = json.loads(text)["error"]
        message = str(error["message"])
        reason = str(error["errors"][0]["reason"] if error.get("errors") else error.get("status", ""))
    except (ValueError, LookupError, TypeError):
        pass
    message = " ".join(message.split())[:300]
    return RefusedError(answer.status_code, reason, message or answer.reason or "no reason was given", needs)
