"""How rows become numbers that are added up, in SQL that the server works out.

``mysql/2``: of each row the first 8 bytes of one SHA-256, as a number without sign. It is of the row's columns by name,
with commas between. First comes of each column its value as text, or of one that is text itself the number of its
bytes; then the bytes of the texts, in that order. A null is ``-`` in the first part and nothing in the second. No
value of the first part has a comma or is ``-``, and it tells how long each of the second part is: so two rows that
differ are never written alike. Of what may be long, its own SHA-256 is the value; those of geometry, and of MySQL's
JSON, come before all others.

``mysql/1``, which is compared with but made no longer: two sums, over the first and second 8 bytes of the SHA-256,
which the server works out twice. A row is, for one column after the other, ``-`` for null, or else the length of its
value in bytes, a colon, and the value; of what may be long its own SHA-256 instead.

Values of text are the bytes that are stored, in the column's own character set; of others, the text that the server
prints of them in UTC: of a float six digits, as in dumps. Numbers are added up as decimals: a plain ``SUM(CONV(…))``
becomes a float without a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cto_backups.sources.mysql.connection import quoted
from cto_backups.sources.mysql.left import mark

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
_BRITTLE: Final = _GEOMETRY | {"json"}
"""What the server makes null of where it is too long: that is not to look like a null that is there."""
_FLOATS: Final = frozenset(["float", "double"])
_TEXTS: Final = frozenset(["char", "varchar", "tinytext", "binary", "varbinary", "tinyblob", "enum", "set"])
# Text of digits, signs, points, colons and spaces. What is not listed is written as text is.
_PLAIN: Final = frozenset(
    [
        *("tinyint", "smallint", "mediumint", "int", "bigint", "decimal"),
        *("date", "time", "datetime", "timestamp", "year"),
    ]
)
_TWO_SUMS: Final = """
    SELECT {mark}COUNT(*),
        COALESCE(SUM(CAST(CONV(SUBSTR({digest}, 1, 16), 16, 10) AS DECIMAL(20, 0)) + {marker}), 0),
        COALESCE(SUM(CAST(CONV(SUBSTR({digest}, 17, 16), 16, 10) AS DECIMAL(20, 0))), 0)
    FROM {rows}
"""
_MARKER: Final = 10**30
"""Added for each row that has a digest: a sum leaves out null, which is what a server makes of a text too long."""
_ONE_SUM: Final = """
    SELECT {mark}COUNT(*),
        COALESCE(SUM(IFNULL(CAST(CONV(LEFT(SHA2({written}, 256), 16), 16, 10) AS UNSIGNED), {unread})), 0)
    FROM {rows}
"""
_UNREAD: Final = 10**40
"""Added for each row that has no digest, and more than those of all others come to."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its type in small letters, and whether it may be null."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Counted:
    """What rows come to: how many there are, how many of them the server could not digest, and the sums."""

    rows: int
    unread: int
    sums: tuple[int, ...]

    def __add__(self, other: "Counted") -> "Counted":
        """Both together."""
        sums = tuple(one + more for one, more in zip(self.sums, other.sums, strict=True))
        return Counted(self.rows + other.rows, self.unread + other.unread, sums)


class RowHash(Protocol):
    """How a row's values become numbers."""

    def summing(self, columns: Sequence[Column], rows: str) -> str:
        """The statement that counts rows and adds up their numbers; `rows` is what stands after FROM."""

    def counted(self, row: Sequence[Any]) -> Counted:
        """What the only row says that such a statement gives."""


class OneSum:
    """``mysql/2``."""

    def summing(self, columns: Sequence[Column], rows: str) -> str:
        """See `RowHash`."""
        return _ONE_SUM.format(mark=mark(), written=written(columns), unread=_UNREAD, rows=rows)

    def counted(self, row: Sequence[Any]) -> Counted:
        """See `RowHash`."""
        count, told = row
        unread, total = divmod(int(told), _UNREAD)
        return Counted(int(count), unread, (total,))


class TwoSums:
    """``mysql/1``."""

    def summing(self, columns: Sequence[Column], rows: str) -> str:
        """See `RowHash`."""
        values = ", ".join(_lengthened(quoted(column.name), column.type) for column in columns)
        # Twice for each row: what a variable holds in one statement is of no order that a server promises.
        return _TWO_SUMS.format(mark=mark(), digest=f"SHA2(CONCAT({values}), 256)", marker=_MARKER, rows=rows)

    def counted(self, row: Sequence[Any]) -> Counted:
        """See `RowHash`."""
        count, marked, second = row
        hashed, first = divmod(int(marked), _MARKER)
        return Counted(int(count), int(count) - hashed, (first, int(second)))


ALGORITHM: Final = "mysql/2"
HASHES: Final[Mapping[str, RowHash]] = {"mysql/1": TwoSums(), ALGORITHM: OneSum()}
"""How rows are hashed, by the names of algorithms; the former are made no longer, but still compared with."""


def written(columns: Sequence[Column]) -> str:
    """The expression that writes a row as ``mysql/2`` hashes it."""
    brittle, told, texts = [], [], []
    for column in columns:
        name = quoted(column.name)
        value = _digested(name, column.type)
        if column.type in _BRITTLE:
            brittle.append(f"IF({name} IS NULL, '-', {value})")
            continue
        if value is None and column.type in _PLAIN:
            value = name
        elif value is None:
            # Bytes, or else they would be converted to one character set for all.
            text = f"CAST({name} AS BINARY)"
            value = f"LENGTH({name if column.type in _TEXTS else text})"
            texts.append(text)
        told.append(f"COALESCE({value}, '-')" if column.nullable else value)
    parts = [*told, *texts]
    rest = f"CONCAT_WS(',', {', '.join(parts)})" if parts else "''"
    return _together([*brittle, rest]) if brittle else rest


def _together(parts: Sequence[str]) -> str:
    """Parts with commas between; null where one of them is, which is not what CONCAT_WS makes of it."""
    comma = ", ',', "
    return f"CONCAT({comma.join(parts)})"


def _digested(column: str, kind: str) -> str | None:
    """What stands for a value that may be long, or is printed in several ways; else None."""
    if kind in _LONG:
        return f"SHA2({column}, 256)"
    if kind == "json":
        # A dump has decimals and moments in it as text, which then are other numbers, or text, that look the same.
        return f"SHA2(CAST(CAST(CAST({column} AS CHAR) AS JSON) AS CHAR), 256)"
    if kind in _GEOMETRY:
        return f"SHA2(HEX({column}), 256)"
    if kind == "bit":
        return f"HEX({column})"
    if kind in _FLOATS:
        return f"IF({column} = 0, '0', CAST({column} AS CHAR))"  # a dump has no zero below zero
    return None


def _lengthened(column: str, kind: str) -> str:
    """A value as ``mysql/1`` has it."""
    told = _digested(column, kind)
    if told is not None and kind not in _FLOATS and kind != "bit":
        return f"IF({column} IS NULL, '-', {told})"
    told = told or f"CAST({column} AS BINARY)"
    return f"IF({column} IS NULL, '-', CONCAT(LENGTH({told}), ':', {told}))"
