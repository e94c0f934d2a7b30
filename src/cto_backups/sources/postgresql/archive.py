"""A database in an archive of pg_dump: made, looked into, and loaded into a database that is there."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cto_backups.errors import RestoreError
from cto_backups.process import run
from cto_backups.sources.postgresql.connection import Address, Tools, by_name
from cto_backups.sources.postgresql.restore import run_program

_LOOK_SECONDS: Final = 3600.0
_JOBS: Final = 2
_NAME: Final = r'(?:"(?:[^"]|"")*"|[^\s";]+)'
_CREATE: Final = re.compile(rf"^CREATE DATABASE ({_NAME}) (WITH [^;]*;)$", re.MULTILINE)
_OF_DATABASE: Final = re.compile(
    r"\d+; \d+ \d+ (?:DATABASE - |DATABASE PROPERTIES - |(?:ACL|COMMENT|SECURITY LABEL) - DATABASE )"
)
_NAMES_ROLES: Final = re.compile(
    r"^(?:ALTER .* OWNER TO|GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|CREATE POLICY|CREATE USER MAPPING|ALTER ROLE) .*$",
    re.MULTILINE,
)
# Lines that are psql's own; within quotes and comments, they are somebody's text.
_OF_PSQL: Final = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|^--.*)|^\\.*\n?""", re.MULTILINE)
_WORD: Final = re.compile(r'"(?:[^"]|"")*"|[^\s"(),;=]+')


@dataclass(frozen=True)
class About:
    """What an archive says of its database apart from what is in it: statements, for a database of another name.

    `create` makes an empty one, `properties` give it its owner, its settings and grants.
    """

    create: str
    properties: str


@dataclass(frozen=True)
class Archive:
    """An archive in pg_dump's custom form, and the programs that read it. Everything raises ToolError."""

    tools: Tools
    file: Path

    @classmethod
    def of(cls, tools: Tools, address: Address, database: str, file: Path, *options: str) -> "Archive":
        """Dump a database. Raises psycopg.Error besides."""
        command = [tools["pg_dump"], "--format=custom", f"--file={file}", "--no-password", *options]
        with address.connect(database) as session:
            if session.info.parameter_status("server_encoding") == "SQL_ASCII":
                command.append("--encoding=SQL_ASCII")  # what is in no encoding is taken as it is
        run_program([*command, f"--dbname={by_name(database)}"], address)
        return cls(tools, file)

    def entries(self) -> list[str]:
        """What is in it, a line each, as pg_restore lists it and takes it back."""
        listed = self._said("--create", "--list")
        return [line for line in listed.splitlines() if line and not line.startswith(";")]

    def about(self, name: str) -> About:
        """What makes its database anew under this name, which is quoted as an identifier where it needs to be."""
        entries = [entry for entry in self.entries() if _OF_DATABASE.match(entry)]
        script = self._said("--create", "--file=-", entries=entries)
        # Nothing of it is given to a program that would carry out lines that begin with a backslash.
        script = _OF_PSQL.sub(lambda found: found[1] or "", script)
        made = _CREATE.search(script)
        if made is None:
            raise RestoreError(
                f"{self.file.name} does not say how its database is made",
                why="it is no archive of a whole database",
                todo="verify the vault, and choose an older recovery point",
            )
        here = re.compile(
            rf"^((?:ALTER|COMMENT ON|SECURITY LABEL|GRANT|REVOKE)\b[^;\n]*?\bDATABASE ){re.escape(made[1])}(?=[ ;])",
            re.MULTILINE,
        )
        properties = here.sub(lambda found: found[1] + name, script[made.end() :])
        return About(f"CREATE DATABASE {name} {made[2]}", properties)

    def roles(self, known: Sequence[str]) -> list[str]:
        """Those of the known roles that it names: as owners, or in grants and policies."""
        script = self._said("--create", "--schema-only", "--file=-")
        words = {word for line in _NAMES_ROLES.findall(script) for word in _WORD.findall(line)}
        spelled = {word[1:-1].replace('""', '"') if word.startswith('"') else word for word in words}
        return sorted(spelled & set(known))

    def load(self, address: Address, database: str, *options: str, entries: Sequence[str] | None = None) -> None:
        """Load it into a database that is there: all of it or, with `entries`, these."""
        with _listed(entries) as chosen:
            command = [self.tools["pg_restore"], "--exit-on-error", "--no-tablespaces", "--no-password", *options]
            command += [*chosen, f"--jobs={_JOBS}", f"--dbname={by_name(database)}", str(self.file)]
            run_program(command, address)

    def _said(self, *options: str, entries: Sequence[str] | None = None) -> str:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        with _listed(entries) as chosen:
            command = [self.tools["pg_restore"], *options, *chosen, str(self.file)]
            return run(command, environment=environment, timeout_seconds=_LOOK_SECONDS).decode(
                "utf-8", "surrogateescape"
            )


@contextmanager
def _listed(entries: Sequence[str] | None) -> Iterator[list[str]]:
    """Options for a program that takes these entries alone."""
    if entries is None:
        yield []
        return
    with tempfile.NamedTemporaryFile(prefix="cto-backups-list.") as file:
        file.write("".join(f"{entry}\n" for entry in entries).encode("utf-8", "surrogateescape"))
        file.flush()
        yield [f"--use-list={file.name}"]
