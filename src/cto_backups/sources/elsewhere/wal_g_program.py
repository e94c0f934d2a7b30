"""The program `wal-g`, asked only for what reads: its backups, its log, restores, and single files of the log.

It is given its settings, and variables that hold some, and nothing by which it could find a server.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere import wal_g_standing as standing
from cto_backups.sources.elsewhere.program import Standing, Words, emptied, run
from cto_backups.sources.elsewhere.standing import Backup, Repository
from cto_backups.sources.staging import staging

WORDS: Final = Words(
    title="WAL-G",
    command="wal-g",
    subject="a server",
    setting="config",
    record="wal-g.json",
    listing="wal-g backup-list",
    backup="wal-g backup-push",
    check="wal-g wal-show",
    verify="wal-g wal-verify integrity",
    after_upgrade="a storage of its own for the new server",
    install="it is at https://github.com/wal-g/wal-g/releases",
)
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "PG_WAL_SIZE")
_OURS: Final = ("WALG_", "WALE_", "AWS_", "AZURE_", "GOOGLE_", "OS_", "SSH_", "GPG_")
_CIPHERS: Final = {
    "WALG_LIBSODIUM_KEY": "libsodium",
    "WALG_PGP_KEY": "openpgp",
    "WALG_GPG_KEY_ID": "openpgp",
    "WALE_GPG_KEY_ID": "openpgp",
    "WALG_CSE_KMS_ID": "aws-kms",
    "YC_CSE_KMS_KEY_ID": "yc-kms",
}
_ABSENT: Final = "does not exist"
_LOOK_SECONDS: Final = 600.0


class WalG:
    """Implements `elsewhere_program.Program` for one storage."""

    words = WORDS

    def __init__(
        self, program: str, file: Path, location: str, place: Path, timeout_seconds: float, limit: Limit = UNLIMITED
    ) -> None:
        self._program = program
        self._file = file
        self._location = location
        self._place = place
        self._limit = limit
        self._timeout_seconds = timeout_seconds
        self._look_seconds = min(timeout_seconds, _LOOK_SECONDS)

    def look(self) -> Standing:
        """What it lists; whether that is encrypted, its settings say."""
        said = self._run("backup-list", "--json", "--detail", seconds=self._look_seconds)
        return Standing(said, (standing.repository(said, self._location, self._cipher()),))

    def archived(self, repository: Repository) -> Collection[str]:
        """The files of the log in every timeline."""
        size = repository.backups[-1].segment_bytes
        said = self._run("wal-show", "--detailed-json", seconds=self._look_seconds)
        try:
            return standing.segments(said, size)
        except ValueError as error:
            raise ToolError(self._program, None, f"what it shows of the log is not understood: {error}") from error

    def unfinished(self, repository: Repository, before: datetime) -> str:
        """WAL-G lists no backup before its end, and keeps of none when it was begun."""
        return ""

    def restore(self, repository: Repository, backup: Backup, data: Path, tablespaces: Path, *, again: bool) -> None:
        """Write a backup's files; what is there goes first, and tablespaces never to where the server has them."""
        if again:
            emptied(data, tablespaces)
        sentinel = self._run("st", "cat", f"basebackups_005/{backup.label}_backup_stop_sentinel.json")
        specification = self._place / "specification.json"
        try:
            where = standing.restore_specification(sentinel, data, tablespaces)
            specification.write_text(json.dumps(where), encoding="utf-8")
        except (ValueError, OSError) as error:
            raise ToolError(self._program, None, f"what it says of backup {backup.label}: {error}") from error
        self._run("backup-fetch", str(data), backup.label, "--restore-spec", str(specification))
        # Of the server itself, perhaps of a backup that it once came from.
        (data / "backup_manifest").unlink(missing_ok=True)

    def fetch(self, repository: Repository, name: str, data: Path, into: Path) -> bool:
        """Write a file of the log."""
        try:
            # With more at once it would fetch ahead, beside the file, and go on when it has ended.
            self._run("wal-fetch", name, str(into), WALG_DOWNLOAD_CONCURRENCY="1")
        except ToolError as error:
            if _ABSENT in error.detail:
                return False
            raise
        return into.is_file()

    def _cipher(self) -> str:
        written = self._file.read_text("utf-8") if self._file.is_file() else ""
        known = [*os.environ, *_names(written)]
        return next((cipher for begin, cipher in _CIPHERS.items() for name in known if name.startswith(begin)), "")

    def _run(self, command: str, *words: str, seconds: float | None = None, **variables: str) -> bytes:
        arguments = [self._program, "--config", str(self._file), command, *words]
        return run(arguments, {**_environment(), **variables}, seconds or self._timeout_seconds, self._limit)


def _names(written: str) -> Iterator[str]:
    """What is set in a file of settings, whichever of its formats that has."""
    for line in written.replace("{", "\n").replace(",", "\n").splitlines():
        yield line.strip().strip("\"'")


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_OURS)}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C.UTF-8"}


@contextmanager
def opened(
    source: str,
    program: str,
    given: Path | None,
    repository: str,
    state: Path,
    timeout_seconds: float,
    limit: Limit = UNLIMITED,
) -> Iterator[WalG]:
    """The program with its settings: of the file `given`, of the usual place, or of a folder, `repository`.

    Raises SourceError when they cannot be read.
    """
    usual = Path(os.environ.get("HOME", "/"), ".walg.json")
    with staging(state) as place:
        if repository:
            file = place / "settings.json"
            file.write_text(json.dumps({"WALG_FILE_PREFIX": repository}), encoding="utf-8")
            yield WalG(program, file, repository, place, timeout_seconds, limit)
            return
        file = given or usual
        try:
            written: Any = file.read_text("utf-8") if given or file.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"source {source}: WAL-G's settings cannot be read",
                why=f"{file}: {getattr(error, 'strerror', None) or error}",
                todo="name the file, `config`, or the folder of a storage, `repository`; and let this user read it",
            ) from error
        if not written:  # all of it may stand in variables
            file = place / "settings.json"
            file.write_text("{}", encoding="utf-8")
        yield WalG(program, file, str(given or usual), place, timeout_seconds, limit)
