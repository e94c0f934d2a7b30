"""A restore writes one batch after another: nothing may depend on where one ends."""

import stat
from pathlib import Path

import pytest
from fakes.memory import Content, MemoryTree
from fakes.stored import Stored

from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.repository import survey

TIME = 10**18
VERIFY = RestoreOptions(verify=True)


def linked(inode: int, size: int) -> Entry:
    return Entry(b"", b"", EntryKind.FILE, stat.S_IFREG | 0o600, links=3, inode=inode, size=size, mtime_ns=TIME)


TREE: dict[bytes, Content] = {
    b"a": {b"one": b"same", b"two": b"2", b"three": b"3"},
    b"b": {b"inner": {b"deep": {b"one": b"same", b"four": b"4"}, b"five": b"5"}, b"six": b"6"},
    b"c": {b"empty-folder": {}, b"link": Entry(b"", b"", EntryKind.SYMLINK, stat.S_IFLNK | 0o777, linktarget=b"../a")},
    b"d": b"last",
}
FILES = {"a/one", "a/two", "a/three", "b/inner/deep/one", "b/inner/deep/four", "b/inner/five", "b/six", "d"}


@pytest.fixture(params=[1, 2, 5])
def entries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(survey, "BATCH_ENTRIES", request.param)
    return int(request.param)


@pytest.fixture
def stored(entries: int) -> Stored:
    return Stored(MemoryTree(TREE))


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def test_all_comes_back_with_the_times_of_folders(stored: Stored, tmp_path: Path) -> None:
    restored = stored.restore(tmp_path / "out", VERIFY)
    assert not restored.problems
    assert restored.entries == 15
    assert files(tmp_path / "out") == FILES
    assert (tmp_path / "out/b/inner/deep/one").read_bytes() == b"same"
    assert (tmp_path / "out/c/link").readlink() == Path("../a")
    expected = MemoryTree({}).mtime_ns
    for folder in ("a", "b", "b/inner", "b/inner/deep", "c", "c/empty-folder"):
        assert (tmp_path / "out" / folder).stat().st_mtime_ns == expected, folder


def test_again_over_it_everything_is_kept(stored: Stored, tmp_path: Path) -> None:
    first = stored.restore(tmp_path)
    again = stored.restore(tmp_path)
    assert again.kept_entries == len(FILES) + 1
    assert (again.entries, again.size_bytes, again.kept_bytes) == (first.entries, first.size_bytes, first.size_bytes)


def test_what_stands_there_is_refused_before_anything_is_written(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"mine")
    with pytest.raises(RefusedError, match="1 file stands"):
        stored.store.reader(stored.reference).restore(tmp_path, existing=Existing.REFUSE)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_selection_makes_only_the_folders_on_its_way(stored: Stored, tmp_path: Path) -> None:
    reader = stored.store.reader(stored.reference)
    restored = reader.restore(tmp_path / "out", only=["fiv*", "/c"])
    assert files(tmp_path / "out") == {"b/inner/five"}
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"b", "inner", "five", "c", "empty-folder", "link"}
    assert restored.entries == 6
    assert reader.plan(tmp_path / "new", only=["fiv*", "/c"]).entries == 6


def test_a_selection_of_nothing_makes_nothing(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        stored.store.reader(stored.reference).restore(tmp_path / "out", only=["*.pdf"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [RestoreOptions(), RestoreOptions(patch=True), RestoreOptions(trust_times=True)])
def test_names_of_one_file_in_several_batches(entries: int, tmp_path: Path, options: RestoreOptions) -> None:
    """Restored, kept, and put right when one of them became a file of its own."""
    content = b"linked" * 100
    names: dict[bytes, Content] = {
        b"a": {b"x": linked(7, len(content)), b"y": b"y"},
        b"b": {b"x": linked(7, len(content)), b"y": b"y"},
        b"c": {b"x": linked(7, len(content)), b"y": b"y"},
    }
    tree = MemoryTree(names)
    tree.data = dict.fromkeys((b"/a/x", b"/b/x", b"/c/x"), content)
    stored = Stored(tree)

    def inodes() -> set[int]:
        assert {(tmp_path / name / "x").read_bytes() for name in "abc"} == {content}
        return {(tmp_path / name / "x").stat().st_ino for name in "abc"}

    assert not stored.restore(tmp_path, options).problems
    assert len(inodes()) == 1
    again = stored.restore(tmp_path, options)
    assert not again.problems
    assert len(inodes()) == 1
    assert not list(tmp_path.rglob(".cto-backups-restore-*"))
    (tmp_path / "c/x").unlink()
    (tmp_path / "c/x").write_bytes(content)
    (tmp_path / "a/x").unlink()
    (tmp_path / "a/x").write_bytes(b"other" * 120)
    assert not stored.restore(tmp_path, options).problems
    assert len(inodes()) == 1
    assert not list(tmp_path.rglob(".cto-backups-restore-*"))


def test_only_two_batches_are_in_memory(entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entries a point has."""
    stored = Stored(MemoryTree({b"%03d" % number: {b"x": b"%d" % number, b"y": b"y"} for number in range(60)}))
    alive = most = 0

    class Counting(survey.RestoredFile):
        __slots__ = ()

        def __init__(self, *arguments: object) -> None:
            nonlocal alive, most
            super().__init__(*arguments)  # type: ignore[arg-type]
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(survey, "RestoredFile", Counting)
    assert not stored.restore(tmp_path).problems
    assert len(files(tmp_path)) == 120
    assert most <= 3 * (entries + 1)
