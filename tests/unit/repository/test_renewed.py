"""Files that differ in places from the point before: the same blobs as by reading all of it, and little is read."""

import random
from datetime import UTC, datetime

import pytest
from fakes.memory import ArrivingMemoryTree, MemoryTree, MemoryVault
from payload_store_contract import store_tree, walked

from cto_backups.core.trees import Entry, EntryKind, Patch
from cto_backups.errors import DamageError, SourceError
from cto_backups.repository.chunker import Chunker, seed_of
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.polynomial import random_irreducible
from cto_backups.repository.store import RepositoryStore

PAGE = 8192
PAGES = 700  # some five chunks
BEFORE = random.Random(1).randbytes(PAGE * PAGES)


class MeasuredVault(MemoryVault):
    """Counts what is read of packs."""

    data_bytes = 0

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        content = super().read(key, offset, length)
        if "/data/" in key:
            self.data_bytes += len(content)
        return content


@pytest.fixture
def vault() -> MeasuredVault:
    return MeasuredVault()


@pytest.fixture
def store(vault: MeasuredVault) -> RepositoryStore:
    options = RepositoryOptions(scrypt=ScryptParameters(n=2))
    return RepositoryStore.create(
        vault, "r", "secret", now=datetime.now(UTC), hostname="h", username="u", options=options
    )


def patched(before: bytes, kept: int, size: int, pages: dict[int, bytes]) -> tuple[bytes, Patch]:
    """What a file is now, of which these pages are told; those in a row are one stretch."""
    content = bytearray(before[:kept].ljust(size, b"\0")[:size])
    stretches: list[tuple[int, int]] = []
    for number, page in sorted(pages.items()):
        content[number * PAGE : (number + 1) * PAGE] = page
        if stretches and sum(stretches[-1]) == number * PAGE:
            stretches[-1] = stretches[-1][0], stretches[-1][1] + PAGE
        else:
            stretches.append((number * PAGE, PAGE))
    return bytes(content), Patch(kept, tuple(stretches))


def one_of(seed: int, before: bytes) -> tuple[bytes, Patch]:
    """Changes of any kind: few or many pages, in a row or not, a file that got shorter or longer, and with a gap."""
    drawn = random.Random(seed)
    there = len(before) // PAGE
    kept = there if drawn.random() < 0.6 else drawn.randrange(there + 1)
    size = kept if drawn.random() < 0.5 else kept + drawn.randrange(200)
    pages: dict[int, bytes] = {}
    for _ in range(drawn.choice([0, 1, 3, 40])):
        if size:
            first = drawn.randrange(size)
            for number in range(first, min(size, first + drawn.choice([1, 1, 2, 300]))):
                pages[number] = drawn.randbytes(PAGE)
    return patched(before, kept * PAGE, size * PAGE, pages)


@pytest.mark.parametrize("kind", ["of chance", "small", "that repeats itself"])
def test_whatever_changed_the_blobs_are_those_that_reading_it_gives(store: RepositoryStore, kind: str) -> None:
    now = {"of chance": BEFORE, "small": BEFORE[: 80 * PAGE], "that repeats itself": BEFORE[:PAGE] * PAGES}[kind]
    _, parent = store_tree(store, MemoryTree({b"file": now}))
    for seed in range(8 if kind == "of chance" else 3):
        former = now
        now, patch = one_of(seed, former)
        read = MemoryTree({b"file": now}, mtime_ns=seed)
        tree = ArrivingMemoryTree(read, random.Random(seed))
        tree.patches[b"/file"] = patch
        draft, parent = store_tree(store, tree, parent=parent, number=seed)
        assert draft.read_bytes == sum(length for _, length in patch.stretches)
        assert draft.size_bytes == len(now)
        assert draft.root == store_tree(store, read)[0].root, f"seed {seed}"
        stood = b"".join(former[b : b + n].ljust(n, b"\0") for b, n in patch.stretches)
        if patch.kept_bytes >= len(former):
            assert tree.stood_there[b"/file"] == stood
    (blobs,) = (node.content for node in walked(store, bytes.fromhex(draft.root)).values())
    assert b"".join(store.contents().content(blobs)) == now


