"""How rows become numbers that are added up, in SQL that the server works out.

``postgresql/3``: of each row one number of 64 bits. The values go through the server's own hash functions one after the
other, each with what came before as its seed; so they are as good as one hash over all of them, and no row is copied
together first, which is most of what ``postgresql/2`` takes. Which values are null goes in before. A type whose hash
does not see all of a value goes in as its binary form, and what embeds numbers that a restored server gives anew (types
of the user's own, references to objects) as text. Hash partitions lie where these functions say, so PostgreSQL keeps
them from version to version.

``postgresql/2`` and ``postgresql/1``, which are compared with but made no longer: of each row two numbers, from the
bytes that `record_send` gives for it. By the server's 64-bit hash with the seeds 1 and 2; or the first and second 8
bytes of SHA-256.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from psycopg import sql

_NAMED_SINCE: Final = 18_00_00
_TOGETHER: Final = 31  # as many as fit into a mask; and no expression nests deeper than a server takes

_NUMBERS: Final = {"int2": "hashint2extended", "int4": "hashint4extended"}
_TEXTS: Final = ("text", "varchar")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name and its type's, and the function that gives the type's binary form.

    `is_binary`: that form is the same on a restored server. `has_scale`: of a numeric type, which declares how many
    digits follow the point.
    """

    name: str
    type: str
    send: str
    is_binary: bool
    has_scale: bool


class RowHash(Protocol):
    """How a row's values become numbers."""

    def of_columns(self, table: sql.Composable, columns: Sequence[Column], version: int) -> sql.Composed:
        """What counts the rows of a table, and adds up their numbers, which it gives as texts.

        `table` stands after FROM and is called ``t``; `version` is the server's.
        """

    def of_bytes(self, rows: sql.Composable, version: int) -> sql.Composed:
        """The same of rows that are one value each, of bytes."""


class ByColumns:
    """``postgresql/3``."""

    def of_columns(self, table: sql.Composable, columns: Sequence[Column], version: int) -> sql.Composed:
        """See `RowHash`."""
        return _ONE_SUM.format(hash=_chained(columns), rows=table)

    def of_bytes(self, rows: sql.Composable, version: int) -> sql.Composed:
        """See `RowHash`."""
        return _ONE_SUM.format(
            hash=sql.SQL("hash_array_extended(ARRAY[t.bytes], 1)"), rows=sql.SQL("({}) t (bytes)").format(rows)
        )


class ByRows:
    """What was made before: `once` of a row's `bytes` is the `h` of `first` and `second`."""

    def __init__(self, once: str, first: str, second: str, named: "ByRows | None" = None) -> None:
        self._once, self._first, self._second = (sql.SQL(text) for text in (once, first, second))
        self._named = named

    def of_columns(self, table: sql.Composable, columns: Sequence[Column], version: int) -> sql.Composed:
        """See `RowHash`."""
        values = sql.SQL(", ").join(_value(column) if column.is_binary else _as_text(column) for column in columns)
        return self.of_bytes(sql.SQL("SELECT record_send(ROW({})) FROM {}").format(values, table), version)

    def of_bytes(self, rows: sql.Composable, version: int) -> sql.Composed:
        """See `RowHash`."""
        if self._named is not None and version >= _NAMED_SINCE:
            return self._named.of_bytes(rows, version)
        return _TWO_SUMS.format(rows=rows, once=self._once, first=self._first, second=self._second)


_ONE_SUM: Final = sql.SQL("SELECT count(*), coalesce(sum({hash}), 0)::text FROM {rows}")
# The inner part is worked out once a row, and not once a sum: an OFFSET, even of nothing, keeps the planner from
# merging it into the outer one. As a constant of its type it forbids no parallel workers.
_TWO_SUMS: Final = sql.SQL("""
    SELECT count(*), coalesce(sum({first}), 0)::text, coalesce(sum({second}), 0)::text
    FROM (SELECT {once} FROM ({rows}) raw (bytes) OFFSET '0'::bigint) each (h)
""")

