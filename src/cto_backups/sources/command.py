"""What a command prints: the dump of a database, an export, anything that a program writes to its standard output."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.core.model import Fingerprint, Problem, Resource
from cto_backups.core.ports import Capture, Existing, PointReader, Progress, Restored, RestoreOptions, RestorePlan
from cto_backups.core.trees import CaptureTree, EntryKind
from cto_backups.errors import PolicyError, RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.process import ToolError, ToolMissingError
from cto_backups.sources import pipes
from cto_backups.sources.names import raw, readable
from cto_backups.sources.options import seconds, text, texts
from cto_backups.sources.staging import staging
from cto_backups.sources.streams import ALGORITHM, Stream, StreamTree, Sums, fingerprint

_READ: Final = 1 << 20
# What programs need to run at all; what else a command needs is named, so that it runs alike wherever a worker does.
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


class CommandSource:
    """Implements `core.ports.Source` for what one command prints.

    Options: `command`, `filename`; `restore_command` and `test_command`, which get the file as their standard input;
    `environment`, by name what reveals the value; `folder`, where commands run; `timeout_seconds` (3600): how long
    the command may be silent, and how long the others may take. None of them runs in a shell.
    """

    kind = "command"

    def __init__(self, name: str, options: Mapping[str, object], *, state: Path) -> None:
        self.name = name
        self._command = texts(options, "command")
        self._restore_command = texts(options, "restore_command")
        self._test_command = texts(options, "test_command")
        self._filename = raw(text(options, "filename"))
        self._folder = Path(text(options, "folder", "/"))
        self._timeout_seconds = seconds(options, "timeout_seconds", 3600.0)
        self._variables = _environment(options)
        self._state = state / "sources" / name

    def discover(self, limit: Limit = UNLIMITED) -> Sequence[Resource]:
        """The file that the command makes. Raises SourceError when there is no such program."""
        program = self._program()
        return [Resource(f"command:{self.name}/{readable(self._filename)}", "command", program)]

    @contextmanager
    def capture(self, limit: Limit = UNLIMITED) -> Iterator[Capture]:
        """What the command prints, from when it is read. Raises SourceError when there is no such program."""
        self._program()
        begin = partial(
            pipes.Output,
            self._command,
            environment=self._environment(),
            folder=self._folder,
            silent_seconds=self._timeout_seconds,
            limit=limit,
        )
        now = clock.now()
        yield _CommandCapture(StreamTree([Stream(self._filename, begin, self._refusal)], now), now, self._filename)

    def plan_restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
    ) -> RestorePlan:
        """What `restore` would do; in place, a command is given the file. Raises RefusedError."""
        if destination is not None:
            return reader.plan(destination, only=only, existing=existing, options=options)
        program = self._command_in_place()[0]
        plan = reader.plan(self._state / "restore", only=only)
        note = f"{program} reads it from its standard input; what it replaces is up to that program"
        return replace(plan, destination=Path(program), conflicts=(), notes=(*plan.notes, note))

    def restore(
        self,
        reader: PointReader,
        destination: Path | None,
        *,
        only: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        options: RestoreOptions | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Write the file; in place, let `restore_command` read it, once all of it is there and whole.

        Raises RefusedError where there is no such command, RestoreError when it failed.
        """
        if destination is not None:
            return reader.restore(destination, only=only, existing=existing, options=options, progress=progress)
        command = self._command_in_place()
        with staging(self._state) as place:
            restored = reader.restore(place, only=only, options=options, progress=progress)
            if restored.problems:
                return replace(restored, places=())  # another vault may have it whole
            file = place / os.fsdecode(_only_file(self.name, reader).lstrip(b"/"))
            try:
                self._hand(file, command, self._folder)
            except ToolError as error:
                raise RestoreError(
                    f"source {self.name}: `restore_command` failed, and may have restored a part",
                    why=str(error),
                    todo="look at what it restores to; restore with --to FOLDER to get the file itself",
                ) from error
        return replace(restored, places=(f"read by {command[0]}",))

    def probe(self, restored: Path, expected: Fingerprint) -> Fingerprint:
        """Sum up the restored file, and let `test_command` try it, in the folder where it lies."""
        if expected.algorithm != ALGORITHM:
            raise VerificationError(
                f"source {self.name}: the fingerprint is not one of a command's output",
                why=f"it is {expected.algorithm}",
                todo="make a new recovery point",
            )
        found: dict[bytes, Sums] = {}
        for stored in sorted({raw(sample.fields["name"]) for sample in expected.samples if "name" in sample.fields}):
            file = restored / os.fsdecode(stored)
            if file.is_file():
                found[stored] = _sums(file)
                self._test(file)
        return fingerprint(found)

    def incomparable(self, expected: Fingerprint) -> Mapping[str, str]:
        """Everything can be compared."""
        return {}

    def _test(self, file: Path) -> None:
        if not self._test_command:
            return
        try:
            self._hand(file, self._test_command, file.parent)
        except ToolError as error:
            raise VerificationError(
                f"source {self.name}: the restored {file.name} does not work",
                why=f"`test_command` says: {error}",
                todo="verify the vault, and test an older recovery point",
            ) from error

    def _hand(self, file: Path, command: Sequence[str], folder: Path) -> None:
        with file.open("rb") as given:
            pipes.hand(
                given,
                command,
                environment=self._environment(),
                folder=folder,
                timeout_seconds=self._timeout_seconds,
            )

    def _command_in_place(self) -> tuple[str, ...]:
        if not self._restore_command:
            raise RefusedError(
                f"source {self.name} is not restored in place",
                why="it has no `restore_command`: nobody knows what to do with what its command printed",
                todo="restore it with --to FOLDER, or give this source a `restore_command` in the policy",
            )
        return self._restore_command

    def _program(self) -> str:
        """Where the command's program is."""
        if not self._folder.is_dir():
            why, todo = f"the folder {self._folder}, where it is to run, is not there", "make it, or mount what is not"
            raise SourceError(f"source {self.name} cannot be read", why=why, todo=todo)
        program = self._command[0] if self._command else ""
        inside = str(self._folder / program) if "/" in program else program
        found = shutil.which(inside)
        if found is None:
            raise self._refusal(ToolMissingError(program, None, "there is no such program"))
        return found

    @cached_property
    def _revealed(self) -> dict[str, str]:
        return {name: reveal() for name, reveal in self._variables.items()}

    def _environment(self) -> pipes.Environment:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return pipes.Environment(inherited | self._revealed, secrets=tuple(self._revealed.values()))

    def _refusal(self, error: ToolError) -> SourceError:
        todo = "run the command by hand to see more; nothing of this attempt was kept"
        if isinstance(error, ToolMissingError):
            todo = "install it, or correct `command` of this source in the policy"
        return SourceError(f"source {self.name} gave nothing whole", why=str(error), todo=todo)


