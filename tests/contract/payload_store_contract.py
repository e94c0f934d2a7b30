"""What every payload store does, whatever its format: subclass `PayloadStoreContract` and give it a `new_store`."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path
from threading import Lock

import pytest
from fakes.memory import ArrivingMemoryTree, MemoryTree, MemoryVault

from cto_backups import clock
from cto_backups.core.payloads import Draft, Node, PayloadStore, RepairScope, SnapshotLabel, Writing
from cto_backups.core.ports import Existing
from cto_backups.core.pruning import PrunePlan
from cto_backups.core.trees import AnyTree, Buffer, Entry, EntryKind, Patch
from cto_backups.core.verification import Ledger, Part
from cto_backups.errors import (
    BackupsError,
    BusyError,
    DamageError,
    NotFoundError,
    RefusedError,
    SourceError,
    VaultFullError,
)

NewStore = Callable[[MemoryVault], PayloadStore]
MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LARGE = random.Random(1).randbytes(3 << 20) + b"text that repeats " * 200_000
CONTENT = {
    b"a.txt": b"first file\n",
    b"folder": {b"b.bin": random.Random(2).randbytes(70_000), b"empty": b"", b"deep": {b"c": b"c" * 5000}},
    b"large": LARGE,
}


def label(number: int = 0, *tags: str) -> SnapshotLabel:
    return SnapshotLabel(MOMENT + timedelta(hours=number), "host", "user", ("/data",), tags)


def store_tree(store: PayloadStore, tree: AnyTree, *, parent: str | None = None, number: int = 0) -> tuple[Draft, str]:
    with store.writing() as writing:
        draft = writing.write(tree, parent=parent)
        return draft, writing.commit(draft, label(number))


def walked(store: PayloadStore, root: bytes) -> dict[bytes, Node]:
    """Every node below a folder by its path."""
    contents, found, stack = store.contents(), {}, [(b"", root)]
    while stack:
        path, subtree = stack.pop()
        for node in contents.folder(subtree):
            found[path + b"/" + node.entry.name] = node
            if node.subtree is not None:
                stack.append((path + b"/" + node.entry.name, node.subtree))
    return found


def refuse(vault: MemoryVault, number: int) -> list[str]:
    """Let a vault refuse the file of this number from now on, once; what was refused so far."""
    put, numbers, refused = vault.put, count(), list[str]()
    lock = Lock()

    def refusing(key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        with lock:
            mine = next(numbers)
        if mine == number:
            refused.append(key)
            raise VaultFullError(f"vault {vault.name} is full")
        put(key, parts, overwrite=overwrite)

    vault.put = refusing  # type: ignore[method-assign]
    return refused


class PayloadStoreContract:
    """Subclasses give `new_store`, which makes an empty store in a vault; `damages` is at how many places of a file."""

    damages = 40

    @pytest.fixture
    def new_store(self) -> NewStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, new_store: NewStore) -> PayloadStore:
        return new_store(MemoryVault("one"))

    @pytest.fixture
    def other(self, new_store: NewStore) -> PayloadStore:
        return new_store(MemoryVault("two"))

    def test_what_was_stored_is_restored_byte_for_byte(self, store: PayloadStore, tmp_path: Path) -> None:
        draft, reference = store_tree(store, MemoryTree(CONTENT))
        restored = store.reader(reference).restore(tmp_path / "out")
        assert not restored.problems
        assert (restored.entries, restored.size_bytes) == (draft.entries, draft.size_bytes)
        assert (tmp_path / "out/a.txt").read_bytes() == CONTENT[b"a.txt"]
        assert (tmp_path / "out/folder/empty").read_bytes() == b""
        assert (tmp_path / "out/folder/deep/c").read_bytes() == b"c" * 5000
        assert (tmp_path / "out/large").read_bytes() == LARGE
        assert (tmp_path / "out/a.txt").stat().st_mtime_ns == MemoryTree({}).mtime_ns

    def test_what_lies_beside_it_is_sealed(self, store: PayloadStore, other: PayloadStore) -> None:
        content = b"what only the key's owner may read" * 100
        sealed = store.seal(content)
        assert store.unseal(sealed) == content
        assert b"owner" not in sealed and sealed != store.seal(content)
        assert len(store.seal(bytes(len(content)))) == len(sealed), "no content can be told by its size alone"
        for wrong in (sealed[:-1], sealed[1:], sealed[:99] + bytes([sealed[99] ^ 1]) + sealed[100:], b""):
            with pytest.raises(DamageError):
                store.unseal(wrong)
        with pytest.raises(DamageError):
            other.unseal(sealed)

    def test_a_draft_is_invisible_until_it_is_committed(self, store: PayloadStore) -> None:
        with store.writing() as writing:
            draft = writing.write(MemoryTree(CONTENT))
            assert not store.committed()
            reference = writing.commit(draft, label(1, "kept"))
        (committed,) = store.committed()
        assert (committed.reference, committed.root) == (reference, draft.root)
        assert (committed.time, committed.hostname) == (label(1).time, "host")
        assert (committed.paths, committed.tags) == (("/data",), ("kept",))

    def test_committed_are_listed_oldest_first(self, store: PayloadStore) -> None:
        references = [store_tree(store, MemoryTree({b"n": b"%d" % number}), number=number)[1] for number in (3, 1, 2)]
        assert [one.reference for one in store.committed()] == [references[1], references[2], references[0]]

    def test_equal_trees_have_equal_roots_and_add_nothing(self, store: PayloadStore) -> None:
        first, _ = store_tree(store, MemoryTree(CONTENT))
        second, _ = store_tree(store, MemoryTree(CONTENT))
        assert first.root == second.root
        assert first.added_bytes > 0 == second.added_bytes

    def test_unchanged_files_are_not_opened(self, store: PayloadStore) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        tree = MemoryTree(CONTENT)
        draft, _ = store_tree(store, tree, parent=parent)
        assert tree.read_paths == []
        assert (draft.new_entries, draft.changed_entries, draft.unchanged_entries) == (0, 0, 7)
        assert draft.read_bytes == 0
        assert draft.parent == parent

    def test_a_file_whose_content_the_source_does_not_know_is_read_again(self, store: PayloadStore) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        tree = MemoryTree(CONTENT)
        tree.reusable = False
        draft, _ = store_tree(store, tree, parent=parent)
        assert sorted(tree.read_paths) == [b"/a.txt", b"/folder/b.bin", b"/folder/deep/c", b"/folder/empty", b"/large"]
        assert draft.added_bytes == 0

    def test_only_what_changed_is_read(self, store: PayloadStore, tmp_path: Path) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        tree = MemoryTree({**CONTENT, b"a.txt": b"longer than it was before\n", b"new": b"new"})
        draft, reference = store_tree(store, tree, parent=parent)
        assert sorted(tree.read_paths) == [b"/a.txt", b"/new"]
        assert (draft.new_entries, draft.changed_entries, draft.unchanged_entries) == (1, 1, 6)
        store.reader(reference).restore(tmp_path / "out")
        assert (tmp_path / "out/a.txt").read_bytes() == b"longer than it was before\n"

    def test_what_is_new_is_told_with_how_it_compresses(self, store: PayloadStore) -> None:
        noise, text, blank = random.Random(3).randbytes(200_000), b"text that repeats " * 10_000, bytes(100_000)
        tree = MemoryTree({b"noise": noise, b"text": text, b"blank": blank, b"again": noise})
        content = store_tree(store, tree)[0].content
        assert content.read_bytes == 680_000
        assert content.new_bytes == 480_000
        assert content.dense_bytes == 200_000
        assert content.blank_bytes == 100_000
        assert 200_000 < content.stored_bytes < 210_000
        mean = (200_000 * 8 + 180_000 * 3.4 + 0) / 480_000
        assert content.entropy == pytest.approx(mean, abs=0.2)
        again = store_tree(store, tree, number=1)[0].content
        assert (again.read_bytes, again.new_bytes, again.stored_bytes, again.dense_bytes) == (680_000, 0, 0, 0)
        assert (again.blank_bytes, again.entropy) == (100_000, 0.0)

    def test_files_under_another_name_are_told_from_new_ones(self, store: PayloadStore) -> None:
        """Of one chunk, of some, and large ones, in a folder that is new or not; empty ones tell nothing."""
        several, other = random.Random(4).randbytes(1 << 20), random.Random(5)
        _, parent = store_tree(store, MemoryTree({**CONTENT, b"several": several}))
        renamed: dict[bytes, object] = {b"z.txt": CONTENT[b"a.txt"], b"moved": CONTENT[b"folder"], b"old": LARGE}
        new = {b"new": b"of its own", b"new several": other.randbytes(1 << 20), b"new large": other.randbytes(5 << 20)}
        draft, _ = store_tree(store, MemoryTree({**renamed, **new, b"some": several}), parent=parent)
        assert draft.new_entries == 11
        assert draft.moved_entries == 5, "z.txt, old, some, and the two in the folder that are not empty"
        second = {b"several": several, b"a.txt": b"other content", b"second": b"first file\n"}
        kept = MemoryTree({**CONTENT, **second})
        draft, _ = store_tree(store, kept, parent=parent, number=1)
        assert (draft.new_entries, draft.changed_entries, draft.moved_entries) == (1, 1, 1)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_tree_that_comes_in_an_order_of_its_own_is_the_same_tree(self, store: PayloadStore, seed: int) -> None:
        content = {**CONTENT, b"link": Entry(b"", b"", EntryKind.SYMLINK, 0o120777, linktarget=b"a.txt")}
        whole, _ = store_tree(store, ArrivingMemoryTree(MemoryTree(content), random.Random(seed)))
        assert store_tree(store, MemoryTree(content), number=1)[0].root == whole.root
        assert (whole.entries, whole.size_bytes) == (8, 75_011 + len(LARGE))
        assert whole.new_entries == 8

    def test_of_a_tree_that_comes_again_it_is_told_what_is_new(self, store: PayloadStore) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        tree = MemoryTree({**CONTENT, b"a.txt": b"longer than it was before\n", b"new": b"new", b"again": LARGE})
        draft, _ = store_tree(store, ArrivingMemoryTree(tree, random.Random(4)), parent=parent, number=1)
        counts = draft.new_entries, draft.changed_entries, draft.unchanged_entries, draft.moved_entries
        assert counts == (2, 1, 6, 1)
        assert draft.read_bytes == draft.size_bytes, "all of it came, so all of it was read"
        assert draft.parent == parent

    def test_what_is_kept_of_the_point_before_is_not_read(self, store: PayloadStore) -> None:
        """A file and a folder: the tree is the same as if all of it had come again."""
        _, parent = store_tree(store, MemoryTree(CONTENT))
        whole = {**CONTENT, b"a.txt": b"other", b"new": b"new"}
        read = MemoryTree(whole)
        tree = ArrivingMemoryTree(read, random.Random(7))
        tree.kept = {b"/folder", b"/large"}
        draft, _ = store_tree(store, tree, parent=parent, number=1)
        assert sorted(read.read_paths) == [b"/a.txt", b"/new"]
        assert tree.seen == {b"/folder": None, b"/large": LARGE}
        assert draft.root == store_tree(store, MemoryTree(whole), number=2)[0].root
        assert (draft.entries, draft.size_bytes) == (8, 75_008 + len(LARGE))
        assert (draft.read_bytes, draft.unchanged_entries) == (8, 6)

    def test_nothing_is_kept_that_the_point_before_does_not_have_whole(self, store: PayloadStore) -> None:
        _, parent = store_tree(store, MemoryTree({**CONTENT, b"large": b"another"}))
        tree = ArrivingMemoryTree(MemoryTree(CONTENT), random.Random(8))
        tree.kept = {b"/large"}
        draft, reference = store_tree(store, tree, parent=parent, number=1)
        assert next(store.contents().content(walked(store, bytes.fromhex(draft.root))[b"/large"].content)) == b"another"
        assert reference
        tree = ArrivingMemoryTree(MemoryTree(CONTENT), random.Random(9))
        tree.kept = {b"/large"}
        first, _ = store_tree(store, tree, number=2)  # there is none before
        assert b"/large" not in walked(store, bytes.fromhex(first.root))

    def test_of_a_file_that_differs_in_places_these_are_read(self, store: PayloadStore) -> None:
        """The tree is the same as if all of it had come again, and the source sees what stood there."""
        _, parent = store_tree(store, MemoryTree(CONTENT))
        now = LARGE[:1_000_000] + b"other" + LARGE[1_000_005:5_000_000] + bytes(7) + b"at the end"
        read = MemoryTree({**CONTENT, b"large": now, b"a.txt": b"fiRst file\n"})
        tree = ArrivingMemoryTree(read, random.Random(7))
        tree.patches = {
            b"/large": Patch(5_000_000, ((1_000_000, 5), (5_000_007, 10))),
            b"/a.txt": Patch(11, ((2, 1),)),
            b"/folder/b.bin": Patch(70_000),
            b"/folder/empty": Patch(0),
        }
        draft, _ = store_tree(store, tree, parent=parent, number=1)
        assert draft.root == store_tree(store, read, number=2)[0].root
        assert draft.read_bytes == 16 + 5000
        assert draft.size_bytes == 75_011 + len(now)
        assert tree.stood_there[b"/large"] == LARGE[1_000_000:1_000_005] + bytes(10)
        assert (draft.changed_entries, draft.new_entries) == (1, 0), "size and times of a.txt are as before"

    def test_a_tree_that_breaks_off_is_not_stored(self, store: PayloadStore) -> None:
        tree = ArrivingMemoryTree(MemoryTree(CONTENT), random.Random(5))
        tree.left_out = {b"/folder/deep"}
        with pytest.raises(SourceError, match="/folder/deep"), store.writing() as writing:
            writing.write(tree)
        for path in (b"/large", b"/folder/b.bin"):
            tree = ArrivingMemoryTree(MemoryTree(CONTENT), random.Random(6))
            tree.breaks_off_in = path
            with pytest.raises(SourceError, match="gone"), store.writing() as writing:
                writing.write(tree)
        assert not store.committed()

    def test_what_is_not_wanted_once_all_was_read_is_not_kept(self, store: PayloadStore) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        before = {file.key for file in store.vault.list("") if "/locks/" not in file.key}
        tree = MemoryTree({**CONTENT, b"new": b"new"})
        with store.writing() as writing:
            draft = writing.write(tree, parent=parent, unless=lambda: tree.read_paths == [b"/new"])
            assert not draft.kept
            assert draft.added_bytes == 0
            with pytest.raises(RefusedError):
                writing.commit(draft, label(7))
        assert {file.key for file in store.vault.list("") if "/locks/" not in file.key} == before
        draft, reference = store_tree(store, tree, parent=parent)
        assert reference in {one.reference for one in store.committed()}
        assert draft.kept
        assert draft.added_bytes > 0

    def test_a_parent_that_is_gone_is_done_without(self, store: PayloadStore) -> None:
        draft, _ = store_tree(store, MemoryTree(CONTENT), parent="ab" * 32)
        assert draft.parent is None
        assert draft.new_entries == draft.entries

    def test_an_unreadable_file_is_left_out_and_the_rest_is_stored(self, store: PayloadStore, tmp_path: Path) -> None:
        tree = MemoryTree(CONTENT)
        tree.unreadable = {b"/folder/b.bin", b"/large"}
        draft, reference = store_tree(store, tree)
        assert draft.entries == 5
        store.reader(reference).restore(tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.txt", "c", "deep", "empty", "folder"]

    def test_a_listing_names_folders_before_their_content(self, store: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        paths = [path for path, _ in store.reader(reference).listing()]
        assert set(paths) == {
            b"/a.txt", b"/folder", b"/folder/b.bin", b"/folder/deep", b"/folder/deep/c", b"/folder/empty", b"/large"
        }  # fmt: skip
        for path in paths:
            above = path.rpartition(b"/")[0]
            assert not above or paths.index(above) < paths.index(path)

    @pytest.mark.parametrize(
        ("only", "expected"),
        [
            (["/folder/deep"], {b"/folder/deep", b"/folder/deep/c"}),
            (["folder/b.bin", "/a.txt"], {b"/folder/b.bin", b"/a.txt"}),
            (["*.txt"], {b"/a.txt"}),
            (["c"], set()),
            (["**/c"], {b"/folder/deep/c"}),
            (["/folder/*"], {b"/folder/b.bin", b"/folder/empty", b"/folder/deep", b"/folder/deep/c"}),
            (["[!a]?????"], {b"/folder", b"/folder/b.bin", b"/folder/empty", b"/folder/deep", b"/folder/deep/c"}),
        ],
    )
    def test_only_selects_paths_and_patterns(
        self, store: PayloadStore, only: list[str], expected: set[bytes], tmp_path: Path
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        reader = store.reader(reference)
        assert {path for path, _ in reader.listing(only)} == expected
        if expected:
            reader.restore(tmp_path / "out", only=only)
            found = {b"/" + str(path.relative_to(tmp_path / "out")).encode() for path in (tmp_path / "out").rglob("*")}
            assert expected <= found
            assert all(any(one.startswith(path + b"/") for one in expected) for path in found - expected)

    def test_restoring_what_matches_nothing_is_said(self, store: PayloadStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        with pytest.raises(NotFoundError, match="nowhere"):
            store.reader(reference).restore(tmp_path, only=["/nowhere"])
        with pytest.raises(NotFoundError):
            store.reader(reference).plan(tmp_path, only=["/nowhere"])

    def test_nothing_is_overwritten_unless_told_to(self, store: PayloadStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        (tmp_path / "a.txt").write_bytes(b"mine")
        reader = store.reader(reference)
        assert reader.plan(tmp_path).conflicts == (str(tmp_path / "a.txt"),)
        with pytest.raises(RefusedError, match=r"stands? where"):
            reader.restore(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
        assert not reader.restore(tmp_path, existing=Existing.OVERWRITE).problems
        assert (tmp_path / "a.txt").read_bytes() == CONTENT[b"a.txt"]

    def test_the_plan_is_what_the_restore_does(self, store: PayloadStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        plan = store.reader(reference).plan(tmp_path / "out")
        assert not (tmp_path / "out").exists()
        restored = store.reader(reference).restore(tmp_path / "out")
        assert (plan.entries, plan.size_bytes, plan.conflicts) == (restored.entries, restored.size_bytes, ())

    def test_everything_is_found_from_the_root_down_folder_by_folder(self, store: PayloadStore) -> None:
        draft, _ = store_tree(store, MemoryTree(CONTENT))
        found = walked(store, bytes.fromhex(draft.root))
        assert {path: node.entry.size for path, node in found.items() if node.subtree is None} == {
            b"/a.txt": 11, b"/folder/b.bin": 70_000, b"/folder/deep/c": 5000, b"/folder/empty": 0, b"/large": len(LARGE)
        }  # fmt: skip
        assert {path for path, node in found.items() if node.subtree} == {b"/folder", b"/folder/deep"}
        names = [node.entry.name for node in store.contents().folder(bytes.fromhex(draft.root))]
        assert names == [b"a.txt", b"folder", b"large"]

    def test_equal_content_is_known_as_equal_in_every_vault_and_other_content_is_not(
        self, store: PayloadStore, other: PayloadStore
    ) -> None:
        draft, reference = store_tree(store, MemoryTree(CONTENT))
        with other.writing() as writing:
            writing.copy(store, reference)
        changed, _ = store_tree(store, MemoryTree({**CONTENT, b"again": CONTENT[b"a.txt"], b"a.txt": b"first file?"}))
        one, two = walked(store, bytes.fromhex(draft.root)), walked(other, bytes.fromhex(draft.root))
        assert {path: (node.content, node.subtree) for path, node in one.items()} == {
            path: (node.content, node.subtree) for path, node in two.items()
        }
        three = walked(store, bytes.fromhex(changed.root))
        assert three[b"/folder"].subtree == one[b"/folder"].subtree
        assert three[b"/large"].content == one[b"/large"].content
        assert three[b"/again"].content == one[b"/a.txt"].content != three[b"/a.txt"].content

    @pytest.mark.parametrize("offset", [0, 1, 4096, 2_000_003, len(LARGE) - 1, len(LARGE), len(LARGE) + 5])
    def test_a_file_is_read_in_pieces_from_any_offset(self, store: PayloadStore, offset: int) -> None:
        draft, _ = store_tree(store, MemoryTree(CONTENT))
        node = walked(store, bytes.fromhex(draft.root))[b"/large"]
        pieces = list(store.contents().content(node.content, offset))
        assert b"".join(pieces) == LARGE[offset:]
        assert offset or len(pieces) > 1
        assert all(pieces)

    def test_no_wrong_byte_is_given_and_what_is_before_it_is(self, store: PayloadStore) -> None:
        draft, _ = store_tree(store, MemoryTree(CONTENT))
        node = walked(store, bytes.fromhex(draft.root))[b"/large"]
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        outcomes = set()
        for key in vault.keys("/data/"):
            for at in range(40, len(vault.files[key]), len(vault.files[key]) // self.damages + 1):
                vault.flip(key, at)
                read = b""
                try:
                    for piece in store.contents().content(node.content):
                        read += piece
                except DamageError:
                    assert len(read) < len(LARGE)
                assert read == LARGE[: len(read)]
                outcomes.add(0 if not read else 2 if len(read) == len(LARGE) else 1)
                vault.flip(key, at)
        assert 0 in outcomes
        if 1 not in outcomes:  # once in some dozens of polynomials the file lies in one piece of one pack
            pytest.skip("the store read all of the file at once: there was nothing before the damage")

    def test_looking_changes_nothing_in_the_vault(self, store: PayloadStore) -> None:
        draft, _ = store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        before = dict(vault.files)
        contents = store.contents()
        for node in walked(store, bytes.fromhex(draft.root)).values():
            for _ in contents.content(node.content):
                assert vault.files == before, "not even a lock"

    def test_a_folder_or_a_file_that_is_not_there_is_a_damage(self, store: PayloadStore) -> None:
        store_tree(store, MemoryTree(CONTENT))
        with pytest.raises(DamageError):
            store.contents().folder(bytes(32))
        for offset in (0, 5):
            with pytest.raises(DamageError):
                list(store.contents().content([bytes(32)], offset))

    def test_a_reference_that_is_not_there_is_not_found(self, store: PayloadStore) -> None:
        for reference in ("cd" * 32, "latest", "../../etc/passwd"):
            with pytest.raises(NotFoundError):
                store.reader(reference)

    def test_an_intact_store_verifies_clean(self, store: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        verified = store.verify()
        assert verified.damages == ()
        assert verified.references == (reference,)
        assert verified.bytes_read >= sum(
            len(content)
            for key, content in store.vault.files.items()
            if "/data/" in key  # type: ignore[attr-defined]
        )
        assert store.verify([reference], read_data=False).damages == ()

    def test_every_flipped_bit_is_found_with_whom_it_hurts(self, store: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        chance = random.Random(3)
        for key in sorted(vault.files):
            if "/locks/" in key or "/keys/" in key or key.endswith("/config"):
                continue
            at = chance.randrange(len(vault.files[key]))
            vault.flip(key, at)
            damages = store.verify().damages
            assert damages, (key, at)
            assert any(reference in damage.references for damage in damages), (key, at, damages)
            vault.flip(key, at)
        assert store.verify().damages == ()

    def test_as_many_verifications_as_there_are_parts_read_everything(self, store: PayloadStore) -> None:
        for number in range(6):
            store_tree(store, MemoryTree({b"n": random.Random(number).randbytes(40_000)}), number=number)
        whole = store.verify()
        assert whole.readings is not None
        assert (whole.packs_read, whole.bytes_read) == (whole.packs, whole.pack_bytes)
        assert set(whole.readings.present) == whole.readings.intact
        ledger, seen = Ledger(), set[bytes]()
        for run in range(3):
            assert ledger.read_since is None
            verified = store.verify(part=Part(share=Fraction(1, 3)), ledger=ledger)
            assert verified.readings is not None
            assert verified.damages == ()
            assert (verified.packs, verified.pack_bytes) == (whole.packs, whole.pack_bytes)
            assert verified.packs_read == len(verified.readings.intact) < whole.packs
            again = verified.readings.intact & seen
            seen |= verified.readings.intact
            assert not again or seen == whole.readings.intact, "nothing twice before everything once"
            ledger = verified.readings.after(ledger)
            if run == 0:
                began = verified.readings.at
        assert seen == whole.readings.intact
        assert ledger.read_since == began
        store_tree(store, MemoryTree({b"new": random.Random(9).randbytes(40_000)}), number=9)
        verified = store.verify(part=Part(size_bytes=1), ledger=ledger)
        assert verified.readings is not None
        new = set(verified.readings.present) - seen
        assert new and verified.readings.intact > new, "what is new, and one that was read before"

    def test_a_damaged_pack_is_found_in_its_turn_and_every_time_until_it_is_intact(self, store: PayloadStore) -> None:
        for number in range(4):
            store_tree(store, MemoryTree({b"n": random.Random(number).randbytes(40_000)}), number=number)
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        ledger, part = Ledger(), Part(share=Fraction(1, 8))
        for key in sorted(vault.files):
            if "/data/" in key:
                vault.flip(key, 30)
                break
        found = []
        for _ in range(10):
            verified = store.verify(part=part, ledger=ledger)
            assert verified.readings is not None
            ledger = verified.readings.after(ledger)
            found.append(bool(verified.damages))
        assert any(found)
        assert found[found.index(True) :] == [True] * (10 - found.index(True))
        assert len(ledger.damaged) == 1
        assert ledger.read_since is None
        vault.flip(key, 30)
        verified = store.verify(part=part, ledger=ledger)
        assert verified.damages == ()
        assert verified.readings is not None
        assert verified.readings.intact >= ledger.damaged

    def test_only_what_reads_everything_in_turn_adds_to_the_ledger(self, store: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        assert store.verify([reference]).readings is None
        assert store.verify(read_data=False).readings is None

    def test_verifying_what_is_not_there_is_a_damage(self, store: PayloadStore) -> None:
        damages = store.verify(["ab" * 32]).damages
        assert damages and damages[0].references == ("ab" * 32,)

    def test_expired_references_are_gone_and_the_others_stay(self, store: PayloadStore, tmp_path: Path) -> None:
        _, first = store_tree(store, MemoryTree(CONTENT))
        _, second = store_tree(store, MemoryTree({b"x": b"other"}), number=1)
        store.expire([first])
        store.expire([first])
        assert [one.reference for one in store.committed()] == [second]
        with pytest.raises(NotFoundError):
            store.reader(first)
        assert not store.reader(second).restore(tmp_path / "out").problems

    def test_pruning_keeps_what_references_need_and_in_two_steps_frees_the_rest(
        self, store: PayloadStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, first = store_tree(store, MemoryTree({**CONTENT, b"gone": random.Random(4).randbytes(900_000)}))
        _, second = store_tree(store, MemoryTree(CONTENT), number=1)
        store.expire([first])
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        before = dict(vault.files)
        planned = store.prune(dry_run=True)
        assert not planned.done
        assert planned.plan.freed_bytes > 800_000
        assert {key for key in vault.files if "/locks/" not in key} == {key for key in before if "/locks/" not in key}
        assert store.prune().done
        assert before.keys() - vault.files.keys() <= {key for key in before if "/data/" not in key}, "first unlisted"
        assert store.verify().damages == ()
        now = datetime.now(UTC) + timedelta(days=2)
        monkeypatch.setattr(clock, "now", lambda: now)
        assert store.prune().plan.deleted_bytes > 800_000
        assert sum(map(len, vault.files.values())) < sum(map(len, before.values())) - 800_000
        assert store.verify().damages == ()
        assert not store.reader(second).restore(tmp_path / "out").problems
        assert (tmp_path / "out/large").read_bytes() == LARGE
        assert not store.prune().plan.changes_index, "and then there is nothing left to do"

    def test_pruning_a_damaged_store_removes_nothing(self, store: PayloadStore) -> None:
        store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        for key in vault.keys("/data/"):
            vault.flip(key, 20)
        before = {key for key in vault.files if "/locks/" not in key}
        with pytest.raises(BackupsError):
            store.prune()
        assert {key for key in vault.files if "/locks/" not in key} == before

    def test_a_store_that_does_not_show_what_must_be_there_is_not_pruned(self, store: PayloadStore) -> None:
        """An old listing, or a snapshot that somebody else removed: what it needs stays, and it is named."""
        _, first = store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        assert store.prune(expected=lambda: [first]).done
        before = {key for key in vault.files if "/locks/" not in key}
        absent = "ab" * 32
        for dry_run in (True, False):
            with pytest.raises(DamageError, match=absent[:12]):
                store.prune(expected=lambda: [first, absent], dry_run=dry_run)
        assert {key for key in vault.files if "/locks/" not in key} == before

    def test_a_prune_shows_its_plan_and_does_nothing_when_that_is_objected_to(self, store: PayloadStore) -> None:
        """The plan is the one that is then carried out, and was made while nobody else could change anything."""
        _, first = store_tree(store, MemoryTree({**CONTENT, b"gone": random.Random(4).randbytes(900_000)}))
        store_tree(store, MemoryTree(CONTENT), number=1)
        store.expire([first])
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        before = {key for key in vault.files if "/locks/" not in key}

        def object_to(plan: PrunePlan) -> None:
            raise RefusedError(f"no: {plan.freed_bytes}")

        with pytest.raises(RefusedError, match=r"no: [1-9]"):
            store.prune(agree=object_to)
        assert {key for key in vault.files if "/locks/" not in key} == before
        shown: list[PrunePlan] = []
        done = store.prune(agree=shown.append)
        assert shown == [done.plan]
        assert store.verify().damages == ()

    def test_a_store_in_use_is_not_pruned(self, store: PayloadStore) -> None:
        with store.writing(), pytest.raises(BusyError):
            store.prune()

    def test_a_copy_restores_like_its_origin(self, store: PayloadStore, other: PayloadStore, tmp_path: Path) -> None:
        draft, reference = store_tree(store, MemoryTree(CONTENT))
        with other.writing() as writing:
            copied = writing.copy(store, reference)
        assert copied.added_bytes > 0
        (committed,) = other.committed()
        assert (committed.reference, committed.root) == (copied.reference, draft.root)
        assert committed.time == label().time
        assert other.verify().damages == ()
        other.reader(copied.reference).restore(tmp_path / "out")
        assert (tmp_path / "out/large").read_bytes() == LARGE

    def test_copying_twice_is_copying_once(self, store: PayloadStore, other: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        with other.writing() as writing:
            first = writing.copy(store, reference)
        with other.writing() as writing:
            second = writing.copy(store, reference)
        assert (second.reference, second.added_bytes, second.blobs) == (first.reference, 0, 0)
        assert len(other.committed()) == 1

    def test_a_damaged_origin_is_not_copied(self, store: PayloadStore, other: PayloadStore) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        for key in vault.keys("/data/"):
            vault.flip(key, 20)
        with pytest.raises(BackupsError), other.writing() as writing:
            writing.copy(store, reference)
        assert not other.committed()

    # -- after a failure in the same session ---------------------------------------------------------------------------

    def test_a_copy_from_another_origin_has_all_of_it_whatever_a_damaged_one_gave_before(
        self, new_store: NewStore, store: PayloadStore, other: PayloadStore
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        with other.writing() as writing:
            sound = writing.copy(store, reference).reference
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        for number, key in enumerate(vault.keys("/data/")):
            intact = vault.files[key]
            vault.flip(key, len(intact) // 2)
            third = new_store(MemoryVault(f"three-{number}"))
            with third.writing() as writing:
                with pytest.raises(BackupsError):
                    writing.copy(store, reference)
                copied = writing.copy(other, sound)
            assert third.verify().damages == ()
            assert [one.reference for one in third.committed()] == [copied.reference]
            vault.files[key] = intact

    @pytest.mark.parametrize("doing", ["copy", "write"])
    def test_what_a_vault_did_not_take_is_stored_by_the_next_try(
        self, new_store: NewStore, store: PayloadStore, doing: str, tmp_path: Path
    ) -> None:
        """Each time another one of its files is not taken, and nothing else in the same session goes wrong."""
        _, origin = store_tree(store, MemoryTree(CONTENT))
        for number in count():
            vault = MemoryVault(f"into-{number}")
            into = new_store(vault)

            def store_it(writing: Writing, into: PayloadStore = into) -> str:
                if doing == "copy":
                    return writing.copy(store, origin).reference
                return writing.commit(writing.write(MemoryTree(CONTENT)), label())

            with into.writing() as writing:
                refused = refuse(vault, number)
                try:
                    reference = store_it(writing)
                except VaultFullError:
                    reference = store_it(writing)
            assert into.verify().damages == ()
            out = tmp_path / f"{number}"
            into.reader(reference).restore(out)
            assert (out / "large").read_bytes() == LARGE
            if not refused:
                break
        assert number > 2

    def test_what_was_not_kept_is_stored_when_it_is_wanted_later(self, store: PayloadStore) -> None:
        with store.writing() as writing:
            assert not writing.write(MemoryTree(CONTENT), unless=lambda: True).kept
            writing.commit(writing.write(MemoryTree(CONTENT)), label())
        assert store.verify().damages == ()

    # -- repair --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["flipped", "cut off", "gone"])
    def test_damage_is_put_right_from_another_store(
        self, store: PayloadStore, other: PayloadStore, how: str, tmp_path: Path
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        with other.writing() as writing:
            writing.copy(store, reference)
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        for key in vault.keys("/data/"):
            if how == "flipped":
                vault.flip(key, 20)
            elif how == "cut off":
                vault.files[key] = vault.files[key][:-9]
            else:
                vault.delete(key)
        before = dict(vault.files)
        shown = store.repair([other], dry_run=True)
        assert {key: content for key, content in vault.files.items() if "/locks/" not in key} == before
        assert shown.damages and not shown.done and not shown.clean
        repaired = store.repair([other])
        assert repaired.done and repaired.lost_blobs == 0
        assert repaired.fetched_blobs == shown.fetched_blobs
        assert store.verify().damages == ()
        assert not store.reader(reference).restore(tmp_path / "out").problems
        assert (tmp_path / "out/large").read_bytes() == LARGE
        assert store.repair([other]).clean

    def test_what_no_other_store_has_is_lost_until_it_is_written_again(
        self, store: PayloadStore, other: PayloadStore, tmp_path: Path
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        vault = store.vault
        assert isinstance(vault, MemoryVault)
        for key in vault.keys("/data/"):
            vault.delete(key)
        assert store.repair([other]).lost_blobs > 0
        assert any(reference in damage.references for damage in store.verify().damages)
        tree = MemoryTree(CONTENT)
        store_tree(store, tree, parent=reference, number=1)
        assert b"/large" in tree.read_paths
        assert not store.reader(reference).restore(tmp_path / "out").problems
        assert store.repair([other]).clean

    def test_a_sound_store_has_nothing_to_repair(self, store: PayloadStore) -> None:
        store_tree(store, MemoryTree(CONTENT))
        for scope in RepairScope:
            assert store.repair(scope=scope).clean

    def test_content_whose_snapshot_is_lost_is_committed_again(self, store: PayloadStore, tmp_path: Path) -> None:
        draft, reference = store_tree(store, MemoryTree(CONTENT))
        store.expire([reference])
        with store.writing() as writing:
            again = writing.recommit(draft.root, label(0, "kept"))
            with pytest.raises(DamageError):
                writing.recommit("ab" * 32, label())
        (committed,) = store.committed()
        assert (committed.reference, committed.root, committed.tags) == (again, draft.root, ("kept",))
        assert not store.reader(again).restore(tmp_path / "out").problems
