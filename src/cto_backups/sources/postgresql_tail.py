"""What was streamed after a point, put behind the log that the point itself holds."""

import json
import os
from pathlib import Path

from cto_backups.core.streams import Tail
from cto_backups.errors import RestoreError
from cto_backups.sources.postgresql_log import segment_name
from cto_backups.sources.postgresql_recovery import (
    AUTO_CONF,
    DATA,
    LOG,
    MOMENTS,
    STREAMED,
    Moments,
    log_name,
    recover_to_end,
)
from cto_backups.sources.postgresql_replication import lsn_text


def put_behind(source: str, place: Path, tail: Tail, *, to_end: bool) -> str:
    """Write what was streamed into the files of the log below `place`; what was, in a sentence.

    With `to_end` a server that is started there recovers to the end of it. Raises RestoreError and what `tail` raises.
    """
    try:
        told = Moments.read((place / MOMENTS).read_bytes())
        if log_name(told.system, told.timeline) != tail.log or tail.begins > told.ends or tail.ends <= told.ends:
            return "without the log that was streamed since: it is not one that goes on from this point"
        segment_bytes = _segment_bytes(place / DATA / AUTO_CONF)
        written = _written(place / LOG, told, tail, segment_bytes)
        document = {"ends": lsn_text(written)}
        if tail.mark is not None:
            document |= {"mark": lsn_text(tail.mark.position), "moment": tail.mark.moment.isoformat()}
        (place / STREAMED).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if to_end:
            recover_to_end(place / DATA)
    except OSError as error:
        raise RestoreError(
            f"source {source}: the log that was streamed could not be written",
            why=f"{error.filename}: {error.strerror}",
            todo="restore again, and all of it: without --only",
        ) from error
    moment = f", the last moment that is marked in it {tail.mark.moment:%Y-%m-%d %H:%M:%S %Z}" if tail.mark else ""
    return f"with {written - told.ends} bytes of log that were streamed since, up to {lsn_text(written)}{moment}"


def _written(folder: Path, told: Moments, tail: Tail, segment_bytes: int) -> int:
    owner = folder.stat()
    at = told.ends
    for read in tail.read():
        begins, data = read.piece.begins, memoryview(read.data)
        if begins > at:
            raise RestoreError(
                "The log that was streamed has a gap",
                why=f"nothing leads from {lsn_text(at)} to {lsn_text(begins)}",
                todo="verify the vaults; the recovery point itself comes back with --point",
            )
        data = data[at - begins :]
        while data:
            number, inside = divmod(at, segment_bytes)
            part = data[: segment_bytes - inside]
            path = folder / segment_name(told.timeline, number, segment_bytes)
            new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, part, inside)
                if new and os.geteuid() == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            finally:
                os.close(descriptor)
            data = data[len(part) :]
            at += len(part)
    return at


def _segment_bytes(settings: Path) -> int:
    """How large a file of the log is; the point's own settings say it, for the server that recovers."""
    found = settings.read_bytes().rpartition(b"truncate -s ")[2].partition(b" ")[0]
    return int(found)
