"""Databases made anew from dumps: on a throwaway server, and on one that is in use."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pymysql

from cto_backups.core.ports import PointReader
from cto_backups.core.trees import EntryKind
from cto_backups.errors import RefusedError
from cto_backups.process import LONGEST_SECONDS, ToolError
from cto_backups.sources import pipes
from cto_backups.sources.mysql import unfinished
from cto_backups.sources.mysql.connection import Address, Session, Tools, do, quoted, rows
from cto_backups.sources.mysql.dump import COMPLETED, VIEWS_FILE, database_of
from cto_backups.sources.mysql.inventory import databases, folding
from cto_backups.sources.mysql.users import GRANTS_FILE, USERS_FILE, accounts, accounts_in, label, lacking, names
from cto_backups.sources.names import readable

_SECTION: Final = re.compile(rb"^--\n-- Current Database: `((?:[^`]|``)*)`\n--\n\nUSE ", re.MULTILINE)
_SAID: Final = re.compile(r"ERROR (\d+) ")
# What these quote are names; what others do may be rows of the dump, or statements with passwords' hashes.
_NAMING: Final = frozenset(
    [
        *("1005", "1007", "1008", "1044", "1045", "1046", "1049", "1050", "1051", "1054", "1060", "1061", "1071"),
        *("1091", "1113", "1115", "1118", "1142", "1143", "1146", "1193", "1215", "1227", "1235", "1273", "1286"),
        *("1304", "1305", "1356", "1359", "1360", "1370", "1396", "1418", "1419", "1449", "1524", "1698", "4025"),
    ]
)
_TOO_SMALL: Final = frozenset({"1153", "2006", "2013"})
_PACKET: Final = 1 << 30
_MAKE_DATABASE: Final = re.compile(
    rb"^CREATE DATABASE /\*!32312 IF NOT EXISTS\*/ (`(?:[^`]|``)*`.*?;)\n\nUSE ", re.MULTILINE | re.DOTALL
)
_HEAD: Final = 1 << 20
_DEFINER: Final = re.compile(rb"\bDEFINER=(`(?:[^`]|``)*`@`(?:[^`]|``)*`)")
_QUOTATION: Final = re.compile(r"'.*'|near '.*|(?<=for value ).*", re.DOTALL)
_NO_CHECK: Final = "doesn't support check"


@dataclass(frozen=True)
class Loader:
    """Loads dumps with the server's own client; `folder` is private, and has the option file.

    With `then`, dumps are loaded as if it were still the moment at which they were made: an event whose time has passed
    since is made all the same. `first` is a statement that each client carries out before anything else.
    """

    tools: Tools
    address: Address
    folder: Path
    then: bool = False
    first: str = ""

    def load(self, file: Path, *, anyway: bool = False) -> None:
        """Carry out what is in a file, to its end; `anyway`, as much of it as can be. Raises ToolError."""
        try:
            with file.open("rb") as reading:
                reading.seek(max(0, file.stat().st_size - len(COMPLETED)))
                if reading.read() != COMPLETED:
                    raise ToolError(file.name, None, "it ends without the words that it is complete")
        except OSError as error:
            raise ToolError(file.name, None, error.strerror or str(error)) from error
        command = [
            *self.client(),
            *(["--force"] if anyway else []),
            *([f"--init-command=SET SESSION timestamp = {int(file.stat().st_mtime)}"] if self.then else []),
        ]
        try:
            with file.open("rb") as reading:
                pipes.hand(
                    reading,
                    command,
                    environment=self.address.environment(self.folder),
                    folder=self.folder,
                    timeout_seconds=LONGEST_SECONDS,
                )
        except ToolError as error:
            raise type(error)(file.name, error.status, without_data(error)) from None

    def client(self) -> list[str]:
        """The command that carries out what it reads. Raises ToolMissingError."""
        return [
            self.tools["client"],
            f"--defaults-file={self.address.option_file(self.folder, self.tools.version)}",
            "--binary-mode",
            "--comments",  # else it takes them out of routines
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            "--skip-reconnect",
            "--connect-timeout=15",
            *([f"--init-command={self.first}"] if self.first else []),
        ]

    def load_text(self, content: bytes, name: str, *, anyway: bool = False) -> None:
        """Carry out these statements, which are of the file `name`. Raises ToolError."""
        file = self.folder / name
        file.write_bytes(content)
        try:
            self.load(file, anyway=anyway)
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


def standing(session: Session, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of these databases that are there and hold anything, but for what an earlier restore did not finish.

    Whatever their case where the server does not tell cases apart. Raises pymysql.MySQLError.
    """
    folded = folding(session)
    known = {folded(name) for name in in_use(session, wanted)}
    return tuple(name for name in wanted if folded(name) in known)


