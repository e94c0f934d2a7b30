"""What the files source keeps, leaves out, remembers, and says when something cannot be read."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.points import MemoryPoint, read_in_blocks

from cto_backups._native import Lister
from cto_backups.core.model import Problem
from cto_backups.core.trees import Entry, EntryKind, EntryUnreadableError
from cto_backups.errors import PolicyError, SourceError
from cto_backups.sources import digests
from cto_backups.sources import tree as tree_module
from cto_backups.sources.files import FilesSource

OLD = 1_600_000_000_000_000_000
AsUser = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    top.mkdir()
    return top


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def source(state: Path, *paths: Path, **options: object) -> FilesSource:
    return FilesSource("papers", {"paths": tuple(map(str, paths)), **options}, state=state)


def taken(which: FilesSource, below: Path) -> set[str]:
    """Everything that was captured below a folder, by relative path."""
    with which.capture() as capture:
        point = MemoryPoint.of(capture.tree)
    prefix = os.fsencode(below) + b"/"
    return {os.fsdecode(path[len(prefix) :]) for path in point.entries if path.startswith(prefix)}


def problems(which: FilesSource) -> tuple[tuple[Problem, ...], MemoryPoint]:
    with which.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        return capture.problems, point


def plant(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(name)


def age(*paths: Path) -> None:
    """Let files look settled: written to long ago (their ctime is now; tests that need it wait for no clock)."""
    for path in paths:
        os.utime(path, ns=(OLD, OLD))


@contextmanager
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if every file had been written long before the capture began."""
    with monkeypatch.context() as patch:
        patch.setattr(tree_module, "_RACY_NS", -(10**12))
        yield


# -- which entries --------------------------------------------------------------------------------------------------


def test_the_tree_holds_the_whole_way_from_the_top(top: Path, state: Path) -> None:
    plant(top, "a/x")
    with source(state, top / "a").capture() as capture:
        assert capture.paths == (str(top / "a"),)
        assert not capture.staged
        point = MemoryPoint.of(capture.tree)
    expected = [os.fsencode(path) for path in (top / "a" / "x", top / "a", *top.parents[:-1], top)]
    assert sorted(point.entries) == sorted(expected)
    assert point.entries[os.fsencode(top)][0].mode == top.stat().st_mode


def test_several_paths_merge_and_one_within_another_counts_once(top: Path, state: Path) -> None:
    plant(top, "a/x", "b/y", "c/z")
    which = source(state, top / "a", top / "b", top / "a" / "x", top / "b/")
    assert taken(which, top) == {"a", "a/x", "b", "b/y"}


def test_a_single_file_can_be_protected(top: Path, state: Path) -> None:
    plant(top, "a/x", "a/y")
    assert taken(source(state, top / "a" / "x"), top) == {"a", "a/x"}


def test_a_path_that_is_a_link_keeps_the_link_and_what_it_points_to(top: Path, state: Path) -> None:
    plant(top, "real/x")
    (top / "link").symlink_to("real")
    which = source(state, top / "link")
    assert taken(which, top) == {"link", "real", "real/x"}


def test_a_path_through_a_link_is_kept_where_it_really_is(top: Path, state: Path) -> None:
    plant(top, "real/x")
    (top / "link").symlink_to("real")
    assert taken(source(state, top / "link" / "x"), top) == {"real", "real/x"}


def test_links_are_never_followed(top: Path, state: Path, tmp_path: Path) -> None:
    plant(tmp_path, "outside/secret")
    (top / "out").symlink_to(tmp_path / "outside")
    (top / "self").symlink_to(".")
    with source(state, top).capture() as capture:
        point = MemoryPoint.of(capture.tree)
    assert point.entries[os.fsencode(top / "out")][0].linktarget == os.fsencode(tmp_path / "outside")
    assert taken(source(state, top), top) == {"out", "self"}


