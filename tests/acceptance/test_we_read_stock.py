# Names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH108, PTH123, PTH211
"""What stock restic wrote is listed, verified and restored by us, identically."""

import os
import shutil
import stat
from datetime import datetime
from pathlib import Path

import pytest

from acceptance.conftest import make_removable
from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.errors import BackupsError, KeyProblemError
from cto_backups.vaults.local import LocalVault
from stock.expectation import seen
from stock.product import PREFIX, below, open_store, restore
from stock.restic import PASSWORD, Restic
from trees import compare, odd

pytestmark = pytest.mark.stock_restic


@pytest.fixture(scope="module")
def empty_theirs(tmp_path_factory: pytest.TempPathFactory, stock_restic: Path) -> Path:
    """A vault of ours with a new repository that stock restic made."""
    folder = tmp_path_factory.mktemp("theirs") / "vault"
    LocalVault("first", folder).create()
    Restic(stock_restic, folder / PREFIX).run("init", "--repository-version", "2")
    return folder


@pytest.fixture
def theirs(tmp_path: Path, stock_restic: Path, empty_theirs: Path) -> Restic:
    """A copy of it, to write to."""
    shutil.copytree(empty_theirs, tmp_path / "vault")  # `init` measures the machine for a second or two
    return Restic(stock_restic, tmp_path / "vault" / PREFIX)


def vault(restic: Restic) -> Path:
    return restic.repository.parent.parent


@pytest.mark.parametrize("compression", ["auto", "off", "max"])
def test_we_restore_every_byte_and_attribute(
    theirs: Restic, odd_tree: odd.OddTree, place: Path, compression: str
) -> None:
    theirs.backup(odd_tree.root, "--compression", compression, "--tag", "one,two", "--host", "elsewhere")
    store = open_store(vault(theirs))
    (listed,) = theirs.snapshots()
    (committed,) = store.committed()
    assert committed.reference == listed["id"]
    assert committed.root == listed["tree"]
    assert committed.tags == ("one", "two")
    assert committed.hostname == "elsewhere"
    assert committed.paths == (str(odd_tree.root),)
    assert abs(committed.time - datetime.fromisoformat(listed["time"][:26] + "+00:00")).total_seconds() < 1
    verified = store.verify()
    assert verified.damages == ()
    assert verified.references == (committed.reference,)
    assert verified.blobs_read == len(theirs.blobs("data") | theirs.blobs("tree"))
    restore(store, committed.reference, place)
    assert compare.differences(seen(odd_tree.root, theirs), seen(below(place, odd_tree.root), theirs)) == []


def test_the_listing_names_every_entry(theirs: Restic, odd_tree: odd.OddTree) -> None:
    theirs.backup(odd_tree.root)
    store = open_store(vault(theirs))
    (committed,) = store.committed()
    top = os.fsencode(odd_tree.root) + b"/"
    listed = {path.removeprefix(top) for path, _ in store.reader(committed.reference).listing()}
    above = {os.fsencode(parent) for parent in (odd_tree.root / "x").parents} - {b"/"}
    # Stock restic does not store sockets.
    assert listed - above == compare.look(odd_tree.root, without=["socket"]).keys()


def test_holes_come_back_as_holes(theirs: Restic, odd_tree: odd.OddTree, place: Path) -> None:
    theirs.backup(odd_tree.root / "sizes")
    store = open_store(vault(theirs))
    (committed,) = store.committed()
    restore(store, committed.reference, place)
    hole = below(place, odd_tree.root) / "sizes" / "hole-only"
    assert hole.stat().st_size == 16 * odd.MIB
    assert hole.stat().st_blocks * 512 < odd.MIB


def test_snapshots_of_relative_paths_and_of_standard_input_are_restored(
    theirs: Restic, tmp_path: Path, place: Path
) -> None:
    folder = tmp_path / "relative"
    folder.mkdir()
    (folder / "file").write_text("content")
    theirs.run("backup", ".", cwd=folder)
    theirs.run("backup", "--stdin", "--stdin-filename", "dump.sql", input="SELECT 1;\n")
    store = open_store(vault(theirs))
    relative, standard_input = store.committed()
    restore(store, relative.reference, place)
    assert (place / "file").read_text() == "content"
    restore(store, standard_input.reference, place)
    assert (place / "dump.sql").read_text() == "SELECT 1;\n"


