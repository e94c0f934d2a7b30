"""Private folders for what one capture or restore needs on the way; what killed processes left there goes first."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new private folder for files below `folder`, removed in the end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
