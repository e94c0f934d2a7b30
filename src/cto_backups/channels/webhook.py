"""A POST of JSON to an address, signed so that the receiver knows who speaks and that it is not an old message."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cto_backups.core.alerts import Message
from cto_backups.errors import ChannelError

SECONDS = 20.0
SIGNATURE = "X-CTO-Backups-Signature"


class _NoRedirects(HTTPRedirectHandler):
    """Whoever answers for an address must not pass what is told there on to another."""

    def redirect_request(self, *_arguments: Any, **_names: Any) -> None:
        return None


class WebhookChannel:
    """Options: `url` and `key`, functions that look the secret up; `key` may be None.

    The signature is ``t=SECONDS,v1=HEX``: HMAC-SHA-256 over the seconds since 1970, a dot, and the body.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._url: Callable[[], str] = options["url"]
        self._key: Callable[[], str] | None = options["key"]

    def send(self, message: Message, address: str | None) -> None:
        """Post it. Raises ChannelError, which names the host alone; KeyProblemError when the address is not there."""
        url = self._url().strip()
        key = self._key() if self._key else None
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https"):
            raise ChannelError(
                f"Channel '{self._name}' has no address", why="what its url: gives is no address of the web"
            )
        body = _body(message, address)
        headers = {"Content-Type": "application/json", "User-Agent": "cto.backups"}
        headers["X-CTO-Backups-Delivery"] = secrets.token_hex(16)
        if key is not None:
            headers[SIGNATURE] = signature(key, int(message.at.timestamp()), body)
        why = _post(Request(url, data=body, headers=headers, method="POST"))
        if why is not None:
            raise ChannelError(
                f"Channel '{self._name}' ({host}) did not take the message",
                why=why,
                todo="See whether the service is reachable, and whether its address is still the right one.",
            )


def signature(key: str, seconds: int, body: bytes) -> str:
    """The header's value, as a receiver computes it again."""
    digest = hmac.new(key.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _body(message: Message, address: str | None) -> bytes:
    said = {
        "event": message.event,
        "at": message.at.isoformat(),
        "business": message.business,
        "title": message.title,
        "text": message.text,
        "alert": message.alert,
        "rule": message.rule,
        "subject": message.subject,
        "urgent": message.urgent,
        "to": address,
    }
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _post(request: Request) -> str | None:
    try:
        with build_opener(_NoRedirects).open(request, timeout=SECONDS):
            return None
    except HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except URLError as error:
        reason = error.reason
        return (reason.strerror if isinstance(reason, OSError) else None) or type(reason).__name__
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
