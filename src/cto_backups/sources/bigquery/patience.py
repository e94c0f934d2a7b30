"""When to look again at jobs that are under way: about when they are done, by what others of their kind took.

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
_GAP_SECONDS: Final = 0.04  # 25 lists a second, of the 100 requests that a login has
_SHORTER, _LONGER = 0.3, 0.03
"""What is short goes down at once, and up slowly: one job in ten is shorter."""
_STRAGGLES: Final = 8.0
_OVERDUE_SECONDS: Final = 2.0


class Patience:
    """Knows how long jobs of each kind take. Thread-safe."""

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}
        self._short: dict[str, float] = {}
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

    def overdue(self, kind: str, waited: float) -> float:
        """For how many seconds to wait, of a job that lists should tell of: it is looked at when they do not."""
        usual = self._usual.get(kind)
        wanted = waited if usual is None else max(usual - waited + _OVERDUE_SECONDS, _SHARE * waited)
        return min(max(wanted, _OVERDUE_SECONDS), 6 * _LONGEST_SECONDS)

    def ripe(self, kind: str) -> tuple[float, float]:
        """From how many seconds on a job may be done, and until when a list that tells of it is a short one.

        A list begins with the oldest job that it is to tell of: one that takes far longer than others would make it
        tell of all of those, each time.
        """
        short = self._short.get(kind)
        return (0.0, _LONGEST_SECONDS) if short is None else (_LESS * short, max(_STRAGGLES * short, 1.0))

    def gap(self, kind: str, waited: float) -> float:
        """How many seconds are between lists, for jobs of a kind of which one was begun so many ago."""
        return min(max(_SHARE / 2 * self._short.get(kind, waited), _GAP_SECONDS), _LONGEST_SECONDS)

    def done(self, kind: str, waited: float, looks: int, took: float | None = None) -> None:
        """A job was seen to be done, when it was looked at for that often; `took` is what BigQuery says that it did."""
        with self._lock:
            if took is None and looks <= 1:  # nobody knows for how long it has been
                self._usual[kind] = _LESS * waited
            else:
                usual = self._usual.get(kind, waited if took is None else took)
                self._usual[kind] = usual + _WEIGHT * ((waited if took is None else took) - usual)
            found = waited if took is None else took
            short = self._short.get(kind, found)
            self._short[kind] = short + (_SHORTER if found < short else _LONGER) * (found - short)
