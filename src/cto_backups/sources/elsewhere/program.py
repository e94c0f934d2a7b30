"""A program that keeps backups of a PostgreSQL server, asked only for what reads; each has an adapter of its own."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cto_backups import process
from cto_backups.core.limits import UNLIMITED, Limit, at_most
from cto_backups.errors import SourceError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.elsewhere.standing import Backup, Repository

_LONGEST_COMPLAINT: Final = 600


@dataclass(frozen=True)
class Words:
    """What a program calls things, for messages: its title, and commands that a person would type.

    `subject` is what it has backups of, as `setting` of the policy names it; `record` is the name of the file in which
    a point keeps what the program said. `after_upgrade` is what to do once the server is another one.
    """

    title: str
    command: str
    subject: str
    setting: str
    record: str
    listing: str
    backup: str
    check: str
    verify: str
    after_upgrade: str
    install: str


@dataclass(frozen=True)
class Standing:
    """What a program said of its repositories, as it said it, and as it is understood."""

    said: bytes
    repositories: tuple[Repository, ...]


class Program(Protocol):
    """A program with the settings by which it finds one server's backups. Everything raises ToolError."""

    @property
    def words(self) -> Words:
        """What it calls things."""

    def look(self) -> Standing:
        """What stands in its repositories. Raises SourceError, too, when that makes no sense."""

    def archived(self, repository: Repository) -> Collection[str]:
        """The names of the whole files of the log in a repository's archive."""

    def unfinished(self, repository: Repository, before: datetime) -> str:
        """The newest backup that was begun after all others, before a moment, and never ended; empty if none was."""

    def restore(self, repository: Repository, backup: Backup, data: Path, tablespaces: Path, *, again: bool) -> None:
        """Write a backup's files below `data`, of its tablespaces below `tablespaces`; `again`: over what is there.

        Links in `data/pg_tblspc` lead to folders right below `tablespaces`. A `backup_manifest` is of this very backup.
        """

    def fetch(self, repository: Repository, name: str, data: Path, into: Path) -> bool:
        """Write a file of the log; whether the archive has it. `data` is the folder of the server that it is for."""


def run(
    command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float, limit: Limit = UNLIMITED
) -> bytes:
    """What a program prints. Raises ToolError, with all that it complained of, as far as anybody would read."""
    longest = at_most(limit, timeout_seconds)
    try:
        return process.run(command, environment=environment, timeout_seconds=longest, folder=Path("/"))
    except ToolError as error:
        whole = " ".join(error.lines)[:_LONGEST_COMPLAINT] or error.detail
        raise type(error)(error.program, error.status, whole, error.lines) from error


def emptied(*folders: Path) -> None:
    """Remove all that is in these folders, for a program that writes over nothing. Raises ToolError."""
    try:
        for folder in folders:
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
    except OSError as error:
        raise ToolError("", None, f"{error.filename} cannot be removed: {error.strerror}") from error


def refused(words: Words, source: str, what: str, error: ToolError) -> SourceError:
    """What it means that the program failed."""
    todo = f"try the same with {words.command} itself, as this user and with these settings"
    if isinstance(error, ToolMissingError):
        todo = f"install it ({words.install}), or name it: `program`"
    return SourceError(f"source {source}: {what}", why=str(error), todo=todo)
