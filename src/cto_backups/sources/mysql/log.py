"""The binary log in a recovery point: what leads from its base to the point's own moment, and to any one between.

``log.json`` says where it begins and ends, and names the files ``binlog-NUMBER-NAME``, each of which goes on where the
one before ends. ``mariadb-binlog --skip-gtid-strict-mode binlog-* | mariadb`` brings a server to the end that was made
from the dumps, or started on the files.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Sample
from cto_backups.errors import RestoreError, VerificationError
from cto_backups.process import LONGEST_SECONDS, ToolError
from cto_backups.sources import pipes
from cto_backups.sources.mysql.binlog import MAGIC, BrokenLogError, Event, events_in
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.restore import Loader, without_data

LOG_FILE: Final = "log.json"
PREFIX: Final = "binlog-"
STREAMED_FILE: Final = "streamed.json"
"""Beside a point's own log that came back: what was streamed after it, as files that go on from those."""
STREAMED_PREFIX: Final = "streamed-"
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

    `base_at` is when the base was begun, by our clock. The file in which it ends was begun at `born`, in seconds
    since 1970; `last_at` and `last` are where in it its last event is, and the SHA-256 of that; -1 and "" without one.
    It does not go on where the log to come speaks of what is not in the base. `name` tells it from other logs, also
    from what a server may write anew after a crash that took the end of its file; "" in points of an earlier release.
    Its files are called by `prefix`.
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
    name: str = ""
    prefix: str = PREFIX

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
            "log": self.name,
            "position": self.position,
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes, prefix: str = PREFIX) -> "Log":
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
                name=str(document.get("log", "")),
                prefix=prefix,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise unrecovered(f"{LOG_FILE} does not tell where the log begins and ends") from error

    @property
    def sample(self) -> Sample:
        """What a fingerprint says of the log, and who goes on from it has to know."""
        ends = f"{self.ends.file}:{self.ends.offset}"
        told = {"since": self.since.isoformat(), "until": self.until.isoformat(), "ends": ends}
        if self.name:
            told |= {"log": self.name, "first_position": str(self.first), "end_position": str(self.position)}
            told |= {"version": self.version, "last_file_begun": str(self.born), "goes_on": str(self.goes_on).lower()}
            told |= {"last_event_at": str(self.last_at), "last_event": self.last}
        return Sample(LOG_SAMPLE, told)

    @property
    def first(self) -> int:
        """Where it begins, in bytes from the beginning of the first of its server's files."""
        return self.begins.offset

    @property
    def position(self) -> int:
        """Where it ends, in the same bytes: those of one file follow those of the one before."""
        begun = sum(len(MAGIC) for piece in self.pieces if piece.begins == len(MAGIC))
        return self.first + begun + sum(piece.ends - piece.begins for piece in self.pieces)

    def next_name(self, file: str) -> str:
        """The name of the piece that comes next, which is of this file."""
        return piece_name(len(self.pieces) + 1, file, self.prefix)

    def after_crash(self, file: str) -> "Log":
        """The log under the name that it has from this file on, before which one ended without the server's ending it.

        Of that file, the server may have lost what others were given.
        """
        return replace(self, name=f"{first_name(self.server, self.base_at)}-{number_of(file):06d}")

    def events(self, place: Path) -> Iterator[tuple[Piece, Event]]:
        """Every event in these files, which are in a folder, but for those that describe formats.

        Raises BrokenLogError when one is not there, or is not as it was, or something is missing in between.
        """
        at = self.begins
        for number, piece in enumerate(self.pieces, 1):
            goes_on = piece.file == at.file and piece.begins == at.offset
            follows = number_of(piece.file) == number_of(at.file) + 1 and piece.begins == len(MAGIC)
            if piece.name != piece_name(number, piece.file, self.prefix) or not (goes_on or follows):
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


def piece_name(number: int, file: str, prefix: str = PREFIX) -> str:
    """What a piece is called."""
    return f"{prefix}{number:06d}-{file}"


def first_name(server: int, base_at: datetime) -> str:
    """What the log after a base is called, from other logs of the same source."""
    return f"{server}-{base_at:%Y%m%dT%H%M%S%f}"


def number_of(file: str) -> int:
    """The number of a server's file; -2 for a name that has none."""
    suffix = file.rpartition(".")[2]
    return int(suffix) if suffix.isascii() and suffix.isdigit() else -2


