"""A folder for what comes back before it is loaded; what killed processes left there goes first."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cto_backups.sources.staging import make_private, unwritable

_PREFIX: Final = "coming-back."


@contextmanager
def folder(state: Path) -> Iterator[Path]:
    """A new private folder, empty, removed in the end with all that is in it. Raises SourceError."""
    try:
        make_private(state)
        for left in state.glob(f"{_PREFIX}*"):
            pid = left.name.rpartition(".")[2]
            if not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)
        place = state / f"{_PREFIX}{secrets.token_hex(4)}.{os.getpid()}"
        place.mkdir(mode=0o700)
    except OSError as error:
        raise unwritable(state, error) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
