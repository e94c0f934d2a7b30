"""Legal holds at Google: an object's temporary hold, set by an update of it; implements `object_store.Holds`.

An event-based hold would do more: it begins the retention of the bucket anew when it ends.
https://cloud.google.com/storage/docs/object-holds
"""

import json
from collections.abc import Callable
from typing import Any, Final

from cto_backups.providers.google import GoogleClient

_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}
_HOLD: Final = "temporaryHold"


class GcsHolds:
    """The holds of one bucket; `place` gives an object's path in the API. Thread-safe."""

    def __init__(
        self,
        client: Callable[[], GoogleClient],
        asked: Callable[[str, str, Callable[[], Any]], Any],
        place: Callable[[str], str],
    ) -> None:
        self._client = client
        self._asked = asked
        self._place = place

    def is_on(self, key: str, version: str | None = None) -> bool:
        """Whether one is on an object, or a generation of it. Raises AbsentError."""
        told = self._asked(
            "look up",
            key,
            lambda: self._client().ask("GET", self._place(key), generation=version, fields=_HOLD).json(),
        )
        return bool(told.get(_HOLD))

    def set(self, key: str, *, on: bool, version: str | None = None) -> None:
        """Put one on, or take it off. Raises AbsentError."""
        body = json.dumps({_HOLD: on}).encode
        self._asked(
            "put a legal hold on" if on else "take the legal hold off",
            key,
            lambda: self._client().ask(
                "PATCH", self._place(key), headers=_JSON, body=body, generation=version, fields=_HOLD
            ),
        )
