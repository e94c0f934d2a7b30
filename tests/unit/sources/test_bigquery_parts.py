"""What the BigQuery source does without asking anybody: Avro counted, partitions told apart, statements renamed."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.providers.google import OutOfTimeError, RefusedError
from cto_backups.sources.bigquery.avro import AvroRows, DamagedAvroError
from cto_backups.sources.bigquery.documents import file_name, lasting, made_of, written
from cto_backups.sources.bigquery.partitions import NULLS, OTHERS, WHOLE, Partitioning
from cto_backups.sources.bigquery.sums import PartitionSums, differing, table_digest
from cto_backups.sources.bigquery.views import renamed
from cto_backups.sources.bigquery.words import explained

SCHEMA: Any = {"type": "record", "name": "Root", "fields": [{"name": "n", "type": "long"}]}


def avro_file(rows: int, codec: str, interval: int) -> bytes:
    file = io.BytesIO()
    records = ({"n": number} for number in range(rows))
    fastavro.writer(file, SCHEMA, records, codec=codec, sync_interval=interval, metadata={"made by": "a test" * 9})
    return file.getvalue()


def count(content: bytes, cuts: list[int]) -> int:
    counted, begins = AvroRows(), 0
    for end in [*sorted(cut % (len(content) + 1) for cut in cuts), len(content)]:
        counted.add(memoryview(content)[begins:end])
        begins = end
    counted.end()
    return counted.rows


@given(
    st.integers(0, 300), st.sampled_from(["null", "deflate", "snappy"]), st.lists(st.integers(0, 1 << 16), max_size=9)
)
def test_rows_of_a_file_are_counted_however_it_is_cut_on_its_way(rows: int, codec: str, cuts: list[int]) -> None:
    assert count(avro_file(rows, codec, 50), cuts) == rows


@given(st.data())
def test_a_file_that_is_cut_short_inside_of_a_block_is_damaged(data: st.DataObject) -> None:
    content = avro_file(3, "snappy", 1 << 20)
    end = data.draw(st.integers(0, len(content) - 1))
    whole = content.index(content[-16:]) + 16  # where the settings end, and no block has begun
    if end == whole:
        return
    with pytest.raises(DamagedAvroError):
        count(content[:end], [])


def test_a_block_that_does_not_end_where_it_says_is_damaged() -> None:
    content = bytearray(avro_file(3, "null", 1 << 20))
    content[-1] ^= 1
    with pytest.raises(DamagedAvroError):
        count(bytes(content), [])
    with pytest.raises(DamagedAvroError):
        count(b"{}" * 20, [])


def by(unit: str, kind: str = "DATE") -> Partitioning:
    table = {"timePartitioning": {"type": unit, "field": "Day"}, "schema": {"fields": [{"name": "day", "type": kind}]}}
    return Partitioning.of(table)


def test_a_table_without_partitions_has_one_part() -> None:
    table = Partitioning.of({"schema": {"fields": []}})
    assert table.expression() == f"'{WHOLE}'"
    assert table.excluding([]) == "TRUE"
    assert table.excluding([WHOLE]) == "FALSE"


def holds(condition: str, value: Any, column: str = "Day") -> bool:
    """Whether a condition as these holds, evaluated as BigQuery would: with a null, nothing does but IS NULL."""

    def one(part: str) -> bool:
        part = part.strip().strip("()")
        for quoted in (f"`{column}`", "_PARTITIONTIME"):
            part = part.replace(quoted, "x")
        if part == "x IS NULL":
            return value is None
        if part == "x IS NOT NULL":
            return value is not None
        if part in ("TRUE", "FALSE"):
            return part == "TRUE"
        if value is None:
            return False
        _, sign, bound = part.split(" ", 2)
        limit: Any = int(bound) if bound.lstrip("-").isdigit() else bound.split("'")[1].removesuffix("+00")
        found = value if isinstance(value, int) else value.strftime("%Y-%m-%d %H:%M:%S")[: len(limit)]
        return bool(found >= limit) if sign == ">=" else bool(found < limit)

    return any(
        all(one(part) for part in either.strip().strip("()").split(" AND ")) for either in condition.split(" OR ")
    )


@given(
    st.sampled_from(["HOUR", "DAY", "MONTH", "YEAR"]),
    st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), max_size=8),  # noqa: DTZ001 - BigQuery's own calendar
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001
    st.booleans(),
)
def test_what_is_known_is_not_scanned_and_all_else_is(
    unit: str, known: list[datetime], moment: datetime, nulls: bool
) -> None:
    form = {"HOUR": "%Y%m%d%H", "DAY": "%Y%m%d", "MONTH": "%Y%m", "YEAR": "%Y"}[unit]
    ids = {each.strftime(form) for each in known} | ({NULLS} if nulls else set())
    condition = by(unit, "TIMESTAMP").excluding(ids)
    assert holds(condition, moment) == (moment.strftime(form) not in ids)
    assert holds(condition, None) == (not nulls)


@given(st.sets(st.integers(0, 9).map(lambda tenth: str(tenth * 10))), st.integers(-30, 130), st.booleans())
def test_of_numbers_too(known: set[str], number: int, others: bool) -> None:
    rule = {"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}}
    table = Partitioning.of({"rangePartitioning": rule, "schema": {"fields": []}})
    ids = known | ({OTHERS} if others else set())
    is_in = OTHERS if not 0 <= number < 100 else str(number - number % 10)
    assert holds(table.excluding(ids), number, "n") == (is_in not in ids)
    assert "MOD(`n` - 0, 10)" in table.expression()


def test_many_gaps_are_not_told_one_by_one() -> None:
    days = [(date(2000, 1, 1) + timedelta(days=2 * number)).strftime("%Y%m%d") for number in range(1000)]
    assert by("DAY").excluding(days) == "(`Day` IS NOT NULL) OR `Day` IS NULL"


def test_rows_that_came_by_themselves_are_cut_by_when_they_came() -> None:
    table = Partitioning.of({"timePartitioning": {"type": "DAY"}, "schema": {"fields": []}})
    assert table.is_by_arrival
    assert "_PARTITIONTIME" in table.expression()
    assert table.excluding(["20240101"]).startswith("(_PARTITIONTIME < TIMESTAMP '2024-01-01 00:00:00+00')")


def test_a_partition_without_rows_is_as_one_that_is_not_there() -> None:
    one = {"a": PartitionSums(2, (-5, 7))}
    assert table_digest(one) == table_digest({**one, "b": PartitionSums(0, (0, 0))})
    assert table_digest(one) != table_digest({"a": PartitionSums(2, (5, 7))})
    assert table_digest(one) != table_digest({"b": one["a"]})
    assert differing(one, {"a": PartitionSums(3, (-5, 7))}) == ["a (3 rows, 2 expected)"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM shop.orders", "SELECT * FROM back.orders"),
        ("SELECT * FROM `acme-x.shop.orders` o", "SELECT * FROM `acme-x.back.orders` o"),
        ("SELECT * FROM `acme-x`.`shop`.`orders`", "SELECT * FROM `acme-x`.`back`.`orders`"),
        ("SELECT acme-x.shop.twice(1) -- shop.orders", "SELECT acme-x.back.twice(1) -- shop.orders"),
        ("SELECT 'shop.orders', \"shop.x\" FROM shop.a", "SELECT 'shop.orders', \"shop.x\" FROM back.a"),
        ("SELECT * FROM other.shop.orders", "SELECT * FROM other.shop.orders"),
        ("SELECT * FROM workshop.orders, shop_old.orders", "SELECT * FROM workshop.orders, shop_old.orders"),
        ("SELECT r'\\'' /* shop.a */ FROM shop.b", "SELECT r'\\'' /* shop.a */ FROM back.b"),
    ],
)
def test_a_statement_names_the_dataset_anew_and_nothing_else(statement: str, expected: str) -> None:
    assert renamed(statement, "acme-x", "shop", "back") == expected


def test_names_become_names_of_files_that_differ() -> None:
    names = ["plain", "with space", "ä", "a/b", "..", ".", "x" * 900, "x" * 901]
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(len(each) <= 255 and "/" not in each and each.strip(".") for each in found)


def test_descriptions_are_kept_without_what_changes_by_itself() -> None:
    told = {"numRows": "4", "number": 1, "etag": "x", "schema": {"fields": []}, "lastModifiedTime": "1"}
    assert lasting(told) == {"number": 1, "schema": {"fields": []}}
    by_day = {"timePartitioning": {"type": "DAY", "expirationMs": "1"}}
    fields = [{"name": "n", "type": "INTEGER", "policyTags": {"names": ["secret"]}, "description": ""}]
    made = made_of({**by_day, "schema": {"fields": fields}, "labels": {}})
    assert made == {
        "timePartitioning": {"type": "DAY"},
        "schema": {"fields": [{"name": "n", "type": "INTEGER", "mode": "NULLABLE"}]},
    }


@pytest.mark.parametrize(
    ("error", "why", "todo"),
    [
        (
            RefusedError(
                403, "accessDenied", "User does not have bigquery.tables.export permission for table x", needs="other"
            ),
            "bigquery.tables.export",
            "protect-bigquery.md",
        ),
        (RefusedError(403, "forbidden", "Forbidden", needs="storage.objects.list"), "storage.objects.list", "Give it"),
        (RefusedError(403, "quotaExceeded", "Quota exceeded", needs="x"), "quota", "raised"),
        (
            RefusedError(403, "accessNotConfigured", "API is off", needs="x"),
            "not switched on",
            "gcloud services enable",
        ),
        (RefusedError(403, "billingNotEnabled", "no billing", needs="x"), "pay", "billing"),
        (RefusedError(401, "authError", "Invalid Credentials", needs="x"), "does not take", "Log in"),
        (
            RefusedError(404, "notFound", "Not found: Dataset", needs="bigquery.tables.get"),
            "notFound",
            "bigquery.tables.get",
        ),
        (RefusedError(302, "", "Found", needs="x"), "sends elsewhere", "endpoint"),
        (RefusedError(400, "invalid", "Invalid value", needs="x"), "Invalid value", "audit log"),
        (OutOfTimeError(), "backup_timeout", "Raise it"),
        (OSError("no route"), "no route", "network"),
    ],
)
def test_what_google_refuses_is_told_with_what_to_do(error: Exception, why: str, todo: str) -> None:
    told, what = explained(error)
    assert why in told
    assert todo in what


def test_moments_are_in_utc() -> None:
    from cto_backups.sources.bigquery.inventory import _moment

    assert _moment("1700000000000") == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert _moment(None) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner)
        ),
        max_leaves=15,
    )
)
def test_a_description_is_written_as_json_with_an_indent(document: Any) -> None:
    """Digests of points that were made before rest on it."""
    assert written(document) == json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
