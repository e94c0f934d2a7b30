"""A login at Google Cloud, and how its services are asked, and asked again.

They speak JSON over HTTPS; the login is Google's own library's. Which answers are worth another try is in
https://cloud.google.com/storage/docs/retry-strategy, https://cloud.google.com/bigquery/docs/error-messages and
https://cloud.google.com/sql/docs/mysql/admin-api/best-practices.

Every request may be sent again after one that was lost on the way, whatever its method. So who asks for a change sends
only what does the same twice, under a condition or a name of its own; or sends it once, with ``attempts=1``. Where an
earlier try may have come through, the refusal of a later one says so.
"""

import json
import os
import threading
from collections.abc import Callable, Collection, Mapping
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.policy import Tls
from cto_backups.errors import BackupsError, KeyProblemError
from cto_backups.providers import handshake, pauses
from cto_backups.providers.budget import Budget
from cto_backups.providers.google_sending import Sender

STORAGE: Final = "https://storage.googleapis.com"
UNREACHED: Final = (OSError, HTTPError, TransportError)
"""What comes of a way that fails; what requests raises is an OSError, all of it."""
FAILED: Final = (*UNREACHED, GoogleAuthError)
BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})

_ATTEMPTS: Final = 6


class RefusedError(Exception):
    """What a service said no to: its status, Google's word for the reason, and its message.

    `again`: whether an earlier try of the same request may have come through. `needs` is the permission that it takes,
    where who asked named it.
    """

    def __init__(self, status: int, reason: str, message: str, *, again: bool = False, needs: str = "") -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message
        self.again = again
        self.needs = needs

    @property
    def is_busy(self) -> bool:
        """Whether the service asks for fewer requests, or for the same ones later."""
        return self.status in BUSY or "ateLimitExceeded" in self.reason


class OutOfTimeError(Exception):
    """The work may go on no longer."""


