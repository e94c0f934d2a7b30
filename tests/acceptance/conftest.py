"""One tree of every kind of node, built once for each test process, which nobody may change; and one to change."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups import clock
from stock.product import PREFIX, Ours, back_up, new_store
from stock.restic import Restic
from trees import many, odd


@pytest.fixture(scope="session")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[odd.OddTree]:
    """The tree."""
    # A short path: what lies deepest is restored below a longer one.
    tree = odd.build(tmp_path_factory.mktemp("o") / "odd")
    yield tree
    make_removable(tree.root)


@pytest.fixture(scope="session")
def ours(odd_tree: odd.OddTree, stock_restic: Path, tmp_path_factory: pytest.TempPathFactory) -> Ours:
    """The tree in a repository of ours, which nobody may change."""
    folder = tmp_path_factory.mktemp("ours")
    store = new_store(folder / "vault")
    snapshot, draft = back_up(store, odd_tree.root, state=folder / "state")
    return Ours(folder, store, Restic(stock_restic, folder / "vault" / PREFIX), snapshot, draft)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Thirty files, for `many.change` to change."""
    return many.build(tmp_path / "tree")


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let a day pass, and an hour."""

    def pass_a_day() -> None:
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=25))

    return pass_a_day


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where to restore to; can be removed afterwards whatever the modes."""
    destination = tmp_path / "r"
    yield destination
    make_removable(destination)


def make_removable(root: Path) -> None:
    """Give every folder a mode that lets pytest remove it."""
    for folder, folders, _ in os.walk(os.fsencode(root)):
        for name in folders:
            path = folder + b"/" + name
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, 0o700)  # noqa: PTH101
