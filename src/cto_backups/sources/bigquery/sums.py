"""The fingerprint ``bigquery/1``: what BigQuery's own SQL says of the rows of each partition.

Of a row, its columns by their names as JSON; of a partition, how many rows, two sums of FARM_FINGERPRINT with different
salts (sums, for an exclusive or would not see a pair of rows come or go), and the row whose fingerprint is least, as a
sample. Of a table, the SHA-256 of a line for each of its partitions, in the order of their ids. No value leaves the
project: of a sampled row, the digests of its fields are kept.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from cto_backups.core.model import Sample
from cto_backups.sources.bigquery import as_text
from cto_backups.sources.bigquery.client import Answer
from cto_backups.sources.bigquery.partitions import Partitioning

ALGORITHM: Final = "bigquery/1"

_SALTS: Final = ("1:", "2:")
_SAMPLES: Final = 3
_LONGEST: Final = 65_536
"""A sampled row's JSON may have so many characters; of a longer one, that much is compared."""
_MODULUS: Final = 1 << 128


@dataclass(frozen=True)
class PartitionSums:
    """What is said of one partition; `least` is the fingerprint of the sampled row, `fields` digests of its fields."""

    rows: int
    sums: tuple[int, int]
    least: int = 0
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def pair(self) -> tuple[int, tuple[int, int]]:
        """How many rows, and what they sum up to: what adds up with those of other rows."""
        return self.rows, self.sums

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        sums = [str(each) for each in self.sums]
        return {"rows": self.rows, "sums": sums, "least": str(self.least), "fields": dict(self.fields)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "PartitionSums":
        """What `document` gave. Raises LookupError, ValueError, TypeError."""
        first, second = (int(each) for each in document["sums"])
        fields = tuple((str(name), str(digest)) for name, digest in document["fields"].items())
        return cls(int(document["rows"]), (first, second), int(document["least"]), fields)


NOTHING: Final = PartitionSums(0, (0, 0))


def summing(
    table: str, fields: Sequence[Mapping[str, Any]], partitioning: Partitioning, known: Collection[str] = ()
) -> str:
    """The query that sums up a table (PROJECT.DATASET.TABLE), but for those of its partitions that are `known`."""
    first, second = (f"FARM_FINGERPRINT(CONCAT('{salt}', told))" for salt in _SALTS)
    return (
        "SELECT part, COUNT(*) AS number,"
        " SUM(CAST(first AS BIGNUMERIC)) AS one, SUM(CAST(second AS BIGNUMERIC)) AS two, MIN(first) AS least,"
        f" ARRAY_AGG(SUBSTR(told, 1, {_LONGEST}) ORDER BY first LIMIT 1) AS sample"
        f" FROM (SELECT part, told, {first} AS first, {second} AS second"
        f" FROM (SELECT {partitioning.expression()} AS part, TO_JSON_STRING(STRUCT({as_text.written(fields)})) AS told"
        f" FROM `{table}` WHERE {partitioning.excluding(known)})) GROUP BY part"
    )


def read(answer: Answer) -> dict[str, PartitionSums]:
    """What a query of `summing` found, by the ids of partitions."""
    return {
        str(row["part"]): PartitionSums(
            int(row["number"]),
            (int(Decimal(row["one"])), int(Decimal(row["two"]))),
            int(row["least"]),
            _digests(str(row["least"]), str(row["sample"][0])),
        )
        for row in answer.rows
    }


def table_digest(parts: Mapping[str, PartitionSums]) -> str:
    """The checksum of a table; a partition without rows is as one that is not there."""
    digest = sha256()
    for name, part in sorted(parts.items()):
        if part.rows:
            first, second = (each % _MODULUS for each in part.sums)
            digest.update(f"{name}\0{part.rows}\0{first:032x}\0{second:032x}\n".encode())
    return digest.hexdigest()


def samples(table: str, parts: Mapping[str, PartitionSums]) -> list[Sample]:
    """The rows of a table that are compared field by field: those whose fingerprints are least."""
    there = sorted((part.least, part.fields) for part in parts.values() if part.rows)
    return [Sample(f"{table}: row {least}", dict(fields)) for least, fields in there[:_SAMPLES]]


def differing(before: Mapping[str, PartitionSums], now: Mapping[str, PartitionSums]) -> list[str]:
    """The partitions that hold something else, and how many rows more or less."""
    told = []
    for name in sorted(before.keys() | now.keys()):
        was, there = before.get(name, NOTHING), now.get(name, NOTHING)
        if was.pair != there.pair:
            told.append(f"{name} ({there.rows:,} rows, {was.rows:,} expected)")
    return told


def _digests(salt: str, row: str) -> tuple[tuple[str, str], ...]:
    """Of each field; with a salt, since there may be few values that it could have."""
    try:
        fields = json.loads(row)
    except ValueError:
        fields = {"row": row}  # cut, since it is that long
    told = {str(name): f"{salt}:{json.dumps(value, sort_keys=True)}" for name, value in fields.items()}
    return tuple((name, sha256(value.encode()).hexdigest()[:32]) for name, value in told.items())
