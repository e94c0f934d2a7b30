"""Rows of MariaDB are summed up by what stands in them: nothing that is written otherwise counts as the same."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources.mysql import rows as mysql_rows
from cto_backups.sources.mysql import summing
from cto_backups.sources.mysql.catalogue import Catalogue, Table
from cto_backups.sources.mysql.connection import Address, Session
from cto_backups.sources.mysql.hashes import ALGORITHM, HASHES, Column, written
from cto_backups.sources.mysql.moment import fingerprint_of
from cto_backups.sources.mysql.rows import TableSums
from cto_backups.sources.mysql.summing import more_sessions, summed_up
from servers import mariadb, mysql
from servers.mariadb import Server

Row = tuple[bytes | None, ...]

OF_ANY = [
    ("decimal(9, 3)", "(1)", "(1.001)"),
    ("decimal(9, 3)", "(-1)", "(1)"),
    ("int", "(0)", "(NULL)"),
    ("int, y int", "(1, NULL)", "(NULL, 1)"),
    ("int, y int", "(1, 23)", "(12, 3)"),
    ("int, y int", "(1, 2), (3, 4)", "(1, 4), (3, 2)"),
    ("int", "(1), (1), (2), (2)", "(1), (1), (3), (3)"),
    ("int", "(1), (1), (2), (2)", "(1), (2), (3), (4)"),
    ("int", "(1), (4)", "(2), (3)"),
    ("bigint unsigned", "(18446744073709551615)", "(18446744073709551614)"),
    ("bigint", "(-1)", "(1)"),
    ("tinyint(1)", "(0)", "(NULL)"),
    ("int zerofill", "(0)", "(NULL)"),
    ("double", "(0.1)", "(0.10000000000000002)"),
    ("double", "(5e-324)", "(0)"),
    ("double", "(0)", "(NULL)"),
    ("float", "(0.1)", "(0.100001)"),
    ("float", "(0)", "(NULL)"),
    ("bit(9)", "(b'0')", "(NULL)"),
    ("bit(9)", "(b'100000000')", "(b'0')"),
    ("date", "('0000-00-00')", "(NULL)"),
    ("date", "('2026-00-00')", "('2026-00-01')"),
    ("datetime(6)", "('2026-01-01 00:00:00')", "('2026-01-01 00:00:00.000001')"),
    ("timestamp(3) NULL", "('2026-01-01 00:00:00')", "('2026-01-01 00:00:00.001')"),
    ("timestamp NULL", "('2026-10-25 00:30:00')", "('2026-10-25 01:30:00')"),
    ("time(2)", "('-00:00:01')", "('00:00:01')"),
    ("time(2)", "('00:00:00')", "(NULL)"),
    ("year", "(2026)", "(NULL)"),
    ("year", "(0)", "(2000)"),
    ("varchar(9)", "('')", "(NULL)"),
    ("varchar(9)", "('-')", "(NULL)"),
    ("varchar(9)", "('0')", "('')"),
    ("varchar(9)", "('Word')", "('word')"),
    ("varchar(9)", "('e')", "('é')"),
    ("varchar(9)", "('a')", "('a ')"),
    ("varchar(9), y varchar(9)", "('ab', 'c')", "('a', 'bc')"),
    ("varchar(9), y varchar(9)", "(NULL, '')", "('', NULL)"),
    ("varchar(9), y varchar(9)", "(NULL, 'a')", "('a', NULL)"),
    ("varchar(9), y varchar(9)", "(',', '')", "('', ',')"),
    ("varchar(9), y varchar(9)", "('a,b', 'c')", "('a', 'b,c')"),
    ("varchar(9) CHARSET latin1, y varchar(9) CHARSET utf8mb4", "('é', 'x')", "('e', 'x')"),
    ("varchar(9) CHARSET ucs2, y varchar(9) CHARSET latin1", "('a', 'b')", "('b', 'a')"),
    ("char(4)", "('ab')", "('a')"),
    ("char(4)", "('')", "(NULL)"),
    ("binary(4)", "(X'00')", "(X'01')"),
    ("binary(4)", "(X'00')", "(NULL)"),
    ("varbinary(4)", "(X'00')", "(X'0000')"),
    ("varbinary(4)", "(X'FF')", "(X'FE')"),
    ("enum('a', 'b', '')", "('a')", "('')"),
    ("enum('a', '')", "('')", "(NULL)"),
    ("set('a', 'b')", "('a')", "('a,b')"),
    ("set('a', 'b')", "('')", "(NULL)"),
    ("tinytext", "('')", "(NULL)"),
    ("tinyblob", "('x')", "('X')"),
    ("text", "('x')", "('X')"),
    ("longtext", "('')", "(NULL)"),
    ("longblob", "(X'00')", "(X'')"),
    ("json", "('{}')", "('[]')"),
    ("json", "('null')", "(NULL)"),
    ("json", """('{"a": 1.0}')""", """('{"a": 1.5}')"""),
    ("point", "(POINT(1, 2))", "(POINT(2, 1))"),
    ("geometry", "(POINT(0, 0))", "(NULL)"),
    ("int, y int AS (x * 2) VIRTUAL", "(1, DEFAULT)", "(2, DEFAULT)"),
]
"""Columns of a table, of which the first is called `x`, what stands there, and what must not count as that."""
OF_MYSQL = [
    ("json", """('{"a": 1.0}')""", """('{"a": 1}')"""),
    ("json", """('{"a": 1}')""", """('{"a": "1"}')"""),
    ("varchar(9) COLLATE utf8mb4_0900_ai_ci", "('e')", "('é')"),
    ("int, y int AS (x * 2) STORED", "(1, DEFAULT)", "(2, DEFAULT)"),
]
OF_MARIADB = [
    ("inet6", "('::')", "(NULL)"),
    ("inet6", "('::1')", "('::2')"),
    ("inet4", "('10.0.0.1')", "('10.0.0.2')"),
    ("uuid", "('00000000-0000-0000-0000-000000000000')", "(NULL)"),
    ("uuid", "('00000000-0000-0000-0000-000000000001')", "('00000000-0000-0000-0000-000000000002')"),
    ("varchar(9) COMPRESSED", "('a')", "('b')"),
    ("longtext COMPRESSED", "('a')", "('b')"),
]


def at(server: Server) -> Session:
    """A session as a source has it."""
    return Address(host=str(server.socket), user="root", password=lambda: mariadb.PASSWORD).connect()


def made_of_tables(session: Session, database: str) -> Catalogue:
    """A catalogue that knows the tables alone, which takes less."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT TABLE_NAME, LOWER(ENGINE), TABLE_TYPE = 'SYSTEM VERSIONED', DATA_LENGTH"
            " FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME",
            (database,),
        )
        tables = [Table(name, engine, bool(versioned), size) for name, engine, versioned, size in cursor.fetchall()]
    return Catalogue(database, {}, tables, [], frozenset(), frozenset(), "", [], {})


