"""How a table is cut into partitions: their ids, and BigQuery's SQL that tells or picks them.

https://cloud.google.com/bigquery/docs/partitioned-tables; ids are in
https://cloud.google.com/bigquery/docs/managing-partitioned-tables#partition_decorators.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

WHOLE: Final = "all"
"""The only part of a table that is not partitioned."""
NULLS: Final = "__NULL__"
OTHERS: Final = "__UNPARTITIONED__"
"""Of a range of numbers, what is outside of it; of times, what is in the streaming buffer, which nothing extracts."""

_FORMATS: Final = {"HOUR": "%Y%m%d%H", "DAY": "%Y%m%d", "MONTH": "%Y%m", "YEAR": "%Y"}
_LENGTHS: Final = {len(datetime(2000, 1, 1).strftime(form)): form for form in _FORMATS.values()}  # noqa: DTZ001 - no moment
_MOST_CONDITIONS: Final = 400
_KINDS: Final = {"DATE": "DATE", "DATETIME": "DATETIME", "TIMESTAMP": "TIMESTAMP"}
_INGESTION: Final = "_PARTITIONTIME"


@dataclass(frozen=True)
class Partitioning:
    """How one table is partitioned: by `column`, a time of `kind` cut by `unit`, or a number in a range.

    `column` None: it is not. A table that is partitioned by when rows came has the column _PARTITIONTIME.
    """

    column: str | None = None
    kind: str = ""
    unit: str = ""
    start: int = 0
    end: int = 0
    interval: int = 1

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Partitioning":
        """Of a table as the API describes it."""
        if by_time := table.get("timePartitioning"):
            column = by_time.get("field")
            if column is None:
                return cls(_INGESTION, "TIMESTAMP", by_time["type"])
            kinds = {each["name"].lower(): each["type"] for each in table["schema"]["fields"]}
            return cls(column, _KINDS[kinds[column.lower()]], by_time["type"])
        if by_range := table.get("rangePartitioning"):
            rule = by_range["range"]
            return cls(by_range["field"], "", "", int(rule["start"]), int(rule["end"]), int(rule["interval"]))
        return cls()

    @property
    def is_by_arrival(self) -> bool:
        """Whether no column of the rows says in which partition they are."""
        return self.column == _INGESTION

    def expression(self) -> str:
        """SQL that gives the id of the partition that a row is in."""
        if self.column is None:
            return f"'{WHOLE}'"
        column = self._column
        if self.unit:
            nulls = OTHERS if self.is_by_arrival else NULLS
            return f"IFNULL(FORMAT_{self.kind}('{_FORMATS[self.unit]}', {column}), '{nulls}')"
        return (
            f"CASE WHEN {column} IS NULL THEN '{NULLS}' WHEN {column} < {self.start} OR {column} >= {self.end}"
            f" THEN '{OTHERS}' ELSE CAST({column} - MOD({column} - {self.start}, {self.interval}) AS STRING) END"
        )

    def only(self, name: str) -> str:
        """SQL that holds for rows in one partition, and lets BigQuery scan no others."""
        if self.column is None:
            return "TRUE"
        column = self._column
        if name == (OTHERS if self.is_by_arrival else NULLS):
            return f"{column} IS NULL"
        if name == OTHERS:
            return f"{column} < {self.start} OR {column} >= {self.end}"
        low, high = self._bounds(name)
        return f"{column} >= {self._literal(low)} AND {column} < {self._literal(high)}"

    def arrival(self, name: str) -> str:
        """SQL for the moment that rows of a partition have as _PARTITIONTIME."""
        return "CAST(NULL AS TIMESTAMP)" if name == OTHERS else self._literal(self._bounds(name)[0])

    def excluding(self, ids: Collection[str]) -> str:
        """SQL that holds for rows in other partitions than these, and lets BigQuery scan no others; at worst for all.

        A table that needs a filter on its partitions takes it for one, whatever it says.
        """
        if self.column is None:
            return "FALSE" if WHOLE in ids else "TRUE"
        column = self._column
        bounds = sorted(self._bounds(name) for name in ids if name not in (NULLS, OTHERS))
        joined: list[tuple[Any, Any]] = []
        for low, high in bounds:
            if joined and joined[-1][1] == low:
                joined[-1] = joined[-1][0], high
            else:
                joined.append((low, high))
        if len(joined) > _MOST_CONDITIONS:
            joined = []
        is_first, is_last = (OTHERS in ids, OTHERS in ids) if not self.unit else (False, False)
        lows = [None if not is_first else self.start, *(high for _, high in joined)]
        highs = [*(low for low, _ in joined), None if not is_last else self.end]
        told = []
        for low, high in zip(lows, highs, strict=True):
            parts = [f"{column} >= {self._literal(low)}"] if low is not None else []
            parts += [f"{column} < {self._literal(high)}"] if high is not None else []
            if low is None or high is None or low < high:
                told.append(f"({' AND '.join(parts) or f'{column} IS NOT NULL'})")
        if (OTHERS if self.is_by_arrival else NULLS) not in ids:
            told.append(f"{column} IS NULL")
        return " OR ".join(told) or "FALSE"

    @property
    def _column(self) -> str:
        return _INGESTION if self.is_by_arrival else f"`{self.column}`"

    def _bounds(self, name: str) -> tuple[Any, Any]:
        """From where on, and up to where, a partition goes."""
        if not self.unit:
            return int(name), int(name) + self.interval
        low = datetime.strptime(name, _LENGTHS[len(name)])  # noqa: DTZ007 - BigQuery's own calendar, in no zone
        match self.unit:
            case "HOUR":
                return low, low + timedelta(hours=1)
            case "DAY":
                return low, low + timedelta(days=1)
            case "MONTH":
                return low, (low.replace(day=1) + timedelta(days=32)).replace(day=1)
            case _:
                return low, low.replace(year=low.year + 1)

    def _literal(self, bound: Any) -> str:
        if not self.unit:
            return str(bound)
        if self.kind == "DATE":
            return f"DATE '{bound:%Y-%m-%d}'"
        zone = "+00" if self.kind == "TIMESTAMP" else ""
        return f"{self.kind} '{bound:%Y-%m-%d %H:%M:%S}{zone}'"
