"""What `rustic prune` leaves in an index, packs to delete, is not missing, not lost, and not relied on."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import label, store_tree

from cto_backups import clock
from cto_backups.core.pruning import PruneRules
from cto_backups.errors import DamageError
from cto_backups.repository.index import BlobKind, Index, Location, load_index
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rustic" / "index.json"
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), pack_bytes=200_000, workers=2)
RULES = PruneRules(small_bytes=0)
CONTENT = {b"%d" % number: random.Random(number).randbytes(20_000) for number in range(20)}
MARKED_AT = "2026-03-05T05:06:07.123456789+00:00"
DAY = timedelta(hours=24)


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def store(vault: MemoryVault) -> RepositoryStore:
    return RepositoryStore.create(
        vault, "main", "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> Any:
    def pass_a_day() -> None:
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + DAY)

    return pass_a_day


def mark_as_rustic_does(store: RepositoryStore, *, data_only: bool = False) -> set[str]:
    """Rewrite the index so that all packs are to be deleted, as a prune of rustic's that found no snapshot."""
    marked = set()
    for name in store.files.names("index"):
        document = store.files.load("index", name)
        kept = []
        marks = []
        for pack in document["packs"]:
            trees = any(blob["type"] == "tree" for blob in pack["blobs"])
            if trees and data_only:
                kept.append(pack)
            else:
                marks.append(pack | {"time": MARKED_AT})
                marked.add(pack["id"])
        store.files.save("index", {"packs": kept, "packs_to_delete": marks})
        store.files.vault.delete(store.files.key("index", name))
    return marked


def named_to_delete(store: RepositoryStore) -> set[str]:
    return {pack.hex() for pack in load_index(store.files).to_delete}


def packs(vault: MemoryVault) -> set[str]:
    return {key.rpartition("/")[2] for key in vault.keys("/data/")}


def test_an_index_in_the_shape_that_rustic_writes_is_read() -> None:
    index = Index()
    assert index.native.load(GOLDEN.read_bytes()) == (1, [b"\x22" * 32, b"\x33" * 32])
    assert index.pack_count == 1
    assert index.pack_of(BlobKind.TREE, b"\xa1" * 32) == 0
    assert index.locate(BlobKind.TREE, b"\xa2" * 32) == [Location(pack=0, offset=250, length=100, plain=0)]
    assert index.pack_of(BlobKind.DATA, b"\xd2" * 32) == -1


def test_a_pack_to_delete_of_no_possible_name_is_damage() -> None:
    document = json.loads(GOLDEN.read_bytes())
    document["packs_to_delete"][0]["id"] = "22"
    with pytest.raises(DamageError, match="damaged"):
        Index().native.load(json.dumps(document).encode())


@pytest.mark.parametrize("there", [True, False])
def test_packs_to_delete_are_neither_missing_nor_lost(store: RepositoryStore, vault: MemoryVault, there: bool) -> None:
    _, unneeded = store_tree(store, MemoryTree(CONTENT))
    store.expire([unneeded])
    for pack in mark_as_rustic_does(store):
        if not there:
            vault.delete(store.files.key("data", pack))
    store_tree(store, MemoryTree({b"other": b"other"}))
    assert store.verify().damages == ()
    assert store.prune(RULES).plan.gone == ()


def test_a_backup_does_not_rely_on_packs_to_delete(store: RepositoryStore, vault: MemoryVault, tmp_path: Path) -> None:
    _, first = store_tree(store, MemoryTree(CONTENT))
    store.expire([first])
    marked = mark_as_rustic_does(store)
    _, second = store_tree(store, MemoryTree(CONTENT))
    for pack in marked:
        vault.delete(store.files.key("data", pack))
    assert store.verify().damages == ()
    assert not store.reader(second).restore(tmp_path / "out").problems


def test_prune_takes_them_over_and_deletes_them_when_no_index_names_them(
    store: RepositoryStore, vault: MemoryVault, a_day_later: Any
) -> None:
    _, unneeded = store_tree(store, MemoryTree(CONTENT))
    store.expire([unneeded])
    store_tree(store, MemoryTree({b"other": b"other"}))
    store.prune(RULES)  # ours marks them first
    waiting = packs(vault) - {pack for pack in packs(vault) if pack in listed(store)}
    store.files.save(
        "index", {"packs": [], "packs_to_delete": [{"id": p, "blobs": [], "time": MARKED_AT} for p in waiting]}
    )
    a_day_later()
    pruned = store.prune(RULES)
    assert set(pruned.plan.taken_over) == {pack.name for pack in pruned.plan.waiting} == waiting != set()
    assert waiting < packs(vault), "an index that names what is not there is an error to rustic"
    assert named_to_delete(store) == set()
    assert {pack.name for pack in store.prune(RULES).plan.overdue} == waiting
    assert packs(vault) == listed(store)
    assert store.verify().damages == ()


def listed(store: RepositoryStore) -> set[str]:
    index = load_index(store.files)
    return {index.pack_name(number).hex() for number in range(index.pack_count)}


def test_packs_to_delete_that_a_snapshot_needs_are_listed_again(store: RepositoryStore, tmp_path: Path) -> None:
    """As after a backup of rustic's that ran while rustic pruned: neither of them takes a lock."""
    _, reference = store_tree(store, MemoryTree(CONTENT))
    marked = mark_as_rustic_does(store)
    assert set(store.prune(RULES).plan.relisted) == marked == listed(store)
    assert named_to_delete(store) == set()
    assert store.verify().damages == ()
    assert not store.reader(reference).restore(tmp_path / "out").problems


@pytest.mark.parametrize("data_only", [True, False])
def test_packs_that_rustic_marks_while_a_backup_relies_on_them_are_listed_again(
    store: RepositoryStore, data_only: bool, tmp_path: Path
) -> None:
    _, first = store_tree(store, MemoryTree(CONTENT))
    store.expire([first])
    with store.writing() as writing:
        draft = writing.write(MemoryTree(CONTENT | {b"new": b"new"}))
        marked = mark_as_rustic_does(store, data_only=data_only)
        second = writing.commit(draft, label(1))
    data = {pack for pack in marked if pack in listed(store)}
    assert data, "what the new snapshot needs is in the index"
    assert store.verify().damages == ()
    assert not store.reader(second).restore(tmp_path / "out").problems


def test_a_commit_leaves_the_index_alone_when_nobody_changed_it(store: RepositoryStore) -> None:
    store_tree(store, MemoryTree(CONTENT))
    before = set(store.files.names("index"))
    store_tree(store, MemoryTree(CONTENT), number=1)
    assert set(store.files.names("index")) == before