COLUMNS: Final = ByColumns()
SEEDED: Final = ByRows(
    "ROW(bytes)",
    "hash_record_extended(h, 1)",
    "hash_record_extended(h, 2)",
    # Of a record of one field, the hash is that of the field: it has a name of its own there, and takes less.
    named=ByRows("bytes", "hashbyteaextended(h, 1)", "hashbyteaextended(h, 2)"),
)
SHA_256: Final = ByRows(
    "sha256(bytes)",
    "('x' || encode(substr(h, 1, 8), 'hex'))::bit(64)::bigint::numeric",
    "('x' || encode(substr(h, 9, 8), 'hex'))::bit(64)::bigint::numeric",
)


def _chained(columns: Sequence[Column]) -> sql.Composable:
    """The number of a row."""
    alone = [column for column in columns if _is_hashed_alone(column)]
    sent = [column for column in columns if not _is_hashed_alone(column)]
    seed: sql.Composable = sql.SQL("1")
    if sent:
        forms = sql.SQL(", ").join(
            sql.SQL("{}({})").format(sql.Identifier("pg_catalog", column.send), _value(column)) for column in sent
        )
        seed = sql.SQL("hash_array_extended(ARRAY[{}], 1)").format(forms)
    parts = [alone[begin : begin + _TOGETHER] for begin in range(0, len(alone), _TOGETHER)] or [[]]
    chains = [_chain(part, seed if place == 0 else sql.SQL("1")) for place, part in enumerate(parts)]
    if len(chains) == 1:
        return chains[0]
    return sql.SQL("hash_array_extended(ARRAY[{}], 1)").format(
        sql.SQL(", ").join(sql.SQL("int8send({})").format(chain) for chain in chains)
    )


def _chain(columns: Sequence[Column], seed: sql.Composable) -> sql.Composable:
    if not columns:
        return seed
    nulls = sql.SQL(" | ").join(
        sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE 0 END").format(_value(column), sql.Literal(1 << place))
        for place, column in enumerate(columns)
    )
    chain: sql.Composable = sql.SQL("hashint4extended({}, {})").format(nulls, seed)
    for column in columns:
        chain = _after(chain, column)
    return chain


def _is_hashed_alone(column: Column) -> bool:
    """Whether a hash function sees all of the value: that of numeric takes 1.0 and 1.00 for the same, for one."""
    if not column.is_binary or column.type in (*_NUMBERS, *_TEXTS, "int8", "bool", "uuid"):
        return True
    return column.type == "numeric" and column.has_scale


def _after(seed: sql.Composable, column: Column) -> sql.Composed:
    """The hash of a value, whose seed is what came before."""
    value = _value(column)
    if not column.is_binary or column.type in _TEXTS:
        return sql.SQL("""hashtextextended(coalesce({}, '') COLLATE "C", {})""").format(_as_text(column), seed)
    match column.type:
        case "int8":  # the hash sees both halves as one, so that small numbers have those of their other types
            value = sql.SQL("coalesce({}, 0)").format(value)
            return sql.SQL("hashint8extended({0}, {1} # ({0} >> 32))").format(value, seed)
        case "numeric":  # the hash does not see the sign
            value = sql.SQL("coalesce({}, 0)").format(value)
            sign = sql.SQL("CASE WHEN {} < 0 THEN '-1'::bigint ELSE '0'::bigint END").format(value)
            return sql.SQL("hash_numeric_extended({}, {} # {})").format(value, seed, sign)
        case "uuid":
            nothing = sql.SQL("coalesce({}, '00000000-0000-0000-0000-000000000000'::uuid)").format(value)
            return sql.SQL("uuid_hash_extended({}, {})").format(nothing, seed)
        case "bool":
            return sql.SQL("hashint4extended(coalesce({}::int4, 0), {})").format(value, seed)
        case number:
            function = sql.Identifier("pg_catalog", _NUMBERS[number])
            nothing = sql.SQL("coalesce({}, {})").format(value, sql.SQL("'0'::int2" if number == "int2" else "0"))
            return sql.SQL("{}({}, {})").format(function, nothing, seed)


def _value(column: Column) -> sql.Composed:
    return sql.SQL("t.{}").format(sql.Identifier(column.name))


def _as_text(column: Column) -> sql.Composed:
    return sql.SQL("t.{}::text").format(sql.Identifier(column.name))
