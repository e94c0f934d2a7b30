"""What every `PointReader` does with what stands where it restores: subclass `RestoreContract`, give it `new_point`."""

import os
import random
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fakes.memory import Content, MemoryTree

from cto_backups.core.ports import Existing, PointReader, RestoreOptions
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import NotFoundError, RefusedError

NewPoint = Callable[[MemoryTree], PointReader]
BIG = random.Random(4).randbytes(9 << 20)
LINKED = Entry(b"", b"", EntryKind.FILE, stat.S_IFREG | 0o600, links=2, inode=77, size=6, mtime_ns=10**18)
CONTENT: Mapping[bytes, Content] = {
    b"big": BIG,
    b"empty": b"",
    b"folder": {b"one": b"one\n", b"two": b"two\n" * 3000, b"deep": {b"three": b"3"}},
    b"link": Entry(b"", b"", EntryKind.SYMLINK, stat.S_IFLNK | 0o777, linktarget=b"folder/one", mtime_ns=10**18),
    b"zeros": bytes(5 << 20) + b"end",
}
FILES = ["big", "empty", "folder/one", "folder/two", "folder/deep/three", "zeros"]
SIZE = len(BIG) + 4 + 12_000 + 1 + (5 << 20) + 3
DELETE = RestoreOptions(delete=True)
MTIME = MemoryTree({}).mtime_ns


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def identities(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and ctime of every file: what was not touched keeps them."""
    return {one: ((root / one).lstat().st_ino, (root / one).lstat().st_ctime_ns) for one in [*FILES, "link"]}


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob(".cto-backups-restore-*")]


class RestoreContract:
    """Subclasses give `new_point`, which makes a reader of a stored tree."""

    @pytest.fixture
    def new_point(self) -> NewPoint:
        raise NotImplementedError

    @pytest.fixture
    def point(self, new_point: NewPoint) -> PointReader:
        return new_point(MemoryTree(CONTENT))

    @pytest.fixture
    def standing(self, point: PointReader, tmp_path: Path) -> Path:
        """The point, restored once."""
        point.restore(tmp_path / "there")
        return tmp_path / "there"

    @pytest.fixture
    def clean(self, standing: Path) -> dict[str, bytes]:
        return content(standing)

    def test_what_stands_there_as_it_should_is_not_touched(self, point: PointReader, standing: Path) -> None:
        before = identities(standing)
        restored = point.restore(standing, existing=Existing.OVERWRITE)
        assert not restored.problems
        assert {one: inode for one, (inode, _) in identities(standing).items()} == {
            one: inode for one, (inode, _) in before.items()
        }
        assert (restored.kept_entries, restored.kept_bytes) == (7, SIZE)
        assert (restored.entries, restored.size_bytes) == (9, SIZE)

    def test_nothing_is_kept_where_nothing_stands(self, point: PointReader, tmp_path: Path) -> None:
        restored = point.restore(tmp_path / "new", existing=Existing.OVERWRITE)
        assert (restored.kept_entries, restored.kept_bytes) == (0, 0)

    def test_a_plan_says_what_would_be_kept_and_changes_nothing(self, point: PointReader, standing: Path) -> None:
        (standing / "folder/one").write_bytes(b"changed")
        (standing / "empty").unlink()
        before = content(standing)
        plan = point.plan(standing, existing=Existing.OVERWRITE)
        assert content(standing) == before
        assert plan.conflicts == (str(standing / "folder/one"),)
        restored = point.restore(standing, existing=Existing.OVERWRITE)
        assert (plan.entries, plan.size_bytes) == (restored.entries, restored.size_bytes)
        assert (plan.kept_entries, plan.kept_bytes) == (restored.kept_entries, restored.kept_bytes) == (5, SIZE - 4)

    def test_a_change_that_size_and_time_hide_is_found(
        self, point: PointReader, standing: Path, clean: dict[str, bytes]
    ) -> None:
        with (standing / "big").open("r+b") as file:
            file.seek(7 << 20)
            file.write(b"rot")
        os.utime(standing / "big", ns=(MTIME, MTIME))
        trusting = RestoreOptions(trust_times=True)
        assert point.restore(standing, existing=Existing.OVERWRITE, options=trusting).kept_bytes == SIZE
        assert content(standing) != clean
        restored = point.restore(standing, existing=Existing.OVERWRITE)
        assert restored.kept_bytes < SIZE
        assert content(standing) == clean

    @pytest.mark.parametrize(
        "options", [RestoreOptions(), RestoreOptions(patch=True), RestoreOptions(trust_times=True)]
    )
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda root: (root / "big").write_bytes(BIG[:1000]),
            lambda root: (root / "big").write_bytes(BIG + b"more"),
            lambda root: (root / "big").write_bytes(BIG[: 6 << 20] + b"x" * (3 << 20)),
            lambda root: (root / "big").write_bytes(b"insert" + BIG),
            lambda root: (root / "zeros").write_bytes(b"not zero" * (5 << 17) + b"end"),
            lambda root: (root / "empty").write_bytes(b"something"),
            lambda root: (root / "folder/two").write_bytes(b""),
            lambda root: ((root / "folder/one").unlink(), (root / "folder/one").symlink_to("/etc/passwd")),
            lambda root: ((root / "link").unlink(), (root / "link").symlink_to("folder")),
            lambda root: ((root / "link").unlink(), (root / "link").write_bytes(b"a file")),
            lambda root: shutil.rmtree(root / "folder"),
        ],
    )
    def test_what_differs_is_put_right(
        self,
        point: PointReader,
        standing: Path,
        clean: dict[str, bytes],
        spoil: Callable[[Path], object],
        options: RestoreOptions,
    ) -> None:
        spoil(standing)
        restored = point.restore(standing, existing=Existing.OVERWRITE, options=options)
        assert not restored.problems
        assert content(standing) == clean
        assert (standing / "link").readlink() == Path("folder/one")
        assert {(standing / one).stat().st_mtime_ns for one in FILES} == {MTIME}
        assert not leftovers(standing)

    def test_metadata_of_what_is_kept_is_put_right(self, point: PointReader, standing: Path) -> None:
        one = standing / "folder/one"
        inode = one.stat().st_ino
        one.chmod(0o600)
        os.setxattr(one, "user.foreign", b"x")
        os.utime(one, ns=(1, 1))
        assert point.restore(standing, existing=Existing.OVERWRITE).kept_bytes == SIZE
        there = one.stat()
        assert (there.st_ino, stat.S_IMODE(there.st_mode), there.st_mtime_ns) == (inode, 0o644, MTIME)
        assert "user.foreign" not in os.listxattr(one)

    @pytest.mark.parametrize("patch", [False, True])
    def test_other_names_of_a_standing_file_are_not_written_through(
        self, point: PointReader, standing: Path, tmp_path: Path, patch: bool
    ) -> None:
        for name in ("big", "folder/one"):
            (standing / name).write_bytes(b"theirs" + (standing / name).read_bytes())
            os.link(standing / name, tmp_path / Path(name).name)
        point.restore(standing, existing=Existing.OVERWRITE, options=RestoreOptions(patch=patch))
        assert (tmp_path / "one").read_bytes() == b"theirsone\n"
        assert (tmp_path / "big").read_bytes() == b"theirs" + BIG
        assert (standing / "big").read_bytes() == BIG
        assert (standing / "big").stat().st_nlink == 1

    def test_attributes_are_not_changed_under_other_names_either(
        self, point: PointReader, standing: Path, tmp_path: Path
    ) -> None:
        (standing / "folder/one").chmod(0o600)
        os.link(standing / "folder/one", tmp_path / "theirs")
        point.restore(standing, existing=Existing.OVERWRITE)
        assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o600
        assert stat.S_IMODE((standing / "folder/one").stat().st_mode) == 0o644

    def test_hard_links_come_back_over_files_of_their_own(self, new_point: NewPoint, tmp_path: Path) -> None:
        tree = MemoryTree({b"a": LINKED, b"b": Entry(b"b", b"/b", *_fields(LINKED)[2:])})
        tree.data = {b"/a": b"linked", b"/b": b"linked"}
        point = new_point(tree)
        (tmp_path / "a").write_bytes(b"linked")
        (tmp_path / "b").write_bytes(b"linked")
        for _ in range(2):
            assert not point.restore(tmp_path, existing=Existing.OVERWRITE).problems
            assert (tmp_path / "a").read_bytes() == b"linked"
            assert (tmp_path / "a").samefile(tmp_path / "b")
        assert not leftovers(tmp_path)

    def test_only_the_selection_is_looked_at_and_written(self, point: PointReader, standing: Path) -> None:
        (standing / "big").write_bytes(b"mine")
        (standing / "folder/one").write_bytes(b"spoilt")
        restored = point.restore(standing, only=["/folder"], existing=Existing.OVERWRITE)
        assert restored.kept_entries == 2
        assert (standing / "big").read_bytes() == b"mine"
        assert (standing / "folder/one").read_bytes() == b"one\n"

    @pytest.mark.parametrize("existing", list(Existing))
    def test_what_was_restored_is_verified(self, point: PointReader, tmp_path: Path, existing: Existing) -> None:
        restored = point.restore(tmp_path / "out", existing=existing, options=RestoreOptions(verify=True))
        assert not restored.problems
        assert (tmp_path / "out/big").read_bytes() == BIG

    # -- what the point does not have ---------------------------------------------------------------------------------

    @pytest.fixture
    def cluttered(self, standing: Path, clean: dict[str, bytes], tmp_path: Path) -> Path:
        """The point with 7 entries beside it, of 11 bytes: 4 in its root, 3 in `/folder`."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/precious").write_bytes(b"precious")
        (standing / "new").write_bytes(b"new")
        (standing / "new folder/deep").mkdir(parents=True)
        (standing / "new folder/to elsewhere").symlink_to(tmp_path / "elsewhere")
        (standing / "folder/deep/\n\x1b[31m*").write_bytes(b"four")
        (standing / "folder/more").write_bytes(b"more")
        (standing / "folder/to elsewhere").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        return standing

    def test_what_the_point_does_not_have_goes_when_asked(
        self, point: PointReader, cluttered: Path, clean: dict[str, bytes], tmp_path: Path
    ) -> None:
        assert point.restore(cluttered, existing=Existing.OVERWRITE).deleted_entries == 0
        before = content(cluttered)
        assert before != clean
        plan = point.plan(cluttered, existing=Existing.OVERWRITE, options=DELETE)
        assert content(cluttered) == before
        restored = point.restore(cluttered, existing=Existing.OVERWRITE, options=DELETE)
        assert not restored.problems
        assert content(cluttered) == clean
        assert {path.name for path in cluttered.iterdir()} == {os.fsdecode(name) for name in CONTENT}
        assert {path.name for path in (cluttered / "folder").iterdir()} == {"one", "two", "deep"}
        assert (plan.deleted_entries, plan.deleted_bytes) == (7, 11)
        assert (restored.deleted_entries, restored.deleted_bytes) == (7, 11)
        topmost = ["new", "new folder", "folder/deep/\n\x1b[31m*", "folder/more", "folder/to elsewhere"]
        assert sorted(plan.extraneous) == sorted(str(cluttered / name) for name in topmost)
        assert {(cluttered / one).stat().st_mtime_ns for one in ("folder", "folder/deep")} == {MTIME}
        assert (tmp_path / "elsewhere/precious").read_bytes() == b"precious"
        assert point.restore(cluttered, existing=Existing.OVERWRITE, options=DELETE).deleted_entries == 0

    def test_without_overwriting_nothing_goes(self, point: PointReader, tmp_path: Path) -> None:
        (tmp_path / "mine").write_bytes(b"mine")
        restored = point.restore(tmp_path, options=DELETE)
        assert restored.deleted_entries == 0
        assert (tmp_path / "mine").read_bytes() == b"mine"
        assert point.plan(tmp_path, options=DELETE).deleted_entries == 0

    def test_only_selected_folders_are_cleared(self, point: PointReader, cluttered: Path) -> None:
        options = {"only": ["/folder/deep", "/folder/one"], "existing": Existing.OVERWRITE, "options": DELETE}
        assert point.plan(cluttered, **options).deleted_entries == 1  # type: ignore[arg-type]
        assert point.restore(cluttered, **options).deleted_entries == 1  # type: ignore[arg-type]
        assert [path.name for path in (cluttered / "folder/deep").iterdir()] == ["three"]
        assert (cluttered / "folder/more").exists(), "in a folder merely on the way"
        assert (cluttered / "new").exists()

    def test_what_is_to_be_left_stays_with_the_folders_that_it_is_in(self, point: PointReader, cluttered: Path) -> None:
        left: list[tuple[bytes, bool]] = []

        def leave(path: bytes, folder: bool) -> bool:
            left.append((path, folder))
            return path.endswith((b"/deep", b"/more"))

        options = RestoreOptions(delete=True, leave=leave)
        plan = point.plan(cluttered, existing=Existing.OVERWRITE, options=options)
        restored = point.restore(cluttered, existing=Existing.OVERWRITE, options=options)
        assert plan.deleted_entries == restored.deleted_entries == 4
        assert (cluttered / "new folder/deep").is_dir()
        assert not (cluttered / "new folder/to elsewhere").is_symlink()
        assert (cluttered / "folder/more").exists()
        assert not (cluttered / "new").exists()
        assert {(b"/new folder/deep", True), (b"/folder/more", False)} <= set(left)
        assert (b"/folder/to elsewhere", False) in left, "a symlink is no folder"

    def test_what_is_spared_is_neither_written_nor_removed(self, point: PointReader, standing: Path) -> None:
        (standing / "folder/one").write_bytes(b"in use")
        (standing / "folder/deep/three").unlink()
        (standing / "folder/deep/mine").write_bytes(b"mine")
        options = RestoreOptions(delete=True, spare=frozenset({b"/folder/one", b"/folder/deep", b"/not there"}))
        plan = point.plan(standing, existing=Existing.OVERWRITE, options=options)
        restored = point.restore(standing, existing=Existing.OVERWRITE, options=options)
        assert restored.problems == ()
        assert (plan.conflicts, plan.deleted_entries, restored.deleted_entries) == ((), 0, 0)
        assert plan.entries == restored.entries == 9 - 3
        assert (standing / "folder/one").read_bytes() == b"in use"
        assert [path.name for path in (standing / "folder/deep").iterdir()] == ["mine"]
        for notes in (plan.notes, restored.notes):
            for spared, told in (("folder/one", True), ("folder/deep", True), ("not there", False)):
                assert any(str(standing / spared) in note for note in notes) is told

    def test_what_is_spared_keeps_nothing_else_from_being_restored(self, point: PointReader, tmp_path: Path) -> None:
        (tmp_path / "new/folder").mkdir(parents=True)
        (tmp_path / "new/folder/one").write_bytes(b"in use")
        point.restore(tmp_path / "new", options=RestoreOptions(spare=frozenset({b"/folder/one"})))
        assert (tmp_path / "new/folder/one").read_bytes() == b"in use"
        assert (tmp_path / "new/big").read_bytes() == BIG

    @pytest.mark.parametrize("only", ["/folder/one", "/folder/deep/three"])
    def test_to_select_nothing_but_what_is_spared_is_refused(
        self, point: PointReader, standing: Path, only: str
    ) -> None:
        options = RestoreOptions(spare=frozenset({b"/folder/one", b"/folder/deep"}))
        with pytest.raises((RefusedError, NotFoundError)):
            point.restore(standing, only=[only], existing=Existing.OVERWRITE, options=options)

    def test_a_plan_into_nothing_removes_nothing(self, point: PointReader, tmp_path: Path) -> None:
        plan = point.plan(tmp_path / "new", existing=Existing.OVERWRITE, options=DELETE)
        assert (plan.deleted_entries, plan.extraneous) == (0, ())

    def test_where_a_symlink_stands_for_a_folder_its_target_is_not_cleared(
        self, point: PointReader, standing: Path, tmp_path: Path
    ) -> None:
        shutil.rmtree(standing / "folder")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/precious").write_bytes(b"precious")
        (standing / "folder").symlink_to(tmp_path / "elsewhere")
        assert point.plan(standing, existing=Existing.OVERWRITE, options=DELETE).deleted_entries == 0


def _fields(entry: Entry) -> list[object]:
    return [getattr(entry, name) for name in Entry.__slots__]
