"""What a point knows of one table, in ``state.json`` beside its rows: how each partition was found, and where it lay.

A partition that is found as it was is not read again. `token` is what BigQuery said of it before the moment: when it
was changed, how many rows and bytes. It may go backwards, so any other one means that it changed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cto_backups.sources.bigquery.client import Answer
from cto_backups.sources.bigquery.documents import digest, written
from cto_backups.sources.bigquery.partitions import WHOLE
from cto_backups.sources.bigquery.sums import PartitionSums

FILE: Final = "state.json"
_FORMAT: Final = 1
_LOOK: Final = (
    "SELECT table_name, partition_id, total_rows, total_logical_bytes, last_modified_time"
    " FROM `{project}.{dataset}`.INFORMATION_SCHEMA.PARTITIONS"
)

Tokens = Mapping[str, str]
"""What BigQuery says of each partition of a table, by ids."""


@dataclass(frozen=True)
class Part:
    """A partition that a point holds; `files` say what each was called in the bucket, and what it holds."""

    token: str
    sums: PartitionSums
    files: Sequence[Mapping[str, Any]]


@dataclass
class State:
    """All partitions of a table, by ids; `columns` is a digest of what its rows are made of.

    `has_texts`: its files have as text what `as_text` says. `at`: the moment of all of this, in milliseconds since
    1970, where it may be asked what was added since; else 0.
    """

    columns: str
    parts: dict[str, Part] = field(default_factory=dict)
    has_texts: bool = False
    at: int = 0

    @property
    def sums(self) -> dict[str, PartitionSums]:
        """What is said of each partition."""
        return {name: part.sums for name, part in self.parts.items()}

    def written(self) -> bytes:
        """As a file."""
        parts = {
            name: {"token": part.token, "files": list(part.files), **part.sums.document()}
            for name, part in self.parts.items()
        }
        more = {**({"texts": True} if self.has_texts else {}), **({"at": self.at} if self.at else {})}
        return written({"format": _FORMAT, "columns": self.columns, "partitions": parts, **more})

    @classmethod
    def read(cls, content: bytes) -> "State | None":
        """What `written` gave; None for anything else."""
        try:
            document = json.loads(content)
            if document["format"] != _FORMAT:
                return None
            parts = {
                str(name): Part(str(each["token"]), PartitionSums.of(each), each["files"])
                for name, each in document["partitions"].items()
            }
            at = int(document.get("at", 0))
            return cls(str(document["columns"]), parts, bool(document.get("texts")), at)
        except (ValueError, LookupError, TypeError, AttributeError):
            return None


def looking(project: str, dataset: str) -> str:
    """The query that tells of each partition of a dataset."""
    return _LOOK.format(project=project, dataset=dataset)


def tokens(answer: Answer) -> dict[str, dict[str, str]]:
    """What such a query found: of each table, of each of its partitions."""
    found: dict[str, dict[str, str]] = {}
    for row in answer.rows:
        told = digest([row["last_modified_time"], row["total_rows"], row["total_logical_bytes"]])[:32]
        found.setdefault(str(row["table_name"]), {})[str(row["partition_id"] or WHOLE)] = told
    return found
