"""A server's files and its log out of another program's repositories, so that a server started there recovers."""

import os
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cto_backups import process
from cto_backups.errors import RestoreError, SourceError, VerificationError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources.elsewhere.keeping import start
from cto_backups.sources.elsewhere.program import Program, Words, run
from cto_backups.sources.elsewhere.standing import Backup, Repository, gap, needed
from cto_backups.sources.postgresql.connection import find_tools
from cto_backups.sources.postgresql.point import AUTO_CONF, DATA, LOG, MOMENTS, TABLESPACES, Moments
from cto_backups.sources.postgresql.recovery import recover_at, recover_to_end
from cto_backups.sources.postgresql.recovery import settings as recovery_settings
from cto_backups.sources.postgresql.replication import lsn_text

_TURN: Final = "turn"
_MANIFEST: Final = "backup_manifest"
# Or else a server that is brought up on it would write its own log among the original's.
_QUIET: Final = b"archive_mode = 'off'\n"


def told(words: Words, source: str, place: Path) -> Moments:
    """To which moments a record that was restored into this folder leads. Raises RestoreError."""
    try:
        return Moments.read((place / MOMENTS).read_bytes())
    except (OSError, VerificationError) as error:
        raise RestoreError(
            f"source {source}: this recovery point does not say to which moments it leads",
            why=str(error),
            todo=f"choose another recovery point, or restore with {words.command} itself",
        ) from error


def write(
    program: Program,
    source: str,
    place: Path,
    moments: Moments,
    state: Path,
    *,
    at: datetime | None = None,
    one_copy: bool = False,
    tools: str = "",
) -> str:
    """Write `data`, `tablespaces` and `wal` into a folder; what was read from where, in words.

    From the first repository from which it comes back; with `one_copy`, from the one whose turn it is, or not at all.
    `tools` is the folder of PostgreSQL's programs, where policy names one. Raises RestoreError.
    """
    words = program.words
    able = choose(program, source, moments)
    if one_copy:
        able = [able[_turn(state) % len(able)]]
    failed: list[str] = []
    for repository, backup in able:
        try:
            files, unchecked = _write_from(program, repository, backup, place, moments, at, tools)
        except ToolError as error:
            failed.append(f"{repository.name}, backup {backup.label}: {error.detail}")
        except OSError as error:
            raise RestoreError(
                f"source {source}: what {words.title} restored cannot be made ready to recover",
                why=f"{error.filename}: {error.strerror}",
                todo="restore into another folder, where there is room",
            ) from error
        else:
            told = f"the data came from {words.title}'s {repository.name}: backup {backup.label}"
            notes = [unchecked] if unchecked else []
            return "; ".join([f"{told}, and {files} files of its log", *notes, *failed])
    raise RestoreError(
        f"source {source}: what {words.title} keeps does not come back",
        why="; ".join(failed),
        todo=f"see '{words.verify}'; make another backup with {words.title}; an older point may still come back",
    )


def _write_from(
    program: Program,
    repository: Repository,
    backup: Backup,
    place: Path,
    moments: Moments,
    at: datetime | None,
    tools: str,
) -> tuple[int, str]:
    """Write it out of one repository; how many files of the log, what was not checked. Raises ToolError, OSError."""
    data, spaces = place / DATA, place / TABLESPACES
    for folder in (data, spaces, place / LOG):
        folder.mkdir(mode=0o700, exist_ok=True)
    program.restore(repository, backup, data, spaces, again=any(data.iterdir()))
    unchecked = _check(data, tools)
    link_from_within(data)
    files = _fetch(program, repository, backup, place, moments)
    auto = data / AUTO_CONF
    before = auto.read_bytes() if auto.is_file() else b""
    target = lsn_text(moments.target)
    recovering = recovery_settings(before, target, moments.timeline, backup.segment_bytes)
    auto.write_bytes(recovering + _QUIET)
    (data / "recovery.signal").touch(0o600)
    if at is not None:
        recover_at(data, at)
    elif moments.target % backup.segment_bytes == 0:
        # The end of a backup, as Barman tells it: no record begins there, and all of the log that is here leads there.
        recover_to_end(data)
    # What lies here begins with this backup.
    (place / MOMENTS).write_bytes(replace(moments, begins=backup.begins).written())
    return files, unchecked


