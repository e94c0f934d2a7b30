"""Whatever the trees and the rules: a copy restores as its origin, and a prune keeps exactly what retention keeps."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from fakes.memory import Content, MemoryTree, MemoryVault
from hypothesis import given, settings
from hypothesis import strategies as st
from payload_store_contract import MOMENT, label, store_tree

from cto_backups import clock
from cto_backups.core.model import Fingerprint, RecoveryPoint
from cto_backups.core.payloads import Committed
from cto_backups.core.pruning import PruneRules
from cto_backups.core.retention import Retention, decide
from cto_backups.errors import NotFoundError
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), pack_bytes=4000, workers=2)
EVERYTHING_GOES = PruneRules(unused_share=0, small_bytes=0)
Tree = Mapping[bytes, Content]

NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
# Few contents, so that trees share some of them.
CONTENTS = st.one_of(st.sampled_from([bytes([one]) * (300 * one) for one in range(8)]), st.binary(max_size=600))
TREES = st.dictionaries(
    NAMES, st.recursive(CONTENTS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6), max_size=4
)
RULES = st.builds(
    Retention,
    versions=st.one_of(st.none(), st.integers(1, 3)),
    keep_for=st.one_of(st.none(), st.integers(1, 80).map(lambda hours: timedelta(hours=hours))),
    daily=st.integers(1, 3),
    yearly=st.integers(0, 2),
)


def create(vault: MemoryVault, polynomial: int | None = None) -> RepositoryStore:
    return RepositoryStore.create(
        vault, "main", "secret", polynomial=polynomial, now=MOMENT, hostname="h", username="u", options=OPTIONS
    )


def restored(store: RepositoryStore, reference: str) -> dict[bytes, object]:
    """All that a snapshot gives back, by name: content of files, with modes and times."""
    with TemporaryDirectory() as place:
        assert not store.reader(reference).restore(Path(place) / "out").problems
        return look(os.fsencode(place) + b"/out")


def look(folder: bytes) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for entry in os.scandir(folder):
        there = entry.stat(follow_symlinks=False)
        inside = look(entry.path) if entry.is_dir() else Path(os.fsdecode(entry.path)).read_bytes()
        found[entry.name] = (there.st_mode, there.st_mtime_ns, inside)
    return found


def content(seen: Mapping[bytes, object]) -> dict[bytes, object]:
    """The same without modes and times."""
    return {name: content(inside) if isinstance(inside, dict) else inside for name, (_, _, inside) in seen.items()}  # type: ignore[misc]


@settings(max_examples=40)
@given(st.lists(TREES, min_size=1, max_size=3))
def test_a_copy_of_any_trees_restores_as_its_origin(trees: Sequence[Tree]) -> None:
    origin = create(MemoryVault("one"))
    other = create(MemoryVault("two"), origin.polynomial)
    references = [store_tree(origin, MemoryTree(tree), number=number)[1] for number, tree in enumerate(trees)]
    for tree, reference in zip(trees, references, strict=True):
        with other.writing() as writing:
            copied = writing.copy(origin, reference)
        there = restored(other, copied.reference)
        assert there == restored(origin, reference)
        assert content(there) == tree
    assert other.verify().damages == ()
    assert [one.root for one in other.committed()] == [one.root for one in origin.committed()]


@settings(max_examples=40)
@given(st.lists(st.tuples(TREES, st.integers(1, 60)), min_size=1, max_size=6), RULES)
def test_a_prune_keeps_exactly_what_retention_keeps(versions: Sequence[tuple[Tree, int]], rules: Retention) -> None:
    store = create(MemoryVault("one"))
    expected: dict[str, Tree] = {}
    hours = 0
    for tree, later in versions:
        hours += later
        expected[store_tree(store, MemoryTree(tree), number=hours)[1]] = tree
    now = MOMENT + timedelta(hours=hours)
    decisions = decide(rules, map(as_point, store.committed()), now=now, proven=None, zone=ZoneInfo("UTC"))
    kept = {decision.point.id for decision in decisions if decision.keep}
    assert kept, "the newest is always kept"
    store.expire([reference for reference in expected if reference not in kept])
    pruned_and_a_day_later(store)

    assert {one.reference for one in store.committed()} == kept
    for reference in kept:
        assert content(restored(store, reference)) == expected[reference]
    for reference in expected.keys() - kept:
        with pytest.raises(NotFoundError):
            store.reader(reference)
    assert store.verify().damages == ()
    index = load_index(store.files)
    held = [(kind, blob) for kind, blob, _ in index.blobs_in(range(index.pack_count))]
    assert set(held) == needed(store), "every blob that a kept point needs, and no other"
    assert len(held) == len(set(held)), "each once"
    listed = {index.pack_name(number).hex() for number in range(index.pack_count)}
    assert {key.rpartition("/")[2] for key in store.vault.keys("/data/")} == listed  # type: ignore[attr-defined]


def pruned_and_a_day_later(store: RepositoryStore) -> None:
    store.prune(EVERYTHING_GOES)
    with pytest.MonkeyPatch.context() as patch:
        later = datetime.now(UTC) + timedelta(hours=25)
        patch.setattr(clock, "now", lambda: later)
        store.prune(EVERYTHING_GOES)


def needed(store: RepositoryStore) -> set[tuple[BlobKind, bytes]]:
    """What the snapshots that there are refer to."""
    contents, found = store.contents(), set()
    stack = [bytes.fromhex(one.root) for one in store.committed()]
    while stack:
        tree = stack.pop()
        found.add((BlobKind.TREE, tree))
        for node in contents.folder(tree):
            found |= {(BlobKind.DATA, blob) for blob in node.content}
            if node.subtree is not None:
                stack.append(node.subtree)
    return found


def as_point(one: Committed) -> RecoveryPoint:
    return RecoveryPoint(
        id=one.reference,
        source="data",
        kind="files",
        category="B",
        business="acme",
        started_at=one.time,
        captured_at=one.time,
        finished_at=one.time,
        size_bytes=0,
        added_bytes=0,
        entry_count=0,
        root=one.root,
        paths=one.paths,
        fingerprint=Fingerprint("none", {}, {}, ()),
        policy_digest="0" * 64,
        parent=None,
        label=None,
        keep_until=None,
        problems=(),
    )


def test_two_programs_write_into_one_repository_at_the_same_time() -> None:
    """Neither sees the other's blobs in time: what both have is stored twice, and a prune makes it one again."""
    vault = MemoryVault("one")
    first, second = create(vault), RepositoryStore.open(vault, "main", "secret", options=OPTIONS)
    both = {b"both": b"the same in both" * 100}
    trees = ({**both, b"first": b"1" * 500}, {**both, b"second": b"2" * 500})
    with first.writing() as one, second.writing() as other:
        assert len(vault.keys("/locks/")) == 2
        drafts = one.write(MemoryTree(trees[0])), other.write(MemoryTree(trees[1]))
        references = one.commit(drafts[0], label(1)), other.commit(drafts[1], label(2))
    assert not vault.keys("/locks/")
    fresh = RepositoryStore.open(vault, "main", "secret", options=OPTIONS)
    for _ in ("as they wrote it", "pruned"):
        assert fresh.verify().damages == ()
        assert tuple(content(restored(fresh, reference)) for reference in references) == trees
        pruned_and_a_day_later(fresh)
    index = load_index(fresh.files)
    held = [blob for _, blob, _ in index.blobs_in(range(index.pack_count))]
    assert len(held) == len(set(held)) == 5  # three contents, two trees
