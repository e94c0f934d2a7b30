"""Rows that were added to a table since the point before, so that nothing else of its partitions is extracted again.

BigQuery's change history tells of them: APPENDS gives each row as it was added, and nothing of what was altered or
deleted since (https://cloud.google.com/bigquery/docs/change-history). So its answer is a proposal, and the fingerprint
decides: sums of rows add up, and only where those of the point before and of these rows together are the sums of the
snapshot, a partition is what the point before has, and these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cto_backups.sources.bigquery.state import Part, State
from cto_backups.sources.bigquery.sums import NOTHING, PartitionSums

if TYPE_CHECKING:
    from cto_backups.sources.bigquery.extract import Table

APPENDED: Final = "appended"
"""What says of a file that it came of added rows."""
_MOST_FILES: Final = 100
"""A partition with so many files of added rows is extracted whole again: a load would have to open each of them."""
_LONGEST_MS: Final = 7 * 86_400_000  # as long as the longest time travel, which change history is kept for


@dataclass(frozen=True)
class Appended:
    """Partitions of a table that are what the point before has of them, and rows that lie in the table `aside`."""

    aside: str
    former: Mapping[str, Part]


def may_be(table: "Table", former: State | None, milliseconds: int) -> bool:
    """Whether it can be asked what was added to a table since the point before."""
    return (
        former is not None
        and former.at > 0
        and 0 < milliseconds - former.at <= _LONGEST_MS
        and not table.partitioning.is_by_arrival  # its rows do not say in which partition they are
        and not table.has_texts
    )


def candidates(former: State, sums: Mapping[str, PartitionSums]) -> dict[str, Part]:
    """The partitions that have more rows than before, and not by far: extracting those alone is less work."""
    found = {}
    for name, there in sums.items():
        part = former.parts.get(name)
        if part is None or not part.sums.rows < there.rows <= 2 * part.sums.rows:
            continue
        if sum(bool(file.get(APPENDED)) for file in part.files) < _MOST_FILES:
            found[name] = part
    return found


def telling(project: str, table: "Table", since: int, until: int) -> str:
    """The query that gives the rows that were added after one moment, up to another: in milliseconds since 1970.

    A snapshot as of a moment has what was committed by then; APPENDS takes in its first moment, and not its last.
    """
    names = ", ".join(f"`{each['name']}`" for each in table.definition["schema"]["fields"])
    path = f"{project}.{table.dataset}.{table.name}"
    first, end = (f"TIMESTAMP_MICROS({each * 1000 + 1})" for each in (since, until))
    return f"SELECT {names} FROM APPENDS(TABLE `{path}`, {first}, {end})"


def proven(
    former: Mapping[str, Part], added: Mapping[str, PartitionSums], sums: Mapping[str, PartitionSums]
) -> dict[str, Part]:
    """The partitions that are what they were before and the rows that were added, by their sums."""
    return {
        name: part for name, part in former.items() if _together(part.sums, added.get(name, NOTHING)) == sums[name].pair
    }


def _together(before: PartitionSums, added: PartitionSums) -> tuple[int, tuple[int, int]]:
    (one, two), (more, other) = before.sums, added.sums
    return before.rows + added.rows, (one + more, two + other)