def _check(data: Path, folder: str) -> str:
    """See that a backup's files are those of its manifest, where it has one; what cannot be seen. Raises ToolError."""
    if not (data / _MANIFEST).is_file():
        return ""
    try:
        tools = find_tools(int((data / "PG_VERSION").read_text("ascii")), folder)
    except ToolMissingError as error:
        return f"its sums were not checked: {error.detail}"
    command = [tools["pg_verifybackup"], "--no-parse-wal", "--quiet", str(data)]
    run(command, {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, process.LONGEST_SECONDS)
    return ""


def choose(program: Program, source: str, moments: Moments) -> list[tuple[Repository, Backup]]:
    """The repositories that lead to the moments, each with its backup. Raises RestoreError when there is none."""
    words = program.words
    able: list[tuple[Repository, Backup]] = []
    unable: list[str] = []
    try:
        repositories = program.look().repositories
    except (ToolError, SourceError) as error:
        raise RestoreError(
            f"source {source}: {words.title} does not tell what its repositories hold",
            why=str(error),
            todo=f"try '{words.listing}' as this user",
        ) from error
    for repository in repositories:
        try:
            backup, why = _start(program, repository, moments)
        except ToolError as error:
            backup, why = None, error.detail
        if backup is None:
            unable.append(f"{repository.name}: {why}")
        else:
            able.append((repository, backup))
    if not able:
        raise RestoreError(
            f"source {source}: no repository of {words.title} leads to this recovery point any more",
            why="; ".join(unable) or "its settings name none",
            todo=f"choose a newer point; how long backups are kept there, {words.title}'s own retention says",
        )
    return able


def _start(program: Program, repository: Repository, moments: Moments) -> tuple[Backup | None, str]:
    """The backup with which a restore begins; or why there is none, which is better known before much is written."""
    if repository.trouble:
        return None, repository.trouble
    if repository.system != moments.system:
        return None, f"it is of another server now, system {repository.system}"
    backup = start(repository, moments)
    if backup is None:
        return None, "no backup in it leads there"
    wanted = needed(moments.timeline, backup.begins, moments.ends, backup.segment_bytes)
    lost = gap(wanted, program.archived(repository))
    return (None, lost) if lost else (backup, "")


def _turn(state: Path) -> int:
    """Whose turn it is to be tested."""
    with suppress(OSError, ValueError):
        return int((state / _TURN).read_text("ascii"))
    return 0


def passed(state: Path) -> None:
    """What was restored last is what it should be: it is the next repository's turn. Until then it stays the same's."""
    with suppress(OSError):
        (state / _TURN).write_text(str(_turn(state) + 1), "ascii")


def link_from_within(data: Path) -> None:
    """Let the links to tablespaces lead there wherever the folder is moved to. Raises OSError, ToolError.

    A map of them from the server itself would lead whoever starts on these files to the tablespaces that it uses.
    """
    (data / "tablespace_map").unlink(missing_ok=True)
    for link in (data / "pg_tblspc").iterdir():
        if not link.is_symlink():
            raise ToolError("restore", None, f"tablespace {link.name} did not come back as a link")
        name = link.readlink().name
        if not (data.parent / TABLESPACES / name).is_dir():
            raise ToolError("restore", None, f"tablespace {link.name} did not come back beside {data}")
        link.unlink()
        link.symlink_to(Path("..", "..", TABLESPACES, name))


def _fetch(program: Program, repository: Repository, backup: Backup, place: Path, moments: Moments) -> int:
    """Fetch the log from the backup's beginning to the end; how many files. Raises ToolError."""
    names = list(needed(moments.timeline, backup.begins, moments.ends, backup.segment_bytes))
    if moments.timeline > 1:
        names.insert(0, f"{moments.timeline:08X}.history")
    for name in names:
        into = place / LOG / name
        into.unlink(missing_ok=True)
        if not program.fetch(repository, name, place / DATA, into):
            raise ToolError(program.words.command, None, f"{name} of the log is not in the archive")
    return len(names)


def size(place: Path) -> int:
    """How many bytes of the server's files lie below a folder."""
    found = 0
    for name in (DATA, TABLESPACES):
        for folder, _, files in os.walk(place / name):
            for file in files:
                with suppress(OSError):
                    found += Path(folder, file).lstat().st_size
    return found