def test_any_of_several_passwords_opens_it_and_no_other(theirs: Restic, tmp_path: Path) -> None:
    (tmp_path / "second").write_text("another password")
    theirs.run("key", "add", "--new-password-file", tmp_path / "second")
    assert open_store(vault(theirs)).committed() == []
    other = Restic(theirs.binary, theirs.repository, "another password")
    other.run("key", "remove", key_of(theirs))
    with pytest.raises(KeyProblemError) as caught:
        open_store(vault(theirs))
    assert PASSWORD not in f"{caught.value} {caught.value.todo}"


def test_a_repository_of_the_old_format_is_refused_in_words(tmp_path: Path, stock_restic: Path) -> None:
    LocalVault("first", tmp_path / "vault").create()
    Restic(stock_restic, tmp_path / "vault" / PREFIX).run("init", "--repository-version", "1")
    with pytest.raises(BackupsError) as caught:
        open_store(tmp_path / "vault")
    assert "version 1" in str(caught.value)


def test_damage_that_stock_sees_is_seen_by_us(theirs: Restic, odd_tree: odd.OddTree) -> None:
    theirs.backup(odd_tree.root / "sizes")
    pack = max((theirs.repository / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    assert theirs.start("check", "--read-data").returncode != 0
    verified = open_store(vault(theirs)).verify()
    assert any(pack.name[:8] in f"{damage.what} {damage.detail}" for damage in verified.damages)
    assert {snapshot["id"] for snapshot in theirs.snapshots()} == {
        reference for damage in verified.damages for reference in damage.references
    }


def key_of(restic: Restic) -> str:
    """The id of the key file that this password opens."""
    return next(key["id"] for key in restic.json("key", "list") if key["current"])


@pytest.mark.parametrize("options", [RestoreOptions(verify=True), RestoreOptions(patch=True)])
def test_over_a_spoilt_tree_we_restore_what_stock_restic_restores(
    theirs: Restic, odd_tree: odd.OddTree, place: Path, tmp_path: Path, options: RestoreOptions
) -> None:
    """Whatever stood there: of every kind, with other content, attributes, names and links."""
    theirs.backup(odd_tree.root)
    store = open_store(vault(theirs))
    (committed,) = store.committed()
    reader = store.reader(committed.reference)
    assert not reader.restore(place).problems
    spoil(below(place, odd_tree.root), tmp_path / "elsewhere")
    restored = reader.restore(place, existing=Existing.OVERWRITE, options=options)
    assert restored.problems == ()
    assert 0 < restored.kept_entries < restored.entries
    elsewhere = tmp_path / "t"
    theirs.run("restore", committed.reference, "--target", elsewhere)
    try:
        ours = seen(below(place, odd_tree.root), theirs)
        assert compare.differences(seen(below(elsewhere, odd_tree.root), theirs), ours) == []
        assert compare.differences(seen(odd_tree.root, theirs), ours) == []
    finally:
        make_removable(elsewhere)


def spoil(root: Path, outside: Path) -> None:
    """Change every third entry in one of many ways."""
    places = [os.fsencode(path) for path in sorted(root.rglob("*"))]
    for number, path in enumerate(places[::3]):
        if not os.path.lexists(path):
            continue
        there = os.lstat(path)
        if stat.S_ISDIR(there.st_mode):
            os.chmod(path, 0o777)
            os.setxattr(path, b"user.not-there", b"before")
        elif not stat.S_ISREG(there.st_mode) or number % 5 == 0:
            os.unlink(path)
            os.symlink(b"/nowhere", path)
        elif number % 5 == 1:
            os.chmod(path, 0o7000)
            os.utime(path, ns=(5, 5))
        elif number % 5 == 2:
            os.truncate(path, there.st_size // 2)
        elif number % 5 == 3:
            with open(path, "r+b") as file:
                file.seek(there.st_size // 2)
                file.write(b"changed")
            os.utime(path, ns=(there.st_mtime_ns, there.st_mtime_ns))
        else:
            os.link(path, b"%s-%d" % (os.fsencode(outside), number))
            os.setxattr(path, b"user.not-there", b"before")