def whole_log(place: Path) -> Log | None:
    """The log in a folder, all of which is there as it was; None when the point has none. Raises VerificationError."""
    return _whole(place, log_in(place))


def whole_streamed(place: Path) -> Log | None:
    """What was streamed after the point whose log is in a folder, likewise."""
    return _whole(place, streamed_in(place))


def _whole(place: Path, log: Log | None) -> Log | None:
    try:
        for _ in log.events(place) if log is not None else ():
            pass
    except BrokenLogError as error:
        raise unrecovered(f"the log does not lead to its end: {error}") from error
    return log


def log_in(place: Path) -> Log | None:
    """The log that a folder tells of; None when the point has none. Raises VerificationError."""
    return _read(place / LOG_FILE, PREFIX)


def streamed_in(place: Path) -> Log | None:
    """What an earlier restore put there beside a point's log. Raises VerificationError."""
    return _read(place / STREAMED_FILE, STREAMED_PREFIX)


def _read(file: Path, prefix: str) -> Log | None:
    try:
        return Log.read(file.read_bytes(), prefix)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unrecovered(f"{file.name}: {error.strerror}") from error


def cut(place: Path, moment: datetime) -> None:
    """Let the log of restored files end where nothing was committed yet after a moment, by the server's clock.

    What was streamed is of it. The log tells seconds: those count that were over. Raises RestoreError.
    """
    log, streamed = log_in(place), streamed_in(place)
    until = max(each.until for each in (log, streamed) if each) if log is not None else moment
    if log is None or not log.since <= moment <= until:
        raise RestoreError(
            "The moment to restore to is not in the log of this recovery point",
            why="its log was not restored" if log is None else f"that leads from {log.since} to {until}",
            todo="restore all of it: without --only",
        )
    limit = int((moment + _INSTANT).timestamp())
    try:
        is_cut = _cut(place, LOG_FILE, log, moment, limit)
        if streamed is not None and is_cut:
            forget_streamed(place)
        elif streamed is not None:
            _cut(place, STREAMED_FILE, streamed, moment, limit)
    except (BrokenLogError, OSError) as error:
        raise RestoreError(
            "The log does not lead to the moment to restore to",
            why=str(error),
            todo="restore from another vault, or choose a moment before",
        ) from error


def _cut(place: Path, name: str, log: Log, moment: datetime, limit: int) -> bool:
    """End a log before the first transaction of this second, or a later one; whether there was any."""
    kept: list[Piece] = []
    for piece, event in log.events(place):
        if not kept or kept[-1].name != piece.name:
            kept.append(piece)
        if event.begins_group and event.when >= limit:
            (place / name).write_bytes(end_at(place, log, kept, event.at, min(moment, log.until)).written())
            return True
    return False


def end_at(place: Path, log: Log, kept: list[Piece], at: int, until: datetime) -> Log:
    """A log that ends at a place in the last of the files that it is to keep. Raises OSError."""
    last = kept[-1]
    with (place / last.name).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(size - (last.ends - at))
    _remove(place, log.pieces[len(kept) :])
    pieces = (*kept[:-1], replace(last, ends=at))
    return replace(log, pieces=pieces, ends=Position(last.file, at), last_at=-1, last="", until=until)


def forget_streamed(place: Path) -> None:
    """Remove what was streamed, and put into a folder by an earlier restore. Raises OSError."""
    with suppress(VerificationError):
        streamed = streamed_in(place)
        _remove(place, streamed.pieces if streamed is not None else ())
    (place / STREAMED_FILE).unlink(missing_ok=True)


def _remove(place: Path, pieces: Iterable[Piece]) -> None:
    for piece in pieces:
        (place / Path(piece.name).name).unlink(missing_ok=True)


def replay(loader: Loader, place: Path, *logs: Log | None) -> None:
    """Carry out logs that are whole, one after the other, on the server that was made from the base.

    Raises ToolError.
    """
    pieces = [piece for log in logs if log is not None for piece in log.pieces]
    if not pieces:
        return
    reading = [loader.tools["log"], "--no-defaults", "--verify-binlog-checksum", "--skip-annotate-row-events"]
    reading += ["--skip-gtid-strict-mode", f"--local-load={loader.folder}"]
    reading += [str(place / piece.name) for piece in pieces]
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
