"""What BigQuery's change history tells, for emulators that keep none: APPENDS, as it is documented.

https://cloud.google.com/bigquery/docs/reference/standard-sql/time-series-functions#appends: the rows that were inserted
from one moment on, and before another, as they were then; what UPDATE and DELETE did since is not in it. Moments that
time travel does not lead back to are refused. Of what emulators are told, streaming inserts are taken note of.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_INSERTED = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)/insertAll")
_ASKED = re.compile(
    r"SELECT (.*) FROM APPENDS\(TABLE `([^`]+)`, TIMESTAMP_MICROS\((\d+)\), TIMESTAMP_MICROS\((\d+)\)\)"
)
_WINDOW_MICROSECONDS = 7 * 86_400 * 1_000_000


@dataclass
class History:
    """The rows that were added to each table, and when, in microseconds since 1970."""

    added: dict[str, list[tuple[int, Mapping[str, Any]]]] = field(default_factory=dict)

    def note(self, method: str, path: str, body: Any) -> None:
        """Take note of rows that are about to be inserted."""
        if method == "POST" and (match := _INSERTED.fullmatch(path)):
            now = time.time_ns() // 1000
            self.added.setdefault(".".join(match.groups()), []).extend((now, each["json"]) for each in body["rows"])

    def told(self, statement: str) -> "tuple[str, list[Mapping[str, Any]]] | None":
        """The table, and the rows that a query of APPENDS gives; None for another query. ValueError: it is refused."""
        match = _ASKED.fullmatch(statement)
        if match is None:
            return None
        first, end = int(match[3]), int(match[4])
        if first < time.time_ns() // 1000 - _WINDOW_MICROSECONDS:
            raise ValueError("Invalid time travel timestamp: it is before the time travel window")
        names = [name.strip(" `") for name in match[1].split(",")]
        return match[2], [_only(names, row) for at, row in self.added.get(match[2], ()) if first <= at < end]


def _only(names: Sequence[str], row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: row[name] for name in names if name in row}
