"""Columns that files of BigQuery have as text: which they are, and how they are cast."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources.bigquery import as_text
from cto_backups.sources.bigquery.partitions import NULLS, OTHERS, WHOLE, Partitioning
from servers import bigquery_texts

EVERY: dict[str, Any] = {"name": "every", "type": "INTERVAL", "mode": "REQUIRED", "description": "how often"}
DAYS: dict[str, Any] = {"name": "days", "type": "RANGE", "rangeElementType": {"type": "DATE"}, "mode": "REPEATED"}
PLAIN: dict[str, Any] = {"name": "id", "type": "INTEGER", "description": "counts up"}
SHIFTS: dict[str, Any] = {
    "name": "shifts",
    "type": "RECORD",
    "mode": "REPEATED",
    "fields": [PLAIN, DAYS, {"name": "rest", "type": "STRUCT", "fields": [{**EVERY, "mode": "NULLABLE"}]}],
}
MOMENTS: dict[str, Any] = {"name": "valid", "type": "RANGE", "rangeElementType": {"type": "TIMESTAMP"}}
SHOP: dict[str, Any] = {"name": "shop", "type": "RECORD", "fields": [PLAIN]}


def test_what_has_no_such_columns_is_read_as_it_is() -> None:
    assert not as_text.has([PLAIN, SHOP])
    assert as_text.written([PLAIN, SHOP]) == as_text.read([PLAIN, SHOP]) == "`id` AS `id`, `shop` AS `shop`"
    assert as_text.columns([PLAIN, SHOP]) == [PLAIN, SHOP]


@pytest.mark.parametrize("field", [EVERY, DAYS, SHIFTS, MOMENTS])
def test_such_columns_are_found_wherever_they_are(field: dict[str, Any]) -> None:
    assert as_text.has([PLAIN, field])


def test_they_are_cast_by_their_own_type() -> None:
    assert as_text.written([EVERY, MOMENTS]) == "CAST(`every` AS STRING) AS `every`, CAST(`valid` AS STRING) AS `valid`"
    assert as_text.read([EVERY, MOMENTS]) == (
        "CAST(`every` AS INTERVAL) AS `every`, CAST(`valid` AS RANGE<TIMESTAMP>) AS `valid`"
    )


def test_within_arrays_and_records_they_keep_their_places_and_a_record_that_is_null_stays_null() -> None:
    assert as_text.written([SHIFTS]) == (
        "ARRAY(SELECT IF(each1 IS NULL, NULL, STRUCT("
        "each1.`id` AS `id`,"
        " ARRAY(SELECT CAST(each2 AS STRING) FROM UNNEST(each1.`days`) AS each2 WITH OFFSET AS place2 ORDER BY place2)"
        " AS `days`,"
        " IF(each1.`rest` IS NULL, NULL, STRUCT(CAST(each1.`rest`.`every` AS STRING) AS `every`)) AS `rest`))"
        " FROM UNNEST(`shifts`) AS each1 WITH OFFSET AS place1 ORDER BY place1) AS `shifts`"
    )
    assert "CAST(each2 AS RANGE<DATE>)" in as_text.read([SHIFTS])


def test_a_table_of_texts_has_the_same_columns_and_modes() -> None:
    assert as_text.columns([EVERY, SHIFTS]) == [
        {"name": "every", "mode": "REQUIRED", "type": "STRING"},
        {
            "name": "shifts",
            "mode": "REPEATED",
            "type": "RECORD",
            "fields": [
                PLAIN,
                {"name": "days", "mode": "REPEATED", "type": "STRING"},
                {
                    "name": "rest",
                    "type": "RECORD",
                    "fields": [{"name": "every", "mode": "NULLABLE", "type": "STRING"}],
                },
            ],
        },
    ]


DOCUMENTED = [
    ({"type": "INTERVAL"}, "1-2 3 4:5:6.789", "1-2 3 4:5:6.789"),
    ({"type": "RANGE", "rangeElementType": {"type": "DATE"}}, "[2024-02-29, 2024-03-01)", "[2024-02-29, 2024-03-01)"),
    (
        {"type": "RANGE", "rangeElementType": {"type": "DATETIME"}},
        "[2024-02-29T22:00:00, UNBOUNDED)",
        "[2024-02-29 22:00:00, UNBOUNDED)",
    ),
    (
        {"type": "RANGE", "rangeElementType": {"type": "TIMESTAMP"}},
        "[UNBOUNDED, 1709244000500000)",
        "[UNBOUNDED, 2024-02-29 22:00:00.5+00)",
    ),
]


@pytest.mark.parametrize(("field", "cell", "text"), DOCUMENTED)
def test_the_front_casts_as_documented(field: dict[str, Any], cell: str, text: str) -> None:
    fields = [{"name": "x", **field}]
    assert bigquery_texts.texts(fields, {"f": [{"v": cell}]}) == {"f": [{"v": text}]}
    assert bigquery_texts.texts(fields, {"f": [{"v": None}]}) == {"f": [{"v": None}]}


@pytest.mark.parametrize("field", [field for field, _, _ in DOCUMENTED])
def test_the_front_refuses_a_text_that_is_none(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid"):
        bigquery_texts.values([{"name": "x", **field}], {"x": "yesterday"})


BY_DAY = Partitioning.of(
    {"timePartitioning": {"type": "DAY", "field": "d"}, "schema": {"fields": [{"name": "d", "type": "DATE"}]}}
)
BY_NUMBER = Partitioning.of(
    {"rangePartitioning": {"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}}, "schema": {}}
)
BY_ARRIVAL = Partitioning.of({"timePartitioning": {"type": "MONTH"}, "schema": {"fields": []}})


@pytest.mark.parametrize(
    ("table", "part", "condition"),
    [
        (Partitioning(), WHOLE, "TRUE"),
        (BY_DAY, "20240229", "`d` >= DATE '2024-02-29' AND `d` < DATE '2024-03-01'"),
        (BY_DAY, NULLS, "`d` IS NULL"),
        (BY_NUMBER, "90", "`n` >= 90 AND `n` < 100"),
        (BY_NUMBER, OTHERS, "`n` < 0 OR `n` >= 100"),
        (BY_NUMBER, NULLS, "`n` IS NULL"),
        (
            BY_ARRIVAL,
            "202412",
            "_PARTITIONTIME >= TIMESTAMP '2024-12-01 00:00:00+00'"
            " AND _PARTITIONTIME < TIMESTAMP '2025-01-01 00:00:00+00'",
        ),
        (BY_ARRIVAL, OTHERS, "_PARTITIONTIME IS NULL"),
    ],
)
def test_one_partition_is_asked_for_alone(table: Partitioning, part: str, condition: str) -> None:
    assert table.only(part) == condition


@given(st.integers(-5, 105))
def test_every_number_is_in_one_partition(number: int) -> None:
    found = [
        part
        for part in (OTHERS, *(str(tenth * 10) for tenth in range(10)))
        if eval(BY_NUMBER.only(part).replace("`n`", str(number)).replace("AND", "and").replace("OR", "or"))
    ]
    assert len(found) == 1


def test_rows_that_came_by_themselves_go_back_to_when_they_came() -> None:
    assert BY_ARRIVAL.arrival("202412") == "TIMESTAMP '2024-12-01 00:00:00+00'"
    assert BY_ARRIVAL.arrival(OTHERS) == "CAST(NULL AS TIMESTAMP)"
