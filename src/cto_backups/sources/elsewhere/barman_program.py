"""The program `barman`, asked only for what reads: what it knows, restores, and single files of the log.

It is given private settings of one server that say where its backups are, and how they are read. So none of Barman's
hooks runs, nobody is logged in to, and its locks and its log are ours: nothing that Barman does is held up.
"""

import os
import pwd
from collections.abc import Collection, Iterator, Mapping
from configparser import Error, RawConfigParser
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere.barman_standing import Catalogue, catalogue, segments
from cto_backups.sources.elsewhere.program import Standing, Words, emptied, run
from cto_backups.sources.elsewhere.standing import Backup, Repository
from cto_backups.sources.staging import staging

_USUAL: Final = Path("/etc/barman.conf")
_FOLDER: Final = "configuration_files_directory"
_USUAL_FOLDER: Final = "/etc/barman.d"
_GLOBAL: Final = "barman"
_KEPT: Final = frozenset(
    (
        "backup_compression",
        "backup_compression_format",
        "backup_directory",
        "bandwidth_limit",
        "barman_home",
        "basebackups_directory",
        "compression",
        "custom_compression_filter",
        "custom_compression_magic",
        "custom_decompression_filter",
        "encryption",
        "encryption_passphrase_command",
        "local_staging_path",
        "parallel_jobs",
        "path_prefix",
        "recovery_staging_path",
        "staging_location",
        "staging_path",
        "tablespace_bandwidth_limit",
        "wals_directory",
        "xlogdb_directory",
    )
)
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "GNUPGHOME")
_LOOK_SECONDS: Final = 600.0
_MANIFEST: Final = "backup_manifest"
_ORIGINAL: Final = ".origin"


def words(server: str) -> Words:
    """What Barman calls things, of a server."""
    return Words(
        title="Barman",
        command="barman",
        subject=f"server {server}",
        setting="server",
        record="barman.json",
        listing=f"barman list-backups {server}",
        backup=f"barman backup {server}",
        check=f"barman check {server}",
        verify=f"barman verify-backup {server} latest",
        after_upgrade="begin with a new server in Barman's settings",
        install="Debian: apt-get install barman",
    )


def settings(written: str, server: str, place: Path) -> str:
    """Of Barman's settings those that say where a server's backups are, and how they are read; all else is of `place`.

    Raises KeyError when the settings name no such server.
    """
    known = _parsed(written)
    if server == _GLOBAL or not known.has_section(server):
        raise KeyError(server)
    nobody = f"host={place} connect_timeout=1 dbname=none"
    ours = {
        _GLOBAL: {
            "barman_user": pwd.getpwuid(os.geteuid()).pw_name,
            "barman_lock_directory": str(place),
            "log_file": str(place / "log"),
            _FOLDER: "",
        },
        server: {
            "description": server,
            "conninfo": nobody,
            "streaming_conninfo": nobody,
            "backup_method": "postgres",
            "archiver": "on",
            # Before it restores, it would see to the log that has come in, and is none of ours.
            "incoming_wals_directory": str(place / "nothing"),
        },
    }
    lines: list[str] = []
    for section, own in ours.items():
        given = known[section] if known.has_section(section) else {}
        kept = {name: value for name, value in given.items() if name in _KEPT}
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in (kept | own).items())]
    return "\n".join([*lines, ""])


