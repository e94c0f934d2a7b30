"""The program `pgbackrest`, asked only for what reads: info, listings, restores, and single files of the log.

It is given a private copy of its settings without any of the server's own: so a restore is written where we say, the
log is not fetched ahead, and nothing is asked of the host that the stanza was made for.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cto_backups import process
from cto_backups.errors import SourceError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.pgbackrest_standing import Repository, repositories
from cto_backups.sources.staging import staging

_USUAL: Final = (Path("/etc/pgbackrest/pgbackrest.conf"), Path("/etc/pgbackrest.conf"))
_INCLUDED: Final = Path("/etc/pgbackrest/conf.d")
_SECTION: Final = re.compile(r"\s*\[[^\]]+\]\s*")
_KEPT: Final = re.compile(
    r"\s*(?:repo\d*-|process-max|io-timeout|protocol-timeout|buffer-size|job-retry|cmd-ssh|sck-|tcp-)"
)
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR")
_OURS: Final = "PGBACKREST_REPO"
_NOT_THERE: Final = 1
_LONGEST_COMPLAINT: Final = 600
_LOOK_SECONDS: Final = 600.0


def settings(written: str) -> str:
    """Of pgBackRest's settings those that say where repositories are, and how they are read."""
    kept = (line for line in written.splitlines() if _SECTION.fullmatch(line) or _KEPT.match(line))
    return "\n".join(kept) + "\n"


class Program:
    """One stanza, as the program sees it. Everything raises ToolError."""

    def __init__(self, program: str, stanza: str, place: Path, timeout_seconds: float) -> None:
        self.stanza = stanza
        self._look_seconds = min(timeout_seconds, _LOOK_SECONDS)
        self._program = program
        self._place = place
        self._timeout_seconds = timeout_seconds

    def info(self) -> bytes:
        """What it says of the stanza in every repository, as JSON."""
        return self._run("info", "--output=json", seconds=self._look_seconds)

    def repositories(self) -> tuple[Repository, ...]:
        """What stands there."""
        return repositories(self.info(), self.stanza)

    def listed(self, repository: Repository, path: str, *, recurse: bool = False) -> Sequence[str]:
        """The names below a path of a repository."""
        options = ["--recurse"] if recurse else []
        words = [f"--repo={repository.number}", "--output=json", *options, path]
        said = self._run("repo-ls", *words, stanza=False, seconds=self._look_seconds)
        found: Any = json.loads(said)
        return [str(name) for name in found]

    def archived(self, repository: Repository) -> Sequence[str]:
        """The names in the archive of the stanza's newest database."""
        return self.listed(repository, f"archive/{self.stanza}/{repository.archive}", recurse=True)

    def restore(self, repository: Repository, label: str, data: Path, tablespaces: Path, *, again: bool) -> None:
        """Write a backup's files below `data`; `again`: over what is there."""
        self._run(
            "restore",
            f"--repo={repository.number}",
            f"--set={label}",
            f"--pg1-path={data}",
            f"--tablespace-map-all={tablespaces}",
            "--type=immediate",
            "--archive-mode=off",
            *(["--delta"] if again else []),
            *self._locks(),
        )

    def fetch(self, repository: Repository, name: str, data: Path, into: Path) -> bool:
        """Write a file of the log; whether the archive has it. `data` is the folder of the server that it is for."""
        try:
            self._run(
                "archive-get",
                f"--repo={repository.number}",
                f"--pg1-path={data}",
                "--no-archive-async",
                *self._locks(),
                name,
                str(into),
            )
        except ToolError as error:
            if error.status == _NOT_THERE:
                return False
            raise
        return True

    def _locks(self) -> list[str]:
        return [f"--lock-path={self._place}"]

    def _run(self, command: str, *words: str, stanza: bool = True, seconds: float | None = None) -> bytes:
        arguments = [
            self._program,
            f"--config={self._place / 'pgbackrest.conf'}",
            *([f"--stanza={self.stanza}"] if stanza else []),
            "--log-level-console=off",
            "--log-level-stderr=error",
            "--log-level-file=off",
            command,
            *words,
        ]
        try:
            return process.run(
                arguments,
                environment=_environment(),
                timeout_seconds=seconds or self._timeout_seconds,
                folder=Path("/"),
            )
        except ToolError as error:
            # Its complaints go over several lines, and only the first of each is marked as one.
            whole = " ".join(error.lines)[:_LONGEST_COMPLAINT] or error.detail
            raise type(error)(error.program, error.status, whole, error.lines) from error


def _environment() -> Mapping[str, str]:
    """What the program may know: also repositories' settings that it is used to find there, such as passphrases."""
    known = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        **known,
        **{name: value for name, value in os.environ.items() if name.startswith(_OURS)},
        "LC_ALL": "C.UTF-8",
    }


@contextmanager
def opened(
    source: str, program: str, stanza: str, given: Path | None, repository: str, state: Path, timeout_seconds: float
) -> Iterator[Program]:
    """The program with its settings: of the file `given`, of the usual places, or of a folder, `repository`.

    Raises SourceError when they cannot be read.
    """
    written = f"[global]\nrepo1-path={repository}\n" if repository else _read(source, given)
    with staging(state) as place:
        file = place / "pgbackrest.conf"
        file.touch(0o600)
        file.write_text(settings(written), encoding="utf-8")
        yield Program(program, stanza, place, timeout_seconds)


def _read(source: str, given: Path | None) -> str:
    usual = next((path for path in _USUAL if path.exists()), _USUAL[0])
    files = [given] if given is not None else [usual, *sorted(_INCLUDED.glob("*.conf"))]
    try:
        return "\n".join(file.read_text("utf-8") for file in files)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"source {source}: pgBackRest's settings cannot be read",
            why=f"{getattr(error, 'filename', None) or files[0]}: {getattr(error, 'strerror', None) or error}",
            todo="name the file, `config`, or the folder of a repository, `repository`; and let this user read it",
        ) from error


def refused(source: str, what: str, error: ToolError) -> SourceError:
    """What it means that the program failed."""
    todo = "try the same with pgbackrest itself, as this user and with these settings"
    if isinstance(error, ToolMissingError):
        todo = "install it (Debian: apt-get install pgbackrest), or name it: `program`"
    return SourceError(f"source {source}: {what}", why=str(error), todo=todo)
