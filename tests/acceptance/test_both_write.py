"""Stock restic and we work on one repository in turn, and at the same time: its users lose nothing by trying us."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cto_backups.errors import BusyError, NotFoundError
from stock.expectation import seen
from stock.product import PREFIX, Ours, back_up, below, open_store, restore
from stock.restic import Restic
from trees import compare, odd

pytestmark = pytest.mark.stock_restic


@pytest.fixture
def shared(ours: Ours, tmp_path: Path) -> Ours:
    """A copy of the repository that we wrote, to write to."""
    shutil.copytree(ours.folder, tmp_path / "shared")
    vault = tmp_path / "shared" / "vault"
    restic = Restic(ours.restic.binary, vault / PREFIX)
    return Ours(tmp_path / "shared", open_store(vault), restic, ours.snapshot, ours.draft)


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    """A tree to change: each file is one chunk, whoever cuts it."""
    root = tmp_path / "small"
    (root / "folder").mkdir(parents=True)
    for number in range(50):
        (root / "folder" / f"file-{number}").write_bytes(b"%d " % number * 3000)
    (root / "link").symlink_to("folder/file-1")
    os.link(root / "folder" / "file-2", root / "second-name")
    return root


def test_an_unchanged_tree_is_not_read_by_stock_after_us(shared: Ours, small_tree: Path) -> None:
    parent, _ = back_up(shared.store, small_tree, state=shared.folder / "state")
    before = shared.restic.blobs("data")
    summary = shared.restic.backup(small_tree, "--parent", parent)
    assert (summary["files_new"], summary["files_changed"]) == (0, 0)
    assert summary["files_unmodified"] == 51  # links are not counted
    assert shared.restic.blobs("data") == before
    shared.restic.check("--read-data")


def test_an_unchanged_large_file_is_not_read_by_stock_after_us(shared: Ours, odd_tree: odd.OddTree) -> None:
    summary = shared.restic.backup(odd_tree.root / "sizes", "--parent", shared.snapshot)
    before = shared.restic.blobs("data")
    assert summary["files_new"] == 0
    assert summary["files_changed"] == 0
    assert summary["data_blobs"] == 0
    assert shared.restic.blobs("data") == before


def test_an_unchanged_tree_adds_no_content_after_stock(shared: Ours, small_tree: Path) -> None:
    parent = shared.restic.backup(small_tree)["snapshot_id"]
    (parent,) = [snapshot["id"] for snapshot in shared.restic.snapshots() if snapshot["id"].startswith(parent)]
    before = shared.restic.blobs("data")
    _, draft = back_up(shared.store, small_tree, state=shared.folder / "state", parent=parent)
    assert draft.new_entries == 0
    assert draft.parent == parent
    assert shared.restic.blobs("data") == before


def test_writing_in_turn_shares_content_and_loses_nothing(shared: Ours, small_tree: Path, place: Path) -> None:
    wanted = {}
    before = shared.restic.blobs("data")
    for turn in range(4):
        (small_tree / f"turn-{turn}").write_bytes(os.urandom(100_000))
        (small_tree / "folder" / "file-7").write_bytes(os.urandom(1000))
        if turn % 2:
            back_up(shared.store, small_tree, state=shared.folder / "state")
        else:
            shared.restic.backup(small_tree)
        wanted[len(shared.store.committed())] = compare.look(small_tree)
        shared.restic.check("--read-data")
        assert shared.store.verify().damages == ()
    committed = shared.store.committed()
    assert [snapshot["id"] for snapshot in shared.restic.snapshots()] == [one.reference for one in committed]
    for number, one in enumerate(committed[1:], start=2):
        restore(shared.store, one.reference, place / f"we-{number}")
        assert compare.differences(wanted[number], below(place / f"we-{number}", small_tree)) == []
        shared.restic.run("restore", one.reference, "--target", place / f"stock-{number}")
        assert compare.differences(wanted[number], below(place / f"stock-{number}", small_tree)) == []
    # 50 files, of which one changed four times before it was first stored, and a new one in each turn.
    assert len(shared.restic.blobs("data") - before) == 49 + 4 + 4


def test_what_stock_repacked_is_read_and_written_on_by_us(
    shared: Ours, small_tree: Path, odd_tree: odd.OddTree, place: Path
) -> None:
    first, _ = back_up(shared.store, small_tree, state=shared.folder / "state")
    for file in (small_tree / "folder").iterdir():
        file.write_bytes(os.urandom(20_000))
    second, _ = back_up(shared.store, small_tree, state=shared.folder / "state")
    packs = set((shared.restic.repository / "data").glob("*/*"))
    shared.restic.run("forget", first, "--prune", "--max-unused", "0")
    assert packs - set((shared.restic.repository / "data").glob("*/*"))  # it did repack
    shared.restic.check("--read-data")
    assert [one.reference for one in shared.store.committed()] == [shared.snapshot, second]
    with pytest.raises(NotFoundError):
        shared.store.reader(first)
    assert shared.store.verify().damages == ()
    restore(shared.store, second, place / "second")
    assert compare.differences(small_tree, below(place / "second", small_tree)) == []
    restore(shared.store, shared.snapshot, place / "odd")
    assert compare.differences(seen(odd_tree.root), seen(below(place / "odd", odd_tree.root))) == []
    before = shared.restic.blobs("data")
    back_up(shared.store, small_tree, state=shared.folder / "state", parent=second)
    assert shared.restic.blobs("data") == before
    shared.restic.check("--read-data")


def test_stock_prunes_what_we_expired(shared: Ours, small_tree: Path, place: Path) -> None:
    kept, _ = back_up(shared.store, small_tree, state=shared.folder / "state")
    shared.store.expire([shared.snapshot])
    shared.restic.run("prune", "--max-unused", "0")
    shared.restic.check("--read-data")
    stored = sum(path.stat().st_size for path in (shared.restic.repository / "data").glob("*/*"))
    assert stored < odd.MIB
    assert shared.store.verify().damages == ()
    restore(shared.store, kept, place)
    assert compare.differences(small_tree, below(place, small_tree)) == []


def test_stock_copies_to_a_repository_of_its_own(
    ours: Ours, odd_tree: odd.OddTree, tmp_path: Path, place: Path
) -> None:
    copy = Restic(ours.restic.binary, tmp_path / "copy", environment={"RESTIC_FROM_PASSWORD": ours.restic.password})
    origin = ("--from-repo", ours.restic.repository)
    copy.run("init", *origin, "--copy-chunker-params")
    copy.run("copy", *origin)
    copy.check("--read-data")
    (snapshot,) = copy.snapshots()
    assert snapshot["tree"] == ours.draft.root
    copy.run("restore", snapshot["id"], "--target", place)
    assert compare.differences(seen(odd_tree.root, copy), seen(below(place, odd_tree.root), copy)) == []


def test_what_stock_retagged_keeps_its_content(shared: Ours, place: Path) -> None:
    shared.restic.run("tag", "--add", "kept", shared.snapshot)
    (committed,) = shared.store.committed()
    assert committed.reference != shared.snapshot
    assert committed.root == shared.draft.root
    assert "kept" in committed.tags


def test_a_password_that_stock_added_opens_our_repository(shared: Ours, tmp_path: Path) -> None:
    (tmp_path / "second").write_text("another password")
    shared.restic.run("key", "add", "--new-password-file", tmp_path / "second")
    assert len(shared.restic.json("key", "list")) == 2
    Restic(shared.restic.binary, shared.restic.repository, "another password").check()
    assert len(open_store(shared.folder / "vault").committed()) == 1


# -- at the same time --------------------------------------------------------------------------------------------------


def test_stock_may_back_up_but_not_prune_while_we_write(shared: Ours, small_tree: Path) -> None:
    with shared.store.writing():
        assert len(lock_files(shared)) == 1
        shared.restic.backup(small_tree)
        refused = shared.restic.start("prune")
        assert refused.returncode != 0
        assert "locked" in refused.stderr
    assert lock_files(shared) == []
    shared.restic.run("prune")
    assert len(shared.store.committed()) == 2


def test_we_may_back_up_but_not_expire_while_stock_writes(shared: Ours, small_tree: Path) -> None:
    with stock_reading_standard_input(shared):
        back_up(shared.store, small_tree, state=shared.folder / "state")
        with pytest.raises(BusyError) as caught:
            shared.store.expire([shared.snapshot])
        assert "lock" in str(caught.value)
    assert len(shared.store.committed()) == 3
    shared.restic.check("--read-data")


def test_we_do_not_write_while_stock_holds_the_repository_alone(shared: Ours, small_tree: Path) -> None:
    pruning = stopped_while_locked(shared, "prune", "--max-unused", "0")
    try:
        with pytest.raises(BusyError) as caught:
            back_up(shared.store, small_tree, state=shared.folder / "state")
        assert str(pruning.pid) in f"{caught.value} {caught.value.todo}"
    finally:
        pruning.kill()
        pruning.communicate()
    # Its lock outlives it; the process is gone from this very host.
    assert len(lock_files(shared)) == 1
    assert len(shared.store.clear_leftovers()) == 1
    assert lock_files(shared) == []
    back_up(shared.store, small_tree, state=shared.folder / "state")


def lock_files(shared: Ours) -> list[str]:
    # Stock restic writes `<name>-tmp-<number>` first.
    return [path.name for path in (shared.restic.repository / "locks").glob("*") if len(path.name) == 64]


@contextmanager
def stock_reading_standard_input(shared: Ours) -> Iterator[None]:
    """A backup by stock restic that goes on until the block ends."""
    process = start(shared, "backup", "--stdin", "--stdin-filename", "x")
    wait_until(lambda: len(lock_files(shared)) == 1, process)
    yield
    process.communicate(b"the end")
    assert process.returncode == 0


def stopped_while_locked(shared: Ours, *arguments: str) -> "subprocess.Popen[bytes]":
    """Stock restic, suspended at the moment when its lock stands."""
    process = start(shared, *arguments)
    wait_until(lambda: len(lock_files(shared)) == 1, process)
    process.send_signal(signal.SIGSTOP)
    assert len(lock_files(shared)) == 1
    return process


def start(shared: Ours, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [shared.restic.binary, "--no-cache", "--repo", shared.restic.repository, *arguments],
        env=os.environ | {"RESTIC_PASSWORD": shared.restic.password},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not true():
        assert process.poll() is None, "restic ended before it locked the repository"
        time.sleep(0.0005)
