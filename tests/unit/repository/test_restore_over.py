"""Restoring over what stands there: what is read, what is written, what is noticed."""

import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.memory import MemoryTree
from fakes.stored import Stored

from cto_backups import _native
from cto_backups.core.ports import RestoreOptions
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import RestoreError, VaultError, VaultMissingError
from cto_backups.repository.readback import ReadBack

LARGE = random.Random(8).randbytes(12 << 20)
CONTENT = {b"large": LARGE, b"folder": {b"small": b"small"}}
NOBODY = 65534
PATCH = RestoreOptions(patch=True)
VERIFY = RestoreOptions(verify=True)


@pytest.fixture
def stored() -> Stored:
    return Stored(MemoryTree(CONTENT))


def spoil(path: Path, at: int, what: bytes = b"spoilt") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


def test_only_packs_that_hold_what_differs_are_read(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    all_of_it = stored.packs_read
    spoil(tmp_path / "large", 6 << 20)
    restored = stored.restore(tmp_path)
    assert (tmp_path / "large").read_bytes() == LARGE
    assert stored.packs_read < all_of_it / 2
    assert len(LARGE) * 0.5 < restored.kept_bytes < len(LARGE)
    stored.restore(tmp_path)
    assert stored.packs_read == 1, "the tree, and nothing else"


def test_patching_writes_into_the_standing_file(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    spoil(tmp_path / "large", 6 << 20)
    inode = (tmp_path / "large").stat().st_ino
    assert not stored.restore(tmp_path, PATCH).problems
    assert (tmp_path / "large").read_bytes() == LARGE
    assert (tmp_path / "large").stat().st_ino == inode
    spoil(tmp_path / "large", 6 << 20)
    assert not stored.restore(tmp_path).problems
    assert (tmp_path / "large").stat().st_ino != inode


def test_zeros_are_written_over_what_stands_there(tmp_path: Path) -> None:
    stored = Stored(MemoryTree({b"zeros": LARGE[: 4 << 20] + bytes(6 << 20) + b"end"}))
    stored.restore(tmp_path)
    spoil(tmp_path / "zeros", 5 << 20, b"x" * (2 << 20))
    stored.restore(tmp_path, PATCH)
    assert (tmp_path / "zeros").read_bytes() == LARGE[: 4 << 20] + bytes(6 << 20) + b"end"


def test_a_patched_file_that_cannot_be_completed_is_not_removed(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    spoil(tmp_path / "large", 6 << 20)

    def gone(operation: str, key: str) -> None:
        if operation == "read" and "/data/" in key and stored.packs_read > 1:
            raise VaultError("the vault fails")

    stored.vault.before = gone
    restored = stored.restore(tmp_path, PATCH)
    assert {(problem.path, problem.kind) for problem in restored.problems} == {("/large", "missing")}
    assert (tmp_path / "large").stat().st_size == len(LARGE)


def test_a_vault_that_is_gone_is_not_asked_again_and_again(tmp_path: Path) -> None:
    content = {b"%d" % number: random.Random(number).randbytes(400_000) for number in range(30)}
    stored = Stored(MemoryTree(content))

    def gone(operation: str, key: str) -> None:
        if (operation == "read" and "/data/" in key and stored.packs_read > 2) or (
            operation == "check" and stored.packs_read > 2
        ):
            raise VaultMissingError("the vault is away")

    stored.vault.before = gone
    restored = stored.restore(tmp_path)
    assert restored.problems and {problem.kind for problem in restored.problems} == {"missing"}
    assert len(restored.problems) + sum(path.is_file() for path in tmp_path.iterdir()) == 30
    assert stored.packs_read <= 2 + 3 * 2


def test_what_another_restore_is_writing_is_left_alone(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as other:
        theirs = tmp_path / f".cto-backups-restore-{other.pid:08x}89abcdef"
        theirs.write_bytes(b"half")
        stored.restore(tmp_path)
        assert theirs.exists()
        other.kill()
        other.wait()
    stored.restore(tmp_path)
    assert not theirs.exists(), "whoever wrote it is gone"


def test_what_a_killed_restore_left_is_removed(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    for folder in (tmp_path, tmp_path / "folder"):
        (folder / ".cto-backups-restore-0123456789abcdef").write_bytes(b"half")
        (folder / ".cto-backups-restore-notes").write_bytes(b"a person's")
    stored.restore(tmp_path)
    assert {path.name for path in tmp_path.rglob(".*")} == {".cto-backups-restore-notes"}


def test_a_standing_file_that_changes_after_it_was_compared_is_not_taken_over(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.restore(tmp_path)
    spoil(tmp_path / "large", 6 << 20)
    take_over = _native.take_over

    def late(*arguments: object) -> object:
        spoil(tmp_path / "large", 1 << 20, b"meanwhile")
        return take_over(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_native, "take_over", late)
    stored.restore(tmp_path)
    assert (tmp_path / "large").read_bytes() == LARGE


def test_full_disks_stop_a_patching_restore(stored: Stored, tmp_path: Path) -> None:
    stored.restore(tmp_path)
    spoil(tmp_path / "large", 6 << 20)
    _native.inject_fault("restoring", 100_000)
    try:
        with pytest.raises(RestoreError, match="did not complete"):
            stored.restore(tmp_path, PATCH)
    finally:
        _native.inject_fault(None)
    assert (tmp_path / "large").exists()


class TestVerifying:
    def test_content_that_a_broken_writer_wrote_is_found(self, stored: Stored, tmp_path: Path) -> None:
        _native.inject_fault("reading", 100_000)
        try:
            assert not stored.restore(tmp_path / "unseen").problems
            restored = stored.restore(tmp_path / "seen", VERIFY)
        finally:
            _native.inject_fault(None)
        (problem,) = restored.problems
        assert (problem.path, problem.kind) == ("/large", "altered")
        assert "content" in problem.detail

    @pytest.mark.parametrize(
        ("path", "alter", "word"),
        [
            ("/large", lambda root: spoil(root / "large", 11 << 20), "content"),
            ("/large", lambda root: spoil(root / "large", len(LARGE)), "content"),
            ("/large", lambda root: (root / "large").unlink(), "No such file"),
            ("/folder/small", lambda root: (root / "folder/small").chmod(0o777), "mode"),
            ("/folder/small", lambda root: os.utime(root / "folder/small", ns=(1, 1)), "time"),
            ("/folder/small", lambda root: os.setxattr(root / "folder/small", "user.x", b"y"), "extended attribute"),
            ("/folder", lambda root: (root / "folder").chmod(0o700), "mode"),
            (
                "/folder/small",
                lambda root: ((root / "folder/small").unlink(), (root / "folder/small").symlink_to("x")),
                "something else",
            ),
        ],
    )
    def test_whatever_is_not_as_it_was_written_is_named(
        self,
        stored: Stored,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        path: str,
        alter: Callable[[Path], object],
        word: str,
    ) -> None:
        run = ReadBack.run

        def late(self: ReadBack, *arguments: object) -> None:
            times = (tmp_path / "folder").stat()
            alter(tmp_path)
            os.utime(tmp_path / "folder", ns=(times.st_mtime_ns, times.st_mtime_ns))
            run(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ReadBack, "run", late)
        problems = stored.restore(tmp_path, VERIFY).problems
        assert [(problem.path, problem.kind) for problem in problems] == [(path, "altered")]
        assert word in problems[0].detail


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[Path]:
    """A folder of an ordinary user, who this process is meanwhile."""
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    place = tmp_path / "nobody"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield place
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.root
class TestAsAnOrdinaryUser:
    def test_what_only_root_may_restore_is_a_note(self, as_nobody: Path) -> None:
        theirs = Entry(
            *(b"", b"", EntryKind.FILE, stat.S_IFREG | 0o640),
            uid=1234,
            gid=1234,
            size=4,
            mtime_ns=10**18,
            extended=((b"trusted.x", b"y"), (b"user.x", b"y")),
        )
        tree = MemoryTree({b"folder": {b"theirs": theirs, b"more": b"more"}})
        tree.data = {b"/folder/theirs": b"data"}
        restored = Stored(tree).restore(as_nobody, VERIFY)
        assert restored.problems == ()
        assert len(restored.notes) == 2
        assert "Owners" in restored.notes[0] and "1 extended attribute " in restored.notes[1]
        assert (as_nobody / "folder/theirs").read_bytes() == b"data"
        assert os.getxattr(as_nobody / "folder/theirs", "user.x") == b"y"

    def test_folders_of_others_keep_their_attributes_and_get_their_content(self, as_nobody: Path) -> None:
        os.seteuid(0)
        (as_nobody / "folder").mkdir()
        (as_nobody / "folder").chmod(0o777)
        os.seteuid(NOBODY)
        restored = Stored(MemoryTree(CONTENT)).restore(as_nobody, VERIFY)
        assert restored.problems == ()
        assert any("1 folder of somebody else" in note for note in restored.notes)
        assert (as_nobody / "folder/small").read_bytes() == b"small"
        assert stat.S_IMODE((as_nobody / "folder").stat().st_mode) == 0o777

    def test_what_cannot_be_written_is_a_problem(self, as_nobody: Path) -> None:
        os.seteuid(0)
        (as_nobody / "folder").mkdir()
        (as_nobody / "folder").chmod(0o755)
        os.seteuid(NOBODY)
        restored = Stored(MemoryTree(CONTENT)).restore(as_nobody, VERIFY)
        assert [(problem.path, problem.kind) for problem in restored.problems] == [("/folder/small", "permission")]
