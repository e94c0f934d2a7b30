"""The binary log in a recovery point: what leads from the dumps to the point's own moment, and to any one between.

``log.json`` says where it begins and ends, and names the files ``binlog-NUMBER-NAME``, each of which goes on where the
one before ends. ``mariadb-binlog binlog-* | mariadb`` brings databases that were made from the dumps to the end.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Sample
from cto_backups.errors import RestoreError, VerificationError
from cto_backups.process import LONGEST_SECONDS, ToolError
from cto_backups.sources import pipes
from cto_backups.sources.mysql_binlog import MAGIC, BrokenLogError, Event, events_in
from cto_backups.sources.mysql_dump import Position
from cto_backups.sources.mysql_restore import Loader, without_data

LOG_FILE: Final = "log.json"
PREFIX: Final = "binlog-"
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one of the server's files, in a file of ours."""

    name: str
    file: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Log:
    """What a point says of its log: by the server's clock it leads from `since` to `until`.

    `base_at` is when the dumps were begun, by our clock. The file in which it ends was begun at `born`, in seconds
    since 1970; `last_at` and `last` are where in it its last event is, and the SHA-256 of that; -1 and "" without one.
    It does not go on where the log to come speaks of what is not in the dumps.
    """

    version: str
    server: int
    base_at: datetime
    since: datetime
    until: datetime
    begins: Position
    ends: Position
    born: int
    last_at: int = -1
    last: str = ""
    goes_on: bool = True
    pieces: tuple[Piece, ...] = ()

    def written(self) -> bytes:
        """As a file."""
        document: dict[str, Any] = {
            "format": 1,
            "version": self.version,
            "server_id": self.server,
            "base_at": self.base_at.isoformat(),
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "begins": [self.begins.file, self.begins.offset],
            "ends": [self.ends.file, self.ends.offset],
            "last_file_begun": self.born,
            "last_event_at": self.last_at,
            "last_event": self.last,
            "goes_on": self.goes_on,
            "files": [[piece.name, piece.file, piece.begins, piece.ends] for piece in self.pieces],
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes) -> "Log":
        """What `written` gave. Raises VerificationError."""
        try:
            document = json.loads(content)
            return cls(
                version=str(document["version"]),
                server=int(document["server_id"]),
                base_at=datetime.fromisoformat(document["base_at"]),
                since=datetime.fromisoformat(document["since"]),
                until=datetime.fromisoformat(document["until"]),
                begins=_position(document["begins"]),
                ends=_position(document["ends"]),
                born=int(document["last_file_begun"]),
                last_at=int(document["last_event_at"]),
                last=str(document["last_event"]),
                goes_on=document["goes_on"] is True,
                pieces=tuple(Piece(str(a), str(b), int(c), int(d)) for a, b, c, d in document["files"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise unrecovered(f"{LOG_FILE} does not tell where the log begins and ends") from error

    @property
    def sample(self) -> Sample:
        """What a fingerprint says of the log."""
        ends = f"{self.ends.file}:{self.ends.offset}"
        told = {"since": self.since.isoformat(), "until": self.until.isoformat(), "ends": ends}
        return Sample(LOG_SAMPLE, told)

    def next_name(self, file: str) -> str:
        """The name of the piece that comes next, which is of this file."""
        return piece_name(len(self.pieces) + 1, file)

    def events(self, place: Path) -> Iterator[tuple[Piece, Event]]:
        """Every event in these files, which are in a folder, but for those that describe formats.

        Raises BrokenLogError when one is not there, or is not as it was, or something is missing in between.
        """
        at = self.begins
        for number, piece in enumerate(self.pieces, 1):
            goes_on = piece.file == at.file and piece.begins == at.offset
            follows = _number(piece.file) == _number(at.file) + 1 and piece.begins == len(MAGIC)
            if piece.name != piece_name(number, piece.file) or not (goes_on or follows):
                raise BrokenLogError(f"{piece.name} does not begin where the log before it ends")
            ends = piece.begins
            try:
                for event in events_in(place / piece.name, piece.begins):
                    if not event.is_format or piece.begins == len(MAGIC):
                        ends = event.ends
                    if not event.is_format:
                        yield piece, event
            except OSError as error:
                raise BrokenLogError(f"{piece.name}: {error.strerror or error}") from error
            if ends != piece.ends:
                raise BrokenLogError(f"{piece.name} ends at {ends}, and not at {piece.ends}")
            at = Position(piece.file, piece.ends)
        if at != self.ends:
            raise BrokenLogError(
                f"the log ends at {at.file}:{at.offset}, and not at {self.ends.file}:{self.ends.offset}"
            )


def piece_name(number: int, file: str) -> str:
    """What a piece is called."""
    return f"{PREFIX}{number:06d}-{file}"


def whole_log(place: Path) -> Log | None:
    """The log in a folder, all of which is there as it was; None when the point has none. Raises VerificationError."""
    try:
        log = _log_in(place)
        for _ in log.events(place) if log is not None else ():
            pass
    except BrokenLogError as error:
        raise unrecovered(f"the log does not lead to its end: {error}") from error
    return log


def _log_in(place: Path) -> Log | None:
    try:
        return Log.read((place / LOG_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unrecovered(f"{LOG_FILE}: {error.strerror}") from error


def cut(place: Path, moment: datetime) -> None:
    """Let the log of restored files end where nothing was committed yet after a moment, by the server's clock.

    The log tells seconds: those count that were over. Raises RestoreError.
    """
    log = _log_in(place)
    if log is None or not log.since <= moment <= log.until:
        raise RestoreError(
            "The moment to restore to is not in the log of this recovery point",
            why="its log was not restored" if log is None else f"that leads from {log.since} to {log.until}",
            todo="restore all of it: without --only",
        )
    limit = int((moment + _INSTANT).timestamp())
    try:
        kept: list[Piece] = []
        for piece, event in log.events(place):
            if not kept or kept[-1].name != piece.name:
                kept.append(piece)
            if event.begins_group and event.when >= limit:
                _end_at(place, log, kept, event)
                return
    except (BrokenLogError, OSError) as error:
        raise RestoreError(
            "The log does not lead to the moment to restore to",
            why=str(error),
            todo="restore from another vault, or choose a moment before",
        ) from error


def _end_at(place: Path, log: Log, kept: list[Piece], event: Event) -> None:
    last = kept[-1]
    with (place / last.name).open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(size - (last.ends - event.at))
    for piece in log.pieces[len(kept) :]:
        (place / piece.name).unlink()
    pieces = (*kept[:-1], replace(last, ends=event.at))
    until = datetime.fromtimestamp(event.when, UTC)
    shorter = replace(log, pieces=pieces, ends=Position(last.file, event.at), last_at=-1, last="", until=until)
    (place / LOG_FILE).write_bytes(shorter.written())


def replay(loader: Loader, place: Path, log: Log) -> None:
    """Carry out a log that is whole, on the server whose databases were made from the dumps beside it.

    Raises ToolError.
    """
    if not log.pieces:
        return
    reading = [loader.tools["log"], "--no-defaults", "--verify-binlog-checksum", "--skip-annotate-row-events"]
    reading += ["--skip-gtid-strict-mode", f"--local-load={loader.folder}"]
    reading += [str(place / piece.name) for piece in log.pieces]
    try:
        pipes.join(
            reading,
            loader.client(),
            environment=loader.address.environment(loader.folder),
            folder=loader.folder,
            timeout_seconds=LONGEST_SECONDS,
        )
    except ToolError as error:
        raise type(error)(error.program, error.status, f"the log stops: {without_data(error)}") from None


def unrecovered(why: str) -> VerificationError:
    """What to raise when a log is not what it should be."""
    return VerificationError(
        "The databases do not come to the moment of the recovery point",
        why=why,
        todo="verify the vault, and test an older recovery point",
    )


def _position(told: list[Any]) -> Position:
    file, offset = told
    return Position(str(file), int(offset))


def _number(file: str) -> int:
    suffix = file.rpartition(".")[2]
    return int(suffix) if suffix.isascii() and suffix.isdigit() else -2
