"""The program `pgbackrest`, asked only for what reads: info, listings, restores, and single files of the log.

It is given a private copy of its settings without any of the server's own: so a restore is written where we say, the
log is not fetched ahead, and nothing is asked of the host that the stanza was made for.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere import pgbackrest_standing as standing
from cto_backups.sources.elsewhere.program import Standing, Words, run
from cto_backups.sources.elsewhere.standing import Backup, Repository
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
_LOOK_SECONDS: Final = 600.0


def settings(written: str) -> str:
    """Of pgBackRest's settings those that say where repositories are, and how they are read."""
    kept = (line for line in written.splitlines() if _SECTION.fullmatch(line) or _KEPT.match(line))
    return "\n".join(kept) + "\n"


def words(stanza: str) -> Words:
    """What pgBackRest calls things, of a stanza."""
    return Words(
        title="pgBackRest",
        command="pgbackrest",
        subject=f"stanza {stanza}",
        setting="stanza",
        record="pgbackrest.json",
        listing="pgbackrest info",
        backup="pgbackrest backup",
        check="pgbackrest check",
        verify="pgbackrest verify",
        after_upgrade="pgBackRest's stanza-upgrade",
        install="Debian: apt-get install pgbackrest",
    )


class Pgbackrest:
    """Implements `elsewhere_program.Program` for one stanza."""

    def __init__(
        self, program: str, stanza: str, place: Path, timeout_seconds: float, where: str, limit: Limit = UNLIMITED
    ) -> None:
        self.words = words(stanza)
        self._stanza = stanza
        self._look_seconds = min(timeout_seconds, _LOOK_SECONDS)
        self._program = program
        self._place = place
        self._limit = limit
        self._timeout_seconds = timeout_seconds
        self._where = where

    def look(self) -> Standing:
        """What it says of the stanza in every repository."""
        said = self._run("info", "--output=json", seconds=self._look_seconds)
        return Standing(said, standing.repositories(said, self._stanza, self._where))

    def archived(self, repository: Repository) -> Collection[str]:
        """The whole files in the archive of the stanza's newest database."""
        path = f"archive/{self._stanza}/{repository.archive}"
        return standing.segments(self._listed(repository, path, "--recurse"))

    def unfinished(self, repository: Repository, before: datetime) -> str:
        """The label of a backup that left a folder, and no more."""
        return standing.unfinished(repository, self._listed(repository, f"backup/{self._stanza}"), before)

    def _listed(self, repository: Repository, path: str, *options: str) -> Sequence[str]:
        """The names below a path of a repository."""
        words = [f"--repo={standing.number(repository)}", "--output=json", *options, path]
        said = self._run("repo-ls", *words, stanza=False, seconds=self._look_seconds)
        try:
            found: Any = json.loads(said)
        except ValueError as error:
            raise ToolError(self._program, None, f"what it lists below {path} is not understood: {error}") from error
        return [str(name) for name in found]

    def restore(self, repository: Repository, backup: Backup, data: Path, tablespaces: Path, *, again: bool) -> None:
        """Write a backup's files; over what is there, only those that differ."""
        self._run(
            "restore",
            f"--repo={standing.number(repository)}",
            f"--set={backup.label}",
            f"--pg1-path={data}",
            f"--tablespace-map-all={tablespaces}",
            "--type=immediate",
            *(["--delta"] if again else []),
            *self._locks(),
        )

    def fetch(self, repository: Repository, name: str, data: Path, into: Path) -> bool:
        """Write a file of the log."""
        try:
            self._run(
                "archive-get",
                f"--repo={standing.number(repository)}",
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
            *([f"--stanza={self._stanza}"] if stanza else []),
            "--log-level-console=off",
            "--log-level-stderr=error",
            "--log-level-file=off",
            command,
            *words,
        ]
        return run(arguments, _environment(), seconds or self._timeout_seconds, self._limit)


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
    source: str,
    program: str,
    stanza: str,
    given: Path | None,
    repository: str,
    state: Path,
    timeout_seconds: float,
    limit: Limit = UNLIMITED,
) -> Iterator[Pgbackrest]:
    """The program with its settings: of the file `given`, of the usual places, or of a folder, `repository`.

    Raises SourceError when they cannot be read.
    """
    written = f"[global]\nrepo1-path={repository}\n" if repository else _read(source, given)
    with staging(state) as place:
        file = place / "pgbackrest.conf"
        file.touch(0o600)
        file.write_text(settings(written), encoding="utf-8")
        where = repository or str(given or _USUAL[0].parent)
        yield Pgbackrest(program, stanza, place, timeout_seconds, where, limit)


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
