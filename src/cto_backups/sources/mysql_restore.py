"""Databases made anew from dumps: on a throwaway server, and on one that is in use."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups.core.ports import EntryKind, PointReader
from cto_backups.errors import RefusedError
from cto_backups.process import ToolError
from cto_backups.sources import pipes
from cto_backups.sources.mysql_connection import Address, Session, Tools, do, quoted, rows
from cto_backups.sources.mysql_dump import COMPLETED, VIEWS_FILE, database_of
from cto_backups.sources.mysql_users import GRANTS_FILE, USERS_FILE, accounts, lacking, names
from cto_backups.sources.names import readable

_SECTION: Final = re.compile(rb"^--\n-- Current Database: `((?:[^`]|``)*)`\n--\n\nUSE ", re.MULTILINE)
_SAID: Final = re.compile(r"ERROR (\d+) ")
# What these say quotes what is in the dump: rows, or statements with passwords' hashes.
_QUOTING: Final = frozenset({"1062", "1064", "1264", "1292", "1366", "1406", "1525"})
_QUOTATION: Final = re.compile(r"'.*'|near '.*", re.DOTALL)
_NO_CHECK: Final = "doesn't support check"


@dataclass(frozen=True)
class Loader:
    """Loads dumps with the server's own client; `folder` is private, and has the option file."""

    tools: Tools
    address: Address
    folder: Path
    timeout_seconds: float

    def load(self, file: Path) -> None:
        """Carry out what is in a file, to its end. Raises ToolError."""
        try:
            with file.open("rb") as reading:
                reading.seek(max(0, file.stat().st_size - len(COMPLETED)))
                if reading.read() != COMPLETED:
                    raise ToolError(file.name, None, "it ends without the words that it is complete")
        except OSError as error:
            raise ToolError(file.name, None, error.strerror or str(error)) from error
        command = [
            self.tools["client"],
            f"--defaults-file={self.address.option_file(self.folder, self.tools.version)}",
            "--binary-mode",
            "--comments",  # else it takes them out of routines
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            "--skip-reconnect",
            "--connect-timeout=15",
        ]
        try:
            with file.open("rb") as reading:
                pipes.hand(
                    reading,
                    command,
                    environment=self.address.environment(self.folder),
                    folder=self.folder,
                    timeout_seconds=self.timeout_seconds,
                )
        except ToolError as error:
            raise type(error)(file.name, error.status, _without_data(error)) from None

    def load_text(self, content: bytes, name: str) -> None:
        """Carry out these statements, which are of the file `name`. Raises ToolError."""
        file = self.folder / name
        file.write_bytes(content)
        try:
            self.load(file)
        finally:
            file.unlink()


def dumps_in(place: Path) -> dict[str, Path]:
    """The dumps in a folder, by their databases."""
    found = {database_of(file.name): file for file in sorted(place.iterdir())}
    return {name: file for name, file in found.items() if name is not None}


def databases_in(reader: PointReader, only: Sequence[str]) -> list[str]:
    """The databases that a point has dumps of."""
    paths = [readable(path.lstrip(b"/")) for path, entry in reader.listing(only) if entry.kind is EntryKind.FILE]
    return sorted(name for name in map(database_of, paths) if name is not None)


def refuse_standing(source: str, wanted: Sequence[str], there: Mapping[str, int]) -> None:
    """Raise RefusedError for databases that are there: no server can give them another name."""
    standing = [name for name in wanted if name in there]
    if standing:
        raise RefusedError(
            f"source {source}: {', '.join(standing)} is there already",
            why="what is in it would be replaced, and a MySQL or MariaDB server cannot keep it under another name",
            todo="back it up and drop it first; or restore with --to FOLDER, and load it under another name",
        )


def make_everything(loader: Loader, place: Path, *, with_accounts: bool) -> None:
    """Make all that was dumped on a server on which there is nothing. Raises ToolError."""
    if with_accounts:
        loader.load(place / USERS_FILE)
    for file in dumps_in(place).values():
        loader.load(file)
    loader.load(place / VIEWS_FILE)
    if with_accounts:
        loader.load(place / GRANTS_FILE)


def check_tables(session: Session, database: str) -> None:
    """Have the server check every table, and each index against the rows. Raises ToolError.

    It is what ``mariadb-check --extended`` asks for.
    """
    for name, _ in rows(
        session,
        f"SHOW FULL TABLES FROM {quoted(database)} WHERE Table_type LIKE '%TABLE' OR Table_type LIKE '%VERSIONED'",
    ):
        for table, _, kind, text in rows(session, f"CHECK TABLE {quoted(database)}.{quoted(name)} EXTENDED"):
            fine = (kind == "status" and text == "OK") or (kind == "note" and _NO_CHECK in text)
            if not fine:
                raise ToolError("CHECK TABLE", None, f"{table}: {kind}: {text}")


def into(loader: Loader, session: Session, place: Path) -> list[str]:
    """Make the dumped databases on a server in use, which has none of their names; what people should know.

    Accounts that the server lacks are made and get their rights, those it has stay as they are. A database that could
    not be made is gone again. Raises ToolError, pymysql.MySQLError.
    """
    dumps = dumps_in(place)
    there = names(accounts(session, loader.tools.version, {})) if _has_accounts(place) else set()
    if (place / USERS_FILE).is_file():
        loader.load_text(_whole(lacking((place / USERS_FILE).read_bytes(), there)), USERS_FILE)
    for name, file in dumps.items():
        try:
            loader.load(file)
        except ToolError:
            do(session, f"DROP DATABASE IF EXISTS {quoted(name)}")
            raise
    notes = []
    for name, statements in _views(place):
        if name in dumps:
            try:
                loader.load_text(statements, VIEWS_FILE)
            except ToolError as error:
                raise ToolError(
                    error.program, error.status, f"the tables of {name} are there, its views are not: {error.detail}"
                ) from None
    if (place / GRANTS_FILE).is_file():
        # Right after another: what somebody may do must not wait for what another may not be given.
        loader.load_text(_whole(lacking((place / GRANTS_FILE).read_bytes(), there)), GRANTS_FILE)
        notes.append("accounts that the server had keep the rights that they had")
    return notes


def _has_accounts(place: Path) -> bool:
    return (place / USERS_FILE).is_file() or (place / GRANTS_FILE).is_file()


def _whole(content: bytes) -> bytes:
    return content if content.endswith(COMPLETED) else content + COMPLETED


def _views(place: Path) -> Iterator[tuple[str, bytes]]:
    """What a point says of each database's views, each with what the dump begins with."""
    if not (place / VIEWS_FILE).is_file():
        return
    content = (place / VIEWS_FILE).read_bytes()
    found = list(_SECTION.finditer(content))
    ends = [*(section.start() for section in found[1:]), len(content)]
    for section, end in zip(found, ends, strict=True):
        name = section[1].replace(b"``", b"`").decode("utf-8", "surrogateescape")
        yield name, _whole(content[: found[0].start()] + content[section.start() : end])


def _without_data(error: ToolError) -> str:
    """What the client complains of, without the statement that it prints as well."""
    complaints = [line for line in error.lines if line.startswith("ERROR ")]
    if not complaints:
        return f"it ended with status {error.status}" if error.lines else error.detail
    number = _SAID.match(complaints[-1])
    return _QUOTATION.sub("'…'", complaints[-1]) if number and number[1] in _QUOTING else complaints[-1]
