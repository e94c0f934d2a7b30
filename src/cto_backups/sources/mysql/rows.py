"""The numbers that a table comes to, whatever the order of its rows, and how far sequences have come.

``mysql/1``: of each table the number of its rows, and two sums over the first and second 8 bytes (as numbers without
sign) of the SHA-256 of each row. A row is, for one column after the other, ``-`` for null, or else the length of its
value in bytes, a colon, and the value; of a long one its own SHA-256 instead. Values of text are the bytes that are
stored, in the column's own character set; of others, the text that the server prints of them in UTC.

Sums and not exclusive ors: those do not see a pair of equal rows that is lost. Decimal, as a plain ``SUM(CONV(…))``
becomes a float without a word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pymysql

from cto_backups.sources.mysql.catalogue import Catalogue, Table
from cto_backups.sources.mysql.connection import Session, quoted, rows
from cto_backups.sources.mysql.left import mark

_COLUMNS: Final = """
    SELECT TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), UPPER(COALESCE(GENERATION_EXPRESSION, ''))
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND CAST(TABLE_SCHEMA AS BINARY) = %s
    ORDER BY TABLE_NAME, COLUMN_NAME
"""
_GEOMETRY: Final = frozenset(
    [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    ]
)
_LONG: Final = frozenset(["blob", "mediumblob", "longblob", "text", "mediumtext", "longtext", "vector"])
_ROW_TIMES: Final = ("ROW START", "ROW END")
_COUNTED: Final = """
    SELECT {mark}COUNT(*),
        COALESCE(SUM(CAST(CONV(SUBSTR({digest}, 1, 16), 16, 10) AS DECIMAL(20, 0)) + {marker}), 0),
        COALESCE(SUM(CAST(CONV(SUBSTR({digest}, 17, 16), 16, 10) AS DECIMAL(20, 0))), 0)
    FROM {table}
"""
_MARKER: Final = 10**30
"""Added for each row that has a digest: a sum leaves out null, which is what a server makes of a text too long."""
_AUTO: Final = """
    SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = %s AND CAST(TABLE_SCHEMA AS BINARY) = %s
    AND AUTO_INCREMENT IS NOT NULL AND TABLE_TYPE <> 'SEQUENCE' ORDER BY TABLE_NAME
"""
_COUNTING: Final = """
    SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = %s AND CAST(TABLE_SCHEMA AS BINARY) = %s AND EXTRA LIKE '%%auto_increment%%'
    ORDER BY TABLE_NAME
