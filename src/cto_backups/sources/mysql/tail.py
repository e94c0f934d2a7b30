"""What was streamed after a point, put beside its log as files that go on from it."""

import base64
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from cto_backups.core.model import Problem
from cto_backups.core.ports import Restored, RestoreOptions
from cto_backups.core.streams import FILE, OFFSET, Mark, PieceRead, Tail
from cto_backups.errors import BackupsError, RestoreError
from cto_backups.sources.mysql.binlog import MAGIC, BrokenLogError, Groups
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.log import (
    LOG_FILE,
    PREFIX,
    STREAMED_FILE,
    STREAMED_PREFIX,
    Log,
    Piece,
    cut,
    end_at,
    forget_streamed,
    log_in,
)
from cto_backups.sources.mysql.stream import HEAD
from cto_backups.sources.staging import staging
from cto_backups.sources.tails import refuse_beyond

_COPY_BYTES: Final = 1 << 20
_NEEDED: Final = (f"/{LOG_FILE}", f"/{PREFIX}")
UNREADABLE: Final = "unreadable"
OF_A_PART: Final = "without the log that was streamed since: that goes with all of a server, not with a part"


@dataclass(frozen=True)
class _Stretch:
    """What was streamed of one of the server's files, from `begins` up to `ends`: there it begins at `offset`."""

    file: str
    offset: int
    head: bytes
    begins: int
    ends: int


@dataclass(frozen=True)
class Gathered:
    """What was streamed, in one file of ours. `problem` is why it does not go on (empty: there is no more)."""

    log: str
    file: Path
    stretches: tuple[_Stretch, ...]
    mark: Mark | None
    problem: str


def gather(source: str, tail: Tail, spool: Path, at: datetime | None) -> Gathered:
    """Read what was streamed into a folder of ours, as far as it is whole: while a point comes back, a new one may take
    its place in the vaults. Raises RestoreError when that is not far enough for the moment `at`.
    """
    stretches: list[_Stretch] = []
    mark, problem = None, ""
    try:
        with (spool / "streamed").open("xb") as output:
            try:
                for read in tail.read():
                    _add(stretches, read, output)
                    mark = read.mark or mark
            except BackupsError as error:
                problem = f"a piece of it cannot be read: {error}"
    except OSError as error:
        raise _unwritten(source, error, "see that there is room, and restore again") from error
    if not problem and tail.gap is not None:
        problem = f"it has a gap: nothing leads from {tail.ends} to {tail.gap}"
    refuse_beyond(source, at, mark, problem)
    return Gathered(tail.log, spool / "streamed", tuple(stretches), mark, "" if at is not None else problem)


def _add(stretches: list[_Stretch], read: PieceRead, output: BinaryIO) -> None:
    """Add a piece, but for what the one before has of it."""
    last = stretches[-1] if stretches else None
    known = max(last.ends - read.piece.begins, 0) if last is not None else 0
    output.write(memoryview(read.data)[known:])
    try:
        file, offset, head = read.about[FILE], int(read.about[OFFSET]), base64.b64decode(read.about[HEAD])
    except (KeyError, ValueError) as error:
        raise RestoreError(
            "A piece of the log that was streamed does not say of which file it is",
            todo="restore the point itself, by its id",
        ) from error
    if last is not None and last.file == file:
        stretches[-1] = replace(last, ends=read.piece.ends)
    else:
        stretches.append(_Stretch(file, offset, head, read.piece.begins, read.piece.ends))


def brought_back(
    source: str, place: Path, options: RestoreOptions | None, state: Path, restore: Callable[[], Restored]
) -> Restored:
    """Have the files of a point restored to `place`, with what was streamed after it, and cut at a moment, as `options`
    say. Raises what `restore` does, RestoreError.
    """
    at, tail = (options.at, options.tail) if options is not None else (None, None)
    with ExitStack() as stack:
        gathered = gather(source, tail, stack.enter_context(staging(state)), at) if tail is not None else None
        restored = restore()
        try:
            forget_streamed(place)
        except OSError as error:
            raise _unwritten(source, error, "see whose these files are, and restore again") from error
        if gathered is not None:
            restored = _put_beside(source, place, restored, gathered, at)
    if at is not None and not any(problem.path.startswith(_NEEDED) for problem in restored.problems):
        cut(place, at)
    return restored