class _CommandCapture:
    """Implements `core.ports.Capture`."""

    staged = True
    problems: tuple[Problem, ...] = ()  # a command gives all or nothing
    newest_content_at: datetime | None = None  # only whoever reads what it printed could tell

    def __init__(self, tree: StreamTree, now: datetime, filename: bytes) -> None:
        self.captured_at = now
        self.paths = (f"/{readable(filename)}",)
        self._streams = tree
        self.tree: CaptureTree = tree

    def fingerprint(self) -> Fingerprint:
        return self._streams.fingerprint()

    def stored(self) -> None:
        """Nothing is remembered: what a command prints is only known when it is read."""


def _environment(options: Mapping[str, object]) -> Mapping[str, Callable[[], str]]:
    value = options.get("environment") or {}
    if isinstance(value, Mapping) and all(callable(reveal) for reveal in value.values()):
        return dict(value)
    raise PolicyError(
        "option `environment` of a source is wrong", why="it must say where each value is", todo="correct the policy"
    )


def _only_file(name: str, reader: PointReader) -> bytes:
    files = [path for path, entry in reader.listing() if entry.kind is EntryKind.FILE]
    if len(files) != 1:
        raise RestoreError(
            f"this recovery point of {name} does not hold what a command printed",
            why=f"it holds {len(files)} files",
            todo="restore it with --to FOLDER, or choose another point",
        )
    return files[0]


def _sums(file: Path) -> Sums:
    sums = Sums()
    buffer = memoryview(bytearray(_READ))
    with file.open("rb", buffering=0) as content:
        while count := content.readinto(buffer):
            sums.add(buffer[:count])
    return sums