"""


@dataclass(frozen=True, slots=True)
class TableSums:
    """What is said of one table: how many rows, and the two sums."""

    name: str
    rows: int
    sums: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SequenceAt:
    """The next number that a sequence, or a column with AUTO_INCREMENT, would give."""

    name: str
    rising: bool
    next: int

    def reached(self, before: "SequenceAt") -> bool:
        """Whether it has come at least as far as it had before."""
        return self.next >= before.next if self.rising else self.next <= before.next


def tables(
    session: Session, made_of: Catalogue, *, history: bool, beside: Session | None = None
) -> Iterator[TableSums]:
    """Every table of a database, as the session's snapshot shows it. Raises pymysql.MySQLError.

    Those that are in no snapshot are read by `beside`, which holds them. `history` says that former rows of
    system-versioned tables count. What was read is let go of, where the server does so before the transaction ends.
    """
    columns: dict[str, list[tuple[str, str, str]]] = {}
    for table, *column in rows(session, _COLUMNS, made_of.name, made_of.name):
        columns.setdefault(str(table), []).append((str(column[0]), str(column[1]), str(column[2])))
    for table in made_of.tables:
        if table.is_elsewhere:
            continue
        statement = summing(made_of.name, table, columns.get(table.name, []), history=history)
        count, marked, second = _read(session, beside, made_of.name, table, statement)
        hashed, first = divmod(int(marked), _MARKER)
        if hashed != count:
            raise pymysql.DataError(0, f"{count - hashed} rows of {made_of.name}.{table.name} are too long to be read")
        yield TableSums(table.name, int(count), (first, int(second)))


def summing(database: str, table: Table, columns: Sequence[tuple[str, str, str]], *, history: bool) -> str:
    """The statement that sums a table up; `columns` are name, type and what generates it, in capitals."""
    chosen = [(name, kind) for name, kind, made in columns if not (table.versioned and made in _ROW_TIMES)]
    if table.versioned and history:
        explicit = [(name, kind) for name, kind, made in columns if made in _ROW_TIMES]
        chosen += explicit or [("row_start", "timestamp"), ("row_end", "timestamp")]
    values = ", ".join(_value(quoted(name), kind) for name, kind in chosen)
    digest = f"SHA2(CONCAT({values}), 256)"
    place = f"{quoted(database)}.{quoted(table.name)}"
    if table.versioned and history:
        place += " FOR SYSTEM_TIME ALL"
    # Twice for each row: what a variable holds in one statement is of no order that a server promises.
    return _COUNTED.format(mark=mark(), digest=digest, marker=_MARKER, table=place)


def sequences(session: Session, made_of: Catalogue) -> list[SequenceAt]:
    """Every sequence that does not go round, and every AUTO_INCREMENT. They are in no snapshot, and only move on."""
    found = []
    for name in made_of.sequences:
        (row,) = rows(
            session,
            f"SELECT next_not_cached_value, increment, cycle_option FROM {quoted(made_of.name)}.{quoted(name)}",
        )
        upcoming, increment, goes_round = row
        if not goes_round:
            found.append(SequenceAt(f"sequence {name}", int(increment) >= 0, int(upcoming)))
    # MySQL tells a number also of tables without such a column, once they were altered.
    counting = {table for table, _ in rows(session, _COUNTING, made_of.name, made_of.name)}
    found += [
        SequenceAt(f"next number of {name}", True, int(number))
        for name, number in rows(session, _AUTO, made_of.name, made_of.name)
        if name in counting
    ]
    return found


def committed_numbers(session: Session, made_of: Catalogue, beside: Session | None = None) -> dict[str, int]:
    """By the names of `sequences`, what follows the highest number that is in a row, as `tables` sees them.

    A number that was given to a row that is not there yet may never come, and its file may not know it.
    """
    columns = {str(table): str(column) for table, column in rows(session, _COUNTING, made_of.name, made_of.name)}
    found = {}
    for table in made_of.tables:
        if table.is_elsewhere or table.name not in columns:
            continue
        statement = f"SELECT MAX({quoted(columns[table.name])}) FROM {quoted(made_of.name)}.{quoted(table.name)}"
        (highest,) = _read(session, beside, made_of.name, table, statement)
        found[f"next number of {table.name}"] = int(highest or 0) + 1
    return found


def _read(session: Session, beside: Session | None, database: str, table: Table, statement: str) -> tuple[Any, ...]:
    """The only row that a statement gives, which reads a table: where it is seen, and let go of at once."""
    try:
        if beside is not None and table.is_unsafe:
            (row,) = rows(beside, statement)
        else:
            rows(session, "SAVEPOINT looked")
            (row,) = rows(session, statement)
            rows(session, "ROLLBACK TO SAVEPOINT looked")
    except pymysql.MySQLError as error:
        error.add_note(f"while {database}.{table.name} was read")
        raise
    return row


def _value(column: str, kind: str) -> str:
    if kind in _LONG:
        return f"IF({column} IS NULL, '-', SHA2({column}, 256))"
    if kind == "json":
        # A dump has decimals and moments in it as text, which then are other numbers, or text, that look the same.
        return f"IF({column} IS NULL, '-', SHA2(CAST(CAST(CAST({column} AS CHAR) AS JSON) AS CHAR), 256))"
    if kind in _GEOMETRY:
        return f"IF({column} IS NULL, '-', SHA2(HEX({column}), 256))"
    if kind == "bit":
        told = f"HEX({column})"
    elif kind in ("float", "double"):
        told = f"IF({column} = 0, '0', CAST({column} AS CHAR))"  # a dump has no zero below zero
    else:
        told = f"CAST({column} AS BINARY)"
    return f"IF({column} IS NULL, '-', CONCAT(LENGTH({told}), ':', {told}))"