def in_use(session: Session, wanted: Sequence[str]) -> tuple[str, ...]:
    """The databases that are there, but for unfinished ones, and for those of the wanted in which there is nothing.

    Raises pymysql.MySQLError.
    """
    there, half, folded = databases(session), unfinished.unfinished(session), folding(session)
    nothing = unfinished.empty(session, there)
    ours = {folded(name) for name in wanted}
    return tuple(name for name in there if name not in half and not (name in nothing and folded(name) in ours))


def refuse_standing(source: str, standing: Sequence[str]) -> None:
    """Raise RefusedError for databases that are there: no server can give them another name."""
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
    if with_accounts:
        loader.load(place / GRANTS_FILE, anyway=True)  # a view that calls a function needs who may call it
    else:
        _make_definers(loader.address, place / VIEWS_FILE)
    loader.load(place / VIEWS_FILE)
    if with_accounts:
        loader.load(place / GRANTS_FILE)


def _make_definers(address: Address, views: Path) -> None:
    """Make those as whom views and functions work, where accounts are left out: else a view that calls one is not made.

    Raises pymysql.MySQLError.
    """
    session = address.connect()
    try:
        names = {found.decode("utf-8", "surrogateescape") for found in _DEFINER.findall(views.read_bytes())}
        for (definer,) in rows(session, "SELECT DISTINCT DEFINER FROM information_schema.ROUTINES"):
            user, _, host = str(definer).rpartition("@")
            names.add(f"{quoted(user)}@{quoted(host)}")
        for name in sorted(names):
            do(session, f"CREATE USER IF NOT EXISTS {name}")
            do(session, f"GRANT ALL PRIVILEGES ON *.* TO {name}")
    finally:
        session.close()


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


def into(loader: Loader, session: Session, place: Path, *, everything: bool) -> list[str]:
    """Make the dumped databases on a server in use, which has none of their names; what people should know.

    Accounts that the server lacks are made and get their rights, those it has stay as they are. A database that could
    not be made is gone again, and so are accounts where none was. What there is says that it is not finished: that is
    for whoever called this to say. With `everything`, what is unfinished of others goes. Raises ToolError,
    pymysql.MySQLError.
    """
    dumps = dumps_in(place)
    there = names(accounts(session, loader.tools.version, {})) if _has_accounts(place) else set()
    users = _content(place / USERS_FILE, there)
    made = unfinished.accounts_made(session) | set(accounts_in(users))
    there = {name for name in there if label(name) not in made}
    for name, file in dumps.items():
        unfinished.begin(session, name, _creation(file), made)
    if everything:
        unfinished.drop_but(session, dumps.keys())
    if users:
        loader.load_text(users, USERS_FILE)
    for number, file in enumerate(dumps.values()):
        try:
            loader.load(file)
        except ToolError as error:
            for lost in list(dumps)[number:]:
                do(session, f"DROP DATABASE IF EXISTS {quoted(lost)}")
            if made and not number:
                _drop_accounts(loader, session, made)
            raise _explained(error, session) from None
    notes = []
    grants = _content(place / GRANTS_FILE, there)
    if grants:
        loader.load_text(grants, GRANTS_FILE, anyway=True)  # a view that calls a function needs who may call it
    for name, statements in views_in(place):
        if name in dumps:
            try:
                loader.load_text(statements, VIEWS_FILE)
            except ToolError as error:
                raise ToolError(
                    error.program, error.status, f"the tables of {name} are there, its views are not: {error.detail}"
                ) from None
    if grants:
        loader.load_text(grants, GRANTS_FILE)
        notes.append("accounts that the server had keep the rights that they had")
    return notes


def _content(file: Path, there: Collection[str]) -> bytes:
    """What a file says of accounts that are not there; nothing without one."""
    return _whole(lacking(file.read_bytes(), there)) if file.is_file() else b""


