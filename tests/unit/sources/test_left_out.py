"""What a restore of files leaves although no point has it: whatever the source would not have captured."""

import os
from pathlib import Path

import pytest
from fakes.points import MemoryPoint

from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.sources.files import FilesSource

DELETE = RestoreOptions(delete=True)
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n"


def source(top: Path, **options: object) -> FilesSource:
    return FilesSource("papers", {"paths": (str(top),), **options}, state=top.parent / "state")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path.resolve() / "top"
    plant(top, "kept.txt", "folder/kept.txt")
    return top


def plant(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")


def left(which: FilesSource, top: Path, *names: str, elsewhere: Path | None = None) -> set[str]:
    """Which of these files are left when a point made before them is restored over them, and nothing else goes."""
    with which.capture() as capture:
        point = MemoryPoint.of(capture.tree)
    place = top if elsewhere is None else elsewhere / str(top)[1:]
    plant(place, *names)
    planned = which.plan_restore(point, elsewhere, existing=Existing.OVERWRITE, options=DELETE)
    restored = which.restore(point, elsewhere, existing=Existing.OVERWRITE, options=DELETE)
    assert planned.deleted_entries == restored.deleted_entries
    assert (place / "kept.txt").exists()
    return {name for name in names if (place / name).exists()}


def test_without_patterns_nothing_new_is_left(top: Path) -> None:
    assert left(source(top), top, "new", "folder/new", "new folder/new") == set()


@pytest.mark.parametrize("there", [True, False])
def test_what_is_excluded_is_left(top: Path, tmp_path: Path, there: bool) -> None:
    which = source(top, exclude=("*.tmp", "cache/", str(top / "folder/own")))
    names = ("new", "a.tmp", "folder/own", "cache/deep/new", "new folder/b.tmp", "new folder/new")
    expected = {"a.tmp", "folder/own", "cache/deep/new", "new folder/b.tmp"}
    assert left(which, top, *names, elsewhere=None if there else tmp_path / "out") == expected


def test_a_place_that_is_excluded_is_left_when_another_folder_is_restored_there(top: Path, tmp_path: Path) -> None:
    own = tmp_path.resolve() / "out" / "vault"
    plant(own, "pack")
    plant(own.parent, "new")
    assert left(source(top, exclude=(str(own),)), top, "new", elsewhere=tmp_path / "out") == set()
    assert (own / "pack").exists()
    assert not (own.parent / "new").exists()


def test_what_is_not_included_is_left(top: Path) -> None:
    which = source(top, include=("*.txt", "all/"))
    names = ("new", "new.txt", "folder/new", "folder/new.txt", "all/new", "all/deep/new", "other/new.txt")
    assert left(which, top, *names) == {"new", "folder/new"}


def test_what_is_in_a_cache_is_left(top: Path) -> None:
    plant(top, "cache/x")
    (top / "cache/CACHEDIR.TAG").write_bytes(TAG)
    assert left(source(top, exclude_caches=True), top, "cache/new", "new") == {"cache/new"}
    assert (top / "cache/x").exists()
    assert left(source(top), top, "cache/newer") == set()


def test_a_link_to_the_data_names_both_places(tmp_path: Path) -> None:
    real = tmp_path.resolve() / "real"
    plant(real, "kept.txt")
    (tmp_path / "link").symlink_to(real)
    which = source(tmp_path / "link")
    with which.capture() as capture:
        point = MemoryPoint.of(capture.tree)
    plant(real, "new")
    plant(tmp_path, "beside")
    which.restore(point, None, existing=Existing.OVERWRITE, options=DELETE)
    assert os.listdir(real) == ["kept.txt"]  # noqa: PTH208
    assert (tmp_path / "beside").exists()
