"""The tables of a report: their columns, the statements that rows are merged by, and the view on how sources are.

Statements are GoogleSQL: https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Field = dict[str, Any]


def _field(name: str, kind: str = "STRING", mode: str = "NULLABLE") -> Field:
    return {"name": name, "type": kind, "mode": mode}


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table: its name, its columns as the API describes them, and those by which a row is told from others."""

    name: str
    fields: tuple[Field, ...]
    keys: tuple[str, ...]

    def rows(self) -> str:
        """The query that reads the parameter `rows`, an array of JSON, as rows of this table."""
        columns = ", ".join(f"{_read(field, 'r')} AS `{field['name']}`" for field in self.fields)
        return f"SELECT {columns} FROM UNNEST(JSON_QUERY_ARRAY(@rows, '$')) AS r"

    def merge(self, place: str) -> str:
        """The statement that brings rows in: those that are there are as they are now, others come."""
        names = [f"`{field['name']}`" for field in self.fields]
        same = " AND ".join(f"t.`{key}` = s.`{key}`" for key in self.keys)
        changed = ", ".join(f"{name} = s.{name}" for name in names if name.strip("`") not in self.keys)
        return (
            f"MERGE {place} t USING ({self.rows()}) s ON {same} WHEN MATCHED THEN UPDATE SET {changed}"
            f" WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{name}' for name in names)})"
        )

    def update(self, place: str, column: str) -> str:
        """The statement that sets one column of the rows that have the first key; others are left alone."""
        key = self.keys[0]
        read = {field["name"]: _read(field, "r") for field in self.fields}
        rows = f"SELECT {read[key]} AS {key}, {read[column]} AS {column}"
        return (
            f"MERGE {place} t USING ({rows} FROM UNNEST(JSON_QUERY_ARRAY(@rows, '$')) AS r) s ON t.{key} = s.{key}"
            f" WHEN MATCHED THEN UPDATE SET {column} = s.{column}"
        )

    def forget(self, place: str) -> str:
        """The statement that removes sources of a business: the parameter `rows` is an array of their names."""
        named = "SELECT JSON_VALUE(r, '$') FROM UNNEST(JSON_QUERY_ARRAY(@rows, '$')) AS r"
        return f"DELETE FROM {place} WHERE business_id = @business AND source IN ({named})"


def _read(field: Field, row: str) -> str:
    name, kind = field["name"], field["type"]
    if field["mode"] == "REPEATED":
        inner = ", ".join(f"{_read(each, 'e')} AS `{each['name']}`" for each in field["fields"])
        return f"ARRAY(SELECT AS STRUCT {inner} FROM UNNEST(JSON_QUERY_ARRAY({row}, '$.{name}')) AS e)"
    value = f"JSON_VALUE({row}, '$.{name}')"
    return value if kind == "STRING" else f"CAST({value} AS {_SQL.get(kind, kind)})"


_SQL: Final = {"INTEGER": "INT64", "BOOLEAN": "BOOL"}

LOGS: Final = ReportTable(
    "backup_logs",
    (
        _field("backup_id"),
        _field("table"),
        _field("destination"),
        _field("timestamp", "TIMESTAMP"),
        _field("file_count", "INTEGER"),
        _field("total_size_bytes", "INTEGER"),
        _field("verified", "BOOLEAN"),
        _field("backup_type"),
        _field("data_category"),
        _field("business_id"),
        _field("stored_at", "TIMESTAMP"),
        _field("expired_at", "TIMESTAMP"),
    ),
    ("backup_id", "destination"),
)
TESTS: Final = ReportTable(
    "backup_tests",
    (
        _field("test_id"),
        _field("backup_type"),
        _field("test_date", "TIMESTAMP"),
        {
            **_field("steps", "RECORD", "REPEATED"),
            "fields": [
                _field("step"),
                _field("duration_seconds", "FLOAT64"),
                _field("passed", "BOOLEAN"),
                _field("detail"),
                _field("checksums_match", "BOOLEAN"),
                _field("row_counts_match", "BOOLEAN"),
                _field("sample_data_valid", "BOOLEAN"),
            ],
        },
        _field("passed", "BOOLEAN"),
        _field("backup_id"),
        _field("source"),
        _field("destination"),
        _field("business_id"),
    ),
    ("test_id",),
)
STATUS: Final = ReportTable(
    "backup_status_reported",
    (
        _field("data_category"),
        _field("backup_type"),
        _field("last_backup_time", "TIMESTAMP"),
        _field("last_backup_size_bytes", "INTEGER"),
        _field("last_test_date", "TIMESTAMP"),
        _field("last_test_passed", "BOOLEAN"),
        _field("status"),
        _field("business_id"),
        _field("source"),
        _field("last_point"),
        _field("last_confirmed_time", "TIMESTAMP"),
        _field("last_passed_test_date", "TIMESTAMP"),
        _field("copies", "INTEGER"),
        _field("rpo_seconds", "INTEGER"),
        _field("reported_at", "TIMESTAMP"),
    ),
    ("business_id", "source"),
)
STATUS_VIEW: Final = "backup_status"


def status_view(dataset: str) -> str:
    """How sources are when somebody looks, not when it was reported: what was healthy grows old without a report."""
    hours = "ROUND(TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), last_backup_time, SECOND) / 3600, 3)"
    old = "TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), last_confirmed_time, SECOND) > rpo_seconds"
    first: Sequence[str] = (
        *("data_category", "backup_type", "last_backup_time", f"{hours} AS hours_since_backup"),
        *("last_backup_size_bytes", "last_test_date", "last_test_passed"),
        f"IF(status = 'HEALTHY' AND {old}, 'OVERDUE', status) AS status",
        "business_id",
    )
    then = ("source", "last_point", "last_confirmed_time", "last_passed_test_date", "copies", "reported_at")
    return f"SELECT {', '.join((*first, *then))} FROM `{dataset}.{STATUS.name}`"