def _drop_accounts(loader: Loader, session: Session, made: Collection[str]) -> None:
    """Remove accounts that were made for databases of which none is there; else the next restore took them for others.

    Raises pymysql.MySQLError.
    """
    for account in accounts(session, loader.tools.version, {}).every:
        if label(account.name) in made:
            do(session, f"DROP {'ROLE' if account.making.startswith('CREATE ROLE') else 'USER'} {account.name}")


def _creation(file: Path) -> str:
    """What follows `create database` in a dump, but for `if not exists`: the dump would replace what is there.

    Raises ToolError.
    """
    try:
        with file.open("rb") as reading:
            told = _MAKE_DATABASE.search(reading.read(_HEAD))
    except OSError as error:
        raise ToolError(file.name, None, error.strerror or str(error)) from error
    if told is None:
        raise ToolError(file.name, None, "it does not say how its database is made")
    return told[1].decode("utf-8", "surrogateescape")


@contextmanager
def eased(session: Session, *, log: bool) -> Iterator[None]:
    """Let the server take rows as long as dumps may have, and of a log numbers of transactions that are below its own;
    of a log, that no event does something in between.

    Afterwards it is as it was; where we may not say so, it is from the beginning. Raises pymysql.MySQLError where we
    may not keep events from happening.
    """
    names = "('max_allowed_packet', 'gtid_strict_mode', 'event_scheduler')"
    usual = dict(rows(session, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {names}"))
    # An event would change what the log is about to change, and once more what it did.
    wanted = {name: "OFF" for name in ("event_scheduler", "gtid_strict_mode") if log and usual.get(name) == "ON"}
    if int(usual["max_allowed_packet"]) < _PACKET:
        wanted["max_allowed_packet"] = str(_PACKET)
    said = []
    for name, value in wanted.items():
        with suppress(*(() if name == "event_scheduler" else (pymysql.MySQLError,))):
            do(session, f"SET GLOBAL {name} = {value}")
            said.append(name)
    try:
        yield
    finally:
        for name in said:
            with suppress(pymysql.MySQLError):
                do(session, f"SET GLOBAL {name} = {usual[name]}")
        if "max_allowed_packet" in said:
            with suppress(pymysql.MySQLError):
                # A dump looks through the log's last file for its place, and breaks at rows that are too long again.
                do(session, "FLUSH BINARY LOGS")


def _explained(error: ToolError, session: Session) -> ToolError:
    """With the likeliest reason, where the server hangs up on what is too long for it."""
    number = _SAID.match(error.detail)
    if number is None or number[1] not in _TOO_SMALL:
        return error
    ((packet,),) = rows(session, "SELECT @@GLOBAL.max_allowed_packet")
    return ToolError(
        error.program, error.status, f"{error.detail}: a row may be longer than the server takes (max_allowed_packet is"
        f" {int(packet) >> 20} MiB)"
    )  # fmt: skip


def _has_accounts(place: Path) -> bool:
    return (place / USERS_FILE).is_file() or (place / GRANTS_FILE).is_file()


def _whole(content: bytes) -> bytes:
    return content if content.endswith(COMPLETED) else content + COMPLETED


def views_in(place: Path) -> Iterator[tuple[str, bytes]]:
    """What a point says of each database's views, each with what the dump begins with."""
    if not (place / VIEWS_FILE).is_file():
        return
    content = (place / VIEWS_FILE).read_bytes()
    found = list(_SECTION.finditer(content))
    if not found:
        return  # no database of the server has any
    ends = [*(section.start() for section in found[1:]), len(content)]
    for section, end in zip(found, ends, strict=True):
        name = section[1].replace(b"``", b"`").replace(b"\n-- ", b"\n").decode("utf-8", "surrogateescape")
        yield name, _whole(content[: found[0].start()] + content[section.start() : end])


def without_data(error: ToolError) -> str:
    """What the client complains of, without the statement that it prints as well."""
    complaints = [line for line in error.lines if line.startswith("ERROR ")]
    if not complaints:
        return f"it ended with status {error.status}" if error.lines else error.detail
    number = _SAID.match(complaints[-1])
    return complaints[-1] if number and number[1] in _NAMING else _QUOTATION.sub("'…'", complaints[-1])
