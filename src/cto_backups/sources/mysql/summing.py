"""Rows summed up by several sessions at once that see the same: each takes the largest table, or part, that is left."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from threading import Event
from typing import Final

import pymysql

from cto_backups.sources.mysql.catalogue import Catalogue
from cto_backups.sources.mysql.connection import Address, Session, do
from cto_backups.sources.mysql.hashes import ALGORITHM, HASHES, Counted, RowHash
from cto_backups.sources.mysql.rows import Reading, TableSums, read, readings

_MORE: Final = 1
"""Production goes on meanwhile: one more session at most, as of PostgreSQL one more process."""


@dataclass(frozen=True)
class Summed:
    """What a database holds at one moment."""

    made_of: Catalogue
    tables: Sequence[TableSums]


@dataclass(frozen=True)
class _Turn:
    """What one session reads before another may have it: of a database, by its place among all."""

    database: int
    reading: Reading


def more_sessions(address: Address, stack: ExitStack, wanted: int = _MORE) -> list[Session]:
    """Other sessions that may help, until the stack is closed; fewer, or none, where the server lets in no more."""
    found: list[Session] = []
    with suppress(pymysql.MySQLError):
        while len(found) < wanted:
            found.append(stack.enter_context(closing(address.connect(patient=True))))
    return found


def summed_up(
    sessions: Sequence[Session],
    made_of: Sequence[Catalogue],
    *,
    history: bool,
    row_hash: RowHash = HASHES[ALGORITHM],
    beside: Session | None = None,
) -> list[Summed]:
    """All of these databases, as the sessions' transactions show them, which end.

    They do so at once: who wants to alter a table waits for them, and the dump may wait behind who does. Tables that
    are in no snapshot are read by `beside`, which holds them. `history` says that former rows of system-versioned
    tables count. Raises pymysql.MySQLError.
    """
    try:
        turns = [
            _Turn(place, reading)
            for place, each in enumerate(made_of)
            for reading in readings(sessions[0], each, row_hash, history=history, in_parts=len(sessions) > 1)
        ]
    except BaseException:
        _end(sessions)
        raise
    left = _largest_first(turns, beside)
    failed = Event()

    def some(session: Session) -> list[tuple[_Turn, Counted]]:
        """What one session sums up; nobody goes on for long when another could not."""
        found = []
        try:
            for turn in _each(left, failed):
                database, table = made_of[turn.database].name, turn.reading.table
                row = read(session, beside, database, table, turn.reading.statement)
                counted = row_hash.counted(row)
                if counted.unread:
                    what = f"{counted.unread} rows of {database}.{table.name}"
                    raise pymysql.DataError(0, f"{what} are too long to be read")
                found.append((turn, counted))
        except BaseException:
            failed.set()
            raise
        finally:
            _end([session])
        return found

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="sums") as pool:
        futures = [pool.submit(some, session) for session in sessions]
    found: dict[tuple[int, str], Counted] = {}
    for future in futures:
        for turn, counted in future.result():
            key = (turn.database, turn.reading.table.name)
            found[key] = found[key] + counted if key in found else counted
    return [
        Summed(each, [_sums(table.name, found[place, table.name]) for table in each.tables if not table.is_elsewhere])
        for place, each in enumerate(made_of)
    ]


def _sums(name: str, counted: Counted) -> TableSums:
    return TableSums(name, counted.rows, counted.sums)


def _largest_first(turns: Sequence[_Turn], beside: Session | None) -> "deque[list[_Turn]]":
    """Turns by size; those of `beside` are one, as it can do one thing at a time."""
    together = [turn for turn in turns if beside is not None and turn.reading.table.is_unsafe]
    alone = [[turn] for turn in turns if beside is None or not turn.reading.table.is_unsafe]
    groups = [*alone, *([together] if together else [])]
    return deque(sorted(groups, key=lambda group: -sum(turn.reading.size_bytes for turn in group)))


def _each(left: "deque[list[_Turn]]", failed: Event) -> Iterator[_Turn]:
    """One turn after the other, of what no session has taken yet."""
    while True:
        try:
            group = left.popleft()
        except IndexError:
            return
        for turn in group:
            if failed.is_set():
                return
            yield turn


def _end(sessions: Sequence[Session]) -> None:
    for session in sessions:
        with suppress(pymysql.MySQLError, OSError):
            do(session, "ROLLBACK")
