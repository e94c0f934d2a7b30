"""How a server is reached, by our own sessions and by PostgreSQL's tools alike; secrets are on no command line."""

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from cto_backups import certificates
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.process import ToolMissingError
from cto_backups.sources import pipes

_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
_CONNECT_SECONDS: Final = 15
_CANCEL_SECONDS: Final = 5.0
# What the texts of values depend on; a fingerprint is taken under these alone.
_SETTINGS: Final = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "search_path": "pg_catalog",
    "row_security": "off",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
}
# A machine that is gone is noticed within two minutes, and not after the two hours of Linux: what its session holds
# back (a snapshot: all vacuuming) is let go of then. A socket of this machine takes no notice of it.
_ALIVE: Final = {"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "6"}
# So is, by a server that works on a long statement, who was killed.
_NOTICED: Final = "SELECT set_config('client_connection_check_interval', '5s', false)"
_NOTICING: Final = 140_000
_LONGEST_MS: Final = (1 << 31) - 1
_GRACE_SECONDS: Final = 10.0
"""How long after us a server ends what we should have ended: it says no word of why."""
_OF_TOOLS: Final = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    **_ALIVE,
}
DEBIAN: Final = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Address:
    """Where a server is, and as whom to log in.

    `host` is a name, or the folder of a socket. `password` reveals it. TLS is verified for hosts that are names, unless
    `sslmode` says otherwise. What `limit` ends is every session; a little later the server would by itself.
    """

    host: str
    port: int = 5432
    user: str = ""
    password: Callable[[], str] | None = None
    sslmode: str = ""
    sslrootcert: str = ""
    lock_seconds: float = 30.0
    settings: Mapping[str, str] = field(default_factory=lambda: dict(_SETTINGS))
    limit: Limit = UNLIMITED

    @property
    def place(self) -> str:
        """What people call it."""
        return self.host if self.host.startswith("/") else f"{self.host}:{self.port}"

    def connect(self, database: str, *, read_only: bool = True) -> "psycopg.Connection[tuple[Any, ...]]":
        """A session in which the texts of values depend on nothing else. Raises psycopg.Error."""
        settings = {**self.settings, **self._longest(), "lock_timeout": f"{int(self.lock_seconds * 1000)}ms"}
        if not read_only:
            settings |= {"default_transaction_read_only": "off"}
        session = self._connected(database, settings)
        if session.info.server_version >= _NOTICING:
            with suppress(psycopg.errors.InvalidParameterValue):  # its system does not tell it
                session.execute(_NOTICED)
        if session.info.parameter_status("server_encoding") == "SQL_ASCII":
            session.execute("SET client_encoding = 'LATIN1'")  # as it is: each byte is a character
        return session

    def replicating(self, database: str | None = None) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection that replicates: a database's changes, or else the server's files and log. Raises psycopg.Error.

        Nothing may be executed in it the usual way.
        """
        # A server may be set to give up who does not answer for seconds: between two answers of ours there may be some.
        settings = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "wal_sender_timeout": "10min"}
        return self._connected(database, settings, replication="database" if database else "true")

    def _longest(self) -> dict[str, str]:
        """Settings by which the server ends by itself, a little later, what the limit ends."""
        left = self.limit.left()
        if left is None:
            return {}
        longest = f"{min(int((left + _GRACE_SECONDS) * 1000), _LONGEST_MS)}ms"
        return {"statement_timeout": longest, "idle_in_transaction_session_timeout": longest}

    def _connected(
        self, database: str | None, settings: Mapping[str, str], **more: str
    ) -> "psycopg.Connection[tuple[Any, ...]]":
        options = " ".join(f"-c {name}={_escaped(value)}" for name, value in {**_ALIVE, **settings}.items())
        parameters: dict[str, Any] = {**self._tls(), **more}
        session = psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user or None,
            dbname=database,
            password=self.password() if self.password else None,
            options=options,
            application_name="cto.backups",
            connect_timeout=_CONNECT_SECONDS,
            client_encoding="UTF8",
            autocommit=True,
            **parameters,
        )
        self.limit.then(partial(_end, session))
        return session

    def environment(self, **more: str) -> pipes.Environment:
        """The variables by which PostgreSQL's tools reach it."""
        password = self.password() if self.password else ""
        variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        variables |= {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGAPPNAME": "cto.backups",
            "PGCONNECT_TIMEOUT": str(_CONNECT_SECONDS),
            "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in _OF_TOOLS.items()),
            "PGCLIENTENCODING": "UTF8",
            **({"PGUSER": self.user} if self.user else {}),
            **({"PGPASSWORD": password} if password else {}),
            **{f"PG{name.upper()}": value for name, value in self._tls().items()},
            **more,
        }
        return pipes.Environment(variables, secrets=(password,) if password else ())

    def _tls(self) -> dict[str, str]:
        if self.host.startswith("/"):
            return {}
        certificate = self.sslrootcert or certificates.of_the_system()
        mode = self.sslmode or "verify-full"
        return {"sslmode": mode, **({"sslrootcert": certificate} if mode.startswith("verify") else {})}


