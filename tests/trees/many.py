"""A folder of thirty files, which cannot be compressed: enough for several small packs."""

import os
from pathlib import Path

_FILES = 30
_SIZE = 90_000


def build(root: Path) -> Path:
    """Make it."""
    (root / "folder").mkdir(parents=True)
    for number in range(_FILES):
        _write(root, number)
    return root


def change(root: Path) -> None:
    """Give every second file other content."""
    for number in range(0, _FILES, 2):
        _write(root, number)


def _write(root: Path, number: int) -> None:
    (root / "folder" / f"file-{number}").write_bytes(os.urandom(_SIZE))
