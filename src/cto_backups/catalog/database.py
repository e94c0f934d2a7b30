"""A catalog's database, of whichever kind: one connection, one way of statements and transactions, two places.

`sqlite_file` keeps a catalog in a file, `postgresql` on a server. Statements are SQLite's SQL with named parameters;
`postgresql.dialect` says them in the other's words.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cto_backups.errors import CatalogAwayError, CatalogError

VERSION = "0020"
KNOWN_VERSIONS = tuple(f"{number:04}" for number in range(1, int(VERSION) + 1))
BUSY_SECONDS = 30
FROZEN_SECONDS = 20
"""After how long without a word in the middle of writing a server lets somebody go: before others wait in vain."""
EVERYTHING = 2**63 - 1
"""As a limit: none."""
RESTORE = (
    "Move what is there away, and make the catalog anew from the records in a vault: 'cto.backups catalog rebuild'."
)
SCHEMES = ("sqlite", "postgresql")

Password = Callable[[], str]


class ChangedMeanwhileError(CatalogAwayError):
    """A transaction could not be carried out again as it was when its session was lost; nothing of it has happened."""


class Result(Protocol):
    """What a statement gave: rows that are read by name or by number, and how many it changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were written."""
        ...

    @property
    def description(self) -> Any:
        """The columns, by name first."""
        ...

    def fetchone(self) -> Any:
        """The next row; None when there is no more."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left."""
        ...


class Session(Protocol):
    """What carries statements out."""

    def execute(self, statement: str, values: Mapping[str, Any], /) -> Result:
        """Run one statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]], /) -> Any:
        """Run one statement with each of these values."""
        ...


class Connection:
    """One transaction: statements in SQL with named parameters, rows that are read by name."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> Result:
        """Run one statement."""
        return self._session.execute(statement, values or {})

    def execute_each(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run one statement with each of these values."""
        self._session.executemany(statement, rows)

    def scalar(self, statement: str, values: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row; None when there is no row."""
        row = self.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def scalars(self, statement: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.execute(statement, values)]


class First(NamedTuple):
    """What a process does before it writes to a server that may have taken another's place.

    `look` is given the places that need not be looked at, raises CatalogBehindError, and else gives those that it has
    looked at: that is noted for `whom`.
    """

    whom: str
    look: Callable[[Collection[str]], Collection[str]]


class Database(Protocol):
    """A catalog, opened; safe between threads. Every use raises CatalogError, and BusyError when others hold it.

    `shared`: several hosts may use it at once.
    """

    shared: bool

    def close(self) -> None:
        """Let go of it."""
        ...

    def reading(self, *, lasting: bool = False) -> AbstractContextManager[Connection]:
        """A consistent view of everything. With `lasting`, no crash can take back what was seen, once it has ended."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """All that is done is there at the end, durably, or none of it. There is one writer at a time."""
        ...

    def look_first(self, first: First) -> None:
        """Do this before anything is written, once for each server that takes another's place."""
        ...

    def go_on_counting(self, connection: Connection) -> None:
        """Number new rows after those that were brought in with their numbers."""
        ...

    def check(self) -> tuple[str, ...]:
        """What its own means of checking find wrong; nothing when all is well."""
        ...


def insertion(table: str, columns: Iterable[str]) -> str:
    """The statement that adds a row with these columns to a table."""
    names = list(columns)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"


def is_on_server(url: str) -> bool:
    """Whether a catalog is on a PostgreSQL server. Raises CatalogError for a URL of neither kind."""
    scheme, colon, place = url.partition(":")
    if scheme not in SCHEMES or not colon or not place:
        raise CatalogError(
            f"The catalog '{scheme}:…' is of a kind that this version does not know",
            todo="Use sqlite:PATH or postgresql://HOST/DATABASE in backups.yaml.",
        )
    return scheme == "postgresql"


def path_of(url: str) -> Path | None:
    """The file of a ``sqlite:/path`` URL; None for a catalog on a server. Raises CatalogError for any other kind."""
    if is_on_server(url):
        return None
    path = url.partition(":")[2]
    return Path("/" + path.lstrip("/")) if path.startswith("/") else Path(path)


def place_of(url: str) -> str:
    """What people call the place of a catalog: a path, or an address without who logs in there."""
    path = path_of(url)
    if path is not None:
        return str(path)
    with _its_driver():
        from cto_backups.catalog.postgresql.address import Address
    return Address.of(url).place


def exists_on_server(url: str, password: Password | None = None) -> bool:
    """Whether there is a catalog at a ``postgresql://…`` URL. Raises CatalogError when that cannot be known."""
    with _its_driver():
        from cto_backups.catalog.postgresql import making
    return making.exists(url, password)


def make(url: str, password: Password | None = None) -> Database:
    """Make a new catalog, whole or not at all. Raises RefusedError when one is there, CatalogError."""
    path = path_of(url)
    if path is not None:
        from cto_backups.catalog import sqlite_file

        return sqlite_file.make(path)
    with _its_driver():
        from cto_backups.catalog.postgresql import making
    return making.make(url, password)


def open_existing(url: str, now: datetime, *, write: bool = True, password: Password | None = None) -> Database:
    """Open a catalog, bringing an older version up to date.

    Without `write`, one in a place where nothing can be written is read as it is.
    Raises NotFoundError when there is none, CatalogError when it is damaged or newer than this program.
    """
    path = path_of(url)
    if path is not None:
        from cto_backups.catalog import sqlite_file

        return sqlite_file.open_existing(path, now, write=write)
    with _its_driver():
        from cto_backups.catalog.postgresql import making
    return making.open_existing(url, password, write=write)


@contextmanager
def _its_driver() -> Iterator[None]:
    """Say what to install where what speaks with a server is not there."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise CatalogError(
            "The catalog is on a PostgreSQL server, and what speaks with it is not installed",
            why=str(error),
            todo="Install it: pip install 'cto-backups[fleet]'.",
        ) from None


def not_there(place: str) -> tuple[str, str, str]:
    """The words for a catalog that is missing: what, why, and what to do."""
    return (
        f"There is no catalog at {place}",
        "it was moved or deleted, or this installation was not finished",
        "If it is elsewhere, bring it over: 'cto.backups catalog move --from sqlite:catalog.db'. If it is lost, make "
        "it anew from the records in a vault: 'cto.backups catalog rebuild'. A new installation is made with "
        "'cto.backups init'.",
    )


def too_new(place: str, version: str) -> CatalogError:
    """What is told of a catalog that a newer release has written."""
    return CatalogError(
        f"The catalog {place} has version {version}",
        why=f"this program knows versions up to {VERSION}: a newer release has written it",
        todo="Use that release, or a newer one. Nothing was changed.",
    )


def damaged(place: str, why: str) -> CatalogError:
    """What is told of a catalog in which is what no release can have written."""
    return CatalogError(f"The catalog {place} is damaged", why=why, todo=RESTORE)
