"""The tables that BigQuery is tried out with: a few rows of each type, as GoogleSQL writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Sample:
    """A table: its columns, how it is cut, and the statements that add rows; `{}` stands for PROJECT.DATASET."""

    name: str
    title: str
    fields: Sequence[Mapping[str, Any]]
    rows: str
    more: str = ""
    cut: Mapping[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """What the table is called."""
        return self.name.replace("-", "_")


def _columns(*names: str) -> list[Mapping[str, Any]]:
    """Columns of NAME TYPE, or NAME TYPE[] for arrays."""
    made: list[Mapping[str, Any]] = []
    for each in names:
        name, kind = each.split(" ")
        mode = {"mode": "REPEATED"} if kind.endswith("[]") else {}
        made.append({"name": name, "type": kind.removesuffix("[]"), **mode})
    return made


PLAIN: Final = Sample(
    "plain",
    "",
    [
        {"name": "id", "type": "INTEGER", "mode": "REQUIRED"},
        *_columns("day DATE", "total NUMERIC", "paid BOOLEAN", "weight FLOAT", "photo BYTES"),
        *_columns("moment TIMESTAMP", "wall DATETIME", "opens TIME", "what STRING", "tags STRING[]"),
    ],
    "INSERT INTO `{}.plain` (id, day, total, paid, weight, photo, moment, wall, opens, what, tags) VALUES"
    " (1, DATE '2024-02-29', NUMERIC '12345678901234567890.123456789', TRUE, 0.1, FROM_HEX('00ff'),"
    " TIMESTAMP '2024-02-29 23:59:59.999999+00', DATETIME '2024-02-29 23:59:59.999999', TIME '07:00:00.000001',"
    " 'ü, \"x\"', ['x', 'y,']),"
    " (2, DATE '2024-03-01', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, []),"
    " (3, NULL, NULL, FALSE, -1.5, NULL, NULL, NULL, NULL, '', ['']) ",
    "INSERT INTO `{}.plain` (id, day, tags) VALUES (4, DATE '2024-02-29', [])",
    {"timePartitioning": {"type": "DAY", "field": "day"}},
)

TABLES: Final = (
    Sample(
        "records",
        "Records within records and arrays of them come back through files",
        [
            *_columns("id INTEGER"),
            {
                "name": "lines",
                "type": "RECORD",
                "mode": "REPEATED",
                "fields": [
                    *_columns("what STRING"),
                    {"name": "price", "type": "RECORD", "fields": _columns("net NUMERIC", "marks STRING[]")},
                ],
            },
        ],
        "INSERT INTO `{}.records` (id, lines) VALUES (1, [STRUCT('pen' AS what,"
        " STRUCT(NUMERIC '1.5' AS net, ['a', 'b'] AS marks) AS price)]), (2, [])",
    ),
    Sample(
        "by-number",
        "Tables cut by a range of numbers are written and loaded",
        _columns("id INTEGER"),
        "INSERT INTO `{}.by_number` (id) VALUES (-5), (0), (9), (10), (100), (NULL)",
        cut={"rangePartitioning": {"field": "id", "range": {"start": "0", "end": "100", "interval": "10"}}},
    ),
    Sample(
        "by-arrival",
        "Tables cut by when rows came are written and loaded",
        _columns("id INTEGER"),
        "INSERT INTO `{}.by_arrival` (_PARTITIONTIME, id) VALUES (TIMESTAMP '2024-02-29 00:00:00+00', 1),"
        " (TIMESTAMP '2024-03-01 00:00:00+00', 2)",
        cut={"timePartitioning": {"type": "DAY"}},
    ),
    Sample(
        "json",
        "JSON comes back through files",
        _columns("id INTEGER", "more JSON"),
        'INSERT INTO `{}.json` (id, more) VALUES (1, JSON \'{"a": [1, null, "ü"]}\'), (2, NULL)',
    ),
    Sample(
        "bignumeric",
        "BIGNUMERIC comes back through files",
        _columns("id INTEGER", "n BIGNUMERIC"),
        "INSERT INTO `{}.bignumeric` (id, n) VALUES"
        " (1, BIGNUMERIC '123456789012345678901234567890.12345678901234567890123456789012345678'), (2, NULL)",
    ),
    Sample(
        "geography",
        "GEOGRAPHY comes back through files",
        _columns("id INTEGER", "place GEOGRAPHY"),
        "INSERT INTO `{}.geography` (id, place) VALUES (1, ST_GEOGPOINT(13.4, 52.5)), (2, NULL)",
    ),
    Sample(
        "as-text",
        "INTERVAL and RANGE come back through files, as text",
        [
            *_columns("id INTEGER", "every INTERVAL"),
            {"name": "days", "type": "RANGE", "rangeElementType": {"type": "DATE"}},
        ],
        "INSERT INTO `{}.as_text` (id, every, days) VALUES (1, INTERVAL '1-2 3 4:5:6.789' YEAR TO SECOND,"
        " RANGE(DATE '2024-02-29', DATE '2024-03-01')), (2, NULL, NULL)",
    ),
)
"""Each goes there and back by itself, for a project need not have all of them."""
