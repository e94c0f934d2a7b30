"""Rows are summed up by their bytes, so that nothing which is written differently counts as the same."""

import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from cto_backups.sources.postgresql.connection import Address
from cto_backups.sources.postgresql.hashes import COLUMNS, SEEDED, SHA_256, RowHash
from cto_backups.sources.postgresql.rows import Session, names_of, tables
from servers import postgresql
from servers.postgresql import Server

HASHES = {"postgresql/1": SHA_256, "postgresql/2": SEEDED, "postgresql/3": COLUMNS}
INSENSITIVE = "COLLATE public.insensitive"


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs) as made:
        made.do("CREATE TYPE public.mood AS ENUM ('sad', 'glad')")
        made.do("CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        yield made


@pytest.fixture(scope="module")
def newer(newer_postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(newer_postgresql_programs) as made:
        yield made


def sums(session: Session, row_hash: RowHash = COLUMNS) -> tuple[int, tuple[str, ...]]:
    """The rows and the sums of the only table."""
    table, large_objects = tables(session, row_hash)
    assert large_objects.rows == 0
    return table.rows, table.sums


def at(server: Server) -> Session:
    """A session as a source has it, in which things may be made."""
    return Address(host=str(server.place), user="postgres").connect("postgres", read_only=False)


@pytest.mark.parametrize(
    ("column", "before", "after"),
    [
        ("numeric", "('1.0')", "('1.00')"),
        ("float8", "('0')", "('-0')"),
        ("interval", "('1 day')", "('24 hours')"),
        ("interval", "('1 month')", "('30 days')"),
        (f"text {INSENSITIVE}", "('Word')", "('word')"),
        ("json", "('{}')", "('{ }')"),
        ("jsonb", "('1.0')", "('1.00')"),
        ("int[]", "('{1,2}')", "('[0:1]={1,2}')"),
        ("text", "('')", "(NULL)"),
        ("bytea", "('')", "('\\x00')"),
        ("text, y text", "('ab', 'c')", "('a', 'bc')"),
        ("text, y text", "('a', NULL)", "(NULL, 'a')"),
        ("int, y text", "(1, 'a'), (2, 'b')", "(1, 'b'), (2, 'a')"),
        ("int", "(1), (1), (2), (2)", "(1), (1), (3), (3)"),
        ("int", "(1), (1), (2), (2)", "(1), (2), (3), (4)"),
        ("int8", "(1), (4)", "(2), (3)"),
        ("int8", "(0)", "(4294967296)"),
        ("int8", "(1)", "(4294967296)"),
        ("int8", "(-1)", "(4294967295)"),
        ("int8", "(0)", "(NULL)"),
        ("int2", "(1)", "(-1)"),
        ("int2, y int4", "(0, NULL)", "(NULL, 0)"),
        ("int4, y int4", "(1, 2), (3, 4)", "(1, 4), (3, 2)"),
        ("numeric(8, 2)", "('1.5')", "('-1.5')"),
        ("numeric(8, 2)", "('0')", "('NaN')"),
        ("numeric(8, 2)", "('0')", "(NULL)"),
        ("numeric(8, 2)", "('10')", "('1000')"),
        ("numeric", "('NaN')", "('Infinity')"),
        ("bool", "(false)", "(NULL)"),
        ("bool", "(false)", "(true)"),
        ("uuid", "('00000000-0000-0000-0000-000000000000')", "(NULL)"),
        ("date", "('infinity')", "('-infinity')"),
        ("timestamptz", "('2000-01-01 00:00:00.000001Z')", "('2000-01-01 01:11:34.967296Z')"),
        ("timestamptz", "('infinity')", "('-infinity')"),
        ("char(3)", "('a')", "('b')"),
        ("text", "('a')", "('a ')"),
        ("public.mood", "('sad')", "('glad')"),
        ("point", "('1,2')", "('2,1')"),
    ],
)
@pytest.mark.parametrize("algorithm", HASHES)
def test_what_is_not_the_same_bytes_has_other_sums(
    server: Server, algorithm: str, column: str, before: str, after: str
) -> None:
    """Equal values in other words, values in other places, pairs that cancel out elsewhere."""
    with at(server) as session:
        found = []
        for rows in (before, after):
            session.execute(f"CREATE TABLE public.t (x {column})")
            session.execute(f"INSERT INTO public.t VALUES {rows}")
            found.append(sums(session, HASHES[algorithm]))
            session.execute("DROP TABLE public.t")
    assert found[0][0] == found[1][0]
    assert all(one != other for one, other in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("name", ["server", "newer"])
def test_the_algorithms_are_what_the_reference_says(name: str, request: pytest.FixtureRequest) -> None:
    """Points are compared years later, and restored by newer servers: whatever the version, sums stay as they are."""
    server: Server = request.getfixturevalue(name)
    with at(server) as session:
        session.execute("CREATE TABLE public.t (b int, a text, c numeric, d boolean)")
        session.execute(
            "INSERT INTO public.t VALUES (7, 'word', 1.50, true), (NULL, 'é', 0, NULL), (7, 'word', 1.50, true)"
        )
        old, former = sums(session, SHA_256), sums(session, SEEDED)
        session.execute("DROP TABLE public.t")
        session.execute(
            "CREATE TABLE public.t (a int8, b int4, c int2, d text, e varchar, f uuid, g numeric(9, 3), h bool,"
            " i numeric, j jsonb, k json, l timestamptz, m text[], n float8, o bytea, p char(4), q inet, r date)"
        )
        session.execute(
            "INSERT INTO public.t VALUES (-9876543210, 7, -3, 'é', 'word', '3f9d1a70-8e0c-4c55-9b2e-0123456789ab',"
            " -1.5, true, 1.50, '{\"a\": 1.0}', '{ }', '2026-11-29 12:00:00.5Z', '{a,NULL}', 0.1, '\\x00ff', 'ab',"
            " '10.0.0.1', '2026-11-29')"
        )
        session.execute("INSERT INTO public.t (a) VALUES (NULL)")
        new = sums(session, COLUMNS)
        session.execute("DROP TABLE public.t")
    one = _sent(
        (25, b"word"), (23, struct.pack(">i", 7)), (1700, bytes.fromhex("000200000000000200011388")), (16, b"\1")
    )
    two = _sent((25, "é".encode()), (23, None), (1700, bytes(8)), (16, None))
    digests = [sha256(one).digest(), sha256(two).digest(), sha256(one).digest()]
    expected = [sum(struct.unpack(">q", digest[n : n + 8])[0] for digest in digests) for n in (0, 8)]
    assert old == (3, (str(expected[0]), str(expected[1])))
    assert former == (3, ("10353867231083353770", "12487690239224642021"))
    assert new == (2, ("-5763414366466293435",))


def test_every_value_of_a_wide_table_counts(server: Server) -> None:
    """There are more columns than go into one number at once, and none of them is left out."""
    kinds = ("int8", "text", "int4", "jsonb", "numeric(6, 1)", "date", "bool")
    columns = [f"c{place:04} {kinds[place % len(kinds)]}" for place in range(1200)]
    with at(server) as session:
        session.execute(f"CREATE TABLE public.t ({', '.join(columns)})")
        session.execute("INSERT INTO public.t (c0000) VALUES (1)")
        seen = {sums(session)}
        others = {"int8": "7", "text": "'x'", "int4": "7", "jsonb": "'7'", "numeric(6, 1)": "7", "date": "'epoch'"}
        for place in (*range(0, 240, 3), 1198, 1199):
            session.execute(f"UPDATE public.t SET c{place:04} = {others.get(kinds[place % len(kinds)], 'true')}")
            seen.add(sums(session))
        session.execute("DROP TABLE public.t")
    assert len(seen) == 1 + 80 + 2


def test_a_table_without_columns_has_rows(server: Server) -> None:
    with at(server) as session:
        session.execute("CREATE TABLE public.t ()")
        session.execute("INSERT INTO public.t DEFAULT VALUES")
        assert sums(session) == (1, ("1",))
        session.execute("DROP TABLE public.t")


def _sent(*columns: tuple[int, bytes | None]) -> bytes:
    """What record_send gives: the number of columns, then the type, size and bytes of each."""
    parts = [struct.pack(">i", len(columns))]
    for number, value in columns:
        parts.append(struct.pack(">Ii", number, -1 if value is None else len(value)) + (value or b""))
    return b"".join(parts)


def test_one_more_process_helps_where_the_server_lets_it(newer: Server) -> None:
    """It sees the same moment, and there is one at most, whatever the server would give."""
    rows = "SELECT n, 'row ' || n AS word FROM generate_series(1, 20000) n"
    newer.do(f"CREATE TABLE t WITH (parallel_workers = 4) AS {rows}", "ANALYZE t")
    launched = "SELECT parallel_workers_launched FROM pg_stat_database WHERE datname = current_database()"
    found = {}
    with at(newer) as holding:
        holding.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        (snapshot,) = holding.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        newer.do("DELETE FROM t WHERE n % 2 = 0")
        for allowed in (0, 4):
            ((before,),) = newer.do(launched)
            with at(newer) as session:
                session.execute("SET parallel_setup_cost = 0")
                session.execute(f"SET max_parallel_workers_per_gather = {allowed}")
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                session.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                found[allowed] = sums(session)
            ((after,),) = newer.do(launched)
            assert after - before == (1 if allowed else 0)
    newer.do("DROP TABLE public.t")
    assert found[4] == found[0]
    assert found[0][0] == 20_000


def test_no_two_tables_are_called_alike_and_others_keep_their_names() -> None:
    pairs = [("a", "b"), ("a.b", "c"), ("a", "b.c"), ("x.y", "z"), ('"a', 'b"."c"'), ('"a.b"', '"c"')]
    assert names_of(pairs[:4]) == ["a.b", '"a.b"."c"', '"a"."b.c"', "x.y.z"]
    assert len(set(names_of(pairs))) == len(pairs)
    assert names_of(pairs)[0] == "a.b"
