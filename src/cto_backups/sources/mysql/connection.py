"""How a MySQL or MariaDB server is reached, by our sessions and its tools alike; secrets are on no command line."""

import math
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pymysql
from pymysql.connections import Connection

from cto_backups import certificates
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.process import ToolError, ToolMissingError, run
from cto_backups.sources import pipes
from cto_backups.sources.staging import unwritable

if TYPE_CHECKING:
    Session: TypeAlias = Connection[Any]
else:
    Session = Connection  # the driver's class takes no type by itself

_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
_CONNECT_SECONDS: Final = 15
_ANSWER_SECONDS: Final = 15.0
_FOR_EVER: Final = 31_536_000
_LONGEST_MS: Final = (1 << 32) - 1
_GRACE_SECONDS: Final = 10.0
"""How long after us a server ends what we should have ended: it says no word of why."""
_UNKNOWN_VARIABLE: Final = 1193
# What the texts of values depend on, and what would end a long session; a fingerprint is taken under these alone.
_SETTINGS: Final = {
    "time_zone": "'+00:00'",
    "sql_mode": "''",
    "sql_quote_show_create": "1",
    "sql_big_selects": "1",
    "sql_select_limit": "18446744073709551615",
    "wait_timeout": str(_FOR_EVER),
    "net_write_timeout": "3600",
    "max_statement_time": "0",  # MariaDB
    "max_execution_time": "0",  # MySQL, like the next ones
    "information_schema_stats_expiry": "0",
    "print_identified_with_as_hex": "1",
}
_SERVER_FOLDERS: Final = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/mysql/bin")
_PROGRAMS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "mariadb": {
        "dump": ("mariadb-dump", "mysqldump"),
        "client": ("mariadb", "mysql"),
        "server": ("mariadbd", "mysqld"),
        "install": ("mariadb-install-db", "mysql_install_db"),
        "zones": ("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql"),
        "log": ("mariadb-binlog", "mysqlbinlog"),
        "files": ("mariadb-backup", "mariabackup"),
    },
    "mysql": {
        "dump": ("mysqldump",),
        "client": ("mysql",),
        "server": ("mysqld",),
        "install": ("mysqld",),
        "zones": ("mysql_tzinfo_to_sql",),
        "log": ("mysqlbinlog",),
        "files": ("xtrabackup",),
    },
}
_VERSION: Final = re.compile(r"(?:Distrib|from|Ver|MariaDB server|xtrabackup version) (\d+)\.(\d+)\.\d+(\S*)")


@dataclass(frozen=True, order=True)
class Version:
    """A server's or program's version: who makes it (``mariadb`` or ``mysql``), and the numbers that name a series."""

    flavour: str
    series: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> "Version":
        """What ``SELECT VERSION()`` says, or ``str`` of a version."""
        number = re.search(r"(\d+)\.(\d+)", text)
        series = (int(number[1]), int(number[2])) if number else (0, 0)
        return cls("mariadb" if "mariadb" in text.lower() else "mysql", series)

    @property
    def is_mariadb(self) -> bool:
        """Whether it is one of MariaDB."""
        return self.flavour == "mariadb"

    @property
    def name(self) -> str:
        """What people call it: ``MariaDB 10.11``."""
        return f"{'MariaDB' if self.is_mariadb else 'MySQL'} {self.series[0]}.{self.series[1]}"

    @property
    def keeps_history(self) -> bool:
        """Whether dumps have the former rows of system-versioned tables."""
        return self.is_mariadb and self.series >= (10, 11)


