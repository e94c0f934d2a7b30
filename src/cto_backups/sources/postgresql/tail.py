"""What was streamed after a point, put behind the log that the point itself holds."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from cto_backups.core.streams import Mark, Tail
from cto_backups.errors import BackupsError, RestoreError
from cto_backups.sources.postgresql.log import segment_name
from cto_backups.sources.postgresql.point import AUTO_CONF, DATA, LOG, MOMENTS, STREAMED, Moments, log_name
from cto_backups.sources.postgresql.recovery import recover_to_end
from cto_backups.sources.postgresql.replication import lsn_text
from cto_backups.sources.postgresql.spaces import Made, SpaceWatch
from cto_backups.sources.tails import refuse_beyond

_COPY_BYTES: Final = 1 << 20
_LOOK_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class Gathered:
    """What was streamed, in one file: from `begins` up to `ends`, with the last mark in it.

    `problem` is why it does not go on (empty: there is no more).
    """

    log: str
    file: Path
    begins: int
    ends: int
    mark: Mark | None
    problem: str


def gather(source: str, tail: Tail, spool: Path, at: datetime | None) -> Gathered:
    """Read what was streamed into a folder of ours, as far as it is whole: while a server's files come back, a new
    point may take its place in the vaults. Raises RestoreError when that is not far enough for the moment `at`.
    """
    file = spool / "streamed"
    ends, mark, problem = tail.begins, None, ""
    spaces = SpaceWatch(tail.begins)
    try:
        with file.open("xb") as output:
            try:
                for read in tail.read():
                    made = _put(output, spaces, memoryview(read.data)[max(ends - read.piece.begins, 0) :])
                    if made is not None:
                        ends = max(made.at, tail.begins)
                        output.truncate(ends - tail.begins)
                        problem = f"it ends at {lsn_text(ends)}, after which it makes a tablespace at {made.path}"
                        problem += ": a server that goes through it uses that path, on whichever machine"
                        break
                    ends, mark = read.piece.ends, read.mark or mark
            except BackupsError as error:
                problem = f"it ends at {lsn_text(ends)}, after which a piece cannot be read: {error}"
    except OSError as error:
        raise _unwritten(source, error, "see that there is room, and restore again") from error
    if mark is not None and mark.position > ends:
        mark = None
    if not problem and tail.gap is not None:
        problem = f"it has a gap: nothing leads from {lsn_text(ends)} to {lsn_text(tail.gap)}"
    refuse_beyond(source, at, mark, problem)
    return Gathered(tail.log, file, tail.begins, ends, mark, "" if at is not None else problem)


def _put(output: BinaryIO, spaces: SpaceWatch, data: memoryview) -> Made | None:
    """Write a piece of the log up to where it makes a tablespace, if it does."""
    for at in range(0, len(data), _LOOK_BYTES):
        part = data[at : at + _LOOK_BYTES]
        if (made := spaces.find(part)) is not None:
            return made
        output.write(part)
    return None


def put_behind(source: str, place: Path, tail: Gathered, *, to_end: bool) -> str:
    """Write what was streamed into the files of the log below `place`; what was, in a sentence.

    With `to_end` a server that is started there recovers to the end of it. Raises RestoreError.
    """
    try:
        told = Moments.read((place / MOMENTS).read_bytes())
        if log_name(told.system, told.timeline) != tail.log or tail.begins > told.ends or tail.ends <= told.ends:
            return "without the log that was streamed since: none goes on from this point"
        segment_bytes = _segment_bytes(place / DATA / AUTO_CONF)
        written = _written(place / LOG, told, tail, segment_bytes)
        document = {"ends": lsn_text(written)}
        if tail.mark is not None:
            document |= {"mark": lsn_text(tail.mark.position), "moment": tail.mark.moment.isoformat()}
        (place / STREAMED).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if to_end:
            recover_to_end(place / DATA)
    except OSError as error:
        raise _unwritten(source, error, "restore again, and all of it: without --only") from error
    moment = f", the last moment that is marked in it {tail.mark.moment:%Y-%m-%d %H:%M:%S %Z}" if tail.mark else ""
    return f"with {written - told.ends} bytes of log that were streamed since, up to {lsn_text(written)}{moment}"


def _written(folder: Path, told: Moments, tail: Gathered, segment_bytes: int) -> int:
    owner = folder.stat()
    at = told.ends
    with tail.file.open("rb") as file:
        file.seek(at - tail.begins)
        while at < tail.ends:
            number, inside = divmod(at, segment_bytes)
            part = file.read(min(segment_bytes - inside, _COPY_BYTES))
            path = folder / segment_name(told.timeline, number, segment_bytes)
            new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, part, inside)
                if new and os.geteuid() == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            finally:
                os.close(descriptor)
            at += len(part)
    return at


def _unwritten(source: str, error: OSError, todo: str) -> RestoreError:
    return RestoreError(
        f"source {source}: the log that was streamed could not be written",
        why=f"{error.filename}: {error.strerror}",
        todo=todo,
    )


def _segment_bytes(settings: Path) -> int:
    """How large a file of the log is; the point's own settings say it, for the server that recovers."""
    found = settings.read_bytes().rpartition(b"truncate -s ")[2].partition(b" ")[0]
    return int(found)
