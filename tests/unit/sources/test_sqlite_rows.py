"""The fingerprint of rows tells different rows apart, whatever lies in them, and depends on no order."""

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from hashlib import blake2b, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.sources.sqlite.rows import ALGORITHM, IN_CLEAR, SAMPLES_PER_TABLE, canonical, fingerprint, rendered

KEY = b"k" * 16
VEILED = {"rowid": b"i1;", "a": b"t1:x", "b": b"i7;"}
values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=6),
    st.binary(max_size=6).map(bytearray),
)
rows = st.lists(values, min_size=1, max_size=4)


def typed(row: list[object]) -> list[tuple[str, str]]:
    """What makes a row what it is; `repr` tells -0.0 from 0.0."""
    return [(type(value).__name__, repr(value)) for value in row]


def of(
    script: str, *more: tuple[str, Iterable[tuple[object, ...]]], algorithm: str = ALGORITHM, key: bytes = KEY
) -> Fingerprint:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(script)
        for statement, rows in more:
            database.executemany(statement, rows)
        return fingerprint(database, key, algorithm)


@given(rows, rows)
def test_different_rows_have_different_records(one: list[object], two: list[object]) -> None:
    assert (canonical(one) == canonical(two)) == (typed(one) == typed(two))  # type: ignore[arg-type]


def test_a_record_is_what_the_format_says() -> None:
    row = (None, -5, 1.5, bytearray("ä".encode()), b"\0")
    assert canonical(row) == b"n" + b"i-5;" + b"f\x3f\xf8\0\0\0\0\0\0" + b"t2:\xc3\xa4" + b"b1:\0"
    found = of("CREATE TABLE t (a, b)", ("INSERT INTO t VALUES (?, ?)", [("x", 7)]))
    assert found.checksums["table:t"] == sha256(b"i1;" + b"t1:x" + b"i7;").hexdigest()
    assert found.counts == {"tables": 1, "rows": 1, "rows:t": 1, "user_version": 0, "application_id": 0}


stored = st.one_of(
    st.none(), st.integers(-9, 9), st.floats(allow_nan=False), st.binary(max_size=2), st.text(max_size=2)
)
keyed = st.lists(st.tuples(st.text(max_size=3), stored), max_size=12, unique_by=lambda row: row[0])
SCRIPT = "CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID"


@given(keyed, st.randoms())
def test_the_order_of_rows_does_not_matter(given_rows: list[tuple[str, object]], random: object) -> None:
    shuffled = list(given_rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    insert = "INSERT INTO t VALUES (?, ?)"
    assert of(SCRIPT, (insert, given_rows)) == of(SCRIPT, (insert, shuffled))


@given(st.integers(0, 9), st.integers(0, 9))
def test_equal_rows_do_not_cancel_out(one: int, two: int) -> None:
    script = "CREATE TABLE t (rowid, _rowid_, oid)"  # its columns hide the rowid: rows can be wholly equal
    sums = [of(script, ("INSERT INTO t VALUES (1, 2, 3)", [()] * times)).checksums["table:t"] for times in (one, two)]
    assert (sums[0] == sums[1]) == (one == two)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1", "'1'"),
        ("1", "1.0"),
        ("'x'", "CAST('x' AS BLOB)"),
        ("NULL", "''"),
        ("NULL", "0"),
        ("9e999", "-9e999"),
        ("9223372036854775807", "9223372036854775806"),
        ("CAST(x'ff' AS TEXT)", "CAST(x'fe' AS TEXT)"),
        ("0.1 + 0.2", "0.3"),
    ],
)
def test_values_that_look_alike_are_told_apart(before: str, after: str) -> None:
    sums = [of(f"CREATE TABLE t (a); INSERT INTO t VALUES ({value})").checksums["table:t"] for value in (before, after)]
    assert sums[0] != sums[1]


def test_values_swapped_between_rows_show() -> None:
    insert = "INSERT INTO t VALUES (?, ?)"
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    straight, swapped = of(script, (insert, [(1, "a"), (2, "b")])), of(script, (insert, [(1, "b"), (2, "a")]))
    assert straight.checksums["table:t"] != swapped.checksums["table:t"]
    assert straight.counts == swapped.counts


def test_a_changed_value_shows_in_its_sample_field_by_field() -> None:
    insert = "INSERT INTO t VALUES (?, ?)"
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    rows = [(number, f"value {number}") for number in range(200)]
    before = of(script, (insert, rows))
    assert len(before.samples) == SAMPLES_PER_TABLE
    number = int(of(script, (insert, rows), algorithm=IN_CLEAR).samples[0].fields["id"].split()[1])
    rows[number] = (number, "another")
    after = of(script, (insert, rows), algorithm=IN_CLEAR)
    assert f"t: integer {number}" in {sample.key for sample in after.samples}
    assert "text another" in {sample.fields["v"] for sample in after.samples}
    after = of(script, (insert, rows))
    assert [sample.key for sample in after.samples] == [sample.key for sample in before.samples]
    differing = [(one.fields, two.fields) for one, two in zip(before.samples, after.samples, strict=True) if one != two]
    ((one, two),) = differing
    assert {name for name in one if one[name] != two[name]} == {"v"}