@dataclass(frozen=True)
class Address:
    """Where a server is, and as whom to log in.

    `host` is a name, or the path of a socket. `password` reveals it. TLS is verified for hosts that are names, unless
    `ssl_mode` is ``required`` (encrypted, by whomever) or ``disabled``; ``verify-ca`` takes whatever name a certificate
    has that is of `ssl_ca`, which then is an authority of this server alone. What `limit` ends is every session; a
    little later the server would by itself.
    """

    host: str
    port: int = 3306
    user: str = ""
    password: Callable[[], str] | None = None
    ssl_mode: str = ""
    ssl_ca: str = ""
    lock_seconds: float = 30.0
    silent_seconds: float = 3600.0
    limit: Limit = UNLIMITED

    @property
    def place(self) -> str:
        """What people call it."""
        return self.host if self.host.startswith("/") else f"{self.host}:{self.port}"

    @property
    def impatient(self) -> "Address":
        """The same, for what a server that is well answers at once."""
        return replace(self, silent_seconds=min(self.silent_seconds, _ANSWER_SECONDS))

    def connect(self, *, lock_seconds: float | None = None, patient: bool = False) -> Session:
        """A session in which the texts of values depend on nothing else. Raises pymysql.MySQLError.

        A `patient` one waits for answers however long they take.
        """
        where: dict[str, Any] = (
            {"unix_socket": self.host} if self.host.startswith("/") else {"host": self.host, "port": self.port}
        )
        session: Session = pymysql.connect(
            user=self.user or None,
            # As bytes: of a text the driver makes Latin-1, and the server's own tools UTF-8.
            password=(self.password() if self.password else "").encode("utf-8", "surrogateescape"),
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=None if patient else self.silent_seconds,
            write_timeout=self.silent_seconds,
            program_name="cto.backups",
            defer_connect=True,
            **where,
            **self._tls(),
        )
        if self.host.startswith("/"):
            vars(session)["_secure"] = True  # as the driver says of sockets that it opens: nobody listens in between
            session.connect(_opened(self.host))
        else:
            session.connect()
        try:
            seconds = self.lock_seconds if lock_seconds is None else lock_seconds
            settings = {**_SETTINGS, **self._longest(), "lock_wait_timeout": str(max(1, round(seconds)))}
            for name, value in settings.items():
                try:
                    do(session, f"SET SESSION {name} = {value}")
                except pymysql.MySQLError as error:
                    if error.args[0] != _UNKNOWN_VARIABLE:
                        raise
        except BaseException:
            session.close()
            raise
        self.limit.then(partial(stop, self, session))
        return session

    def _longest(self) -> dict[str, str]:
        """Settings by which the server ends by itself, a little later, what the limit ends."""
        left = self.limit.left()
        if left is None:
            return {}
        longest = min(math.ceil(left + _GRACE_SECONDS), _FOR_EVER)
        return {
            "wait_timeout": str(longest),
            "max_statement_time": str(longest),
            "max_execution_time": str(min(longest * 1000, _LONGEST_MS)),
        }

    def option_file(self, folder: Path, version: Version) -> Path:
        """A file in `folder`, for this user's eyes, that tells tools of this flavour how to reach the server.

        Raises SourceError where it cannot be written.
        """
        password = self.password() if self.password else ""
        lines = ["[client]", f"user={_quoted(self.user)}" if self.user else "", f"password={_quoted(password)}"]
        if self.host.startswith("/"):
            lines += [f"socket={_quoted(self.host)}", "protocol=socket"]
        else:
            lines += [f"host={_quoted(self.host)}", f"port={self.port}", "protocol=tcp"]
        lines += self._tool_tls(version)
        file = folder / "client.cnf"
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
                writing.write("\n".join(line for line in lines if line) + "\n")
        except OSError as error:
            raise unwritable(file, error) from error
        return file

    def environment(self, folder: Path) -> pipes.Environment:
        """What the server's tools may know of ours; no option file of this user's."""
        password = self.password() if self.password else ""
        variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        variables |= {"HOME": str(folder), "MYSQL_TEST_LOGIN_FILE": str(folder / "none")}
        return pipes.Environment(variables, secrets=(password,) if password else ())

    @property
    def _mode(self) -> str:
        return "disabled" if self.host.startswith("/") else self.ssl_mode or "verify-identity"

    def _tls(self) -> dict[str, Any]:
        if self._mode == "disabled":
            return {"ssl_disabled": True}
        context = ssl.create_default_context(cafile=self.ssl_ca or None)
        if self._mode == "verify-ca":
            context.check_hostname = False
        if self._mode == "required":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return {"ssl": context}

    def _tool_tls(self, version: Version) -> list[str]:
        # MariaDB's tools verify the name as well, or nothing: so they ask for more than was asked of them.
        verified = self._mode in ("verify-identity", "verify-ca")
        authority = [f"ssl-ca={_quoted(self.ssl_ca or certificates.file_of_the_system())}"] if verified else []
        if not version.is_mariadb:
            return [*authority, f"ssl-mode={self._mode.replace('-', '_').upper()}"]
        if self._mode == "disabled":
            return ["skip-ssl"]
        return [*authority, "ssl-verify-server-cert" if verified else "skip-ssl-verify-server-cert", "ssl"]