def sums(server: Server, *, algorithm: str = ALGORITHM, sessions: int = 1, database: str = "d") -> list[TableSums]:
    """What the tables of a database come to."""
    address = Address(host=str(server.socket), user="root", password=lambda: mariadb.PASSWORD)
    with ExitStack() as stack:
        every = more_sessions(address, stack, sessions)
        made_of = made_of_tables(every[0], database)
        for session in every:
            session.begin()
        (found,) = summed_up(every, [made_of], history=True, row_hash=HASHES[algorithm])
    return list(found.tables)


def alike(server: Server, pairs: Sequence[tuple[str, str, str]], database: str) -> dict[str, list[str]]:
    """Of these columns with rows before and after, those of which an algorithm sees no difference, or one too many."""
    statements = ["SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'"]
    for number, (column, before, after) in enumerate(pairs):
        for name, rows in ((f"t{number}_a", before), (f"t{number}_b", after), (f"t{number}_c", before)):
            statements.append(f"CREATE TABLE {name} (x {column}) ENGINE = MyISAM")  # which takes less than InnoDB's
            statements.append(f"INSERT INTO {name} VALUES {rows}")
    server.do(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    try:
        server.do(*statements, database=database)
        found: dict[str, list[str]] = {}
        for algorithm in HASHES:
            told = {table.name: table for table in sums(server, algorithm=algorithm, database=database)}
            found[algorithm] = [
                f"{column}: {before} and {after}"
                for number, (column, before, after) in enumerate(pairs)
                for one, other, same in [[told[f"t{number}_{letter}"] for letter in "abc"]]
                if one.rows != other.rows or one.sums == other.sums or one.sums != same.sums
            ]
        return found
    finally:
        server.do(f"DROP DATABASE {database}")


@pytest.fixture(scope="module")
def server(mariadbd: Path) -> Iterator[Server]:
    with mariadb.server(mariadbd) as made:
        made.do("CREATE DATABASE d CHARACTER SET utf8mb4")
        yield made


def test_what_is_not_the_same_has_other_sums(server: Server) -> None:
    """Values in other words, values in other places, pairs that cancel out elsewhere."""
    assert alike(server, [*OF_ANY, *OF_MARIADB], "pairs") == {algorithm: [] for algorithm in HASHES}


def test_what_no_dump_keeps_makes_no_difference(server: Server) -> None:
    """A zero below zero is a zero; and a float has the digits that the server prints."""
    assert_unseen(server)


def assert_unseen(server: Server) -> None:
    pairs = [("float", "(0e0)", "(-0e0)"), ("double", "(0e0)", "(0e0 * -1)"), ("float", "(0.1)", "(0.10000001)")]
    found = alike(server, pairs, "zeroes")
    assert all(len(told) == len(pairs) for told in found.values())


def test_scale_counts_that_a_column_has(server: Server) -> None:
    """A number that is printed with other zeros behind its point is of another column."""
    server.do("CREATE TABLE d.t1 (x decimal(9, 1))", "CREATE TABLE d.t2 (x decimal(9, 2))")
    server.do("INSERT INTO d.t1 VALUES (1)", "INSERT INTO d.t2 VALUES (1)")
    try:
        one, other = sums(server)
        assert one.sums != other.sums
    finally:
        server.do("DROP TABLE d.t1, d.t2")


def test_sums_are_of_digests_that_anybody_can_work_out(server: Server) -> None:
    """A former row of a versioned table counts too.

    Points are compared years later: whatever becomes of these statements, the numbers stay as they are.
    """
    server.do("CREATE TABLE d.versioned (n int PRIMARY KEY, v varchar(20)) WITH SYSTEM VERSIONING")
    server.do("INSERT INTO d.versioned VALUES (1, 'first'), (2, 'stays')", "UPDATE d.versioned SET v = 'x' WHERE n = 1")
    try:
        for algorithm in HASHES:
            assert [(table.name, table.rows) for table in sums(server, algorithm=algorithm)] == [("versioned", 3)]
    finally:
        server.do("DROP TABLE d.versioned")
    assert_known(server)


def assert_known(server: Server) -> None:
    """Two equal rows count twice, and null is not empty."""
    content = "INSERT INTO d.known VALUES ('same', 7, NULL), ('same', 7, NULL), ('', NULL, 'é')"
    server.do("CREATE TABLE d.known (a varchar(9), n int, t text CHARSET latin1)", content)
    try:
        former, now = (sums(server, algorithm=algorithm) for algorithm in ("mysql/1", "mysql/2"))
    finally:
        server.do("DROP TABLE d.known")
    long = sha256("é".encode("latin1")).hexdigest().encode()
    digests = [sha256(text).digest() for text in (b"4:same1:7-", b"4:same1:7-", b"0:-" + long)]
    both = tuple(sum(int.from_bytes(digest[place : place + 8], "big") for digest in digests) for place in (0, 8))
    assert former == [TableSums("known", 3, both)]
    digests = [sha256(text).digest() for text in (b"4,7,-,same", b"4,7,-,same", b"0,-," + long + b",")]
    assert now == [TableSums("known", 3, (sum(int.from_bytes(digest[:8], "big") for digest in digests),))]


# -- what a row is written as ------------------------------------------------------------------------------------------

COLUMNS = [
    Column("a", "int", nullable=False),
    Column("b", "decimal"),
    Column("c", "varchar"),
    Column("d", "varbinary", nullable=False),
    Column("e", "bigint"),
    Column("f", "varchar"),
]
TEXTS = frozenset({"varchar", "varbinary"})


def as_text(column: Column, row_written: bytes | None) -> bytes:
    if row_written is None:
        return b"-"
    return str(len(row_written)).encode() if column.type in TEXTS else row_written


def model(columns: Sequence[Column], row: Row) -> bytes:
    """A row as the server is to write it."""
    pairs = list(zip(columns, row, strict=True))
    heads = [as_text(column, value) for column, value in pairs]
    return b",".join([*heads, *(value for column, value in pairs if column.type in TEXTS and value is not None)])


def read_back(columns: Sequence[Column], content: bytes) -> Row:
    """The row that is written so: that there is one way to read it proves that no other is written alike."""
    *heads, rest = (content + b",").split(b",", len(columns))
    rest = rest[:-1]
    assert len(heads) == len(columns)
    found: list[bytes | None] = []
    for column, head in zip(columns, heads, strict=True):
        if head == b"-":
            found.append(None)
        elif column.type in TEXTS:
            found.append(rest[: int(head)])
            rest = rest[int(head) + 1 :]
        else:
            found.append(head)
    assert not rest
    return tuple(found)


def numbers(low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.integers(low, high).map(lambda number: str(number).encode())


TROUBLE = st.text(alphabet="-,0 1aAé😀\0", max_size=8).map(str.encode)
ROWS = st.tuples(
    numbers(-(2**31), 2**31 - 1),
    st.none() | st.decimals(-999, 999, places=2).map(lambda number: f"{number + Decimal('0.00'):.2f}".encode()),
    st.none() | TROUBLE,
    st.binary(max_size=8),
    st.none() | numbers(-(2**63), 2**63 - 1),
    st.none() | TROUBLE,
)


@given(ROWS)
def test_what_is_written_tells_the_row(row: Row) -> None:
    """So no two rows are written alike."""
    assert read_back(COLUMNS, model(COLUMNS, row)) == row


@given(ROWS, ROWS)
def test_no_two_rows_are_written_alike(one: Row, other: Row) -> None:
    assert (model(COLUMNS, one) == model(COLUMNS, other)) == (one == other)


def test_the_server_writes_rows_like_that(server: Server) -> None:
    assert_written_as_modelled(server)


def assert_written_as_modelled(server: Server) -> None:
    """The model of these tests is what the server does."""
    every: list[Row] = [
        (b"1", None, None, b"", None, None),
        (b"-1", b"-0.50", b"", b"-", b"0", b"-"),
        (b"0", b"0.00", b",", b"\0,\xff", b"-9223372036854775808", "é😀, ".encode()),
        (b"12", b"3.00", b"0", b"a\\'", b"1", b" a "),
    ]
    server.do(
        "CREATE TABLE d.t (n serial, a int NOT NULL, b decimal(9, 2), c varchar(20) CHARSET utf8mb4,"
        " d varbinary(20) NOT NULL, e bigint, f varchar(20) CHARSET utf8mb4)"
    )
    try:
        with closing(at(server)) as session, session.cursor() as cursor:
            for row in every:
                pairs = zip(COLUMNS, row, strict=True)
                values = [value if column.name == "d" or value is None else value.decode() for column, value in pairs]
                cursor.execute("INSERT INTO d.t (a, b, c, d, e, f) VALUES (%s, %s, %s, %s, %s, %s)", values)
            session.commit()
            cursor.execute(f"SELECT {written(COLUMNS)} FROM d.t ORDER BY n")
            assert [content for (content,) in cursor.fetchall()] == [model(COLUMNS, row) for row in every]
    finally:
        server.do("DROP TABLE d.t")


def test_every_value_of_a_wide_table_counts(server: Server) -> None:
    kinds = ("int", "varchar(9)", "double", "longtext", "date", "json")
    values = ("7", "'x'", "7", "'x'", "'2026-11-29'", "'[]'")
    columns = [f"c{place:04} {kinds[place % len(kinds)]}" for place in range(900)]
    server.do(f"CREATE TABLE d.t ({', '.join(columns)}) ENGINE = Aria", "INSERT INTO d.t () VALUES ()")
    try:
        seen = {sums(server)[0].sums}
        changed = (*range(6), 898, 899)
        for place in changed:
            server.do(f"UPDATE d.t SET c{place:04} = {values[place % len(kinds)]}")
            seen.add(sums(server)[0].sums)
        assert len(seen) == 1 + len(changed)
    finally:
        server.do("DROP TABLE d.t")


@pytest.mark.parametrize("algorithm", HASHES)
def test_a_row_that_the_server_cannot_digest_is_told(server: Server, algorithm: str) -> None:
    assert_too_long_is_told(server, algorithm)


def assert_too_long_is_told(server: Server, algorithm: str) -> None:
    """What is longer than a packet may be becomes null without a word, and a sum leaves that out."""
    columns = ", ".join(f"c{place} varbinary(9000)" for place in range(7))
    rows = ", ".join(["REPEAT('x', 9000)"] * 7)
    server.do(f"CREATE TABLE d.t ({columns}, c7 varbinary(2000))")
    server.do(f"INSERT INTO d.t VALUES ({rows}, NULL)")
    server.do(f"INSERT INTO d.t VALUES ({rows}, REPEAT('x', 2000))", "SET GLOBAL max_allowed_packet = 64512")
    try:
        with pytest.raises(pymysql.DataError, match=r"1 rows of d\.t are too long"):
            sums(server, algorithm=algorithm)
        server.do("SET GLOBAL max_allowed_packet = 16777216")
        assert sums(server, algorithm=algorithm)[0].rows == 2
    finally:
        server.do("SET GLOBAL max_allowed_packet = 16777216", "DROP TABLE d.t")


def test_servers_of_mysql_sum_up_as_those_of_mariadb_do(mysql_programs: Path) -> None:
    """All that was seen and told above, by MySQL's own servers."""
    with mysql.server(mysql_programs) as server:
        server.do("CREATE DATABASE d CHARACTER SET utf8mb4")
        assert alike(server, [*OF_ANY, *OF_MYSQL], "pairs") == {algorithm: [] for algorithm in HASHES}
        assert_unseen(server)
        assert_known(server)
        assert_written_as_modelled(server)
        for algorithm in HASHES:
            assert_too_long_is_told(server, algorithm)


# -- several at once ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parted(server: Server) -> Iterator[Server]:
    """A server with tables whose keys are whole numbers, of several kinds."""
    server.do(
        "CREATE TABLE d.a (n bigint unsigned PRIMARY KEY, v varchar(9))",
        "INSERT INTO d.a SELECT seq, seq FROM seq_1_to_3000",
        "INSERT INTO d.a VALUES (0, 'x'), (18446744073709551615, 'y')",
        "CREATE TABLE d.b (n int, m int, PRIMARY KEY (n, m))",
        "INSERT INTO d.b SELECT CAST(seq AS int) % 7 - 3, seq FROM seq_1_to_500",
        "CREATE TABLE d.c (n int PRIMARY KEY)",
        "CREATE TABLE d.e (n varchar(9) PRIMARY KEY, m int UNIQUE)",
        "INSERT INTO d.e SELECT seq, seq FROM seq_1_to_500",
        "CREATE TABLE d.f (n int PRIMARY KEY)",
        "INSERT INTO d.f VALUES (-7)",
        "CREATE TABLE d.g (n int PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO d.g SELECT seq FROM seq_1_to_50",
        database="d",
    )
    try:
        yield server
    finally:
        server.do("DROP TABLE d.a, d.b, d.c, d.e, d.f, d.g")


class Noted:
    """Statements that sessions carry out, of which the first two begin together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        self._sessions: set[int] = set()
        self._both = threading.Barrier(2, timeout=60)
        monkeypatch.setattr(summing, "read", self._read)

    def clear(self) -> None:
        self.statements.clear()
        self._sessions.clear()

    def _read(
        self, session: Session, beside: Session | None, database: str, table: Table, statement: str
    ) -> tuple[Any, ...]:
        self.statements.append(statement)
        if id(session) not in self._sessions:
            self._sessions.add(id(session))
            self._both.wait()
        return mysql_rows.read(session, beside, database, table, statement)


def test_parts_of_tables_add_up_to_them(parted: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the numbers are: far apart, few, below zero, none; and two sessions at once give what one does."""
    alone = {algorithm: sums(parted, algorithm=algorithm) for algorithm in HASHES}
    assert [table.rows for table in alone[ALGORITHM]] == [3002, 500, 0, 500, 1, 50]
    monkeypatch.setattr(mysql_rows, "_PART_BYTES", 512)
    noted = Noted(monkeypatch)
    for algorithm in HASHES:
        noted.clear()
        assert sums(parted, algorithm=algorithm, sessions=2) == alone[algorithm]
        parts = {name: sum(f"`d`.`{name}` FORCE INDEX" in each for each in noted.statements) for name in "abcefg"}
        assert parts.pop("a") > 10
        assert parts == {"b": 6, **dict.fromkeys("cefg", 0)}


def test_rows_of_a_table_are_looked_at_once_by_parts_of_it(parted: Server) -> None:
    """A server that looked through all of a table for each part would take many times as long."""
    with closing(at(parted)) as session:
        session.begin()
        made_of = made_of_tables(session, "d")
        table = replace(made_of.tables[1], size_bytes=40 << 30)
        parts = mysql_rows.readings(
            session, replace(made_of, tables=[table]), HASHES[ALGORITHM], history=True, in_parts=True
        )
        statements = [each.statement for each in parts]
        with session.cursor() as cursor:
            cursor.execute("FLUSH STATUS")
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            looked_at = {str(name): int(number) for name, number in cursor.fetchall()}
    assert len(statements) == 6
    assert looked_at["Handler_read_rnd_next"] == 0
    assert looked_at["Handler_read_next"] + looked_at["Handler_read_key"] <= 500 + 4 * 6


def test_a_session_that_breaks_is_told_though_another_goes_on(parted: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    Noted(monkeypatch)
    address = Address(host=str(parted.socket), user="root", password=lambda: mariadb.PASSWORD)
    with ExitStack() as stack:
        one, other = more_sessions(address, stack, 2)
        made_of = [made_of_tables(one, "d")]
        one.begin()
        parted.do(f"KILL {other.thread_id()}")  # type: ignore[no-untyped-call]
        with pytest.raises(pymysql.MySQLError):
            summed_up([one, other], made_of, history=True)
        with one.cursor() as cursor:
            cursor.execute("SELECT @@in_transaction")
            assert list(cursor.fetchall()) == [(0,)]


def test_one_session_does_where_the_server_lets_in_no_more(parted: Server) -> None:
    parted.do("CREATE USER few@localhost IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1")
    parted.do("GRANT SELECT ON d.* TO few@localhost")
    address = Address(host=str(parted.socket), user="few", password=lambda: "x")
    try:
        with ExitStack() as stack:
            every = more_sessions(address, stack, 2)
            assert len(every) == 1
            every[0].begin()
            (found,) = summed_up(every, [made_of_tables(every[0], "d")], history=True)
        assert list(found.tables) == sums(parted)
    finally:
        parted.do("DROP USER few@localhost")


def test_fingerprints_of_former_points_are_made_as_they_were(parted: Server) -> None:
    """The digest over all tables and the samples have as many sums as the algorithm makes."""
    with closing(at(parted)) as session:
        for algorithm, many in (("mysql/1", 2), ("mysql/2", 1)):
            session.begin()
            summed = summed_up([session], [made_of_tables(session, "d")], history=True, row_hash=HASHES[algorithm])
            told = fingerprint_of(summed, {}, 0, (), algorithm)
            content = [[each.name, str(each.rows), *map(str, each.sums)] for each in summed[0].tables]
            assert {len(each) for each in content} == {2 + many}
            expected = sha256("\n".join("\t".join(each) for each in content).encode()).hexdigest()
            assert told.algorithm == algorithm and told.checksums["d: rows"] == expected
            (sample,) = (each for each in told.samples if each.key == "d: table a")
            assert list(sample.fields) == ["rows", *(f"sum_{number}" for number in range(1, many + 1))]
