"""When to look again at a job that is under way: about when it is done, by what others of its kind took.

A look costs a request, of which a login has so many a second; one that comes late leaves a place idle that the next job
could have. https://cloud.google.com/bigquery/quotas#api_request_quotas
"""

import threading
from typing import Final

_FIRST_SECONDS, _SHORTEST_SECONDS, _LONGEST_SECONDS = 0.1, 0.05, 10.0
_SHARE: Final = 0.05
"""So much of its time a job may be over before it is seen."""
_WEIGHT: Final = 0.2
_LESS: Final = 0.9


class Patience:
    """Knows how long jobs of each kind take. Thread-safe."""

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}
        self._lock = threading.Lock()

    def pause(self, kind: str, waited: float) -> float:
        """For how many seconds to wait, of a job that was begun so many ago."""
        usual = self._usual.get(kind)
        if usual is None:
            wanted = max(_FIRST_SECONDS, waited / 2)
        elif waited < (1 - _SHARE) * usual:
            wanted = (1 - _SHARE) * usual - waited
        else:
            wanted = _SHARE * max(waited, usual)
        return min(max(wanted, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def done(self, kind: str, waited: float, looks: int) -> None:
        """A job was seen to be done, when it was looked at for that often."""
        with self._lock:
            if looks <= 1:  # nobody knows for how long it has been
                self._usual[kind] = _LESS * waited
            else:
                usual = self._usual.get(kind, waited)
                self._usual[kind] = (1 - _WEIGHT) * usual + _WEIGHT * waited
