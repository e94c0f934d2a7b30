"""What all parts of the front of BigQuery share: how it refuses, how tables are named, how rows are added."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servers.bigquery_front import Front

SUFFIX = re.compile(r"\$(.+)$|@(\d+)$")
"""What follows the name of a table: a partition, or a moment."""


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def path_of(reference: Mapping[str, str]) -> str:
    return f"`{reference['projectId']}.{reference['datasetId']}.{reference['tableId']}`"


def insert_rows(front: "Front", path: str, rows: Sequence[Any]) -> None:
    for start in range(0, len(rows), 500):
        sent = {"rows": [{"json": row} for row in rows[start : start + 500]]}
        answer = front.ask("POST", f"{path}/insertAll", sent)
        if answer.get("insertErrors"):
            raise RefusedError(400, "invalid", json.dumps(answer["insertErrors"])[:300])
