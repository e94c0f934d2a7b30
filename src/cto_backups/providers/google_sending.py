"""Sending a request with little work, by the parts of `requests` that are needed for it.

A session of `requests` merges settings, looks for cookies and follows redirects for each request, which costs more than
sending it does. Requests of ours have all that they need: a whole address, all headers, a login of their own.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import default_headers, super_len

_CONNECTIONS: Final = 256  # more than any crew of ours has threads; one that waits for none makes none
_TIMEOUT_SECONDS: Final = (15.0, 60.0)  # to connect; and without a single byte
_WITHOUT_BODY: Final = ("GET", "HEAD")


class Sender:
    """Connections to servers whose certificates are signed by who is in the file `authorities`. Thread-safe.

    None: by those whom everybody trusts.
    """

    def __init__(self, authorities: str | None) -> None:
        self._verify = authorities or True
        self._adapter = _Adapter(pool_maxsize=_CONNECTIONS)
        self._headers = dict(default_headers())

    def send(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Any,
        parameters: Mapping[str, str | int],
        *,
        stream: bool,
        proxies: dict[str, str],
    ) -> requests.Response:
        """The answer, whatever it says; with `stream` its body was not read yet.

        Raises requests.RequestException, and what urllib3 raises while a body is read.
        """
        prepared = requests.PreparedRequest()
        prepared.method = method
        prepared.url = f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}" if parameters else address
        prepared.headers = CaseInsensitiveDict({**self._headers, **headers})
        prepared.body = body
        if body is None:
            if method not in _WITHOUT_BODY:
                prepared.headers["Content-Length"] = "0"
        elif size := len(body) if isinstance(body, bytes) else super_len(body):
            prepared.headers["Content-Length"] = str(size)
        else:
            prepared.headers["Transfer-Encoding"] = "chunked"
        answer = self._adapter.send(prepared, stream, _TIMEOUT_SECONDS, self._verify, proxies=proxies)
        if not stream:
            answer.content  # noqa: B018 - it is read, and the connection is free for the next request
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()


class _Adapter(HTTPAdapter):
    """Finds the connections to a server once, and not for each request; keeps no cookies."""

    def __init__(self, pool_maxsize: int) -> None:
        super().__init__(pool_connections=64, pool_maxsize=pool_maxsize)
        self._found: dict[tuple[str, str], Any] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        assert request.url is not None
        origin = "/".join(request.url.split("/", 3)[:3]), repr(proxies)
        found = self._found.get(origin)
        if found is None:
            found = self._found[origin] = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return found

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else str(request.path_url)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.reason, response.raw = resp.status, resp.reason, resp
        response.headers = CaseInsensitiveDict(resp.headers)
        response.encoding = requests.utils.get_encoding_from_headers(response.headers)
        response.url, response.request = str(req.url), req
        response.connection = self
        return response
