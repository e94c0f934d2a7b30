"""How Google's Cloud SQL Admin API is asked: logging in, asking, and asking again.

It speaks version 1 of https://cloud.google.com/sql/docs/mysql/admin-api/rest; the login is Google's own library's.
"""

import json
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from urllib3.exceptions import HTTPError

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit, at_most
from cto_backups.errors import SourceError
from cto_backups.sources.cloudsql.wording import ApiError, refused, unreached

OWN: Final = "https://sqladmin.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/sqlservice.admin"

_ATTEMPTS: Final = 6
_TIMEOUT_SECONDS: Final = (15.0, 60.0)  # to connect; and without a single byte
_LONGEST_PAUSE_SECONDS: Final = 32.0
_LONGEST_LOOK_SECONDS: Final = 20.0
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
_UNREACHED: Final = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    HTTPError,
    OSError,
)


class AdminApi:
    """A login at the API, for one source. Thread-safe.

    `credentials` reveals the key file of a service account; None: Google's usual places are searched. `tries` are what
    all requests together may spend on further attempts: an API that is down is not asked six times by each.
    """

    def __init__(
        self,
        source: str,
        credentials: Callable[[], str] | None,
        *,
        endpoint: str = "",
        limit: Limit = UNLIMITED,
        tries: int = 60,
    ) -> None:
        self.source = source
        self.limit = limit
        self._base = (endpoint or OWN).rstrip("/")
        self._reveal = credentials
        self._tries = tries
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._session = requests.Session()
        self._session.verify = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def ask(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        missing: bool = False,
        **query: str | None,
    ) -> dict[str, Any]:
        """What the API answers, an object. `doing` says what was wanted, as in "clone"; see `wording`.

        An empty object where it says that there is no such thing, and `missing` says that this may be. Raises
        SourceError; and ApiError with `again` where a request to change something may have come through.
        """
        try:
            return self._asked(method, path, body, query)
        except ApiError as error:
            if error.status == 404 and missing:
                return {}
            if error.again and method != "GET":
                raise
            raise refused(self.source, error, doing, path) from error
        except (GoogleAuthError, ValueError, *_UNREACHED) as error:
            if isinstance(error, SourceError):
                raise
            raise unreached(self.source, error, doing) from error

    def pages(self, path: str, key: str, doing: str) -> Iterator[dict[str, Any]]:
        """Every object of a list that comes in pages. Raises SourceError."""
        token: str | None = None
        while True:
            page = self.ask("GET", path, doing, pageToken=token)
            yield from (each for each in page.get(key) or () if isinstance(each, dict))
            token = page.get("nextPageToken")
            if not token:
                return

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def look_again(self, look: int) -> None:
        """Wait before the next look at something that takes its time, longer each time; no longer than the limit."""
        wanted = min(0.2 * 1.3 ** min(look, 50), _LONGEST_LOOK_SECONDS)
        clock.sleep(at_most(self.limit, wanted * random.uniform(0.7, 1.0)))

    def _pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before the next try, longer each time, and each process differently."""
        wanted = max(at_least, random.uniform(0, 0.5 * 2 ** min(attempt, 8)))
        clock.sleep(at_most(self.limit, min(wanted, _LONGEST_PAUSE_SECONDS)))

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str | None]
    ) -> dict[str, Any]:
        again = renewed = False
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= _ATTEMPTS or self.limit.left() == 0
            try:
                answer = self._once(method, path, body, query)
            except _UNREACHED as error:
                if last or isinstance(error, requests.exceptions.SSLError) or not self._spend():
                    if again and method != "GET":
                        raise ApiError(0, "", str(error), again=True) from error
                    raise
                again = True
                self._pause(attempt)
                continue
            if answer.status_code < 300:
                found = answer.json() if answer.content else {}
                return found if isinstance(found, dict) else {}
            refusal = _refusal(answer, again)
            wait = answer.headers.get("Retry-After", "")
            if answer.status_code == 401 and not renewed:
                renewed = True  # it was taken back before its time: one that is new may do
                with self._lock:
                    self._credentials.refresh(Request(self._session))
            elif (refusal.status in _BUSY or "ateLimitExceeded" in refusal.reason) and not last and self._spend():
                again = again or refusal.status >= 500
                self._pause(attempt, float(wait) if wait.isdigit() else 0.0)
            elif refusal.reason == "operationInProgress" and not last:
                self._pause(attempt + 3)  # somebody else's, or our own that is coming to its end
            else:
                raise refusal

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str | None]
    ) -> requests.Response:
        sent = {"Content-Type": "application/json"} if body is not None else {}
        url = f"{self._base}/v1/{path}"
        with self._lock:
            if self._credentials is None:
                self._credentials = self._logged_in()
            self._credentials.before_request(Request(self._session), method, url, sent)
        return self._session.request(
            method,
            url,
            params={name: value for name, value in query.items() if value is not None},
            headers=sent,
            data=json.dumps(body) if body is not None else None,
            auth=lambda request: request,  # the login is in the headers: a file of passwords (netrc) has no say
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
        )

    def _logged_in(self) -> Any:
        if self._reveal is None:
            return google.auth.default(scopes=[SCOPE])[0]
        written = json.loads(self._reveal())
        if not isinstance(written, dict):
            raise ValueError("no object of JSON")
        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            written, scopes=[SCOPE]
        )

    def _spend(self) -> bool:
        with self._lock:
            self._tries -= 1
            return self._tries >= 0


def _refusal(answer: requests.Response, again: bool) -> ApiError:
    """From Google's errors as JSON."""
    reason, message = "", answer.text[:300]
    try:
        error = answer.json()["error"]
        message = str(error["message"])
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        pass
    return ApiError(answer.status_code, reason, " ".join(message.split())[:300] or str(answer.reason), again=again)