def _end(session: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """End a session, whoever waits for it, and what the server does for it."""
    if session.closed:
        return
    try:
        session.cancel_safe(timeout=_CANCEL_SECONDS)
    finally:
        with socket.socket(fileno=os.dup(session.fileno())) as connection:
            connection.shutdown(socket.SHUT_RDWR)


def by_name(database: str) -> str:
    """A database where a program takes a connection string as well: it is a name, whatever is in it."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _escaped(value: str) -> str:
    return re.sub(r"([\\ ])", r"\\\1", value)


@dataclass(frozen=True)
class Tools:
    """PostgreSQL's programs of one major version."""

    major: int
    folder: Path

    def __getitem__(self, program: str) -> str:
        return str(self.folder / program)


def find_tools(major: int, configured: str = "", *, newer: bool = True) -> Tools:
    """The programs of this major version, or else of the next newer one that is installed.

    `configured` is the folder that the policy names. Raises ToolMissingError, naming the package.
    """
    found = {version: folder for version, folder in installed(configured).items() if version >= major}
    if not newer:
        found = {version: folder for version, folder in found.items() if version == major}
    if not found:
        where = configured or f"{DEBIAN}/{major}/bin and PATH"
        raise ToolMissingError("pg_dump", None, f"PostgreSQL {major}'s programs are not in {where}")
    best = min(found)
    return Tools(best, found[best])


def installed(configured: str = "") -> dict[int, Path]:
    """The folders of PostgreSQL's programs on this machine, by major version."""
    folders: Sequence[Path]
    if configured:
        folders = [Path(configured)]
    else:
        on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
        folders = [*sorted(DEBIAN.glob("*/bin")), *on_path]
    found: dict[int, Path] = {}
    for folder in folders:
        # Debian's programs on PATH choose among clusters, and are not of one version.
        if _is_there(folder / "pg_dump") and (version := _version(folder)) is not None:
            found.setdefault(version, folder)
    return found


def _is_there(program: Path) -> bool:
    try:
        return program.is_file()
    except OSError:
        return False  # a folder that others may search, and we may not


def _version(folder: Path) -> int | None:
    if folder.parent.parent == DEBIAN and folder.parent.name.isdecimal():
        return int(folder.parent.name)
    if (folder / "pg_wrapper").exists() or (folder / "pg_dump").resolve().name == "pg_wrapper":
        return None
    from cto_backups.process import ToolError, run

    try:
        said = run([folder / "pg_dump", "--version"], environment={"PATH": os.defpath}, timeout_seconds=30)
    except ToolError:
        return None
    number = re.search(rb"(\d+)(?:\.\d+)?", said)
    return int(number[1]) if number else None
