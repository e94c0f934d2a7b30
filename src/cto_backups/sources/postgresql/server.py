"""A server as one source knows it: how to open sessions there, and how to tell people what went wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg

from cto_backups.core.limits import Limit
from cto_backups.errors import SourceError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources import pipes
from cto_backups.sources.postgresql.connection import Address, Tools, find_tools
from cto_backups.sources.postgresql.rows import Session

_CONFLICT: Final = "conflict with recovery"
_OF_STANDBY: Final = (
    "the standby had to go on where its primary was: set hot_standby_feedback = on there, or a longer"
    " max_standby_streaming_delay than a backup takes"
)


@dataclass(frozen=True)
class Server:
    """The server of the source `name`.

    `tools` is the folder of PostgreSQL's programs that the policy names, `timeout_seconds` how long a program may be
    silent, `scratch` where throwaway servers live.
    """

    name: str
    address: Address
    tools: str
    timeout_seconds: float
    scratch: str

    def within(self, limit: Limit) -> "Server":
        """The same, whose sessions and programs end when the limit does."""
        return replace(self, address=replace(self.address, limit=limit))

    @property
    def place(self) -> str:
        """What people call it."""
        return self.address.place

    @contextmanager
    def session(self, database: str, *, read_only: bool = True) -> Iterator[Session]:
        """A session. Raises SourceError for all that goes wrong in it."""
        try:
            session = self.address.connect(database, read_only=read_only)
        except psycopg.Error as error:
            raise self.unreadable(database, error) from error
        with session:
            try:
                yield session
            except psycopg.Error as error:
                raise self.unreadable(database, error) from error

    def programs(self, major: int) -> Tools:
        """The programs of this major version. Raises SourceError."""
        try:
            return find_tools(major, self.tools)
        except ToolMissingError as error:
            raise SourceError(
                f"source {self.name}: its server is PostgreSQL {major}, whose programs are not here",
                why=error.detail,
                todo=f"install them (Debian: apt-get install postgresql-client-{major}), or name their folder: `tools`",
            ) from error

    def output(self, command: Sequence[str]) -> pipes.Output:
        """What one of the programs prints."""
        return pipes.Output(
            command,
            environment=self.address.environment(PGAPPNAME=f"cto.backups {Path(command[0]).name}"),
            folder=Path("/"),
            silent_seconds=self.timeout_seconds,
            limit=self.address.limit,
        )

    def refusal(self, what: str, error: ToolError) -> SourceError:
        """What it means that a program failed."""
        todo = "nothing of this attempt was kept; see what the server says, and what this user may read"
        return SourceError(
            f"source {self.name}: {what} could not be dumped",
            why=str(error),
            todo=_OF_STANDBY if _CONFLICT in str(error) else todo,
        )

    def unreadable(self, database: str, error: psycopg.Error) -> SourceError:
        """What it means that a session failed."""
        why = said(error)
        todo = "see that the server runs, and what this user may read: `user` and `password` of this source"
        if _CONFLICT in str(error):
            todo = _OF_STANDBY
        elif "does not support SSL" in why:
            todo = (
                "let it speak TLS, name the folder of its socket as `host`, or say that it need not: `sslmode: disable`"
            )
        elif "certificate" in why:
            todo = (
                "name the certificates to trust, `sslrootcert`, and the host as the server's certificate does, `host`"
            )
        return SourceError(
            f"source {self.name}: database {database} at {self.place} cannot be read", why=why, todo=todo
        )


def said(error: psycopg.Error) -> str:
    """What the server said, without rows and statements."""
    words = " ".join((error.diag.message_primary or str(error)).split()) or type(error).__name__
    return "; ".join((words, *getattr(error, "__notes__", ())))
