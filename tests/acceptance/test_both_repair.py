"""What we repaired is clean for stock restic, and the other way round."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.core.payloads import RepairScope
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, below, new_store, restore
from stock.restic import Restic
from trees import compare

pytestmark = pytest.mark.stock_restic


@pytest.fixture
def store(tmp_path: Path) -> RepositoryStore:
    return new_store(tmp_path / "vault", options=QUICK_SMALL_PACKS)


@pytest.fixture
def snapshot(store: RepositoryStore, tree: Path, tmp_path: Path) -> str:
    return back_up(store, tree, state=tmp_path / "state")[0]


@pytest.fixture
def other(store: RepositoryStore, snapshot: str, tmp_path: Path) -> RepositoryStore:
    made = new_store(LocalVault("second", tmp_path / "other"))
    with made.writing() as writing:
        writing.copy(store, snapshot)
    return made


@pytest.fixture
def stock(store: RepositoryStore, stock_restic: Path, tmp_path: Path) -> Restic:
    return Restic(stock_restic, tmp_path / "vault" / PREFIX)


def files(stock: Restic, folder: str) -> list[Path]:
    return sorted(path for path in (stock.repository / folder).rglob("*") if path.is_file())


def pack_of(store: RepositoryStore, stock: Restic, kind: BlobKind) -> Path:
    index = load_index(store.files)
    number = next(place.pack for one, _, place in index.blobs_in(range(index.pack_count)) if one is kind)
    name = index.pack_name(number).hex()
    return stock.repository / "data" / name[:2] / name


def write(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    write(path, bytes(content))


def flip_data(store: RepositoryStore, stock: Restic) -> None:
    flip(pack_of(store, stock, BlobKind.DATA), 60)


def flip_tree(store: RepositoryStore, stock: Restic) -> None:
    flip(pack_of(store, stock, BlobKind.TREE), 60)


def flip_header(store: RepositoryStore, stock: Restic) -> None:
    flip(pack_of(store, stock, BlobKind.DATA), -20)


def truncate(store: RepositoryStore, stock: Restic) -> None:
    pack = pack_of(store, stock, BlobKind.DATA)
    write(pack, pack.read_bytes()[:100_000])


def lose_pack(store: RepositoryStore, stock: Restic) -> None:
    pack_of(store, stock, BlobKind.DATA).unlink()


def lose_all(store: RepositoryStore, stock: Restic) -> None:
    for path in (*files(stock, "data"), *files(stock, "index")):
        path.unlink()


def flip_index(store: RepositoryStore, stock: Restic) -> None:
    for path in files(stock, "index"):
        flip(path, 40)


def make_index_anew(stock: Restic) -> None:
    stock.run(*(("repair", "index") if stock.version >= (0, 16) else ("rebuild-index",)))


def see(store: RepositoryStore, stock: Restic, tree: Path, snapshot: str, place: Path) -> None:
    assert store.verify().damages == ()
    restore(store, snapshot, place / "ours")
    assert compare.differences(tree, below(place / "ours", tree)) == []
    stock.run("restore", snapshot, "--target", place / "stock")
    assert compare.differences(tree, below(place / "stock", tree)) == []


@pytest.mark.parametrize("damage", [flip_data, flip_tree, flip_header, truncate, lose_pack, lose_all, flip_index])
def test_stock_finds_nothing_wrong_after_our_repair(
    store: RepositoryStore,
    stock: Restic,
    other: RepositoryStore,
    tree: Path,
    snapshot: str,
    damage: Callable[[RepositoryStore, Restic], None],
    a_day_later: Callable[[], None],
    tmp_path: Path,
) -> None:
    damage(store, stock)
    assert stock.start("check", "--read-data").returncode != 0
    assert store.repair([other]).lost_blobs == 0
    checked = stock.start("check", "--read-data")  # it tells of the damaged packs that wait, which is no error
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no errors were found" in checked.stdout
    see(store, stock, tree, snapshot, tmp_path / "first")
    store.prune()
    a_day_later()
    store.prune()
    stock.check("--read-data")
    see(store, stock, tree, snapshot, tmp_path / "second")


def test_we_read_the_index_that_stock_made_anew(
    store: RepositoryStore, stock: Restic, tree: Path, snapshot: str, tmp_path: Path
) -> None:
    for path in files(stock, "index"):
        path.unlink()
    make_index_anew(stock)
    assert store.repair(scope=RepairScope.INDEX).clean
    see(store, stock, tree, snapshot, tmp_path / "first")
    for path in files(stock, "index"):
        path.unlink()
    assert store.repair(scope=RepairScope.INDEX).relisted
    stock.check("--read-data")
    make_index_anew(stock)
    stock.check("--read-data")
    see(store, stock, tree, snapshot, tmp_path / "second")


def test_a_repository_that_stock_made_is_repaired(
    store: RepositoryStore, stock: Restic, other: RepositoryStore, tree: Path, tmp_path: Path
) -> None:
    made = stock.backup(tree)["snapshot_id"]
    (full,) = (one["id"] for one in stock.snapshots() if one["id"].startswith(made))
    with other.writing() as writing:
        writing.copy(store, full)
    for path in files(stock, "data"):
        flip(path, 60)
    assert store.repair([other]).lost_blobs == 0
    assert stock.start("check", "--read-data").returncode == 0
    see(store, stock, tree, full, tmp_path / "out")
