"""The fingerprint of a SQLite database, ``sqlite/2``: what its rows say, however they lie in the file.

A row's canonical record is its values one after the other: ``n`` for NULL, ``i<decimal>;`` for an integer, ``f`` and
eight bytes (IEEE 754, big-endian) for a real, ``t<length>:`` and the bytes for a text (UTF-8 where the database holds
proper text, else as stored), ``b<length>:`` and the bytes for a blob. The rowid comes first where a table has one; for
other tables the primary key does. Generated columns that are not stored are left out. A table's checksum is the sum
modulo 2**256 over the SHA-256 of its records, since rows have no order.

Of a sampled row no value is kept: each stands there as its BLAKE2b digest, 16 bytes, keyed with the fingerprint's
``sample-key``. Fingerprints are in evidence, which others than the owner of the rows read. ``sqlite/1``, which showed
values as they are, is still compared with.

Virtual tables are not read: what they hold lies in ordinary (shadow) tables, which are.
"""

import heapq
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b, sha256

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.sources.ledger import as_hex
from cto_backups.sources.names import readable

ALGORITHM = "sqlite/2"
IN_CLEAR = "sqlite/1"
ALGORITHMS = (ALGORITHM, IN_CLEAR)
SAMPLES_PER_TABLE = 3
SAMPLES = 96
Value = int | float | bytes | bytearray | None
_REAL = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Table:
    """What to select from a table; `identity` counts the leading columns that tell its rows apart."""

    name: str
    columns: tuple[str, ...]
    identity: int
    query: str


def canonical(row: Sequence[Value]) -> bytes:
    """A row's record; texts come as bytearray, blobs as bytes."""
    parts: list[bytes | bytearray] = []
    for value in row:
        if isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif isinstance(value, bytearray):
            parts.append(b"t%d:" % len(value))
            parts.append(value)
        elif value is None:
            parts.append(b"n")
        elif isinstance(value, float):
            parts.append(b"f" + _REAL.pack(value))
        else:
            parts.append(b"b%d:" % len(value))
            parts.append(value)
    return b"".join(parts)


def rendered(value: Value) -> str:
    """A value with its type, as samples of ``sqlite/1`` show it; what is long is shown by its digest."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"real {value!r}"
    if isinstance(value, int):
        return f"integer {value}"
    kind = "text" if isinstance(value, bytearray) else "blob"
    if len(value) > 120:
        return f"{kind} of {len(value)} bytes, sha256 {sha256(value).hexdigest()}"
    return f"text {readable(bytes(value))}" if kind == "text" else f"blob {value.hex()}"


def veiled(value: Value, key: bytes) -> str:
    """What tells a value from others without saying it, as samples show it."""
    return blake2b(canonical((value,)), digest_size=16, key=key).hexdigest()


def fingerprint(connection: sqlite3.Connection, key: bytes, algorithm: str = ALGORITHM) -> Fingerprint:
    """Read every row that the connection's transaction sees. Raises sqlite3.DatabaseError when one cannot be read.

    `key` keys the choice of samples and what they show, by one of `ALGORITHMS`. The caller adds what it knows of the
    file.
    """
    shown = rendered if algorithm == IN_CLEAR else partial(veiled, key=key)
    connection.text_factory = bytearray
    checksums = {"schema": _schema(connection), "sample-key": key.hex()}
    counts = {"tables": 0, "rows": 0}
    samples: list[tuple[int, str, Sample]] = []
    for table in _tables(connection):
        total, rows, picked = _read(connection, table, key, shown)
        checksums[f"table:{table.name}"] = as_hex(total)
        counts[f"rows:{table.name}"] = rows
        counts["tables"] += 1
        counts["rows"] += rows
        samples.extend(picked)
    for pragma in ("user_version", "application_id"):
        counts[pragma] = int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
    samples.sort(key=lambda picked: picked[:2])
    kept = {sample.key: sample for _, _, sample in samples[:SAMPLES]}
    return Fingerprint(algorithm, checksums, counts, tuple(kept[name] for name in sorted(kept)))


def _schema(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return sha256(b"".join(sorted(canonical(row) + b"\n" for row in rows))).hexdigest()


def _tables(connection: sqlite3.Connection) -> Iterator[Table]:
    listed = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for name, sql in listed:
        if sql is None or not bytes(sql).lstrip().upper().startswith(b"CREATE VIRTUAL"):
            yield _table(connection, name.decode("utf-8"))


def _table(connection: sqlite3.Connection, name: str) -> Table:
    described = [
        (str(column, "utf-8"), pk)
        for column, pk, hidden in connection.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (name,))
        if hidden in (0, 3)  # ordinary, or generated and stored
    ]
    columns = [column for column, _ in described]
    rowid = _rowid(connection, name, columns)
    if rowid:
        selected, identity = [rowid, *map(_quoted, columns)], 1
        columns = ["rowid", *columns]
    else:
        # Without a rowid, the primary key tells rows apart; where its columns hide the rowid, all columns do.
        keyed = sorted((pk, column) for column, pk in described if pk)
        first = [column for _, column in keyed] or columns
        columns = [*first, *(column for column in columns if column not in first)]
        selected, identity = [_quoted(column) for column in columns], len(first)
    # NOT INDEXED: the rows themselves are to be read, never an index that happens to hold the same columns.
    query = f"SELECT {', '.join(selected)} FROM {_quoted(name)} NOT INDEXED"
    return Table(name, tuple(columns), identity, query)


def _rowid(connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> str | None:
    """A name by which the rowid can be selected, if the table has one and its columns leave such a name."""
    taken = {column.lower() for column in columns}
    for name in ("rowid", "_rowid_", "oid"):
        if name not in taken:
            try:
                connection.execute(f"SELECT {name} FROM {_quoted(table)} LIMIT 0")
            except sqlite3.OperationalError:
                return None
            return name
    return None


def _read(
    connection: sqlite3.Connection, table: Table, key: bytes, shown: Callable[[Value], str]
) -> tuple[int, int, list[tuple[int, str, Sample]]]:
    """The sum over a table's records, their number, and its samples with their ranks."""
    total = count = 0
    picked: list[tuple[int, bytes, Sequence[Value]]] = []
    limit = -(1 << 64)
    table_key = blake2b(table.name.encode(), digest_size=32, key=key).digest()
    for row in connection.execute(table.query):
        record = canonical(row)
        total += int.from_bytes(sha256(record).digest(), "big")
        count += 1
        identity = record if table.identity == len(row) else canonical(row[: table.identity])
        rank = -int.from_bytes(blake2b(identity, digest_size=8, key=table_key).digest(), "big")
        if rank > limit:
            # The record keeps the heap from ever comparing rows, and equal rows apart from nothing.
            heapq.heappush(picked, (rank, record, row))
            if len(picked) > SAMPLES_PER_TABLE:
                heapq.heappop(picked)
                limit = picked[0][0]
    samples = []
    for rank, _, row in picked:
        label = ", ".join(shown(value) for value in row[: table.identity])
        fields = {column: shown(value) for column, value in zip(table.columns, row, strict=True)}
        name = f"{table.name}: {label}"
        samples.append((-rank, name, Sample(name, fields)))
    return total, count, samples


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
