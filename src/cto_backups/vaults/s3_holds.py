"""Legal holds of S3, by GetObjectLegalHold and PutObjectLegalHold; implements `object_store.Holds`.

The headers of an object tell of a hold only those who may ask for it by itself: so it is asked for by itself, and a
login without the right is told.
"""

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import ClientError

from cto_backups.core.vaults import StoreAddress

_NONE_SET: Final = ("NoSuchObjectLockConfiguration",)
_MARKER: Final = "MethodNotAllowed"


class S3Holds:
    """The holds of one bucket. Thread-safe."""

    def __init__(
        self, client: Callable[[], Any], asked: Callable[[str, str, Callable[[], Any]], Any], address: StoreAddress
    ) -> None:
        self._client = client
        self._asked = asked
        self._address = address

    def is_on(self, key: str, version: str | None = None) -> bool:
        """Whether one is on an object, or a version of it. Raises AbsentError."""

        def ask() -> Any:
            try:
                return self._client().get_object_legal_hold(**self._object(key, version)).get("LegalHold", {})
            except ClientError as error:
                if _code(error) in _NONE_SET:
                    return {}  # there never was one
                self._see_there(key, version, error)
                raise

        return bool(self._asked("see the legal hold of", key, ask).get("Status") == "ON")

    def set(self, key: str, *, on: bool, version: str | None = None) -> None:
        """Put one on, or take it off. Raises AbsentError."""
        hold, doing = ("ON", "put a legal hold on") if on else ("OFF", "take the legal hold off")

        def ask() -> None:
            try:
                self._client().put_object_legal_hold(**self._object(key, version), LegalHold={"Status": hold})
            except ClientError as error:
                self._see_there(key, version, error)
                raise

        self._asked(doing, key, ask)

    def _see_there(self, key: str, version: str | None, error: ClientError) -> None:
        """Raise AbsentError where it is a marker of a deletion that was asked: stores say 405 of those."""
        if _code(error) == _MARKER:
            self._asked("look up", key, lambda: self._client().head_object(**self._object(key, version)))

    def _object(self, key: str, version: str | None) -> dict[str, str]:
        place = {"Bucket": self._address.bucket, "Key": self._address.key(key)}
        return place if version is None else {**place, "VersionId": version}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
