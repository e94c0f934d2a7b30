"""How Google's Cloud SQL Admin API is asked, for one source.

It speaks version 1 of https://cloud.google.com/sql/docs/mysql/admin-api/rest.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import requests

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit, at_most
from cto_backups.core.policy import Tls
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers.google import FAILED, UNREACHED, GoogleClient, OutOfTimeError, RefusedError
from cto_backups.sources.cloudsql.wording import refused, unreached

OWN: Final = "https://sqladmin.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/sqlservice.admin"

_PASSING: Final = {"operationInProgress": 3}  # somebody else's, or our own that is coming to its end
_LONGEST_LOOK_SECONDS: Final = 20.0


class AdminApi:
    """A login at the API, for one source; made when something is first asked. Thread-safe.

    `credentials` reveals the key file of a service account; None: Google's usual places are searched. `tls` is as
    `providers.google.GoogleClient` has it.
    """

    def __init__(
        self,
        source: str,
        credentials: Callable[[], str] | None,
        *,
        endpoint: str = "",
        tls: Tls | None = None,
        limit: Limit = UNLIMITED,
    ) -> None:
        self.source = source
        self.limit = limit
        self._base = f"{(endpoint or OWN).rstrip('/')}/v1/"
        self._reveal, self._tls = credentials, tls
        self._lock = threading.Lock()
        self._made: GoogleClient | None = None

    def ask(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        missing: bool = False,
        once: bool = False,
        **query: Any,
    ) -> dict[str, Any]:
        """What the API answers, an object. `doing` says what was wanted, as in "clone"; see `wording`.

        An empty object where it says that there is no such thing, and `missing` says that this may be. What is asked
        `once` is not asked again by itself, whatever becomes of the answer. Raises SourceError; and RefusedError with
        `again` where a request to change something may have come through.
        """
        try:
            if once:
                found = self._client.ask(method, path, sent=body, attempts=1, **query).json()
            else:
                found = self._client.told(method, path, sent=body, **query)
        except RefusedError as error:
            error.again = error.again or (once and error.status >= 500)
            if error.status == 404 and missing:
                return {}
            if error.again and method != "GET":
                raise
            raise refused(self.source, error, doing, path) from error
        except (KeyProblemError, OutOfTimeError, ValueError, *FAILED) as error:
            is_secured = not isinstance(error, requests.exceptions.SSLError)
            if method != "GET" and is_secured and isinstance(error, (*UNREACHED, requests.exceptions.JSONDecodeError)):
                raise RefusedError(0, "", str(error), again=True) from error
            raise unreached(self.source, error, doing) from error
        return found if isinstance(found, dict) else {}

    def pages(self, path: str, key: str, doing: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every object of a list that comes in pages. Raises SourceError."""
        token: str | None = None
        while True:
            page = self.ask("GET", path, doing, pageToken=token, **query)
            yield from (each for each in page.get(key) or () if isinstance(each, dict))
            token = page.get("nextPageToken")
            if not token:
                return

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def look_again(self, look: int) -> None:
        """Wait before the next look at something that takes its time, longer each time; no longer than the limit."""
        wanted = min(0.2 * 1.3 ** min(look, 50), _LONGEST_LOOK_SECONDS)
        clock.sleep(at_most(self.limit, wanted * random.uniform(0.7, 1.0)))

    @property
    def _client(self) -> GoogleClient:
        with self._lock:
            if self._made is None:
                self._made = GoogleClient(
                    f"source {self.source}",
                    SourceError,
                    [SCOPE],
                    self._reveal,
                    base=self._base,
                    tls=self._tls,
                    limit=self.limit,
                    passing=_PASSING,
                )
            return self._made
