"""How BigQuery's extract jobs write a table as Avro, and what its load jobs read, as its documentation tells.

https://cloud.google.com/bigquery/docs/exporting-data#avro_export_details, with logical types, and
https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-avro#avro_conversions. Rows are as the REST API has
them: texts in cells, `{"f": [{"v": …}]}`. Golden files that were written by other means judge this.
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

import fastavro

Field = Mapping[str, Any]
Row = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = Context(prec=77)
_SCALARS: dict[str, Any] = {
    "BOOLEAN": "boolean",
    "BYTES": "bytes",
    "FLOAT": "double",
    "INTEGER": "long",
    "STRING": "string",
    "NUMERIC": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9},
    "BIGNUMERIC": {"type": "bytes", "logicalType": "decimal", "precision": 77, "scale": 38},
    "DATE": {"type": "int", "logicalType": "date"},
    "TIME": {"type": "long", "logicalType": "time-micros"},
    "TIMESTAMP": {"type": "long", "logicalType": "timestamp-micros"},
    "DATETIME": {"type": "string", "logicalType": "datetime"},
    "GEOGRAPHY": {"type": "string", "sqlType": "GEOGRAPHY"},
    "JSON": {"type": "string", "sqlType": "JSON"},
}
_FORMATS = {"DAY": "%Y%m%d", "HOUR": "%Y%m%d%H", "MONTH": "%Y%m", "YEAR": "%Y"}
_OTHER_NAMES = {"BOOL": "BOOLEAN", "FLOAT64": "FLOAT", "INT64": "INTEGER", "STRUCT": "RECORD"}


def kind_of(field: Field) -> str:
    """A type's name as the REST API has it."""
    written = str(field["type"]).upper()
    return _OTHER_NAMES.get(written, written)


def avro_schema(fields: Sequence[Field], name: str = "Root", space: str = "") -> dict[str, Any]:
    """The schema of a table's files, or of a record in it."""
    inside = f"{space}.{name}".lstrip(".").lower()
    schema: dict[str, Any] = {"type": "record", "name": name}
    if space:
        schema["namespace"] = space
    schema["fields"] = [{"name": field["name"], "type": _type(field, inside)} for field in fields]
    return schema


def _type(field: Field, space: str) -> Any:
    kind, mode = kind_of(field), str(field.get("mode") or "NULLABLE").upper()
    if kind == "RECORD":
        one: Any = avro_schema(field["fields"], str(field["name"]).capitalize(), space)
    else:
        one = _SCALARS[kind]
    if mode == "REPEATED":
        return {"type": "array", "items": one}
    return one if mode == "REQUIRED" else ["null", one]


def written(fields: Sequence[Field], rows: Iterable[Row], codec: str) -> bytes:
    """A file with these rows. `codec` is as Avro names it: "snappy", "deflate", "null"."""
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(avro_schema(fields)), (_out(fields, row) for row in rows), codec=codec)
    return file.getvalue()


def _out(fields: Sequence[Field], row: Row) -> dict[str, Any]:
    return {
        field["name"]: _given(field, cell["v"], field.get("mode") == "REPEATED")
        for field, cell in zip(fields, row["f"], strict=True)
    }


def _given(field: Field, value: Any, repeated: bool) -> Any:
    if repeated:
        return [_given(field, each["v"], False) for each in value or ()]
    if value is None:
        return None
    match kind_of(field):
        case "RECORD":
            return _out(field["fields"], value)
        case "BOOLEAN":
            return value in (True, "true")
        case "BYTES":
            return base64.b64decode(value)
        case "FLOAT":
            return float(value)
        case "INTEGER":
            return int(value)
        case "NUMERIC":
            return Decimal(value).quantize(Decimal("1e-9"), context=_EXACT)
        case "BIGNUMERIC":
            return Decimal(value).quantize(Decimal("1e-38"), context=_EXACT)
        case "DATE":
            return date.fromisoformat(value)
        case "TIME":
            return time.fromisoformat(value)
        case "TIMESTAMP":
            return _EPOCH + timedelta(microseconds=_micros(str(value)))
        case _:
            return str(value)


def _micros(value: str) -> int:
    """A moment: with `useInt64Timestamp` as microseconds, else as seconds with a fraction."""
    is_whole = value.lstrip("-").isdigit() and len(value.lstrip("-")) > 12
    return int(value) if is_whole else int(Decimal(value) * 1_000_000)


def read(content: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a file as JSON that streaming inserts take. Raises ValueError for what is no Avro."""
    reader = fastavro.reader(io.BytesIO(content))
    assert isinstance(reader.writer_schema, dict)
    for record in reader:
        assert isinstance(record, dict)
        yield {name: _taken(value) for name, value in record.items()}


def _taken(value: Any) -> Any:
    match value:
        case dict():
            return {name: _taken(each) for name, each in value.items()}
        case list():
            return [_taken(each) for each in value]
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case _:
            return value


def schema_in(content: bytes) -> Any:
    """The schema that a file tells of itself."""
    return json.loads(fastavro.reader(io.BytesIO(content)).metadata["avro.schema"])


def partition_of(table: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The id of the partition in which a row is."""
    by_time, by_range = table.get("timePartitioning"), table.get("rangePartitioning")
    named = (by_time or by_range)["field"]
    place = [each["name"] for each in table["schema"]["fields"]].index(named)
    value = row["f"][place]["v"]
    if value is None:
        return "__NULL__"
    if by_range:
        rule = {name: int(number) for name, number in by_range["range"].items()}
        if not rule["start"] <= int(value) < rule["end"]:
            return "__UNPARTITIONED__"
        return str(int(value) - (int(value) - rule["start"]) % rule["interval"])
    kind = kind_of(table["schema"]["fields"][place])
    day = _given({"type": kind}, value, False)
    if isinstance(day, str):
        day = datetime.fromisoformat(day)
    return str(day.strftime(_FORMATS[by_time["type"]]))
