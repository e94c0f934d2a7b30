"""How a vault talks to Google Cloud Storage: logging in, asking, and asking again.

It speaks the JSON API, https://cloud.google.com/storage/docs/json_api; the login is Google's own library's.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import google.auth
import requests
from google.auth.exceptions import RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError
from cto_backups.vaults import pauses, tls

OWN = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"

_ATTEMPTS = 6
_CONNECTIONS = 32  # more than any crew of ours has threads; one that waits for none makes none
_TIMEOUT_SECONDS = (15.0, 60.0)  # to connect; and without a single byte
BUSY = {408, 429, 500, 502, 503, 504}  # https://cloud.google.com/storage/docs/retry-strategy
UNREACHED = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    TransportError,
    HTTPError,
    OSError,
)


class RefusedError(Exception):
    """What the store said no to: its status, Google's word for the reason, and its message.

    `again`: whether an earlier try of the same request may have come through.
    """

    def __init__(self, status: int, reason: str, message: str, again: bool) -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message
        self.again = again


class Budget:
    """What all threads together may spend on further tries: a store that is down is not asked six times by each."""

    def __init__(self, tries: int = 100) -> None:
        self._most = self._left = float(tries)
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one further try, if there is one."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """An answer came at once: a tenth of a try more."""
        with self._lock:
            self._left = min(self._left + 0.1, self._most)


class GcsClient:
    """A login at one store. Thread-safe."""

    def __init__(self, address: StoreAddress, session: requests.Session) -> None:
        self._address = address
        self._base = address.endpoint or OWN
        self._credentials = _login(address)
        self._session = session
        self._login = threading.Lock()
        self._budget = Budget()

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        stream: bool = False,
        fine: tuple[int, ...] = (),
        attempts: int = 0,
        **query: str | int | None,
    ) -> requests.Response:
        """The answer, of a status below 300, or one that is `fine`. `body` gives what is sent, anew for each try.

        Raises RefusedError, requests.RequestException and its kin, GoogleAuthError.
        """
        again = renewed = False
        attempts = attempts or _ATTEMPTS
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= attempts
            try:
                answer = self._once(method, path, headers or {}, body, stream, query)
            except RefreshError:
                if renewed:
                    raise
                renewed = True  # its key may have been replaced, where it is looked up
                self._renew()
                attempt -= 1
                continue
            except UNREACHED as error:
                if last or isinstance(error, requests.exceptions.SSLError) or not self._budget.spend():
                    raise
                again = True
                pauses.pause(attempt)
                continue
            if answer.status_code < 300 or answer.status_code in fine:
                self._budget.earn()
                return answer
            refused = _refusal(answer, again)
            wait = answer.headers.get("Retry-After", "")
            answer.close()
            if answer.status_code == 401 and not renewed:
                renewed = True  # it was taken back before its time: one that is new may do
                self._renew()
                attempt -= 1
            elif (refused.status in BUSY or "ateLimitExceeded" in refused.reason) and not last:
                if not self._budget.spend():
                    raise refused
                again = again or refused.status >= 500
                pauses.pause(attempt, float(wait) if wait.isdigit() else 0.0)
            else:
                raise refused

    def ask_told(self, method: str, path: str, **query: Any) -> Any:
        """What an answer says, as JSON: one that was cut short on the way is asked for again. Raises as `ask`."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self.ask(method, path, **query).json()
            except requests.exceptions.JSONDecodeError:
                if attempt == _ATTEMPTS:
                    raise
                pauses.pause(attempt)
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
        """Log in anew, from where the login comes; it gets its first token when it is used. Raises GoogleAuthError."""
        try:
            credentials = _login(self._address)
        except (KeyProblemError, ValueError) as error:
            raise RefreshError(f"it cannot be looked up anew: {error}") from error  # type: ignore[no-untyped-call]
        with self._login:
            self._credentials = credentials


def connected(vault: str, address: StoreAddress) -> GcsClient:
    """A client after a proof of the version of TLS that the store speaks.

    Raises VaultError, KeyProblemError, GoogleAuthError, and ValueError for what is no key file of a service account.
    """
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
    tls.prove(address.endpoint or OWN, address.tls, vault, certificates)
    session = requests.Session()
    session.verify = certificates or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return GcsClient(address, session)


def _login(address: StoreAddress) -> Any:
    """What the policy names, as it is now, or what Google's programs would take.

    Raises KeyProblemError, GoogleAuthError, ValueError.
    """
    if "credentials" in address.logins:
        written = json.loads(address.logins["credentials"]())
        if not isinstance(written, dict):
            raise ValueError("no object of JSON")
        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            written, scopes=[SCOPE]
        )
    credentials, _ = google.auth.default(scopes=[SCOPE])
    return credentials


def _refusal(answer: requests.Response, again: bool) -> RefusedError:
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
    return RefusedError(answer.status_code, reason, message or answer.reason or "the store gave no reason", again)
