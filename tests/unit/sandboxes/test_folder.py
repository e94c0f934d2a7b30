"""Disposable folders: private while they are used, gone afterwards, whatever was restored into them."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import RestoreError
from cto_backups.sandboxes import folder as folder_module
from cto_backups.sandboxes.folder import FolderSandbox

NOBODY = 65534


@pytest.fixture
def sandbox(tmp_path: Path) -> FolderSandbox:
    return FolderSandbox(tmp_path / "tests")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test runs: permissions count."""
    place = Path(tempfile.mkdtemp(prefix="cto-backups-test-"))
    place.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield place
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(place)


def test_a_place_is_new_empty_private_and_named_after_its_use(sandbox: FolderSandbox) -> None:
    one, two = sandbox.open("test of papers/2026"), sandbox.open("test of papers/2026")
    assert one != two
    assert list(one.iterdir()) == []
    assert stat.S_IMODE(one.stat().st_mode) == 0o700
    assert one.name.startswith(f"test-of-papers-2026.{os.getpid()}.")
    assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("label", ["", "..", "/", "x" * 500, "ünï", "a\nb"])
def test_any_label_makes_a_place(sandbox: FolderSandbox, label: str) -> None:
    place = sandbox.open(label)
    assert place.is_dir()
    sandbox.close(place)
    assert not place.exists()


def fill(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "file").write_text("x")
    (place / "a" / "link").symlink_to("/")
    os.mkfifo(place / "a" / "fifo")
    (place / "a" / os.fsdecode(b"\xff\n")).touch()
    (place / "a" / "b" / "file").chmod(0)
    (place / "a" / "b").chmod(0)
    (place / "a").chmod(0o500)


def test_closing_removes_everything_whatever_its_modes(unprivileged: Path) -> None:
    sandbox = FolderSandbox(unprivileged / "tests")
    place = sandbox.open("x")
    fill(place)
    sandbox.close(place)
    assert list((unprivileged / "tests").iterdir()) == []


def test_closing_does_not_follow_links(sandbox: FolderSandbox, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    place = sandbox.open("x")
    (place / "link").symlink_to(tmp_path / "precious")
    sandbox.close(place)
    assert (tmp_path / "precious" / "file").exists()


def test_deep_trees_are_removed(sandbox: FolderSandbox) -> None:
    place = sandbox.open("x")
    deep = place
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()
        if len(os.fsencode(deep)) > 3900:
            break
    sandbox.close(place)
    assert not place.exists()


@pytest.mark.root
def test_immutable_files_are_removed(sandbox: FolderSandbox) -> None:
    place = sandbox.open("x")
    (place / "sub").mkdir()
    (place / "sub" / "file").touch()
    if subprocess.run(["chattr", "+i", place / "sub" / "file", place / "sub"], capture_output=True).returncode:
        pytest.skip("this file system has no such flag")
    sandbox.close(place)
    assert not place.exists()


def test_closing_twice_is_fine(sandbox: FolderSandbox) -> None:
    place = sandbox.open("x")
    sandbox.close(place)
    sandbox.close(place)


def test_only_its_own_places_are_removed(sandbox: FolderSandbox, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    place = sandbox.open("x")
    for other in (tmp_path / "mine", place / "a", place.parent, place.parent / "other", Path("/")):
        with pytest.raises(RestoreError, match="not a place"):
            sandbox.close(other)
    assert (tmp_path / "mine").exists()


def test_what_stays_is_an_error_that_names_it(sandbox: FolderSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sandbox.open("x")
    (place / "stubborn").touch()

    def refuse(path: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as refusing:
        refusing.setattr(folder_module.os, "unlink", refuse)
        with pytest.raises(RestoreError, match=r"stubborn.*busy") as raised:
            sandbox.close(place)
    assert str(place) in raised.value.todo


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RestoreError, match="cannot make a place for x"):
        FolderSandbox(tmp_path / "file" / "sub").open("x")


def test_sweeping_removes_the_places_of_dead_processes_only(sandbox: FolderSandbox, tmp_path: Path) -> None:
    mine = sandbox.open("mine")
    script = (
        "import sys; from pathlib import Path; from cto_backups.sandboxes.folder import FolderSandbox\n"
        "place = FolderSandbox(Path(sys.argv[1])).open('theirs'); (place / 'secret').touch()"
    )
    subprocess.run([sys.executable, "-c", script, str(mine.parent)], check=True)
    (mine.parent / "unrelated").mkdir()
    (mine.parent / f"a-file.{2**22 + 1}.0.00000000").touch()
    assert len(list(mine.parent.glob("theirs.*"))) == 1
    assert sandbox.sweep() == 1
    assert {path.name.partition(".")[0] for path in mine.parent.iterdir()} == {"mine", "unrelated", "a-file"}
    assert sandbox.sweep() == 0


def test_a_number_that_another_process_bears_now_does_not_protect_a_place(sandbox: FolderSandbox) -> None:
    place = sandbox.open("x")
    _, pid, started, rest = place.name.split(".")
    former = place.with_name(f"x.{pid}.{int(started) - 1}.{rest}")
    place.rename(former)
    assert sandbox.sweep() == 1
    assert not former.exists()


def test_sweeping_where_nothing_was_ever_made_is_fine(tmp_path: Path) -> None:
    assert FolderSandbox(tmp_path / "never").sweep() == 0