class Barman:
    """Implements `elsewhere_program.Program` for one of Barman's servers."""

    def __init__(self, program: str, server: str, file: Path, timeout_seconds: float, limit: Limit = UNLIMITED) -> None:
        self.words = words(server)
        self._server = server
        self._program = program
        self._file = file
        self._limit = limit
        self._timeout_seconds = timeout_seconds
        self._known: Catalogue | None = None

    def look(self) -> Standing:
        """What it knows of the server now, which is what counts until somebody looks again."""
        said = self._run("diagnose", seconds=min(self._timeout_seconds, _LOOK_SECONDS))
        self._known = catalogue(said, self._server)
        return Standing(said, (self._known.repository,))

    def archived(self, repository: Repository) -> Collection[str]:
        """The files themselves, whatever its list of them says."""
        try:
            return segments(Path(repository.archive))
        except OSError as error:
            raise ToolError(self._program, None, f"{error.filename}: {error.strerror}") from error

    def unfinished(self, repository: Repository, before: datetime) -> str:
        """The id of a backup that failed, or is late."""
        return self._catalogue().unfinished(before)

    def restore(self, repository: Repository, backup: Backup, data: Path, tablespaces: Path, *, again: bool) -> None:
        """Write a backup's files, and its settings as they were; what is there goes first."""
        known = self._catalogue()
        if backup.label not in known.tablespaces:
            raise ToolError(self._program, None, f"backup {backup.label} is not there any more")
        if again:
            emptied(data, tablespaces)
        moved = known.tablespaces[backup.label].items()
        self._run(
            "recover",
            "--get-wal",
            "--target-immediate",
            *(word for name, oid in moved for word in ("--tablespace", f"{name}:{tablespaces / str(oid)}")),
            self._server,
            backup.label,
            str(data),
        )
        self._undo(data, backup.label in known.streamed, backup.label)

    def _undo(self, data: Path, streamed: bool, label: str) -> None:
        """Take out what Barman adds to a server's files; of manifests only that of this backup stays."""
        try:
            for original in data.glob(f"*{_ORIGINAL}"):
                original.replace(original.with_suffix(""))
            (data / ".barman-recover.info").unlink(missing_ok=True)
            if (data / "barman_wal").is_dir():
                emptied(data / "barman_wal")
                (data / "barman_wal").rmdir()
            renamed = data / f"{_MANIFEST}.{label}"
            if renamed.is_file():
                renamed.replace(data / _MANIFEST)
            if not streamed:
                (data / _MANIFEST).unlink(missing_ok=True)
        except OSError as error:
            raise ToolError(self._program, None, f"{error.filename}: {error.strerror}") from error

    def fetch(self, repository: Repository, name: str, data: Path, into: Path) -> bool:
        """Write a file of the log."""
        try:
            self._run("get-wal", "--output-directory", str(into.parent), self._server, name)
        except ToolError as error:
            if "not found in server" in error.detail:
                into.unlink(missing_ok=True)  # it begins with an empty file
                return False
            raise
        return into.is_file()

    def _catalogue(self) -> Catalogue:
        if self._known is None:
            self.look()
        assert self._known is not None
        return self._known

    def _run(self, command: str, *words: str, seconds: float | None = None) -> bytes:
        arguments = [self._program, "--config", str(self._file), command, *words]
        return run(arguments, _environment(), seconds or self._timeout_seconds, self._limit)


def _environment() -> Mapping[str, str]:
    known = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **known, "LC_ALL": "C.UTF-8"}


@contextmanager
def opened(
    source: str,
    program: str,
    server: str,
    given: Path | None,
    state: Path,
    timeout_seconds: float,
    limit: Limit = UNLIMITED,
) -> Iterator[Barman]:
    """The program with its settings: of the file `given`, or of the usual place, and of the folder that it names.

    Raises SourceError when they cannot be read, or name no such server.
    """
    written = _read(source, given or _USUAL)
    with staging(state) as place:
        file = place / "settings"
        file.touch(0o600)
        try:
            file.write_text(settings(written, server, place), encoding="utf-8")
        except KeyError as error:
            raise SourceError(
                f"source {source}: Barman's settings do not tell where the backups of server {server} are",
                why=f"{given or _USUAL}, and what it includes: there is no section [{server}]",
                todo="correct `server`; 'barman list-servers' shows those that there are",
            ) from error
        yield Barman(program, server, file, timeout_seconds, limit)


def _read(source: str, main: Path) -> str:
    """The settings, in files that make sense one by one. Raises SourceError, which tells no line of them."""
    file = main
    try:
        parser = _parsed(written := main.read_text("utf-8"))
        folder = parser.get(_GLOBAL, _FOLDER, fallback=_USUAL_FOLDER if main == _USUAL else "")
        known = [written]
        for file in sorted(Path(folder).glob("*.conf")) if folder else []:
            _parsed(written := file.read_text("utf-8"))
            known.append(written)
        return "\n".join(known)
    except (OSError, UnicodeDecodeError, Error) as error:
        why = "there is a line that is neither a section nor a setting" if isinstance(error, Error) else str(error)
        raise SourceError(
            f"source {source}: Barman's settings cannot be read",
            why=f"{file}: {error.strerror if isinstance(error, OSError) else why}",
            todo="name the file, `config`, and let this user read it, and what it includes",
        ) from error


def _parsed(written: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.read_string(written)
    return parser
