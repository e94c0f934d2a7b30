"""Columns that files have as text: INTERVAL and RANGE, for which no way through an extract and a load is documented.

BigQuery casts them on the way out and back, wherever they are in a row:
https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions#cast. `fields` are those of a table's
schema, as the API has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cto_backups.sources.bigquery.client import Document

Field = Mapping[str, Any]

_KINDS: Final = ("INTERVAL", "RANGE")
_RECORDS: Final = ("RECORD", "STRUCT")
_OF_A_COLUMN: Final = ("name", "mode")


def has(fields: Sequence[Field]) -> bool:
    """Whether there is such a column, or one within a record."""
    return any(_is_concerned(field) for field in fields)


def columns(fields: Sequence[Field]) -> list[Document]:
    """The columns of a table that holds the same as text."""
    return [_column(field) for field in fields]


def written(fields: Sequence[Field]) -> str:
    """A list of SELECT that gives every column by its name, these as text."""
    return _listed(fields, to_text=True)


def read(fields: Sequence[Field]) -> str:
    """A list of SELECT that gives every column by its name, these made of their text again."""
    return _listed(fields, to_text=False)


def _is_concerned(field: Field) -> bool:
    kind = str(field["type"]).upper()
    return kind in _KINDS or (kind in _RECORDS and has(field["fields"]))


def _column(field: Field) -> Document:
    if not _is_concerned(field):
        return dict(field)
    made = {name: field[name] for name in _OF_A_COLUMN if field.get(name)}
    if str(field["type"]).upper() in _RECORDS:
        return {**made, "type": "RECORD", "fields": columns(field["fields"])}
    return {**made, "type": "STRING"}


def _listed(fields: Sequence[Field], *, to_text: bool) -> str:
    return ", ".join(
        f"{_expression(field, f'`{name}`', 1, to_text)} AS `{name}`" for field in fields for name in (field["name"],)
    )


def _expression(field: Field, value: str, depth: int, to_text: bool) -> str:
    """SQL for one column, whose value is given by SQL; `depth` tells names of one array from those of an inner one."""
    if not _is_concerned(field):
        return value
    if str(field.get("mode", "")).upper() == "REPEATED":
        one, number = f"each{depth}", f"place{depth}"
        each = _single(field, one, depth + 1, to_text)
        return f"ARRAY(SELECT {each} FROM UNNEST({value}) AS {one} WITH OFFSET AS {number} ORDER BY {number})"
    return _single(field, value, depth, to_text)


def _single(field: Field, value: str, depth: int, to_text: bool) -> str:
    kind = str(field["type"]).upper()
    if kind in _RECORDS:
        inside = ", ".join(
            f"{_expression(each, f'{value}.`{name}`', depth, to_text)} AS `{name}`"
            for each in field["fields"]
            for name in (each["name"],)
        )
        return f"IF({value} IS NULL, NULL, STRUCT({inside}))"
    wanted = kind if kind == "INTERVAL" else f"RANGE<{field['rangeElementType']['type']}>"
    return f"CAST({value} AS {'STRING' if to_text else wanted})"