def _put_beside(source: str, place: Path, restored: Restored, tail: Gathered, at: datetime | None) -> Restored:
    """Write what was streamed beside the log of a point that came back; with a note of it, which is to be cut at a
    moment, if that is given. Raises RestoreError.
    """
    if any(problem.path == f"/{LOG_FILE}" for problem in restored.problems):
        told = "the log that was streamed since waits for the point's own, which did not come back whole from there"
        return replace(restored, notes=(*restored.notes, told))
    own = log_in(place)
    if own is None:
        return replace(restored, notes=(*restored.notes, OF_A_PART))
    try:
        streamed = _written(place, own, tail)
    except BrokenLogError as error:
        raise RestoreError(
            f"source {source}: the log that was streamed is not as it was",
            why=str(error),
            todo="restore the point itself, by its id",
        ) from error
    except OSError as error:
        raise _unwritten(source, error, "restore again, and all of it: without --only") from error
    problems = restored.problems
    if tail.problem:
        told = f"the log that was streamed since: {tail.problem}"
        problems = (*problems, Problem(f"/{STREAMED_FILE}", UNREADABLE, told))
    note = "without the log that was streamed since: none goes on from this point"
    if streamed is not None:
        moment = f", the last moment that is marked in it {tail.mark.moment:%Y-%m-%d %H:%M:%S %Z}" if tail.mark else ""
        size = streamed.position - streamed.first
        note = f"with {size} bytes of log that were streamed since, up to {streamed.ends.file}:{streamed.ends.offset}"
        note += moment
    if streamed is not None and at is not None:
        note = f"with the log that was streamed since, up to {at:%Y-%m-%d %H:%M:%S %Z}"
    return replace(restored, notes=(*restored.notes, note), problems=problems)


def _written(place: Path, own: Log, tail: Gathered) -> Log | None:
    """Write the files, and what tells of them; None where nothing goes on from the point's log."""
    if own.name != tail.log or not tail.stretches or tail.stretches[-1].ends <= own.position:
        return None
    if tail.stretches[0].begins > own.position:
        return None
    until = max(own.until, tail.mark.moment) if tail.mark is not None else own.until
    log = replace(own, begins=own.ends, since=own.until, until=until, pieces=(), prefix=STREAMED_PREFIX)
    with tail.file.open("rb") as file:
        for stretch in tail.stretches:
            if stretch.ends <= own.position:
                continue
            begins = max(stretch.begins, own.position)
            offset = stretch.offset + begins - stretch.begins
            piece = Piece(
                log.next_name(stretch.file),
                stretch.file,
                max(offset, len(MAGIC)),
                offset + stretch.ends - begins,
            )
            file.seek(begins - tail.stretches[0].begins)
            with (place / piece.name).open("xb") as output:
                output.write(stretch.head if offset else b"")
                _copy(file, output, stretch.ends - begins)
            log = replace(log, pieces=(*log.pieces, piece), ends=Position(piece.file, piece.ends))
    log = _of_whole_groups(place, log)
    (place / STREAMED_FILE).write_bytes(log.written())
    return log


def _copy(file: BinaryIO, output: BinaryIO, size: int) -> None:
    while size and (part := file.read(min(size, _COPY_BYTES))):
        output.write(part)
        size -= len(part)


def _of_whole_groups(place: Path, log: Log) -> Log:
    """Let it end before a transaction whose end did not come."""
    groups = Groups()
    kept: list[Piece] = []
    whole: tuple[int, int] | None = None
    for piece, event in log.events(place):
        if not kept or kept[-1].name != piece.name:
            kept.append(piece)
        if event.begins_group:
            whole = len(kept), event.at
        groups.pass_by(event)
    if not groups.is_open or whole is None:
        return log
    number, at = whole
    return end_at(place, log, kept[:number], at, log.until)


def _unwritten(source: str, error: OSError, todo: str) -> RestoreError:
    return RestoreError(
        f"source {source}: the log that was streamed could not be written",
        why=f"{error.filename}: {error.strerror}",
        todo=todo,
    )
