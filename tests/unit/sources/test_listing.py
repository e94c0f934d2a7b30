# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH115, PTH119, PTH123, PTH208, PTH211
"""What the native lister says of a folder is what the kernel says, one by one."""

import contextlib
import errno
import gc
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups._native import KnownDigests, Lister, Literals, extended_attributes, token
from cto_backups.core.trees import EntryKind
from cto_backups.sources.patterns import Patterns, literal
from cto_backups.sources.tree import TreeEntry

KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
}
NAMES = (b"a", b"\xff\xfe", b"new\nline", b"blank ", b"B", b"\xc3\xa9", b"*", b"\\", b"-rf")


NOTHING = Literals(frozenset(), frozenset())


def lister(known: KnownDigests | None = None, leave_out: Literals = NOTHING, ahead: int = 0) -> "Lister[TreeEntry]":
    return Lister(TreeEntry, KINDS, known or KnownDigests(b""), leave_out, ahead)


def plainly(path: bytes) -> TreeEntry:
    """The entry at a path, by Python's own means."""
    status = os.lstat(path)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    file = kind is EntryKind.FILE
    return TreeEntry(
        os.path.basename(path),
        path,
        kind,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size if file else 0,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
        status.st_nlink,
        0,
        os.readlink(path) if kind is EntryKind.SYMLINK else b"",
        tuple(
            (os.fsencode(name), os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        token=token(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) if file else b"",
    )


def listed(folder: Path, leave_out: Literals = NOTHING, **how: object) -> list[TreeEntry]:
    found, troubles = lister(leave_out=leave_out, **how).folder(os.fsencode(folder), None)  # type: ignore[arg-type]
    assert troubles == []
    return found


def test_every_field_of_every_kind_is_what_the_kernel_says(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "wb") as out:
            out.write(b"x" * number)
        os.utime(path, ns=(5, (number - 3) * 10**18 + 7))
        os.chmod(path, 0o4000 | number)
    os.link(tmp_path / "a", tmp_path / "again")
    os.symlink(b"nowhere\xff", os.fsencode(tmp_path) + b"/link")
    os.mkfifo(tmp_path / "fifo", 0o600)
    os.mkdir(tmp_path / "folder")
    if os.geteuid() == 0:
        os.chown(tmp_path / "folder", 1234, 2**32 - 2)
    expected = [plainly(os.fsencode(tmp_path) + b"/" + name) for name in sorted(os.listdir(os.fsencode(tmp_path)))]
    assert listed(tmp_path) == expected
    assert [lister().one(entry.name, entry.path, False, True, False) for entry in expected] == [
        (entry, []) for entry in expected
    ]


def test_a_socket_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
    assert [entry.kind for entry in listed(tmp_path)] == [EntryKind.SOCKET]


def test_a_folder_of_many_names_is_listed_whole(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}{'-' * (number % 180)}").touch()
    assert [entry.name for entry in listed(tmp_path)] == sorted(map(os.fsencode, os.listdir(tmp_path)))


def test_extended_attributes_of_every_size_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    values = {f"user.{'n' * 50}{number}": bytes([number]) * size for number, size in enumerate((0, 1, 128, 129, 2000))}
    try:
        for name, value in values.items():
            os.setxattr(path, name, value)
    except OSError:
        pytest.skip("this file system has no extended attributes of this size")
    expected = tuple((name.encode(), value) for name, value in sorted(values.items()))
    assert listed(tmp_path)[0].extended == expected
    assert extended_attributes(os.fsencode(path)) == expected


def test_extended_attributes_of_what_is_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        extended_attributes(os.fsencode(tmp_path / "x"))


def test_a_digest_is_known_for_just_one_state(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    (tmp_path / "y").write_text("y")
    (x, y) = listed(tmp_path)
    known = KnownDigests(x.token + b"d" * 32)
    assert [entry.known for entry in listed(tmp_path, known=known)] == [b"d" * 32, None]
    os.utime(tmp_path / "x")
    assert [entry.known for entry in listed(tmp_path, known=known)] == [None, None]
    assert y.token != x.token


def test_a_link_is_followed_only_when_asked_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    place = os.fsencode(tmp_path / "link")
    link, _ = lister().one(b"link", place, False, False, False)
    folder, _ = lister().one(b"link", place, True, False, True)
    assert (link and link.kind, folder and folder.kind) == (EntryKind.SYMLINK, EntryKind.FOLDER)
    assert folder is not None
    assert folder.inode == (tmp_path / "folder").stat().st_ino
    assert (folder.inside, folder.taken) == (False, True)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    gone = os.fsencode(tmp_path / "gone")
    assert lister().folder(gone, None) == ([], [(gone, errno.ENOENT, False)])
    assert lister().folder(gone, lambda *_: []) == ([], [(gone, errno.ENOENT, False)])
    assert lister().one(b"gone", gone, False, True, False) == (None, [(gone, errno.ENOENT, False)])
    assert lister().one(b"", b"/\0", False, True, False) == (None, [(b"/\0", errno.EINVAL, False)])


def test_what_vanishes_between_its_name_and_its_status_is_told(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()

    def choose(names: Sequence[bytes], folders: Sequence[bool]) -> Sequence[tuple[bool, bool] | None]:
        (tmp_path / "b").unlink()
        assert (names, folders) == ([b"a", b"b", b"c"], [False] * 3)
        return [(True, False)] * 3

    found, troubles = lister().folder(os.fsencode(tmp_path), choose)
    assert [entry.name for entry in found] == [b"a", b"c"]
    assert troubles == [(os.fsencode(tmp_path / "b"), errno.ENOENT, False)]


def test_what_is_left_out_is_not_looked_at_and_the_rest_is_as_told(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()

    def choose(names: Sequence[bytes], folders: Sequence[bool]) -> Sequence[tuple[bool, bool] | None]:
        (tmp_path / "b").rmdir()
        assert folders == [True] * 3
        return [(False, True), None, (True, False)]

    found, troubles = lister().folder(os.fsencode(tmp_path), choose)
    assert [(entry.name, entry.inside, entry.taken) for entry in found] == [(b"a", False, True), (b"c", True, False)]
    assert troubles == []


def test_an_error_of_the_chooser_comes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        lister().folder(os.fsencode(tmp_path), lambda *_: 1 // 0)  # type: ignore[arg-type,return-value]


def test_a_folder_that_may_not_be_searched_has_names_only(
    open_place: Path, ordinary_user: Callable[[], AbstractContextManager[None]]
) -> None:
    (open_place / "folder").mkdir()
    (open_place / "folder" / "x").touch()
    (open_place / "folder").chmod(0o444)
    place = os.fsencode(open_place / "folder")
    with ordinary_user():
        assert lister().folder(place, None) == ([], [(place + b"/x", errno.EACCES, False)])


def test_a_path_longer_than_the_kernel_takes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "n" * 250
    path = os.fsencode(tmp_path)
    monkeypatch.chdir(tmp_path)
    while len(path) < 4000:
        os.mkdir(long)
        monkeypatch.chdir(long)
        path += b"/" + long.encode()
    last = "z" * (4095 - len(path))  # with a slash, one byte more than fits
    Path(last).touch()
    Path(last[:-1]).touch()
    found, troubles = lister().folder(path, None)
    assert [entry.name for entry in found] == [last[:-1].encode()]
    assert troubles == [(path + b"/" + last.encode(), errno.ENAMETOOLONG, False)]


letters = st.text("ab/*", min_size=1, max_size=4)


@given(st.lists(letters, max_size=4), st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3))
def test_literals_name_what_their_patterns_name(texts: list[str], parts: list[str]) -> None:
    patterns = Patterns(texts)
    leave_out = patterns.literals
    if leave_out is None:
        return
    path, name = ("/" + "/".join(parts)).encode(), parts[-1].encode()
    for folder in (False, True):
        assert leave_out.names(path, folder) == patterns.match(path, name, folder)


@pytest.mark.parametrize("text", ["*.x", "!a", "b/c", "/a*"])
def test_a_pattern_with_something_special_is_no_literal(text: str) -> None:
    assert Patterns(["a", text]).literals is None
    assert Patterns(["a", "/b/c", "d/"]).literals is not None


def test_literals_are_left_out(tmp_path: Path) -> None:
    for name in ("keep", "file", "path"):
        (tmp_path / name).touch()
    for name in ("folder", "file-only"):
        (tmp_path / name).mkdir()
    leave_out = Patterns(["file", "folder/", "keep/", literal(tmp_path / "path"), "/path"]).literals
    assert leave_out is not None
    assert [entry.name for entry in listed(tmp_path, leave_out)] == [b"file-only", b"keep"]


# -- ahead ----------------------------------------------------------------------------------------------------------


def plant_tree(top: Path) -> None:
    for outer in range(6):
        for inner in range(5):
            folder = top / f"{outer}" / f"{inner}"
            folder.mkdir(parents=True)
            for name in range(inner):
                (folder / f"f{name}").write_text("x")


def walked(which: "Lister[TreeEntry]", top: Path, order: Callable[[list[bytes]], bytes]) -> list[list[TreeEntry]]:
    """Every folder's entries, by path; `order` takes the next folder from those that are left."""
    pending = [os.fsencode(top)]
    found = {}
    while pending:
        path = order(pending)
        found[path], troubles = which.folder(path, None)
        assert troubles == []
        pending += [entry.path for entry in reversed(found[path]) if entry.kind is EntryKind.FOLDER]
    return [found[path] for path in sorted(found)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", [list.pop, lambda pending: pending.pop(0)], ids=["depth first", "breadth first"])
def test_listing_ahead_finds_the_same(tmp_path: Path, threads: int, order: Callable[[list[bytes]], bytes]) -> None:
    plant_tree(tmp_path)
    leave_out = Literals({b"3/"}, {os.fsencode(tmp_path / "4" / "2" / "f1")})
    expected = walked(lister(leave_out=leave_out), tmp_path, order)
    for _ in range(5):
        assert walked(lister(leave_out=leave_out, ahead=threads), tmp_path, order) == expected
    assert len(expected) == 1 + 5 + 5 * 4


def eventually(attempt: Callable[[int, float], bool]) -> None:
    """An attempt comes true; it is given its number, and how many seconds to leave to the threads that list ahead."""
    assert any(attempt(number, 0.02 * 2**number) for number in range(9))


def test_what_was_listed_ahead_may_vanish_and_is_fetched_once(tmp_path: Path) -> None:
    def attempt(number: int, seconds: float) -> bool:
        sub = tmp_path / str(number) / "sub"
        sub.mkdir(parents=True)
        (sub / "x").touch()
        which = lister(ahead=1)
        which.folder(os.fsencode(sub.parent), None)
        time.sleep(seconds)
        (sub / "x").unlink()
        first, second = (which.folder(os.fsencode(sub), None) for _ in range(2))
        assert second == ([], [])
        return [entry.name for entry in first[0]] == [b"x"]

    eventually(attempt)


def test_who_chooses_is_asked_whatever_was_listed_ahead(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in "xy":
        (tmp_path / "sub" / name).touch()
    for seconds in (0, 0.05):
        which = lister(ahead=1)
        which.folder(os.fsencode(tmp_path), None)
        time.sleep(seconds)
        found, _ = which.folder(os.fsencode(tmp_path / "sub"), lambda *_: [None, (False, True)])
        assert [(entry.name, entry.inside, entry.taken) for entry in found] == [(b"y", False, True)]


def test_what_was_chosen_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    which = lister(ahead=1)
    which.folder(os.fsencode(tmp_path), lambda *_: [(True, False)])
    time.sleep(0.05)
    (tmp_path / "sub" / "x").touch()
    assert [entry.name for entry in which.folder(os.fsencode(tmp_path / "sub"), None)[0]] == [b"x"]


def test_a_folder_that_cannot_be_listed_ahead_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    which = lister(ahead=1)
    which.folder(os.fsencode(tmp_path), None)
    (tmp_path / "sub").rmdir()
    found, troubles = which.folder(os.fsencode(tmp_path / "sub"), None)
    assert (found, troubles) in (([], []), ([], [(os.fsencode(tmp_path / "sub"), errno.ENOENT, False)]))


def test_more_folders_than_are_wanted_at_once_are_all_listed(tmp_path: Path) -> None:
    for number in range(10_050):
        os.mkdir(tmp_path / str(number))
    assert len(walked(lister(ahead=2), tmp_path, list.pop)) == 10_051


def test_more_entries_than_may_wait_are_all_listed(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "x").touch()
    for folder in range(60):
        os.mkdir(tmp_path / str(folder))
        for number in range(1000):
            os.link(first / "x", tmp_path / str(folder) / str(number))
    assert sum(map(len, walked(lister(ahead=2), tmp_path, list.pop))) == 61 + 60_000 + 1


def test_threads_end_when_nobody_lists_any_more(tmp_path: Path) -> None:
    plant_tree(tmp_path)
    which = lister(ahead=3)
    which.folder(os.fsencode(tmp_path), None)
    assert _threads_named("list-ahead") >= 3
    del which
    until = time.monotonic() + 20
    while _threads_named("list-ahead") and time.monotonic() < until:
        time.sleep(0.01)
    assert not _threads_named("list-ahead")


def _threads_named(name: str) -> int:
    gc.collect()
    count = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            count += Path(f"/proc/self/task/{task}/comm").read_text().strip() == name
    return count
