"""Private folders for what one capture or restore needs on the way; what killed processes left there goes first."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are lacking, each closed to others; fine when it is there already."""
    lacking = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(lacking):
        one.mkdir(mode=0o700, exist_ok=True)  # each by itself: `parents` makes those above with the usual mode


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new private folder for files below `folder`, removed in the end."""
    make_private(folder)
    for left in folder.glob("staged.*"):
        if not _alive(left.name.rpartition(".")[2]):
            _empty(left)
    place = folder / f"staged.{secrets.token_hex(4)}.{os.getpid()}"
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        _empty(place)


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _empty(place: Path) -> None:
    for file in place.iterdir():
        file.unlink()
    place.rmdir()