def test_a_sampled_value_stands_as_the_format_says() -> None:
    found = of("CREATE TABLE t (a, b)", ("INSERT INTO t VALUES (?, ?)", [("x", 7)]))
    digests = {name: blake2b(text, digest_size=16, key=KEY).hexdigest() for name, text in VEILED.items()}
    (sample,) = found.samples
    assert (found.algorithm, sample.fields, sample.key) == ("sqlite/2", digests, f"t: {digests['rowid']}")
    assert digests["a"] == "9bf757564e88e21ca5e71c78f272b467"
    clear = of("CREATE TABLE t (a, b)", ("INSERT INTO t VALUES (?, ?)", [("x", 7)]), algorithm=IN_CLEAR)
    assert clear.samples == (Sample("t: integer 1", {"rowid": "integer 1", "a": "text x", "b": "integer 7"}),)
    assert (clear.algorithm, clear.checksums) == ("sqlite/1", found.checksums)


def test_no_value_of_a_row_is_kept() -> None:
    """Evidence is read by others than the owner of the rows; equal values cannot be told across fingerprints either."""
    script = "CREATE TABLE people (name TEXT PRIMARY KEY, salary REAL, photo BLOB) WITHOUT ROWID;"
    insert = "INSERT INTO people VALUES (?, ?, ?)"
    found = of(script, (insert, [("Erika Mustermann", 4711.5, b"secret bytes")]))
    (sample,) = found.samples
    assert set(sample.fields) == {"name", "salary", "photo"}
    said = repr(found)
    assert all(word not in said for word in ("Erika", "4711", b"secret".hex()))
    other = of(script, (insert, [("Erika Mustermann", 4711.5, b"secret bytes")]), key=b"another key")
    assert other.samples[0].fields.keys() == sample.fields.keys()
    assert not set(other.samples[0].fields.values()) & set(sample.fields.values())


@pytest.mark.parametrize(
    "name", ['we"ird', "select", "a b", "[x]", "x'y", "ünïcode", "semi;colon", "-- no comment", "%s"]
)
def test_strange_names_of_tables_and_columns_are_read(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    found = of(f"CREATE TABLE {quoted} ({quoted}, other); INSERT INTO {quoted} VALUES (1, 2), (3, 4)")
    assert found.counts[f"rows:{name}"] == 2
    assert set(found.samples[0].fields) == {"rowid", name, "other"}


def test_generated_columns_count_only_where_they_are_stored() -> None:
    found = of(
        "CREATE TABLE t (a, v GENERATED ALWAYS AS (a || '!') VIRTUAL, s GENERATED ALWAYS AS (a || '?') STORED);"
        "INSERT INTO t (a) VALUES ('x')",
        algorithm=IN_CLEAR,
    )
    assert found.samples[0].fields == {"rowid": "integer 1", "a": "text x", "s": "text x?"}


def test_what_a_virtual_table_holds_is_read_from_its_shadow_tables() -> None:
    script = "CREATE VIRTUAL TABLE search USING fts5 (body);"
    before, after = (of(script + f"INSERT INTO search VALUES ('{text}')") for text in ("hello", "other"))
    assert before.counts["rows:search_content"] == 1
    assert "rows:search" not in before.counts
    assert before.checksums["table:search_content"] != after.checksums["table:search_content"]


def test_the_rowid_counts_where_columns_take_some_of_its_names() -> None:
    sums = [
        of(f"CREATE TABLE t (rowid, oid); INSERT INTO t (_rowid_, rowid, oid) VALUES ({number}, 1, 2)").checksums
        for number in (1, 2)
    ]
    assert sums[0]["table:t"] != sums[1]["table:t"]


def test_schema_views_triggers_and_versions_show() -> None:
    base = of("CREATE TABLE t (a)")
    for change in ("CREATE VIEW v AS SELECT 1", "CREATE INDEX i ON t (a)", "ALTER TABLE t ADD COLUMN b"):
        assert of(f"CREATE TABLE t (a); {change}").checksums["schema"] != base.checksums["schema"]
    assert of("CREATE TABLE t (a); PRAGMA application_id = 5").counts["application_id"] == 5


def test_long_values_are_shown_by_their_digest() -> None:
    blob = b"\xff" * 5000
    assert rendered(blob) == f"blob of 5000 bytes, sha256 {sha256(blob).hexdigest()}"
    assert rendered(bytearray(b"a\nb")) == "text a\\x0ab"
    assert rendered(b"\0\xff") == "blob 00ff"
    assert [rendered(value) for value in (None, 5, math.inf)] == ["null", "integer 5", "real inf"]