def test_excluded_names_and_paths_are_left_out(top: Path, state: Path) -> None:
    plant(top, "keep", "x.tmp", "sub/y.tmp", "sub/cache/z", "cache", "state/s", "sub/state/s")
    which = source(state, top, exclude=("*.tmp", "cache/", str(top / "state")))
    assert taken(which, top) == {"keep", "sub", "cache", "sub/state", "sub/state/s"}


def test_a_configured_path_counts_even_when_a_pattern_names_what_is_above_it(top: Path, state: Path) -> None:
    plant(top, "cache/keep/x", "cache/drop")
    which = source(state, top, top / "cache" / "keep", exclude=("cache",))
    assert taken(which, top) == {"cache", "cache/keep", "cache/keep/x"}
    point, expected = _captured(which)
    point.restore(state.parent / "restored")
    assert which.probe(state.parent / "restored", expected).counts == expected.counts


def test_include_keeps_only_the_files_that_are_named(top: Path, state: Path) -> None:
    plant(top, "a.pdf", "a.doc", "deep/b.pdf", "deep/b.doc", "contracts/c.doc", "contracts/sub/d.doc")
    which = source(state, top, include=("*.pdf", "contracts/"))
    files = {name for name in taken(which, top) if "." in name}
    assert files == {"a.pdf", "deep/b.pdf", "contracts/c.doc", "contracts/sub/d.doc"}


