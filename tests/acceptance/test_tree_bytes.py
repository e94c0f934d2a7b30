"""The trees that we write are, byte for byte, those that stock restic writes of the same folders.

Left out is what may differ: how files are cut into blobs, the device's number (which we store for hard links only),
the order of extended attributes, and sockets (which stock restic leaves out).
"""

import re
import shutil
from pathlib import Path

import pytest

from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import load_index
from cto_backups.repository.store import RepositoryStore
from stock.product import PREFIX, Ours, open_store
from stock.restic import Restic
from trees import odd

pytestmark = pytest.mark.stock_restic

MAY_DIFFER = re.compile(rb'"device_id":\d+,|,"content":\[[^]]*\]|,"subtree":"[0-9a-f]{64}"|,{"name":"socket"[^}]*}')
SUBTREE = re.compile(rb'"name":"((?:[^"\\]|\\.)*)","type":"dir".*?"subtree":"([0-9a-f]{64})"')
ATTRIBUTES = re.compile(rb'(?<="extended_attributes":\[)[^]]*')


def test_each_folder_of_the_odd_tree_is_described_as_stock_describes_it(
    ours: Ours, odd_tree: odd.OddTree, tmp_path: Path
) -> None:
    shutil.copytree(ours.folder / "vault", tmp_path / "vault")
    restic = Restic(ours.restic.binary, tmp_path / "vault" / PREFIX)
    restic.backup(odd_tree.root, "--force")
    store = open_store(tmp_path / "vault")
    mine, theirs = (folders(store, one.root, str(odd_tree.root)) for one in store.committed())
    assert mine.keys() == theirs.keys()
    left_out = {"/links", "/attributes"} if restic.version < (0, 17) else set()  # raw targets, attributes of links
    assert len(mine) > 100
    for path in mine.keys() - left_out:
        assert mine[path].replace(b"},{", b"},\n{") == theirs[path].replace(b"},{", b"},\n{"), path


def folders(store: RepositoryStore, root: str, top: str) -> dict[str, bytes]:
    """The stored form of each folder at `top` and below it, by its path (in replacement characters) below `top`."""
    fetcher = Fetcher(store.files, load_index(store.files))
    found: dict[str, bytes] = {}
    pending = [("", bytes.fromhex(root))]
    while pending:
        path, tree = pending.pop()
        stored = bytes(fetcher.tree(tree))
        if path.startswith(top):
            found[path.removeprefix(top)] = ATTRIBUTES.sub(in_order, MAY_DIFFER.sub(b"", stored))
        for name, subtree in re.findall(
            rb'"name":"((?:[^"\\]|\\.)*)","type":"dir".*?"subtree":"([0-9a-f]{64})"', stored
        ):
            below = f"{path}/{name.decode()}"
            if top.startswith(below) or below.startswith(top):
                pending.append((below, bytes.fromhex(subtree.decode())))
    return found


def in_order(listed: re.Match[bytes]) -> bytes:
    return b",".join(sorted(re.findall(rb"{[^}]*}", listed[0])))