class GoogleClient:
    """One login, and the connections made with it. Thread-safe.

    `project` is that of the login, "" where it says none. `limit` ends what is waited for.
    """

    def __init__(
        self,
        whose: str,
        fail: type[BackupsError],
        scopes: Collection[str],
        reveal: Callable[[], str] | None,
        *,
        base: str = "",
        tls: Tls | None = None,
        limit: Limit = UNLIMITED,
        passing: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Log in; nothing is sent before the first request.

        `reveal` looks up the key file of a service account; None: Google's usual places are searched. Every path that
        is asked for comes behind `base`. `tls` is the lowest version that a server has to speak, which a handshake
        proves before anything is sent to it: `fail` is raised else, of `whose` that is, as in "vault cloud"; None: 1.3,
        and none where an address begins with http and is one of this machine. `passing` are reasons that pass by
        themselves, beside those of a service that is busy, and by how much the pauses are further on for them.

        Raises KeyProblemError, GoogleAuthError, and ValueError for what is no key file of a service account.
        """
        self._whose, self._fail = whose, fail
        self._scopes, self._reveal = list(scopes), reveal
        self._base, self._tls, self._passing = base, tls, passing
        self.limit = limit
        self._credentials, self.project = self._logged_in()
        self._login = threading.Lock()
        self._budget = Budget()
        self._proven: set[str] = set()
        self._proving = threading.Lock()
        self._certificates = authorities()
        self._session = requests.Session()
        self._session.verify = self._certificates or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # What looks at a login before each request closes the session when it is let go of: one, as long as that.
        self._transport = Request(self._session)
        self._session.trust_env = False
        self._sender = Sender(self._certificates)
        self._proxies: dict[str, dict[str, str]] = {}

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        sent: Any = None,
        stream: bool = False,
        fine: Collection[int] = (),
        attempts: int = 0,
        needs: str = "",
        again: bool = False,
        waits: bool = False,
        **query: str | int | None,
    ) -> requests.Response:
        """The answer, of a status below 300, or one that is `fine`.

        `body` gives what is sent, anew for each try; `sent` goes as JSON instead. `needs` is the permission that it
        takes; `again`: who asks has asked before, which may have come through; `waits`: the service answers when
        it has something to say, so that ReadTimeout is raised at once. Raises RefusedError, OutOfTimeError, what FAILED
        has, and the error that the client was made with.
        """
        address = self._base + path
        given = {"Accept-Encoding": "identity", **(headers or {})}
        if sent is not None:
            given["Content-Type"] = "application/json"
            body = json.dumps(sent).encode
        parameters = {name: value for name, value in query.items() if value is not None}
        attempts = attempts or _ATTEMPTS
        self._prove(address)
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= attempts
            try:
                answer = self._once(method, address, given, body, stream, parameters)
            except RefreshError:
                if renewed:
                    raise
                renewed = True  # its key may have been replaced, where it is looked up
                self._renew()
                attempt -= 1
                continue
            except UNREACHED as error:
                final = requests.exceptions.SSLError, *([requests.exceptions.ReadTimeout] if waits else ())
                if last or isinstance(error, final) or not self._may_go_on():
                    raise
                again = True
                self.pause(attempt)
                continue
            if answer.status_code < 300 or answer.status_code in fine:
                self._budget.earn()
                return answer
            refused = _refusal(answer, again, needs)
            wait = answer.headers.get("Retry-After", "")
            answer.close()
            if answer.status_code == 401 and not renewed:
                renewed = True  # it was taken back before its time: one that is new may do
                self._renew()
                attempt -= 1
            elif (refused.is_busy or refused.reason in self._passing) and not last and self._may_go_on():
                again = again or refused.status >= 500
                self.pause(attempt + self._passing.get(refused.reason, 0), float(wait) if wait.isdigit() else 0.0)
            else:
                raise refused

    def told(self, method: str, path: str, **how: Any) -> Any:
        """What an answer says, as JSON: one that was cut short on the way is asked for again.

        None where there is nothing to say: an answer without a body is no listing that is empty. Raises as
        `ask` does.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            answer = self.ask(method, path, again=attempt > 1, **how)
            if not answer.content and (answer.status_code == 204 or method == "DELETE"):
                return None
            try:
                return answer.json()
            except requests.exceptions.JSONDecodeError:
                if attempt == _ATTEMPTS:
                    raise
                self.pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def wait(self, seconds: float) -> None:
        """Let some time pass. Raises OutOfTimeError once there is none left."""
        left = self._left()
        clock.sleep(seconds if left is None else min(seconds, left))

    def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before the next try, longer each time, and each thread differently. Raises OutOfTimeError."""
        left = self._left()
        if left is None:
            pauses.pause(attempt, at_least)
        else:
            pauses.pause(attempt, at_least, at_most=left)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._sender.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _once(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Callable[[], Any] | None,
        stream: bool,
        parameters: Mapping[str, str | int],
    ) -> requests.Response:
        given = dict(headers)
        with self._login:
            self._credentials.before_request(self._transport, method, address, given)
        proxies = self._proxied(address)
        sent = body() if body else None
        return self._sender.send(method, address, given, sent, parameters, stream=stream, proxies=proxies)

    def _prove(self, address: str) -> None:
        """See that the server of an address speaks the TLS that is asked for, unless it was seen before."""
        parts = urlsplit(address)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._proving:
            if origin not in self._proven:
                if self._tls is None and parts.scheme == "http" and not _is_here(parts.hostname or ""):
                    raise self._fail(
                        f"{self._whose[:1].upper()}{self._whose[1:]}: {origin} does without TLS",
                        why="the login would be read along",
                        todo="Write https:// in the policy; http:// is for a server of this very machine.",
                    )
                lowest = self._tls or (Tls.NONE if parts.scheme == "http" else Tls.V1_3)
                has_setting = self._tls is not None
                handshake.prove(origin, lowest, self._whose, self._fail, self._certificates, has_setting=has_setting)
                self._proven.add(origin)

    def _proxied(self, address: str) -> dict[str, str]:
        """The proxies that this machine's settings name on the way to a server."""
        parts = urlsplit(address)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._proxies:
            self._proxies[origin] = get_environ_proxies(origin)
        return self._proxies[origin]

    def _renew(self) -> None:
        """Log in anew, from where the login comes; it gets its first token when it is used. Raises GoogleAuthError."""
        try:
            credentials, _ = self._logged_in()
        except (KeyProblemError, ValueError) as error:
            raise RefreshError(f"it cannot be looked up anew: {error}") from error  # type: ignore[no-untyped-call]
        with self._login:
            self._credentials = credentials

    def _logged_in(self) -> tuple[Any, str]:
        """What the policy names, as it is now, or what Google's programs would take; and the login's project."""
        if self._reveal is None:
            credentials, project = google.auth.default(scopes=self._scopes)
            return credentials, project or ""
        written = json.loads(self._reveal())
        if not isinstance(written, dict):
            raise ValueError("no object of JSON")
        credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            written, scopes=self._scopes
        )
        return credentials, str(written.get("project_id", ""))

    def _may_go_on(self) -> bool:
        """Whether there is time for a further try, and one left to be had."""
        return self.limit.left() != 0 and self._budget.spend()

    def _left(self) -> float | None:
        left = self.limit.left()
        if left is not None and left <= 0:
            raise OutOfTimeError
        return left


def authorities() -> str | None:
    """The file of the authorities to trust, where this machine's settings name one."""
    return os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(answer: requests.Response, again: bool, needs: str) -> RefusedError:
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
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    message = " ".join(message.split())[:300] or answer.reason or "no reason was given"
    return RefusedError(answer.status_code, reason, message, again=again, needs=needs)