def test_marked_caches_are_left_out_only_when_asked_for(top: Path, state: Path) -> None:
    plant(top, "c/junk", "d/CACHEDIR.TAG", "d/kept")
    (top / "c" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# a comment")
    everything = {"c", "c/junk", "c/CACHEDIR.TAG", "d", "d/CACHEDIR.TAG", "d/kept"}
    assert taken(source(state, top), top) == everything
    assert taken(source(state, top, exclude_caches=True), top) == everything - {"c/junk"}


def test_other_file_systems_are_left_out_when_asked_for(
    top: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(top, "here", "mnt/there", "mnt/sub/more")

    class Elsewhere:
        def __init__(self, *arguments: object) -> None:
            self.lister = Lister(*arguments)  # type: ignore[arg-type]

        def folder(self, *arguments: object) -> object:
            entries, troubles = self.lister.folder(*arguments)  # type: ignore[arg-type]
            return [self._moved(entry) for entry in entries], troubles

        def one(self, *arguments: object) -> object:
            entry, troubles = self.lister.one(*arguments)  # type: ignore[arg-type]
            return self._moved(entry), troubles

        def _moved(self, entry: Entry) -> Entry:
            entry.device_id += b"/mnt" in entry.path
            return entry

    monkeypatch.setattr(tree_module, "Lister", Elsewhere)
    assert taken(source(state, top), top) == {"here", "mnt", "mnt/there", "mnt/sub", "mnt/sub/more"}
    assert taken(source(state, top, one_file_system=True), top) == {"here", "mnt"}
    named = source(state, top, top / "mnt", one_file_system=True)
    assert taken(named, top) == {"here", "mnt", "mnt/there", "mnt/sub", "mnt/sub/more"}


def test_the_whole_machine_can_be_protected(state: Path) -> None:
    with source(state, Path("/")).capture() as capture:
        assert capture.paths == ("/",)
        names = [entry.name for entry in capture.tree.folder(capture.tree.root)]
    assert set(names) == {os.fsencode(path.name) for path in Path("/").iterdir()}


def test_every_kind_of_entry_is_told_apart(top: Path, state: Path) -> None:
    plant(top, "file", "folder/")
    os.mkfifo(top / "fifo")
    (top / "link").symlink_to("file")
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(top)  # a socket's path may not be long
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
        server.close()
    with source(state, top).capture() as capture:
        point = MemoryPoint.of(capture.tree)
        assert capture.fingerprint().counts == {"files": 1, "folders": 2, "symlinks": 1, "others": 1, "bytes": 4}
    kinds = {path.rpartition(b"/")[2].decode(): entry.kind for path, (entry, _) in point.entries.items()}
    assert {name: kinds[name] for name in ("file", "folder", "fifo", "link", "socket")} == {
        "file": EntryKind.FILE,
        "folder": EntryKind.FOLDER,
        "fifo": EntryKind.FIFO,
        "link": EntryKind.SYMLINK,
        "socket": EntryKind.SOCKET,
    }


@pytest.mark.root
def test_devices_are_kept_by_their_numbers(top: Path, state: Path, tmp_path: Path) -> None:
    os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    os.mknod(top / "loop", 0o60660, os.makedev(7, 0))
    point, expected = _captured(source(state, top))
    assert expected.counts["others"] == 2
    point.restore(tmp_path / "restored")
    assert source(state, top).probe(tmp_path / "restored", expected) == expected
    null = tmp_path / "restored" / str(top / "null").lstrip("/")
    null.unlink()
    os.mknod(null, 0o20666, os.makedev(1, 5))
    os.utime(null, ns=((top / "null").stat().st_mtime_ns,) * 2)
    wrong = source(state, top).probe(tmp_path / "restored", expected)
    assert wrong.checksums["content"] != expected.checksums["content"]


@pytest.mark.root
def test_owners_are_compared(top: Path, state: Path, tmp_path: Path) -> None:
    plant(top, "x")
    os.chown(top / "x", 1234, 4321)
    point, expected = _captured(source(state, top))
    point.restore(tmp_path / "restored")
    os.chown(tmp_path / "restored" / str(top / "x").lstrip("/"), 0, 0)
    found = source(state, top).probe(tmp_path / "restored", expected)
    assert {name for name, value in expected.checksums.items() if found.checksums[name] != value} == {"ownership"}


def test_owners_cannot_be_compared_by_an_ordinary_user(top: Path, state: Path, ordinary_user: AsUser) -> None:
    plant(top, "x")
    _, expected = _captured(source(state, top))
    with ordinary_user():
        assert set(source(state, top).incomparable(expected)) == {"ownership"}


def test_extended_attributes_are_kept(top: Path, state: Path, tmp_path: Path) -> None:
    plant(top, "x")
    try:
        os.setxattr(top / "x", "user.origin", b"\0\xff")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    point, expected = _captured(source(state, top))
    assert point.entries[os.fsencode(top / "x")][0].extended == ((b"user.origin", b"\0\xff"),)
    point.restore(tmp_path / "restored")
    os.removexattr(tmp_path / "restored" / str(top / "x").lstrip("/"), "user.origin")
    found = source(state, top).probe(tmp_path / "restored", expected)
    assert found.checksums["extended"] != expected.checksums["extended"]


# -- what cannot be read --------------------------------------------------------------------------------------------


def test_a_missing_path_is_noted_when_others_are_there(top: Path, state: Path) -> None:
    plant(top, "x")
    noted, point = problems(source(state, top, top.parent / "gone"))
    assert noted == (Problem(str(top.parent / "gone"), "vanished", "No such file or directory"),)
    assert os.fsencode(top / "x") in point.entries


def test_when_no_path_is_there_nothing_is_captured(top: Path, state: Path) -> None:
    with pytest.raises(SourceError, match=r"papers.*nothing to back up.*gone"), source(state, top / "gone").capture():
        pass
    with pytest.raises(SourceError, match="no path is configured"), source(state).capture():
        pass


def test_an_empty_source_is_captured_and_counted(top: Path, state: Path) -> None:
    _, expected = _captured(source(state, top))
    assert expected.counts["files"] == 0
    assert expected.counts["folders"] == 1


def test_what_may_not_be_read_is_noted_and_the_rest_is_kept(open_place: Path, ordinary_user: AsUser) -> None:
    top = open_place / "top"
    plant(top, "open", "closed", "shut/x")
    (top / "closed").chmod(0)
    (top / "shut").chmod(0)
    with ordinary_user():
        (open_place / "state").mkdir()
        noted, point = problems(source(open_place / "state", top))
    (top / "shut").chmod(0o700)
    assert {(problem.path, problem.kind) for problem in noted} == {
        (str(top / "closed"), "permission"),
        (str(top / "shut"), "permission"),
    }
    names = {path.rpartition(b"/")[2] for path in point.entries}
    assert {b"open", b"shut"} <= names
    assert not {b"closed", b"x"} & names


def test_unreadable_files_do_not_count_in_the_fingerprint(open_place: Path, ordinary_user: AsUser) -> None:
    top = open_place / "top"
    plant(top, "open", "closed")
    (top / "closed").chmod(0)
    with ordinary_user(), source(open_place / "state", top).capture() as capture:
        MemoryPoint.of(capture.tree)
        assert capture.fingerprint().counts["files"] == 1


def test_when_nothing_may_be_read_nothing_is_captured(open_place: Path, ordinary_user: AsUser) -> None:
    top = open_place / "top"
    plant(top, "x")
    top.chmod(0)
    with (
        ordinary_user(),
        pytest.raises(SourceError, match="none of its paths can be read"),
        source(open_place / "state", top).capture(),
    ):
        pass
    top.chmod(0o700)


def test_a_file_that_vanishes_after_it_was_listed_is_noted(top: Path, state: Path) -> None:
    plant(top, "x", "y")
    with source(state, top).capture() as capture:
        x, _ = _below(capture.tree, top)
        (top / "x").unlink()
        with pytest.raises(EntryUnreadableError):
            capture.tree.read(x)
        with pytest.raises(EntryUnreadableError):
            capture.tree.open(x)
        assert [problem.kind for problem in capture.problems] == ["vanished", "vanished"]
        assert capture.fingerprint().counts["files"] == 0


def test_of_many_files_read_at_once_those_that_cannot_be_read_are_noted(top: Path, state: Path) -> None:
    plant(top, "a", "gone", "link", "pipe", "z")
    with source(state, top).capture() as capture:
        files = _below(capture.tree, top)
        for name in ("gone", "link", "pipe"):
            (top / name).unlink()
        (top / "link").symlink_to("a")
        os.mkfifo(top / "pipe")
        assert capture.tree.read_many(files) == [b"a", None, None, None, b"z"]
        assert [(problem.path, problem.kind) for problem in capture.problems] == [
            (str(top / "gone"), "vanished"),
            (str(top / "link"), "changed-while-read"),
            (str(top / "pipe"), "changed-while-read"),
        ]
        assert capture.fingerprint().counts["files"] == 2


def test_a_fifo_in_the_place_of_a_file_does_not_block(top: Path, state: Path) -> None:
    plant(top, "x")
    with source(state, top).capture() as capture:
        (x,) = _below(capture.tree, top)
        (top / "x").unlink()
        os.mkfifo(top / "x")
        for read in (capture.tree.read, capture.tree.open):
            with pytest.raises(EntryUnreadableError):
                read(x)
        assert {problem.kind for problem in capture.problems} == {"changed-while-read"}


def test_a_link_in_the_place_of_a_file_is_not_followed(top: Path, state: Path, tmp_path: Path) -> None:
    plant(tmp_path, "secret")
    plant(top, "x")
    with source(state, top).capture() as capture:
        (x,) = _below(capture.tree, top)
        (top / "x").unlink()
        (top / "x").symlink_to(tmp_path / "secret")
        with pytest.raises(EntryUnreadableError):
            capture.tree.read(x)
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]


def test_a_read_error_is_noted(top: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(top, "x")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with source(state, top).capture() as capture:
        (x,) = _below(capture.tree, top)
        monkeypatch.setattr(os, "read", broken)
        monkeypatch.setattr(os, "readv", broken)
        with pytest.raises(EntryUnreadableError):
            capture.tree.read(x)
        reader = capture.tree.open(x)
        with pytest.raises(EntryUnreadableError):
            reader.readinto(memoryview(bytearray(10)))
        reader.close()
        assert [(problem.kind, problem.detail) for problem in capture.problems] == [
            ("unreadable", "Input/output error")
        ] * 2
        assert capture.fingerprint().counts["files"] == 0


# -- what changes meanwhile -----------------------------------------------------------------------------------------


def test_a_file_rewritten_after_it_was_listed_is_kept_as_it_is_now(top: Path, state: Path, tmp_path: Path) -> None:
    plant(top, "x", "y")
    which = source(state, top)
    with which.capture() as capture:
        x, y = _below(capture.tree, top)
        (top / "x").write_text("something much longer than before")
        (top / "y").write_text("also changed")
        assert capture.tree.read(x) == b"something much longer than before"
        assert read_in_blocks(capture.tree, y, 5) == b"also changed"
        assert (x.size, x.mtime_ns) == (33, (top / "x").stat().st_mtime_ns)
        assert (y.size, y.mtime_ns) == (12, (top / "y").stat().st_mtime_ns)
        assert capture.problems == ()
        expected = capture.fingerprint()
    assert _captured(which)[1] == expected


def test_a_file_that_never_holds_still_is_kept_and_noted(
    top: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(top, "x")
    reads: list[bytes] = []
    real = os.read

    def read(descriptor: int, length: int) -> bytes:
        if real_content := real(descriptor, length):
            reads.append(real_content)
            (top / "x").write_text(str(len(reads)) * 8)
        return real_content

    with source(state, top).capture() as capture:
        (x,) = _below(capture.tree, top)
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            content = capture.tree.read(x)
        assert reads == [b"x", b"1" * 8, b"2" * 8]
        assert content == b"2" * 8
        assert x.size == 8
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]
        assert (capture.fingerprint().counts["files"], capture.fingerprint().counts["bytes"]) == (1, 8)
        capture.stored()
    assert len(digests.load(state / "sources" / "papers" / "digests")) == 0


def test_a_file_that_grows_faster_than_it_is_read_comes_to_an_end(
    top: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(top, "x")
    monkeypatch.setattr(tree_module, "_GROWTH", 100)
    real = os.read

    def read(descriptor: int, length: int) -> bytes:
        with (top / "x").open("a") as out:
            out.write("+" * 10)
        return real(descriptor, length)

    with source(state, top).capture() as capture:
        (x,) = _below(capture.tree, top)
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            content = capture.tree.read(x)
        assert len(content) == x.size < 400
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]


def test_a_file_that_holds_more_than_its_size_says_is_read_whole(state: Path) -> None:
    with source(state, Path("/proc/sys/kernel/ostype")).capture() as capture:
        point = MemoryPoint.of(capture.tree)
        entry, content = point.entries[b"/proc/sys/kernel/ostype"]
        assert content == b"Linux\n"
        assert entry.size == 6
        assert capture.problems == ()


@pytest.mark.parametrize("change", ["grown", "cut", "rewritten", "rewritten with its time set back"])
def test_a_large_file_that_changes_under_the_reader_is_noted(top: Path, state: Path, change: str) -> None:
    (top / "big").write_bytes(b"0123456789" * 100)
    with source(state, top).capture() as capture:
        (big,) = _below(capture.tree, top)
        reader = capture.tree.open(big)
        buffer = memoryview(bytearray(100))
        content = bytes(buffer[: reader.readinto(buffer)])
        if change == "grown":
            with (top / "big").open("ab") as out:
                out.write(b"more" * 100)
        elif change == "cut":
            os.truncate(top / "big", 350)
        else:
            with (top / "big").open("r+b") as out:
                out.write(b"x")
            if change != "rewritten":
                os.utime(top / "big", ns=(big.mtime_ns, big.mtime_ns))
        while count := reader.readinto(buffer):
            content += bytes(buffer[:count])
        reader.close()
        assert len(content) == big.size == (350 if change == "cut" else 1000)
        assert [problem.kind for problem in capture.problems] == ["changed-while-read"]
        assert capture.fingerprint().counts["bytes"] == big.size


def test_a_large_file_counts_only_when_it_was_read_to_its_end(top: Path, state: Path) -> None:
    (top / "big").write_bytes(b"0123456789" * 100)
    with source(state, top).capture() as capture:
        (big,) = _below(capture.tree, top)
        reader = capture.tree.open(big)
        reader.readinto(memoryview(bytearray(100)))
        reader.close()
        reader.close()
        assert capture.fingerprint().counts["files"] == 0


# -- what is remembered ---------------------------------------------------------------------------------------------


def test_unchanged_files_are_known_the_next_time(top: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(top, "a", "b", "sub/c")
    with settled(monkeypatch):
        first, expected = _captured(source(state, top), stored=True)
        second, again = _captured(source(state, top), known=first, stored=True)
        third, _ = _captured(source(state, top), known=first)
    assert again == expected
    assert (first.reused, second.reused, third.reused) == (0, 3, 3)


@pytest.mark.parametrize("change", ["content", "touched", "replaced", "renamed"])
def test_a_changed_file_is_not_known(top: Path, state: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    plant(top, "a", "b")
    with settled(monkeypatch):
        first, _ = _captured(source(state, top), stored=True)
        status = (top / "a").stat()
        if change == "content":
            (top / "a").write_text("A")
            os.utime(top / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
        elif change == "touched":
            age(top / "a")
        elif change == "replaced":
            (top / "new").write_text("a")
            os.utime(top / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
            (top / "new").replace(top / "a")
        else:
            (top / "a").rename(top / "b")
        second, _ = _captured(source(state, top), known=first)
    assert second.reused == (0 if change == "renamed" else 1)
    content = b"A" if change == "content" else b"a"
    assert second.entries[os.fsencode(top / ("b" if change == "renamed" else "a"))][1] == content


def test_files_written_just_before_the_capture_are_not_trusted(top: Path, state: Path) -> None:
    plant(top, "a")
    age(top / "a")
    first, _ = _captured(source(state, top), stored=True)
    second, _ = _captured(source(state, top), known=first)
    assert second.reused == 0


def test_nothing_is_remembered_of_a_capture_that_was_not_stored(
    top: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(top, "a")
    with settled(monkeypatch):
        first, _ = _captured(source(state, top), stored=False)
        second, _ = _captured(source(state, top), known=first)
    assert second.reused == 0


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_memory_means_reading_again(
    top: Path, state: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    plant(top, "a")
    with settled(monkeypatch):
        first, expected = _captured(source(state, top), stored=True)
        memory = state / "sources" / "papers" / "digests"
        if damage is None:
            memory.unlink()
        else:
            memory.write_bytes(damage)
        second, again = _captured(source(state, top), known=first)
    assert again == expected
    assert second.reused == 0


def test_an_unchanged_file_is_never_opened(top: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(top, "a")
    with settled(monkeypatch):
        first, _ = _captured(source(state, top), stored=True)
        opened: list[object] = []
        with monkeypatch.context() as patch:
            real = os.open
            patch.setattr(os, "open", lambda path, *rest: opened.append(path) or real(path, *rest))
            second, _ = _captured(source(state, top), known=first)
    assert second.reused == 1
    assert os.fsencode(top / "a") not in opened


def test_reading_does_not_touch_the_access_time(top: Path, state: Path) -> None:
    plant(top, "a")
    os.utime(top / "a", ns=(OLD, OLD + 5))
    _captured(source(state, top))
    assert (top / "a").stat().st_atime_ns == OLD


def test_many_threads_count_every_entry_once(top: Path, state: Path) -> None:
    plant(top, *(f"{number % 7}/{number}" for number in range(300)))
    which = source(state, top)
    _, expected = _captured(which)
    with which.capture() as capture:
        files: list[Entry] = []
        pending = [capture.tree.root]
        while pending:
            for entry in capture.tree.folder(pending.pop()):
                (pending if entry.kind is EntryKind.FOLDER else files).append(entry)
        threads = [
            threading.Thread(target=lambda part: [capture.tree.read(entry) for entry in part], args=(files[start::8],))
            for start in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert capture.fingerprint() == expected


# -- the rest -------------------------------------------------------------------------------------------------------


def test_discover_lists_the_paths_that_are_there(top: Path, state: Path) -> None:
    plant(top, "x")
    found = source(state, top, top / "x", top / "gone").discover()
    assert [(resource.name, resource.size_bytes) for resource in found] == [
        (f"files:{top}", None),
        (f"files:{top / 'x'}", 1),
    ]


def test_in_place_means_where_it_came_from(top: Path, state: Path) -> None:
    plant(top, "x", "sub/y")
    which = source(state, top)
    point, expected = _captured(which)
    (top / "x").unlink()
    (top / "sub" / "y").unlink()
    top.parent.chmod(0o751)
    plan = which.plan_restore(point, None)
    assert (plan.destination, plan.entries) == (Path("/"), 4)
    which.restore(point, None)
    assert _captured(which)[1] == expected
    assert top.parent.stat().st_mode & 0o777 == 0o751, "folders above belong to others"


def test_in_place_where_even_the_folders_above_are_gone_brings_them_back(tmp_path: Path, state: Path) -> None:
    plant(tmp_path, "srv/data/x")
    (tmp_path / "srv").chmod(0o750)
    which = source(state, tmp_path / "srv" / "data")
    point, _ = _captured(which)
    (tmp_path / "srv").rename(tmp_path / "lost")
    writes: list[Sequence[str]] = []
    point.restore = lambda place, *, only, **_: writes.append(only)  # type: ignore[assignment,misc]
    which.restore(point, None)
    assert writes == [()]


def test_in_place_brings_back_what_the_policy_no_longer_names(top: Path, state: Path) -> None:
    plant(top, "a/x", "b/y")
    point, _ = _captured(source(state, top / "a", top / "b"))
    assert source(state, top / "a").plan_restore(point, None).entries == len(point.entries)
    assert source(state, top / "a", top / "b").plan_restore(point, None).entries == 4


@pytest.mark.parametrize("options", [{"paths": "x"}, {"paths": ["/x"], "exclude": [3]}, {"one_file_system": "maybe"}])
def test_wrong_options_are_a_mistake_in_the_policy(state: Path, options: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        FilesSource("papers", options, state=state)


def _captured(which: FilesSource, *, stored: bool = False, known: MemoryPoint | None = None):  # type: ignore[no-untyped-def]
    with which.capture() as capture:
        point = MemoryPoint.of(capture.tree, known=known)
        if stored:
            capture.stored()
        assert capture.problems == ()
        return point, capture.fingerprint()


def _below(tree: object, folder: Path) -> Sequence[Entry]:
    """The entries in a folder, by way of the whole tree."""
    entries: Sequence[Entry] = [tree.root]  # type: ignore[attr-defined]
    for part in [b"", *os.fsencode(folder).split(b"/")[1:]]:
        entry = next(entry for entry in entries if entry.name == part)
        entries = tree.folder(entry)  # type: ignore[attr-defined]
    return entries


# -- how new it is


def newest_content_at(which: FilesSource) -> datetime | None:
    with which.capture() as capture:
        MemoryPoint.of(capture.tree)
        return capture.newest_content_at


def dated(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()))


def test_files_are_as_new_as_the_newest_that_is_taken(top: Path, state: Path) -> None:
    plant(top, "deep/below/new", "old", "left-out")
    new, old = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    dated(top / "deep" / "below" / "new", new)
    dated(top / "old", old)
    which = source(state, top, exclude=("left-out",))
    assert newest_content_at(which) == new
    assert newest_content_at(which) == new, "nor when nothing is to be read again"
    assert newest_content_at(source(state, top / "old")) == old, "a file that was itself named"


def test_folders_alone_have_no_content(top: Path, state: Path) -> None:
    plant(top, "empty/")
    assert newest_content_at(source(state, top)) is None


def test_a_file_that_was_itself_named_tells_when_it_was_changed(top: Path, state: Path) -> None:
    plant(top, "one")
    dated(top / "one", datetime(2025, 1, 1, tzinfo=UTC))
    (top / "link").symlink_to("nowhere")
    found = {resource.location: resource.changed_at for resource in source(state, top / "one", top / "link").discover()}
    changed = found.pop(str(top / "one"))
    assert changed is not None
    assert changed.year > 2025
    assert list(found.values()) == [None]
    assert source(state, top).discover()[0].changed_at is None, "a folder's content is not looked at"
