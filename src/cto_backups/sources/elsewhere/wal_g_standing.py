"""What stands in WAL-G's storage, as `wal-g backup-list` and `wal-g wal-show` tell: backups, and the log for them."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.standing import Backup, Repository, segment_bytes
from cto_backups.sources.postgresql.log import segment_name

STORAGE: Final = "storage"
"""What its only repository is called: WAL-G has no name for it."""
_DELTA: Final = "_D_"
_LOG_FILE_BYTES: Final = 1 << 32  # those with one number in the middle of their names, together


def repository(document: bytes, location: str, cipher: str) -> Repository:
    """The storage by what `backup-list --json --detail` printed: nothing where there is no backup.

    It has the backups of the server of which the newest is. Raises SourceError when it makes no sense.
    """
    try:
        told = sorted(json.loads(document or b"[]"), key=lambda each: datetime.fromisoformat(each["finish_time"]))
        if not told:
            return Repository(STORAGE, location, cipher=cipher, trouble="it has no backup")
        system = told[-1]["system_identifier"]
        backups = tuple(_backups([each for each in told if each["system_identifier"] == system]))
        trouble = "" if system else f"its newest backup, {backups[-1].label}, does not say of which server it is"
        ordered = tuple(sorted(backups, key=lambda backup: backup.ends))
        return Repository(STORAGE, location, str(system or ""), "wal_005", cipher, ordered, trouble)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            "what WAL-G says of its backups is not understood",
            why=f"{type(error).__name__}: {error}",
            todo="see what 'wal-g backup-list --json --detail' prints; version 1.1.3 is known to be understood",
        ) from error


def _backups(told: list[Any]) -> Iterator[Backup]:
    whole = 0
    for each in told:
        label, first = str(each["backup_name"]), str(each["wal_file_name"])
        begins, ends, timeline = int(each["start_lsn"]), int(each["finish_lsn"]), int(first[:8], 16)
        size = int(each["uncompressed_size"])
        # Of a delta WAL-G tells how large that alone is; a restore writes what it is one of, too.
        whole = max(size, whole) if _DELTA in label else size
        yield Backup(
            label=label,
            begins=begins,
            ends=ends,
            timeline=timeline,
            segment_bytes=segment_bytes(timeline, begins, ends, first),
            started_at=datetime.fromisoformat(each["start_time"]),
            stopped_at=datetime.fromisoformat(each["finish_time"]),
            size_bytes=whole,
        )


def segments(document: bytes, size: int) -> frozenset[str]:
    """The files of the log in what `wal-show --detailed-json` printed, each of `size` bytes. Raises ValueError."""
    try:
        found: set[str] = set()
        for each in json.loads(document or b"[]"):
            timeline = int(each["id"])
            numbers = range(_number(each["start_segment"], size), _number(each["end_segment"], size) + 1)
            found |= {segment_name(timeline, number, size) for number in numbers}
            found -= set(each["missing_segments"] or ())
        return frozenset(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _number(name: str, size: int) -> int:
    return int(name[8:16], 16) * (_LOG_FILE_BYTES // size) + int(name[16:24], 16)


def restore_specification(sentinel: bytes, data: Path, tablespaces: Path) -> Mapping[str, object]:
    """Where a backup's files go, as WAL-G reads it, so that no tablespace is written to where the server has its own.

    `sentinel` is what WAL-G keeps of the backup. Raises ValueError.
    """
    try:
        names = [str(name) for name in (json.loads(sentinel).get("Spec") or {}).get("tablespaces") or ()]
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if odd := [name for name in names if not name.isdecimal()]:
        raise ValueError(f"{odd[0]} is the number of no tablespace")
    where = {name: {"loc": str(tablespaces / name), "link": f"pg_tblspc/{name}"} for name in names}
    return {"base_prefix": str(data), "tablespaces": names, **where}
