"""Private folders for what one capture or restore needs on the way; what killed processes left there goes first."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cto_backups.errors import SourceError


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are lacking, each closed to others; fine when it is there already."""
    lacking = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(lacking):
        one.mkdir(mode=0o700, exist_ok=True)  # each by itself: `parents` makes those above with the usual mode


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new private folder for files below `folder`, removed in the end. Raises SourceError where none can be made."""
    try:
        make_private(folder)
        place = _made(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield place
    finally:
        _empty(place)


def unwritable(place: Path, error: OSError) -> SourceError:
    """What it means that a file that is needed on the way could not be written."""
    return SourceError(
        f"Nothing can be written to {place}",
        why=f"{error.strerror}; what is needed on the way lies there",
        todo="make room on that disk, or let `state` in the policy name a folder on another one",
    )


def _made(folder: Path) -> Path:
    for left in folder.glob("staged.*"):
        if not _alive(left.name.rpartition(".")[2]):
            _empty(left)
    place = folder / f"staged.{secrets.token_hex(4)}.{os.getpid()}"
    place.mkdir(mode=0o700)
    return place


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _empty(place: Path) -> None:
    for file in place.iterdir():
        file.unlink()
    place.rmdir()
