"""Stock restic and we prune one repository in turn: it stays clean for both, and restores the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.core.pruning import PruneRules
from cto_backups.errors import BusyError
from cto_backups.repository.locks import locked
from cto_backups.repository.store import RepositoryStore
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, below, new_store, restore
from stock.restic import Restic
from trees import compare, many

pytestmark = pytest.mark.stock_restic
RULES = PruneRules(unused_share=0)


@pytest.fixture
def store(tmp_path: Path) -> RepositoryStore:
    return new_store(tmp_path / "vault", options=QUICK_SMALL_PACKS)


@pytest.fixture
def stock(store: RepositoryStore, stock_restic: Path, tmp_path: Path) -> Restic:
    return Restic(stock_restic, tmp_path / "vault" / PREFIX)


def see(store: RepositoryStore, stock: Restic, tree: Path, snapshot: str, place: Path) -> None:
    assert store.verify().damages == ()
    restore(store, snapshot, place / "ours")
    assert compare.differences(tree, below(place / "ours", tree)) == []
    stock.run("restore", snapshot, "--target", place / "stock")
    assert compare.differences(tree, below(place / "stock", tree)) == []


def test_stock_finds_nothing_wrong_after_our_prune(
    store: RepositoryStore, stock: Restic, tree: Path, tmp_path: Path, a_day_later: Callable[[], None]
) -> None:
    first, _ = back_up(store, tree, state=tmp_path / "state")
    many.change(tree)
    second, _ = back_up(store, tree, state=tmp_path / "state")
    store.expire([first])
    assert store.prune(RULES).plan.repack
    checked = stock.start("check", "--read-data")  # it tells of the packs that wait, which is no error
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no errors were found" in checked.stdout
    see(store, stock, tree, second, tmp_path / "first")
    a_day_later()
    assert store.prune(RULES).plan.overdue
    stock.check("--read-data")
    see(store, stock, tree, second, tmp_path / "second")


def test_stock_and_we_prune_in_turn(
    store: RepositoryStore, stock: Restic, tree: Path, tmp_path: Path, a_day_later: Callable[[], None]
) -> None:
    last, _ = back_up(store, tree, state=tmp_path / "state")
    for turn in range(4):
        many.change(tree)
        expired = last
        if turn < 2:
            last, _ = back_up(store, tree, state=tmp_path / "state")
        else:
            stock.backup(tree)
            last = stock.snapshots()[-1]["id"]
        store.expire([expired])
        if turn % 2:
            stock.run("prune", "--max-unused", "0")
            stock.check("--read-data")
            assert not store.prune(RULES).plan.repack
        else:
            assert store.prune(RULES).plan.changes_index
        see(store, stock, tree, last, tmp_path / f"turn-{turn}")
    stock.run("prune", "--max-unused", "0")
    stock.check("--read-data")
    a_day_later()
    store.prune(RULES)
    stock.check("--read-data")
    see(store, stock, tree, last, tmp_path / "end")


def test_stock_does_not_back_up_while_we_are_alone_with_the_repository(
    store: RepositoryStore, stock: Restic, tree: Path
) -> None:
    with locked(store.files, exclusive=True):
        refused = stock.start("backup", tree)
        assert refused.returncode != 0
        assert "locked" in refused.stderr
        with pytest.raises(BusyError):
            store.prune(RULES)
