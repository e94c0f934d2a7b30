"""Rows and values as the catalog's other modules know them from SQLite: by name or number; numbers are plain ones."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.adapt import Dumper, Loader


class Row(tuple[Any, ...]):
    """A row, read by the number or the name of a column; iterating gives its values."""

    __slots__ = ()
    _numbers: dict[str, int]

    def __getitem__(self, key: Any) -> Any:
        """The value of a column."""
        return tuple.__getitem__(self, self._numbers[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """The names of the columns, by which `dict` reads it."""
        return list(self._numbers)


def factory(cursor: "psycopg.Cursor[Any]") -> Any:
    """Makes the rows of one result."""
    return _kind(tuple(column.name for column in cursor.description or ()))


@lru_cache(maxsize=256)
def _kind(names: tuple[str, ...]) -> type[Row]:
    """The rows with these columns."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, number)
    return type("Row", (Row,), {"__slots__": (), "_numbers": numbers})


class Rows:
    """What a statement gave, all of it."""

    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self.rowcount = cursor.rowcount
        self.description = cursor.description
        self.all: Sequence[Any] = cursor.fetchall() if cursor.description else ()
        self._rest = iter(self.all)

    @property
    def mark(self) -> int:
        """The same, within this process, for results that are the same."""
        return hash((self.rowcount, tuple(self.all)))

    def fetchone(self) -> Any:
        """The next row; None when there is no more."""
        return next(self._rest, None)

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        return list(self._rest)

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""
        return self._rest


class _Truth(Dumper):
    """A truth as 0 or 1, as it is stored and compared."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: Any) -> bytes:
        return b"1" if obj else b"0"

    def quote(self, obj: Any) -> bytes:
        return self.dump(obj)


class _Words(Dumper):
    """Text, in which PostgreSQL has no place for NUL: it is an escape, as what UTF-8 cannot say is."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\x00", "\\x00").encode()

    def quote(self, obj: str) -> bytes:
        return b"'" + self.dump(obj).replace(b"'", b"''") + b"'"


class _Number(Loader):
    """A sum of whole numbers is a whole number, whatever PostgreSQL counts in."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or "N" in text else int(text)


def adapt(session: "psycopg.Connection[Any]") -> None:
    """Let a session speak so."""
    session.adapters.register_dumper(bool, _Truth)
    session.adapters.register_dumper(str, _Words)
    session.adapters.register_loader("numeric", _Number)
    session.row_factory = factory
