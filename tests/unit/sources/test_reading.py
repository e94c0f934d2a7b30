"""Many small files read at once: the same contents, counts and problems as one by one, whatever happens to them."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cto_backups.core.model import Fingerprint
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources import walking
from cto_backups.sources.ledger import Ledger, sample_key
from cto_backups.sources.tree import FileTree

OLD = 1_600_000_000_000_000_000
AsUser = Callable[[], AbstractContextManager[None]]


class Captured:
    """The files of one folder, listed, and the ledger that counts them."""

    def __init__(self, top: Path, *, captured_ns: int = 2**62) -> None:
        root = os.fsencode(top)
        self.ledger = Ledger(sample_key("papers"), (root,))
        self.tree = FileTree([root], self.ledger, captured_ns=captured_ns)
        entries: Sequence[Entry] = [self.tree.root]
        for name in [b"", *root.split(b"/")[1:]]:
            (entry,) = (entry for entry in entries if entry.name == name)
            entries = self.tree.folder(entry)
        self.files = [entry for entry in entries if entry.kind is EntryKind.FILE]

    def read(self) -> list[bytes | None]:
        return self.tree.read_many(self.files)

    @property
    def fingerprint(self) -> Fingerprint:
        return self.ledger.fingerprint()

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(os.path.basename(problem.path), problem.kind) for problem in self.tree.problems]  # noqa: PTH119


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    top.mkdir()
    for name, content in {"a": b"", "b": b"b", "c": b"c" * 100_000, "d": b"d" * 3}.items():
        (top / name).write_bytes(content)
    return top


def one_by_one(top: Path) -> Captured:
    captured = Captured(top)
    for entry in captured.files:
        captured.tree.read(entry)
    return captured


def test_contents_counts_and_digests_are_those_of_reading_one_by_one(top: Path) -> None:
    os.link(top / "d", top / "again")
    captured, expected = Captured(top), one_by_one(top)
    assert captured.read() == [b"", b"ddd", b"b", b"c" * 100_000, b"ddd"]
    assert captured.fingerprint == expected.fingerprint
    assert list(captured.tree.learned) == list(expected.tree.learned)
    assert len(b"".join(captured.tree.learned)) == 5 * 48
    assert captured.tree.problems == ()


def test_nothing_is_learned_of_what_may_change_again(top: Path) -> None:
    captured = Captured(top, captured_ns=OLD)
    captured.read()
    assert list(captured.tree.learned) == []


def test_no_files_are_no_contents(top: Path) -> None:
    assert Captured(top).tree.read_many([]) == []
    assert Captured(top).tree.reuse_many([]) == []


@pytest.mark.parametrize("change", ["grown", "cut", "rewritten", "touched", "replaced", "emptied", "other mode"])
def test_a_file_that_changed_since_it_was_listed_is_taken_as_it_is_now(top: Path, change: str) -> None:
    captured = Captured(top)
    path = top / "c"
    if change == "grown":
        with path.open("ab") as out:
            out.write(b"more")
    elif change == "cut":
        os.truncate(path, 10)
    elif change == "rewritten":
        path.write_bytes(b"C" * 100_000)
    elif change == "touched":
        os.utime(path, ns=(OLD, OLD))
    elif change == "replaced":
        (top / "new").write_bytes(b"n" * 100_000)
        os.utime(top / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        (top / "new").replace(path)
    elif change == "emptied":
        path.write_bytes(b"")
    else:
        path.chmod(0o600)
    assert captured.read() == [b"", b"b", path.read_bytes(), b"ddd"]
    assert captured.tree.problems == ()
    status = path.stat()
    entry = captured.files[2]
    assert (entry.size, entry.mtime_ns, entry.mode) == (status.st_size, status.st_mtime_ns, status.st_mode)
    files = {name: captured.fingerprint.counts[name] for name in ("files", "bytes")}
    assert files == {"files": 4, "bytes": status.st_size + 4}
    assert captured.fingerprint.checksums["content"] == one_by_one(top).fingerprint.checksums["content"]


def test_what_cannot_be_read_is_noted_in_order_and_does_not_count(top: Path) -> None:
    captured = Captured(top)
    for name in "abc":
        (top / name).unlink()
    (top / "b").mkdir()
    os.mkfifo(top / "c")
    assert captured.read() == [None, None, None, b"ddd"]
    assert captured.kinds == [("a", "vanished"), ("b", "unreadable"), ("c", "changed-while-read")]
    assert captured.fingerprint.counts["files"] == 1
    assert len(b"".join(captured.tree.learned)) == 48


def test_what_may_not_be_read_is_noted(open_place: Path, ordinary_user: AsUser) -> None:
    (open_place / "closed").write_text("x")
    (open_place / "open").write_text("y")
    (open_place / "closed").chmod(0)
    with ordinary_user():
        captured = Captured(open_place)
        assert captured.read() == [None, b"y"]
    assert captured.kinds == [("closed", "permission")]


def test_access_times_stay_where_that_is_allowed(open_place: Path, ordinary_user: AsUser) -> None:
    path = open_place / "x"
    path.write_text("x")
    os.utime(path, ns=(OLD, OLD + 5))
    captured = Captured(open_place)
    assert captured.read() == [b"x"]
    assert path.stat().st_atime_ns == OLD
    captured = Captured(open_place)  # by who was allowed to, when it was listed
    with ordinary_user():
        assert captured.read() == [b"x"]
    assert captured.tree.problems == ()


def test_files_that_do_not_say_their_size_are_read_whole() -> None:
    captured = Captured(Path("/proc/sys/kernel/random"))
    boot = captured.files[[entry.name for entry in captured.files].index(b"boot_id")]
    content = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    assert captured.tree.read_many([boot]) == [content]
    assert boot.size == len(content)


def test_no_descriptor_stays_open(top: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    captured = Captured(top)
    (top / "b").unlink()
    (top / "c").write_text("changed")
    captured.read()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_with_a_hostile_name_is_read(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n\\x"
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    assert Captured(tmp_path).read() == [b""]


def test_threads_read_every_file_once(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    captured, expected = Captured(tmp_path), one_by_one(tmp_path)
    contents: list[bytes | None] = []
    threads = [
        threading.Thread(target=lambda part: contents.extend(captured.tree.read_many(part)), args=(part,))
        for part in (captured.files[start::6] for start in range(6))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {int(content or b"") for content in contents} == set(range(600))
    assert captured.fingerprint == expected.fingerprint


# -- everything at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_walking_reads_everything_small_and_large(top: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub" / "deep" / "large").write_bytes(os.urandom(3 << 20))
    (top / "sub" / "limit").write_bytes(b"x" * (1 << 20))
    (top / "link").symlink_to("a")
    monkeypatch.setattr(walking, "_BATCH_FILES", batch)
    root = os.fsencode(top)
    ledger = Ledger(sample_key("papers"), (root,))
    FileTree([root], ledger).walk()
    expected = Ledger(sample_key("papers"), (root,))
    tree = FileTree([root], expected)
    folders = [tree.root]
    while folders:
        for entry in tree.folder(folders.pop()):
            if entry.kind is EntryKind.FOLDER:
                folders.append(entry)
            elif entry.kind is EntryKind.FILE:
                tree.read(entry)
    assert ledger.fingerprint() == expected.fingerprint()
    assert ledger.fingerprint().counts["files"] == 6


def test_walking_leaves_out_what_cannot_be_read(open_place: Path, ordinary_user: AsUser) -> None:
    (open_place / "large").write_bytes(b"x" * (2 << 20))
    (open_place / "small").write_text("x")
    (open_place / "kept").write_text("x")
    for name in ("large", "small"):
        (open_place / name).chmod(0)
    with ordinary_user():
        ledger = Ledger(b"", ())
        tree = FileTree([os.fsencode(open_place)], ledger)
        tree.walk()
    assert {problem.kind for problem in tree.problems} == {"permission"}
    assert ledger.fingerprint().counts["files"] == 1


def test_an_error_while_walking_comes_through(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[bytes | None]:
        raise MemoryError

    tree = FileTree([os.fsencode(top)], Ledger(b"", ()))
    monkeypatch.setattr(tree, "read_many", broken)
    with pytest.raises(MemoryError):
        tree.walk()
