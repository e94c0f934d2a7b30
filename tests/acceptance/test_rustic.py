"""Rustic and we, and stock restic as the third, work on one repository in turn: each reads what the others wrote."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.core.pruning import PruneRules
from cto_backups.repository.index import load_index
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from stock.product import (
    HOSTNAME,
    PREFIX,
    QUICK_SMALL_PACKS,
    TAGS,
    Ours,
    back_up,
    below,
    new_store,
    open_store,
    restore,
)
from stock.restic import Restic
from stock.rustic import Rustic, restores
from trees import compare, many, odd

RULES = PruneRules(unused_share=0)
KEEP_NOTHING_UNUSED = ("--max-unused", "0%", "--max-repack", "unlimited")


@pytest.fixture
def shared(ours: Ours, rustic: Path, tmp_path: Path) -> Rustic:
    """A copy of the repository that we wrote, to write to."""
    shutil.copytree(ours.folder / "vault", tmp_path / "vault")
    return Rustic(rustic, tmp_path / "vault" / PREFIX)


# -- what one writes the others read -----------------------------------------------------------------------------------


def test_rustic_lists_and_checks_what_we_wrote(ours: Ours, shared: Rustic, odd_tree: odd.OddTree) -> None:
    (snapshot,) = shared.snapshots()
    assert snapshot["id"] == ours.snapshot
    assert snapshot["tree"] == ours.draft.root
    assert sorted(snapshot["tags"]) == sorted(TAGS)
    assert snapshot["paths"] == [str(odd_tree.root)]
    assert snapshot["hostname"] == HOSTNAME
    shared.check()


def test_rustic_restores_every_byte_and_attribute_that_we_wrote(
    ours: Ours, shared: Rustic, odd_tree: odd.OddTree, place: Path
) -> None:
    shared.run("restore", ours.snapshot, place)
    assert compare.differences(restores(odd_tree.root), restores(below(place, odd_tree.root))) == []


def test_we_list_verify_and_restore_what_rustic_wrote(
    ours: Ours, shared: Rustic, odd_tree: odd.OddTree, place: Path
) -> None:
    written = shared.backup(odd_tree.root, "--host", "elsewhere", "--tag", "one,two")
    store = open_store(shared.repository.parent.parent)
    committed = {one.reference: one for one in store.committed()}
    assert committed.keys() == {ours.snapshot, written}
    assert committed[written].hostname == "elsewhere"
    assert committed[written].tags == ("one", "two")
    assert committed[written].paths == (str(odd_tree.root),)
    assert store.verify().damages == ()
    restore(store, written, place)
    assert compare.differences(odd_tree.root, below(place, odd_tree.root)) == []


def test_we_work_in_a_repository_that_rustic_made(rustic: Path, tree: Path, tmp_path: Path) -> None:
    LocalVault("first", tmp_path / "vault").create()
    made = Rustic(rustic, tmp_path / "vault" / PREFIX)
    made.run("init")
    theirs = made.backup(tree)
    store = open_store(tmp_path / "vault")
    many.change(tree)
    mine, _ = back_up(store, tree, state=tmp_path / "state")
    assert [one["id"] for one in made.snapshots()] == [one.reference for one in store.committed()] == [theirs, mine]
    made.check()
    assert store.verify().damages == ()


def test_what_is_the_same_is_not_stored_again_by_either(
    rustic: Path, tree: Path, tmp_path: Path, stock_restic: Path
) -> None:
    """Files of one chunk are one chunk to everybody."""
    store = new_store(tmp_path / "vault")
    back_up(store, tree, state=tmp_path / "state")
    peer, stock = Rustic(rustic, tmp_path / "vault" / PREFIX), Restic(stock_restic, tmp_path / "vault" / PREFIX)
    before = len(stock.blobs("data"))
    peer.backup(tree)
    stock.backup(tree)
    back_up(store, tree, state=tmp_path / "other state")
    assert len(stock.blobs("data")) == before == 30
    peer.check()
    stock.check("--read-data")
    assert store.verify().damages == ()


# -- prune in turn -----------------------------------------------------------------------------------------------------


class Three:
    """One repository that rustic, stock restic and we work on."""

    def __init__(self, folder: Path, rustic: Path, stock_restic: Path) -> None:
        self.folder = folder
        self.store: RepositoryStore = new_store(folder / "vault", options=QUICK_SMALL_PACKS)
        self.rustic = Rustic(rustic, folder / "vault" / PREFIX)
        self.restic = Restic(stock_restic, folder / "vault" / PREFIX)
        self.looks = 0

    def back_up(self, tree: Path) -> str:
        return back_up(self.store, tree, state=self.folder / "state")[0]

    def to_delete(self) -> set[str]:
        """What rustic has marked in the index."""
        return {pack.hex() for pack in load_index(self.store.files).to_delete}

    def packs(self) -> set[str]:
        return {pack.hex() for pack in self.store.files.pack_sizes()}

    def see(self, tree: Path, snapshot: str) -> None:
        """Nobody finds anything wrong, and everybody restores the same."""
        self.looks += 1
        place = self.folder / f"look-{self.looks}"
        assert self.store.verify().damages == ()
        self.rustic.check(waiting=True)
        checked = self.restic.start("check", "--read-data")  # it tells of the packs that wait, which is no error
        assert checked.returncode == 0, checked.stdout + checked.stderr
        restore(self.store, snapshot, place / "ours")
        self.rustic.run("restore", snapshot, place / "rustic")
        self.restic.run("restore", snapshot, "--target", place / "restic")
        for who in ("ours", "rustic", "restic"):
            assert compare.differences(tree, below(place / who, tree)) == [], who


@pytest.fixture
def three(tmp_path: Path, rustic: Path, stock_restic: Path) -> Three:
    return Three(tmp_path, rustic, stock_restic)


def test_rustic_prunes_what_we_wrote(three: Three, tree: Path) -> None:
    first = three.back_up(tree)
    many.change(tree)
    second = three.back_up(tree)
    three.rustic.run("forget", first)
    three.rustic.run("prune", *KEEP_NOTHING_UNUSED)
    assert three.to_delete()
    three.see(tree, second)
    three.rustic.run("prune", "--instant-delete", *KEEP_NOTHING_UNUSED)
    assert not three.to_delete()
    three.rustic.check()
    three.see(tree, second)


def test_what_rustic_marked_we_delete_when_a_day_has_passed(
    three: Three, tree: Path, a_day_later: Callable[[], None]
) -> None:
    three.store.expire([three.back_up(tree)])
    many.change(tree)
    last = three.back_up(tree)
    three.rustic.run("prune", *KEEP_NOTHING_UNUSED)
    marked = three.to_delete()
    assert marked
    assert set(three.store.prune(RULES).plan.taken_over) == marked
    three.see(tree, last)
    a_day_later()
    assert marked <= {pack.name for pack in three.store.prune(RULES).plan.overdue}
    assert not marked & three.packs()
    three.rustic.check()
    three.see(tree, last)


def test_what_we_took_out_of_the_index_rustic_marks_and_we_delete(
    three: Three, tree: Path, a_day_later: Callable[[], None]
) -> None:
    three.store.expire([three.back_up(tree)])
    many.change(tree)
    last = three.back_up(tree)
    waiting = set(three.store.prune(RULES).plan.marks(clock.now()))
    many.change(tree)
    expired, last = last, three.back_up(tree)
    three.rustic.run("forget", expired)
    three.rustic.run("prune", *KEEP_NOTHING_UNUSED)  # it marks what is in no index only when it has more to do
    assert set() != waiting < three.to_delete()
    three.see(tree, last)
    a_day_later()
    three.store.prune(RULES)
    three.see(tree, last)
    a_day_later()
    three.store.prune(RULES)
    assert not waiting & three.packs()
    three.rustic.check()
    three.see(tree, last)


def test_what_rustic_marked_is_stored_again_and_not_relied_on(three: Three, tree: Path) -> None:
    three.store.expire([three.back_up(tree)])
    three.rustic.run("prune", *KEEP_NOTHING_UNUSED)
    assert three.to_delete() == three.packs()
    again = three.back_up(tree)
    three.see(tree, again)
    three.rustic.run("prune", "--instant-delete", *KEEP_NOTHING_UNUSED)
    three.rustic.check()
    three.see(tree, again)


def test_all_three_write_and_prune_in_turn(three: Three, tree: Path, a_day_later: Callable[[], None]) -> None:
    last = three.back_up(tree)
    for turn in range(6):
        many.change(tree)
        expired = last
        match turn % 3:
            case 0:
                last = three.rustic.backup(tree)
                three.rustic.run("forget", expired)
                three.rustic.run("prune", *KEEP_NOTHING_UNUSED)
            case 1:
                last = three.back_up(tree)
                three.store.expire([expired])
                three.store.prune(RULES)
            case _:
                three.restic.backup(tree)
                last = three.restic.snapshots()[-1]["id"]
                three.restic.run("forget", expired)
                three.restic.run("prune", "--max-unused", "0")
        three.see(tree, last)
    a_day_later()
    three.store.prune(RULES)
    a_day_later()
    three.store.prune(RULES)
    three.rustic.check()
    three.restic.check("--read-data")
    three.see(tree, last)
