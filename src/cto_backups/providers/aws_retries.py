"""What makes the client of an S3 store ask again, beside what botocore's "standard" retries do by themselves.

Those try again when the connection breaks, at 5xx, and when the store is busy, with pauses that grow and jitter, until
a budget that all threads of a vault share is used up. They do not know that

- a store may say for how long it wants to be left alone (``Retry-After``);
- a login may be renewed in the middle of a run, where it came from;
- a store may tell a conflict of two requests that either of them solves by coming again (``OperationAborted``);
- an answer without a body is no listing that is empty.
"""

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

from cto_backups.providers import pauses

LOGIN_ENDED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
"""AWS's names for a login that is no longer one; a key that was replaced looks the same as one that was never right."""

_UNTOLD = {"403"}  # of answers without a body, which do not say whether it is the login
_CONFLICTS = {"OperationAborted"}
_WAITS = {429, 500, 503}
_WITH_BODY = {
    "CompleteMultipartUpload",
    "CreateMultipartUpload",
    "ListMultipartUploads",
    "ListObjectVersions",
    "ListObjectsV2",
}
_EMPTY = b"<Error><Code>500</Code><Message>the answer has no body</Message></Error>"
_RENEWED = "cto_backups_renewed"


class Login:
    """Keys to a store that can be looked up anew; what botocore asks for its credentials. Thread-safe."""

    method = "looked-up"

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._found = find()
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    @property
    def found(self) -> bool:
        """Whether there is a login at all."""
        return self._found is not None

    def get_frozen_credentials(self) -> Any:
        """The keys of this moment."""
        return self._found.get_frozen_credentials()

    def renew(self) -> bool:
        """Look the keys up anew; whether they are others. Raises KeyProblemError and botocore's errors."""
        found = self._find()
        if found is None or self._found is None:
            return False
        with self._lock:
            former, self._found = self._found, found
        return bool(former.get_frozen_credentials() != found.get_frozen_credentials())


def register(client: Any, login: Login, attempts: int) -> None:
    """Have a client ask again where this module says, up to so many times in all."""

    most = attempts

    def again(response: Any, attempts: int, request_dict: MutableMapping[str, Any], **_: Any) -> float | None:
        if response is None:
            return None
        answer, told = response
        code = str(told.get("Error", {}).get("Code", ""))
        if (code in LOGIN_ENDED or code in _UNTOLD) and not request_dict["context"].get(_RENEWED):
            request_dict["context"][_RENEWED] = True
            return 0.0 if _renewed(login) or code in LOGIN_ENDED else None
        if attempts >= most:
            return None
        if code in _CONFLICTS:
            pauses.pause(attempts)
            return 0.0
        wait = answer.headers.get("Retry-After", "")
        if answer.status_code in _WAITS and wait.isdigit():
            pauses.pause(0, float(wait))
        return None

    client.meta.events.register_first("needs-retry.s3", again)
    client.meta.events.register_first("before-parse.s3", _missed)


def _renewed(login: Login) -> bool:
    """Whether there is another login to be had."""
    try:
        return login.renew()
    except Exception:  # noqa: BLE001 - that the old one is no good says more than why there is no new one
        return False


def _missed(operation_model: Any, response_dict: MutableMapping[str, Any], **_: Any) -> None:
    """An answer that must have a body and has none counts as one that failed: it would be read as an empty listing."""
    if operation_model.name in _WITH_BODY and response_dict["status_code"] == 200 and not response_dict["body"]:
        response_dict["status_code"] = 500
        response_dict["body"] = _EMPTY
