"""What a restore removes because the point does not have it, and what it must never touch."""

import os
import random
import resource
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fakes.memory import MemoryTree
from fakes.stored import Stored

from cto_backups.core.model import Problem
from cto_backups.core.ports import Existing, RestoreOptions, RestorePlan
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import RestoreError, VaultError
from cto_backups.repository import extraneous, places, restore

CONTENT = {b"a": {b"inner": {b"one": b"1"}, b"two": b"22"}, b"top": b"top"}
DELETE = RestoreOptions(delete=True)
NOBODY = 65534


@pytest.fixture
def stored() -> Stored:
    return Stored(MemoryTree(CONTENT))


@pytest.fixture
def place(stored: Stored, tmp_path: Path) -> Path:
    stored.restore(tmp_path / "there")
    return tmp_path / "there"


def planned(stored: Stored, place: Path) -> RestorePlan:
    return stored.store.reader(stored.reference).plan(place, existing=Existing.OVERWRITE, options=DELETE)


def below(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


CLEAN = {"a", "a/inner", "a/inner/one", "a/two", "top"}


def test_whatever_its_name_it_goes_and_nothing_else(stored: Stored, place: Path) -> None:
    names = [b"-rf", b"*", b"\xff\xfe", b"a\nb", b" ", b"...", b"\\", b"~", b"$HOME", b"x" * 255]
    for name in names:
        (place / "a" / os.fsdecode(name)).write_bytes(b"12")
        (place / os.fsdecode(name)).mkdir()
    plan = planned(stored, place)
    assert (plan.deleted_entries, plan.deleted_bytes) == (20, 20)
    restored = stored.restore(place, DELETE)
    assert (restored.deleted_entries, restored.deleted_bytes) == (20, 20)
    assert below(place) == CLEAN


def test_special_files_and_dangling_links_go(stored: Stored, place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "dangling").symlink_to("/nowhere")
    (place / "to itself").symlink_to(".")
    restored = stored.restore(place, DELETE)
    assert (restored.deleted_entries, restored.deleted_bytes) == (3, 0)
    assert below(place) == CLEAN


def test_folders_deeper_than_any_path_or_number_of_descriptors(
    stored: Stored, place: Path, request: pytest.FixtureRequest
) -> None:
    subprocess.run(
        ["python3", "-c", "import os\nfor _ in range(1500): os.mkdir('d' * 20); os.chdir('d' * 20)"],
        cwd=place,
        check=True,
    )
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 300, limits[1]))
    assert planned(stored, place).deleted_entries == 1500
    assert stored.restore(place, DELETE).deleted_entries == 1500
    assert below(place) == CLEAN
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_folder_that_is_swapped_for_a_symlink_meanwhile_is_not_followed(
    stored: Stored, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(b"precious")
    (place / "new").mkdir()

    def swapping(path: bytes, _folder: bool) -> bool:  # it is asked between looking at it and opening it
        if path == b"/new":
            (place / "new").rmdir()
            (place / "new").symlink_to(tmp_path / "precious")
        return False

    restored = stored.restore(place, RestoreOptions(delete=True, leave=swapping))
    assert [(problem.path, problem.kind) for problem in restored.problems] == [("/new", "extraneous")]
    assert restored.deleted_entries == 0
    assert (tmp_path / "precious/file").read_bytes() == b"precious"


def test_a_folder_of_the_point_that_is_swapped_afterwards_is_not_followed(
    stored: Stored, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(b"precious")
    remove = extraneous.remove

    def swapped(*arguments: object) -> extraneous.Extraneous:
        (place / "a").rename(tmp_path / "away")
        (place / "a").symlink_to(tmp_path / "precious")
        return remove(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(extraneous, "remove", swapped)
    restored = stored.restore(place, DELETE)
    assert {problem.kind for problem in restored.problems} == {"extraneous"}
    assert (tmp_path / "precious/file").read_bytes() == b"precious"


def test_after_a_problem_nothing_goes_and_that_is_said(stored: Stored, place: Path) -> None:
    (place / "new").write_bytes(b"new")
    (place / "a/two").write_bytes(b"changed")

    def gone(operation: str, key: str) -> None:
        if operation == "read" and "/data/" in key and stored.packs_read > 1:
            raise VaultError("the vault fails")

    stored.vault.before = gone
    restored = stored.restore(place, DELETE)
    assert restored.problems
    assert restored.deleted_entries == 0
    assert (place / "new").exists()
    assert any("Nothing was removed" in note for note in restored.notes)


def test_what_verification_finds_keeps_all_where_it_is(
    stored: Stored, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "new").write_bytes(b"new")

    def altered(self: restore.ReadBack, *_: object) -> None:
        self._mishaps.problems.append(Problem("/top", "altered", "it differs"))

    monkeypatch.setattr(restore.ReadBack, "run", altered)
    assert stored.restore(place, RestoreOptions(delete=True, verify=True)).deleted_entries == 0
    assert (place / "new").exists()


def test_a_tree_that_cannot_be_read_any_more_ends_the_removing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(MemoryTree({b"a": {b"one": b"1"}, b"b": {b"two": b"2"}}))
    stored.restore(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder / "new").write_bytes(b"new")
    decode, left = extraneous.decode_tree, 1

    def only_the_root(plain: bytes) -> object:
        nonlocal left
        left -= 1
        if left == -1:
            raise VaultError("it is away for a moment")
        return decode(plain)

    monkeypatch.setattr(extraneous, "decode_tree", only_the_root)
    restored = stored.restore(tmp_path, DELETE)
    assert [problem.kind for problem in restored.problems] == ["extraneous"]
    assert restored.deleted_entries == 0
    assert (tmp_path / "a/new").exists()
    assert (tmp_path / "b/new").exists()


def test_times_and_modes_of_folders_stay_as_restored(stored: Stored, place: Path) -> None:
    (place / "a/inner/new").write_bytes(b"new")
    restored = stored.restore(place, DELETE)
    assert restored.deleted_entries == 1
    for folder in ("a", "a/inner"):
        assert (place / folder).stat().st_mtime_ns == MemoryTree({}).mtime_ns


def test_a_temporary_file_of_another_restore_at_work_stays(stored: Stored, place: Path) -> None:
    other = os.getppid()
    name = f".cto-backups-restore-{other:08x}01234567"
    dead = ".cto-backups-restore-3ffffe0001234567"
    for one in (name, dead):
        (place / "a" / one).write_bytes(b"part")
    assert places.at_work_on(name.encode())
    stored.restore(place, DELETE)
    assert below(place) == {*CLEAN, f"a/{name}"}


def test_a_name_that_the_file_system_lists_otherwise_stays(
    stored: Stored, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where cases are folded: `top` stands there, and is listed as `TOP`."""
    os.link(place / "top", place / "TOP")
    listing = extraneous._listing
    monkeypatch.setattr(extraneous, "_listing", lambda folder: [name for name in listing(folder) if name != b"top"])
    assert planned(stored, place).deleted_entries == 0
    monkeypatch.undo()
    assert planned(stored, place).deleted_entries == 1


def test_a_second_run_completes_what_was_cut_off(stored: Stored, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (place / "a" / f"new-{number}").mkdir()
        (place / "a" / f"new-{number}/file").write_bytes(b"x")
    true_unlink, left = os.unlink, 7

    def cut_off(*arguments: object, **how: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        true_unlink(*arguments, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(extraneous.os, "unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            stored.restore(place, DELETE)
    assert below(place) > CLEAN
    restored = stored.restore(place, DELETE)
    assert restored.deleted_entries == 40 - 2 * 7
    assert below(place) == CLEAN


def test_a_destination_that_is_no_folder_any_more(stored: Stored, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> extraneous.Extraneous:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(extraneous, "remove", refused)
    with pytest.raises(RestoreError, match="beside the recovery point is not known"):
        stored.restore(place, DELETE)


# -- mounts, which only root can make ---------------------------------------------------------------------------------


@pytest.fixture
def mounted(request: pytest.FixtureRequest, place: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that is mounted over something: another file system, or a folder of the same one."""
    where, kind = request.param
    point = place / where
    point.mkdir(parents=True, exist_ok=True)
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/precious").write_bytes(b"precious")
    how = ["-t", "tmpfs", "none"] if kind == "tmpfs" else ["--bind", str(tmp_path / "bound")]
    if subprocess.run(["mount", *how, str(point)], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (point / "precious").write_bytes(b"precious")
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.mark.root
@pytest.mark.parametrize(
    "mounted", [(where, kind) for where in ("new/deep", "a/inner") for kind in ("tmpfs", "bind")], indirect=True
)
def test_what_is_mounted_there_is_not_entered_and_named(stored: Stored, place: Path, mounted: Path) -> None:
    (place / "new").mkdir(exist_ok=True)
    (place / "new/file").write_bytes(b"x")
    plan = planned(stored, place)
    restored = stored.restore(place, DELETE)
    assert not restored.problems
    assert (mounted / "precious").read_bytes() == b"precious"
    assert not (place / "new/file").exists()
    assert plan.deleted_entries == restored.deleted_entries == (1 if "new" in str(mounted) else 2)
    for notes in (plan.notes, restored.notes):
        assert [note for note in notes if str(mounted) in note and "mounted" in note]


@pytest.mark.root
def test_a_file_that_is_mounted_there_stays_and_is_named(stored: Stored, place: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (place / "new").mkdir()
    (place / "new/file").touch()
    (place / "new/other").touch()
    mount = ["mount", "--bind", str(tmp_path / "precious"), str(place / "new/file")]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        restored = stored.restore(place, DELETE)
    finally:
        subprocess.run(["umount", str(place / "new/file")], check=True)
    assert not restored.problems
    assert restored.deleted_entries == 1
    assert [note for note in restored.notes if str(place / "new/file") in note]


# -- as somebody who may not do everything ----------------------------------------------------------------------------


def as_nobody(stored: Stored, place: Path) -> list[object]:
    """Restore as an ordinary user, who this process is meanwhile: what was deleted, and where the problems are."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        restored = stored.restore(place, DELETE)
    finally:
        os.seteuid(0)
        os.setegid(0)
    return [restored.deleted_entries, [problem.path for problem in restored.problems]]


def open_to_all(tmp_path: Path) -> None:
    """Let everybody reach the test's own folder, which pytest keeps to its user."""
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)


@pytest.mark.root
def test_narrow_modes_of_ones_own_folders_are_no_obstacle(stored: Stored, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    place = tmp_path / "there"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    as_nobody(stored, place)
    (place / "new/deep").mkdir(parents=True)
    (place / "new/deep/file").write_bytes(b"x")
    (place / "theirs/deep").mkdir(parents=True)
    for one in ("new", "new/deep"):
        os.chown(place / one, NOBODY, NOBODY)
    (place / "new/deep").chmod(0)
    (place / "new").chmod(0o500)
    assert as_nobody(stored, place) == [3, ["/theirs/deep"]]
    assert below(place) == {*CLEAN, "theirs", "theirs/deep"}


class Narrow(MemoryTree):
    """Nobody may write to its folders."""

    def folder(self, entry: Entry) -> Sequence[Entry]:
        found = super().folder(entry)
        for one in found:
            if one.kind is EntryKind.FOLDER:
                one.mode = stat.S_IFDIR | 0o555
        return found


@pytest.mark.root
def test_a_folder_of_the_point_that_nobody_may_write_to_is_cleared_and_stays_so(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    place = tmp_path / "there"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    stored = Stored(Narrow(CONTENT))
    as_nobody(stored, place)
    (place / "a/inner/new").touch()
    assert as_nobody(stored, place) == [1, []]
    assert below(place) == CLEAN
    assert stat.S_IMODE((place / "a/inner").stat().st_mode) == 0o555
    assert (place / "a/inner").stat().st_mtime_ns == MemoryTree({}).mtime_ns


def test_large_folders_need_no_more_than_their_names(stored: Stored, place: Path) -> None:
    generator = random.Random(1)
    for number in range(3000):
        (place / "a/inner" / f"{generator.random()}-{number}").touch()
    assert stored.restore(place, DELETE).deleted_entries == 3000
    assert below(place) == CLEAN
