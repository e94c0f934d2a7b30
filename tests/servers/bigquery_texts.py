"""What BigQuery's casts of INTERVAL and RANGE to STRING and back give, for an emulator whose own do otherwise.

https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions#cast_as_string has the texts: of an
interval `Y-M D H:M:S.F`, as its cells have it too; of a range `[LOWER, UPPER)`, each end as a cast of it gives, or
UNBOUNDED. Such columns may be in no record here: the emulator keeps none.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from servers import bigquery_avro

_CAST = re.compile(r"CAST\((`\w+`) AS (?:STRING|INTERVAL|RANGE<\w+>)\)")
_RANGE = re.compile(r"\[(.*), (.*)\)")
_OPEN = "UNBOUNDED"


def uncast(statement: str) -> str:
    """The same statement, that gives columns as they are."""
    return _CAST.sub(r"\1", statement)


def texts(fields: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of cells in which these columns are as a cast to STRING gives them."""
    return {"f": [{"v": _text(field, cell["v"])} for field, cell in zip(fields, row["f"], strict=True)]}


def as_strings(fields: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Columns of a table that holds what such casts give."""
    return [_as_string(field) for field in fields]


def rows(fields: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of cells as streaming inserts take them."""
    return list(bigquery_avro.read(bigquery_avro.written(fields, found, "null")))


def values(fields: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with texts, as streaming inserts take it for the columns themselves. ValueError for a text that is none."""
    return {field["name"]: _value(field, row[field["name"]]) for field in fields}


def _as_string(field: Mapping[str, Any]) -> dict[str, Any]:
    if field["type"] in ("INTERVAL", "RANGE"):
        mode = {"mode": "REPEATED"} if field.get("mode") == "REPEATED" else {}
        return {"name": field["name"], "type": "STRING", **mode}
    inside = {"fields": as_strings(field["fields"])} if field.get("fields") else {}
    return {**field, **inside}


def _text(field: Mapping[str, Any], cell: Any) -> Any:
    if cell is None or field["type"] != "RANGE":
        return cell
    match = _RANGE.fullmatch(cell)
    assert match, cell
    return f"[{', '.join(_end(field, each) for each in match.groups())})"


def _end(field: Mapping[str, Any], cell: str) -> str:
    kind = field["rangeElementType"]["type"]
    if cell == _OPEN or kind == "DATE":
        return cell
    if kind == "DATETIME":
        return cell.replace("T", " ")
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(cell))
    return f"{moment:%Y-%m-%d %H:%M:%S}{f'.{moment:%f}'.rstrip('0').rstrip('.')}+00"


def _value(field: Mapping[str, Any], text: Any) -> Any:
    if text is None or field["type"] not in ("INTERVAL", "RANGE"):
        return text
    if field["type"] == "INTERVAL":
        if not re.fullmatch(r"-?\d+-\d+ -?\d+ -?\d+:\d+:\d+(\.\d+)?", text):
            raise ValueError(f"Invalid INTERVAL value '{text}'")
        return text
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"Invalid RANGE value '{text}'")
    ends = [None if each == _OPEN else each.replace(" ", "T") for each in match.groups()]
    return {name: each for name, each in zip(("start", "end"), ends, strict=True) if each is not None}
