"""A server as one source knows it: how it is reached, what of it is chosen, and what its failures mean to people."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pymysql

from cto_backups.core.limits import Limit
from cto_backups.errors import SourceError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.mysql.connection import Address, Session, Tools, Version, said
from cto_backups.sources.mysql.copier import copier_of
from cto_backups.sources.mysql.inventory import is_dumped, missing_rights


@dataclass(frozen=True)
class Server:
    """The server of the source `name`; `chosen` are its databases, all when there are none.

    `accounts` says whether those are kept; `tools` is the folder of its programs, which may be silent for
    `timeout_seconds`.
    """

    name: str
    address: Address
    chosen: Sequence[str]
    accounts: bool
    tools: str
    timeout_seconds: float

    def within(self, limit: Limit) -> "Server":
        """The same, whose sessions and programs end when the limit does."""
        return replace(self, address=replace(self.address, limit=limit))

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.address.place

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session; what keeps it from opening, and what fails in it, is a SourceError."""
        try:
            session = self.address.connect()
            try:
                yield session
            finally:
                session.close()
        except pymysql.MySQLError as error:
            raise self.unreadable(error) from error

    def covers(self, database: str) -> bool:
        """Whether a database is protected."""
        return is_dumped(database) and (not self.chosen or database in self.chosen)

    def require(self, session: Session, needed: Sequence[str]) -> None:
        """Raise SourceError when the session's user lacks one of these rights."""
        missing = missing_rights(session, self.chosen, needed)
        if missing:
            raise SourceError(
                f"source {self.name}: its user may not read everything at {self.place}",
                why=f"it lacks {', '.join(missing)}: what it may not see would be left out without a word",
                todo=f"as an administrator: GRANT {', '.join(missing)} ON *.* TO that user",
            )

    def program(self, version: Version, what: str) -> str:
        """The path of one of its programs. Raises SourceError."""
        tools = Tools(version, self.tools)
        try:
            return tools[what]
        except ToolMissingError as error:
            package = f"Debian: apt-get install {'mariadb-client' if version.is_mariadb else 'mysql-client'}"
            if what == "files":
                package = copier_of(version).package
            raise SourceError(
                f"source {self.name}: its server is {version.name}, whose programs are not here",
                why=error.detail,
                todo=f"install them ({package}), or name their folder: `tools`",
            ) from error

    def refusal(self, what: str, error: ToolError) -> SourceError:
        """What to raise when something could not be dumped."""
        return SourceError(
            f"source {self.name}: {what} could not be dumped",
            why=str(error),
            todo="nothing of this attempt was kept; see what the server says, and what this user may read",
        )

    def unreadable(self, error: pymysql.MySQLError) -> SourceError:
        """What to raise when the server says no, or nothing."""
        why = said(error)
        todo = "see that the server runs, and what this user may read: `user` and `password` of this source"
        if "certificate" in why.lower():
            todo = "name the certificates to trust, `ssl_ca`, and the host as the server's certificate does, `host`"
        return SourceError(f"source {self.name}: the server at {self.place} cannot be read", why=why, todo=todo)
