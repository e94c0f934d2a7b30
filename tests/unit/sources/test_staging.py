"""Folders of a source's own are closed to others, and so is each one made on the way to them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.sources.staging import make_private, staging


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(*folders: Path) -> list[int]:
    return [stat.S_IMODE(folder.stat().st_mode) for folder in folders]


def test_every_folder_on_the_way_is_private(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b" / "c")
    assert modes(tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c") == [0o700] * 3
    make_private(tmp_path / "a" / "b")


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with staging(tmp_path / "state" / "source") as place:
        assert modes(tmp_path, tmp_path / "state", place) == [0o755, 0o700, 0o700]
    assert not place.exists()