def test_no_more_is_fetched_than_the_chunks_that_changed_and_one_behind_each(
    store: RepositoryStore, vault: MeasuredVault
) -> None:
    _, parent = store_tree(store, MemoryTree({b"file": BEFORE, b"other": BEFORE[:PAGE]}))
    (blobs,) = (node.content for path, node in walked(store, root(store, parent)).items() if path == b"/file")
    sizes = [len(blob) for blob in store.contents().content(blobs)]
    place = sum(sizes[:1]) // PAGE + 2  # in the second chunk
    now, patch = patched(BEFORE, len(BEFORE), len(BEFORE), {place: bytes(PAGE)})
    tree = ArrivingMemoryTree(MemoryTree({b"file": now, b"other": BEFORE[:PAGE]}), random.Random(1))
    tree.patches = {b"/file": patch, b"/other": Patch(PAGE)}
    vault.data_bytes = 0
    draft, _ = store_tree(store, tree, parent=parent, number=1)
    room = 100_000  # trees, and seals
    assert sizes[1] < vault.data_bytes < sum(sizes[1:4]) + room
    assert draft.read_bytes == PAGE
    assert draft.added_bytes < sum(sizes[1:3]) + room


def test_what_is_damaged_is_not_taken_for_what_was_there(store: RepositoryStore, vault: MeasuredVault) -> None:
    _, parent = store_tree(store, MemoryTree({b"file": BEFORE}))
    now, patch = patched(BEFORE, len(BEFORE), len(BEFORE), dict.fromkeys(range(0, PAGES, 40), bytes(PAGE)))
    for key in [key for key in vault.files if "/data/" in key]:
        for at in range(1000, len(vault.files[key]) - 5000, 200_000):
            vault.flip(key, at)
    tree = ArrivingMemoryTree(MemoryTree({b"file": now}), random.Random(1))
    tree.patches[b"/file"] = patch
    with pytest.raises(DamageError):
        store_tree(store, tree, parent=parent, number=1)


def test_a_file_that_is_not_in_the_point_before_cannot_differ_from_it(store: RepositoryStore) -> None:
    _, parent = store_tree(store, MemoryTree({b"file": BEFORE[:PAGE]}))
    for name, given in ((b"another", parent), (b"file", None)):
        tree = ArrivingMemoryTree(MemoryTree({name: BEFORE[:PAGE]}), random.Random(1))
        tree.patches[b"/" + name] = Patch(PAGE)
        with pytest.raises(DamageError, match="not whole"):
            store_tree(store, tree, parent=given, number=1)


def test_stretches_that_end_too_soon_are_no_file(store: RepositoryStore) -> None:
    _, parent = store_tree(store, MemoryTree({b"file": BEFORE[: 4 * PAGE]}))
    read = MemoryTree({b"file": Entry(b"", b"", EntryKind.FILE, 0o100644, size=4 * PAGE)})
    read.data[b"/file"] = BEFORE[: 3 * PAGE]
    tree = ArrivingMemoryTree(read, random.Random(1))
    tree.patches[b"/file"] = Patch(4 * PAGE, ((2 * PAGE, 2 * PAGE),))
    with pytest.raises(SourceError, match="Less came"):
        store_tree(store, tree, parent=parent, number=1)


def test_where_a_chunk_ends_is_told_by_its_bytes_and_two_behind_them() -> None:
    """What taking chunks over by their ids rests on."""
    chunker = Chunker(seed_of(random_irreducible()))
    ends = list(chunker.ends(BEFORE, last=True))
    for begins, end in zip([0, *ends[:-2]], ends[:-1], strict=True):
        for behind in (bytes(PAGE), b"", BEFORE[:100_000]):
            other = BEFORE[begins : end + 2] + behind
            assert next(iter(chunker.ends(other, last=True))) == end - begins


def root(store: RepositoryStore, reference: str) -> bytes:
    return bytes.fromhex(next(each.root for each in store.committed() if each.reference == reference))