def rows(session: Session, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows that a statement gives; `values` stand for each ``%s`` in it. Raises pymysql.MySQLError."""
    with session.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


def told_in_bytes(session: Session, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement gives that are no text in every case: strings of a view may be anything.

    Raises pymysql.MySQLError.
    """
    session.use_unicode = False
    try:
        return rows(session, statement)
    finally:
        session.use_unicode = True


def do(session: Session, statement: str) -> None:
    """Carry out a statement that gives nothing. Raises pymysql.MySQLError."""
    with session.cursor() as cursor:
        cursor.execute(statement)


def version_of(session: Session) -> tuple[Version, str]:
    """The server's version, and the whole text of it."""
    ((text,),) = rows(session, "SELECT VERSION()")
    return Version.parse(text), str(text)


def quoted(name: str) -> str:
    """A name in a statement."""
    return "`" + name.replace("`", "``") + "`"


def said(error: pymysql.MySQLError) -> str:
    """What the server or the driver says, with its number."""
    number, *words = error.args or ("",)
    text = " ".join(" ".join(map(str, words)).split()) or str(number) or type(error).__name__
    # What stands behind "password:" is hidden from every output.
    text = text.replace("(using password: YES)", "with a password").replace(
        "(using password: NO)", "without a password"
    )
    told = f"{text} ({number})" if isinstance(number, int) and number and words else text
    return "; ".join((told, *getattr(error, "__notes__", ())))


def stop(address: Address, session: Session) -> None:
    """End what a session is about, whoever waits for it, and also when the server does not answer any more."""
    if not session.open:
        return
    with suppress(OSError, AttributeError):
        vars(session)["_sock"].shutdown(socket.SHUT_RDWR)
    with suppress(pymysql.MySQLError, OSError):
        other = replace(address.impatient, limit=UNLIMITED).connect()
        try:
            do(other, f"KILL {int(session.thread_id())}")  # type: ignore[no-untyped-call]
        finally:
            other.close()


@dataclass(frozen=True)
class Tools:
    """A server's programs: ``dump``, ``client``, ``server``, ``install``, ``zones``, ``log``, ``files``."""

    version: Version
    configured: str = ""

    def __getitem__(self, what: str) -> str:
        """The path of a program of this server's flavour. Raises ToolMissingError."""
        names = _PROGRAMS[self.version.flavour][what]
        wrong: list[str] = []
        for folder in self._folders():
            for name in names:
                if shutil.which(name, path=str(folder)) is None:  # not there, or in a folder that is closed to us
                    continue
                found = None if what in ("install", "zones", "log") else _program_version(folder / name)
                if found is None or self._serves(what, found):
                    return str(folder / name)
                wrong.append(f"{folder / name} is of {found.name}")
        where = self.configured or "PATH"
        raise ToolMissingError(names[0], None, "; ".join(wrong) or f"{names[0]} is not in {where}")

    def _serves(self, what: str, found: Version) -> bool:
        if found.flavour != self.version.flavour:
            return False
        # A restore test compares texts that another version writes otherwise; and files are understood by their own.
        same = what in ("server", "files")
        return found.series == self.version.series if same else found.series >= self.version.series

    def _folders(self) -> list[Path]:
        if self.configured:
            return [Path(self.configured)]
        on_path = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
        return [Path(folder) for folder in dict.fromkeys((*on_path, *_SERVER_FOLDERS))]


def _program_version(program: Path) -> Version | None:
    try:
        told = run(
            [program, "--no-defaults", "--version"],
            environment={"PATH": os.defpath},
            timeout_seconds=30,
            complaints_too=True,  # xtrabackup says it there
        )
    except ToolError:
        return None
    number = _VERSION.search(told.decode("utf-8", "replace"))
    if number is None:
        return None
    return Version("mariadb" if "mariadb" in number[3].lower() else "mysql", (int(number[1]), int(number[2])))


def _opened(path: str) -> socket.socket:
    """A socket's other end; the driver leaves one open that nobody answers at. Raises pymysql.OperationalError."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(_CONNECT_SECONDS)
        end.connect(path)
    except OSError as error:
        end.close()
        raise pymysql.OperationalError(2002, f"cannot connect to {path}: {error.strerror or error}") from error
    return end


def _quoted(value: str) -> str:
    """A value in an option file."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
