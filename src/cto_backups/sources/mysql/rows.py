"""The numbers that a table comes to, whatever the order of its rows, and how far sequences have come.

Sums over the numbers that `mysql_hashes` makes of each row, and not exclusive ors: those do not see a pair of equal
rows that is lost. And sums of parts of a table add up to the table's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import pymysql

from cto_backups.sources.mysql.catalogue import Catalogue, Table
from cto_backups.sources.mysql.connection import Session, quoted, rows
from cto_backups.sources.mysql.hashes import Column, RowHash

_COLUMNS: Final = """
    SELECT TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), UPPER(COALESCE(GENERATION_EXPRESSION, '')),
        IS_NULLABLE <> 'NO'
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND CAST(TABLE_SCHEMA AS BINARY) = %s
    ORDER BY TABLE_NAME, COLUMN_NAME
"""
_ROW_TIMES: Final = ("ROW START", "ROW END")
_LEADING: Final = """
    SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = %s AND CAST(TABLE_SCHEMA AS BINARY) = %s AND INDEX_NAME = 'PRIMARY' AND SEQ_IN_INDEX = 1
"""
_PART_BYTES: Final = 64 << 20
_MOST_PARTS: Final = 64
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
    """What is said of one table: how many rows, and the sums."""

    name: str
    rows: int
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement that sums up the rows of a table, or of a part of it, and about how many bytes it reads."""

    table: Table
    statement: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SequenceAt:
    """The next number that a sequence, or a column with AUTO_INCREMENT, would give."""

    name: str
    rising: bool
    next: int

    def reached(self, before: "SequenceAt") -> bool:
        """Whether it has come at least as far as it had before."""
        return self.next >= before.next if self.rising else self.next <= before.next


def readings(
    session: Session, made_of: Catalogue, row_hash: RowHash, *, history: bool, in_parts: bool
) -> Iterator[Reading]:
    """What sums up every table of a database that has rows of its own. Raises pymysql.MySQLError.

    `history` says that former rows of system-versioned tables count; `in_parts`, that a large table is read in several.
    """
    columns: dict[str, list[tuple[Column, str]]] = {}
    for table, name, kind, made, nullable in rows(session, _COLUMNS, made_of.name, made_of.name):
        columns.setdefault(str(table), []).append((Column(str(name), str(kind), bool(nullable)), str(made)))
    leading = dict(rows(session, _LEADING, made_of.name, made_of.name)) if in_parts else {}
    for table in made_of.tables:
        if table.is_elsewhere:
            continue
        there = columns.get(table.name, [])
        chosen = _chosen(table, there, history=history)
        place = f"{quoted(made_of.name)}.{quoted(table.name)}"
        parts = [""]
        if table.versioned and history:
            place += " FOR SYSTEM_TIME ALL"
        elif not table.is_unsafe and table.size_bytes >= 2 * _PART_BYTES:
            first = leading.get(table.name)
            if any(column.name == first and column.type.endswith("int") for column, _ in there):
                parts = _parts(session, made_of.name, table, str(first))
        for part in parts:
            yield Reading(table, row_hash.summing(chosen, place + part), table.size_bytes // len(parts))


def _chosen(table: Table, columns: Sequence[tuple[Column, str]], *, history: bool) -> list[Column]:
    """The columns that count, each of which comes with what generates it, in capitals."""
    chosen = [column for column, made in columns if not (table.versioned and made in _ROW_TIMES)]
    if table.versioned and history:
        explicit = [column for column, made in columns if made in _ROW_TIMES]
        chosen += explicit or [Column("row_start", "timestamp"), Column("row_end", "timestamp")]
    return chosen


def _parts(session: Session, database: str, table: Table, column: str) -> list[str]:
    """What stands after a table's name, so that each of its rows is in one of these parts.

    `column` comes first in its primary key, and is a whole number. Parts are alike where numbers are spread evenly.
    """
    name = quoted(column)
    statement = f"SELECT MIN({name}), MAX({name}) FROM {quoted(database)}.{quoted(table.name)}"
    lowest, highest = read(session, None, database, table, statement)
    if lowest is None:
        return [""]
    wanted = min(table.size_bytes // _PART_BYTES, _MOST_PARTS)
    steps = (int(lowest) + (int(highest) - int(lowest)) * step // wanted for step in range(1, wanted))
    between = sorted(set(steps) - {int(lowest)})
    if not between:
        return [""]
    # Else a server that takes a part for most of the table would look through all of it for each.
    using = f" FORCE INDEX (PRIMARY) WHERE {name}"
    inner = [f"{using} >= {low} AND {name} < {high}" for low, high in pairwise(between)]
    return [f"{using} < {between[0]}", *inner, f"{using} >= {between[-1]}"]


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
        (highest,) = read(session, beside, made_of.name, table, statement)
        found[f"next number of {table.name}"] = int(highest or 0) + 1
    return found


def read(session: Session, beside: Session | None, database: str, table: Table, statement: str) -> tuple[Any, ...]:
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
