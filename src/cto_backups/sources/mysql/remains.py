"""What an earlier restore left in a folder, and would be taken for a part of the point that comes there now."""

import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from cto_backups.core.ports import PointReader
from cto_backups.core.wording import counted
from cto_backups.errors import RefusedError, RestoreError, VerificationError
from cto_backups.sources.mysql.dump import BROKEN_FILE, VIEWS_FILE, database_of
from cto_backups.sources.mysql.files import DATA, SERVER
from cto_backups.sources.mysql.log import LOG_FILE, PREFIX, STREAMED_FILE, STREAMED_PREFIX, streamed_in
from cto_backups.sources.mysql.sums import SUMS_FILE
from cto_backups.sources.mysql.users import GRANTS_FILE, USERS_FILE

_OURS: Final = frozenset({LOG_FILE, SUMS_FILE, VIEWS_FILE, BROKEN_FILE, USERS_FILE, GRANTS_FILE, SERVER})


def remains(reader: PointReader, place: Path) -> list[str]:
    """The files in a folder that a point of a server might have, and this one lacks.

    What was streamed after a point is not among them, as a restore takes it away. Raises OSError, VerificationError.
    """
    if not place.is_dir():
        return []
    own = {path.lstrip(b"/") for path, _ in reader.listing()}
    streamed = streamed_in(place)
    own |= {os.fsencode(piece.name) for piece in streamed.pieces} if streamed is not None else set()
    has_files = os.fsencode(DATA) in own  # else a folder of that name is somebody else's
    there = (path for path in _ours(place, has_files=has_files) if path not in own)
    return sorted(os.fsdecode(path) for path in there if not _is_of_preparation(path, own))


def refuse_remains(source: str, reader: PointReader, place: Path) -> None:
    """Raise RefusedError where there are such files: nothing was written yet."""
    try:
        found = remains(reader, place)
    except VerificationError as error:
        found = [f"{STREAMED_FILE} ({error.why})"]
    except OSError as error:
        raise RestoreError(
            f"source {source}: it cannot be seen what lies in {place}",
            why=f"{error.filename}: {error.strerror}",
            todo="name a folder that you may read",
        ) from error
    if found:
        raise RefusedError(
            f"source {source}: {place} has {counted(len(found), 'file')} that an earlier restore left",
            why=f"this recovery point has no {found[0]}: it would be carried out, or started on, with what comes now",
            todo="restore to another folder, or empty this one first",
        )


def _is_of_preparation(path: bytes, own: Container[bytes]) -> bool:
    """Whether mariadb-backup makes such a file of the point's own when it prepares them."""
    is_note = path.rpartition(b"/")[2].startswith(b"xtrabackup_")
    return is_note or (path.endswith(b".ibd") and path.removesuffix(b".ibd") + b".new" in own)


def _ours(place: Path, *, has_files: bool) -> Iterator[bytes]:
    for entry in os.scandir(place):
        name = entry.name
        is_log = name.startswith((PREFIX, STREAMED_PREFIX))
        if name in _OURS or is_log or database_of(name) is not None:
            yield os.fsencode(name)
        elif has_files and name == DATA and entry.is_dir(follow_symlinks=False):
            for folder, _, files in os.walk(entry.path):
                below = os.fsencode(Path(folder).relative_to(place))
                yield from (below + b"/" + os.fsencode(file) for file in files)
