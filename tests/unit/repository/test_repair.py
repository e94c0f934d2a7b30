"""Repairing a repository: the index from its packs, lost blobs from what is left of them and from other vaults."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import label, store_tree

from cto_backups import clock
from cto_backups.core.payloads import RepairScope
from cto_backups.core.pruning import PruneRules
from cto_backups.errors import BusyError, DamageError, VaultError
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.locks import locked
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

PREFIX = "repositories/main"
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), pack_bytes=200_000, workers=2)
CONTENT = {b"%03d" % number: random.Random(number).randbytes(20_000) for number in range(40)}
CONTENT[b"folder"] = {b"inner": random.Random(99).randbytes(9000)}  # type: ignore[assignment]
DAY = timedelta(hours=24)


def new_store(name: str) -> RepositoryStore:
    return RepositoryStore.create(
        MemoryVault(name), PREFIX, "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )


@pytest.fixture
def store() -> RepositoryStore:
    return new_store("one")


@pytest.fixture
def vault(store: RepositoryStore) -> MemoryVault:
    assert isinstance(store.vault, MemoryVault)
    return store.vault


@pytest.fixture
def reference(store: RepositoryStore) -> str:
    return store_tree(store, MemoryTree(CONTENT))[1]


@pytest.fixture
def other(store: RepositoryStore, reference: str) -> RepositoryStore:
    """Another vault's repository, with another master key, and a copy."""
    made = new_store("two")
    with made.writing() as writing:
        writing.copy(store, reference)
    return made


def packs_of(store: RepositoryStore, kind: BlobKind) -> list[str]:
    """The keys of the packs with blobs of this kind, the largest first."""
    index = load_index(store.files)
    numbers = {place.pack for one, _, place in index.blobs_in(range(index.pack_count)) if one is kind}
    largest_first = sorted(numbers, key=lambda number: -index.pack_end(number))
    return [store.files.key("data", index.pack_name(number).hex()) for number in largest_first]


def listed(store: RepositoryStore) -> set[str]:
    index = load_index(store.files)
    assert index.damages == []
    assert sum(index.files.values()) == index.pack_count, "a pack is listed twice"
    return {store.files.key("data", index.pack_name(number).hex()) for number in range(index.pack_count)}


def see_that_it_restores(store: RepositoryStore, reference: str, place: Path) -> None:
    assert store.verify().damages == ()
    assert not store.reader(reference).restore(place).problems
    for name, content in CONTENT.items():
        if isinstance(content, bytes):
            assert (place / name.decode()).read_bytes() == content
    assert (place / "folder/inner").read_bytes() == CONTENT[b"folder"][b"inner"]  # type: ignore[index,call-overload]


def without_locks(vault: MemoryVault) -> dict[str, bytes]:
    return {key: content for key, content in vault.files.items() if "/locks/" not in key}


# -- every kind of damage ----------------------------------------------------------------------------------------------


def flip_blob(store: RepositoryStore, vault: MemoryVault) -> None:
    vault.flip(packs_of(store, BlobKind.DATA)[0], 50)


def flip_tree(store: RepositoryStore, vault: MemoryVault) -> None:
    vault.flip(packs_of(store, BlobKind.TREE)[0], 50)


def flip_header(store: RepositoryStore, vault: MemoryVault) -> None:
    key = packs_of(store, BlobKind.DATA)[0]
    vault.flip(key, len(vault.files[key]) - 30)


def flip_header_length(store: RepositoryStore, vault: MemoryVault) -> None:
    key = packs_of(store, BlobKind.DATA)[0]
    vault.flip(key, len(vault.files[key]) - 2)


def truncate_pack(store: RepositoryStore, vault: MemoryVault) -> None:
    key = packs_of(store, BlobKind.DATA)[0]
    vault.files[key] = vault.files[key][: len(vault.files[key]) // 2]


def empty_pack(store: RepositoryStore, vault: MemoryVault) -> None:
    vault.files[packs_of(store, BlobKind.DATA)[0]] = b""


def lose_pack(store: RepositoryStore, vault: MemoryVault) -> None:
    vault.delete(packs_of(store, BlobKind.DATA)[0])


def lose_trees(store: RepositoryStore, vault: MemoryVault) -> None:
    for key in packs_of(store, BlobKind.TREE):
        vault.delete(key)


def lose_every_pack(store: RepositoryStore, vault: MemoryVault) -> None:
    for key in vault.keys("/data/"):
        vault.delete(key)


def lose_packs_and_index(store: RepositoryStore, vault: MemoryVault) -> None:
    for key in (*vault.keys("/data/")[1:], *vault.keys("/index/")):
        vault.delete(key)


def lose_index(store: RepositoryStore, vault: MemoryVault) -> None:
    for key in vault.keys("/index/"):
        vault.delete(key)


def flip_index(store: RepositoryStore, vault: MemoryVault) -> None:
    for key in vault.keys("/index/"):
        vault.flip(key, 40)


def wrong_index(store: RepositoryStore, vault: MemoryVault) -> None:
    """Well sealed, and wrong."""
    index = load_index(store.files)
    lose_index(store, vault)
    blob = {"id": "ab" * 32, "type": "data", "offset": 0, "length": 100}
    packs = [{"id": index.pack_name(number).hex(), "blobs": [blob]} for number in range(index.pack_count)]
    store.files.save("index", {"packs": packs})


def index_twice(store: RepositoryStore, vault: MemoryVault) -> None:
    (key,) = vault.keys("/index/")
    store.files.save_plain("index", store.files.load_plain("index", key.rpartition("/")[2]) + b" ")


FROM_ITSELF: list[Callable[[RepositoryStore, MemoryVault], None]] = [
    flip_header, flip_header_length, lose_index, flip_index, wrong_index, index_twice
]  # fmt: skip
FROM_OTHERS: list[Callable[[RepositoryStore, MemoryVault], None]] = [
    flip_blob, flip_tree, truncate_pack, empty_pack, lose_pack, lose_trees, lose_every_pack, lose_packs_and_index
]  # fmt: skip


@pytest.mark.parametrize("damage", [*FROM_ITSELF, *FROM_OTHERS])
def test_every_kind_of_damage_is_put_right(
    store: RepositoryStore,
    vault: MemoryVault,
    other: RepositoryStore,
    reference: str,
    damage: Callable[[RepositoryStore, MemoryVault], None],
    tmp_path: Path,
) -> None:
    damage(store, vault)
    before = without_locks(vault)
    shown = store.repair([other], dry_run=True)
    assert without_locks(vault) == before, "a dry run writes nothing"
    assert not shown.clean or damage in (index_twice, lose_index)
    repaired = store.repair([other])
    assert repaired.done and not shown.done
    assert repaired.lost_blobs == shown.lost_blobs == 0
    assert (repaired.salvaged_blobs, repaired.fetched_blobs) == (shown.salvaged_blobs, shown.fetched_blobs)
    assert set(repaired.fetched_blobs) == ({"two"} if damage in FROM_OTHERS else set())
    assert {key for key in before if "/data/" in key} <= vault.files.keys(), "no pack is deleted"
    listed(store)
    see_that_it_restores(store, reference, tmp_path / "out")
    again = store.repair([other])
    assert again.clean and again.added_bytes == 0


@pytest.mark.parametrize("damage", FROM_ITSELF)
def test_what_the_vault_itself_still_holds_needs_no_other(
    store: RepositoryStore,
    vault: MemoryVault,
    reference: str,
    damage: Callable[[RepositoryStore, MemoryVault], None],
    tmp_path: Path,
) -> None:
    damage(store, vault)
    assert store.repair().lost_blobs == 0
    see_that_it_restores(store, reference, tmp_path / "out")


@pytest.mark.parametrize("damage", [lose_index, flip_index, wrong_index, index_twice])
def test_the_index_alone_is_made_anew_without_reading_contents(
    store: RepositoryStore,
    vault: MemoryVault,
    reference: str,
    damage: Callable[[RepositoryStore, MemoryVault], None],
    tmp_path: Path,
) -> None:
    packs = set(vault.keys("/data/"))
    damage(store, vault)
    repaired = store.repair(scope=RepairScope.INDEX)
    assert (repaired.added_bytes, repaired.lost_blobs) == (0, 0)
    assert listed(store) == packs
    see_that_it_restores(store, reference, tmp_path / "out")


def test_the_index_alone_keeps_what_can_still_be_read_of_damaged_packs(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, reference: str, tmp_path: Path
) -> None:
    truncate_pack(store, vault)
    lost = packs_of(store, BlobKind.DATA)[1]
    vault.delete(lost)
    repaired = store.repair(scope=RepairScope.INDEX)
    assert {store.files.key("data", name) for name in repaired.missing} == {lost}
    assert listed(store) == set(vault.keys("/data/"))
    assert store.verify().damages
    assert store.repair([other]).lost_blobs == 0
    see_that_it_restores(store, reference, tmp_path / "out")


@pytest.mark.parametrize("damage", [flip_header, flip_tree, truncate_pack, lose_pack, lose_trees, lose_every_pack])
def test_structure_is_put_right_without_reading_all_data(
    store: RepositoryStore,
    vault: MemoryVault,
    other: RepositoryStore,
    reference: str,
    damage: Callable[[RepositoryStore, MemoryVault], None],
    tmp_path: Path,
) -> None:
    damage(store, vault)
    store.repair([other], scope=RepairScope.STRUCTURE)
    see_that_it_restores(store, reference, tmp_path / "out")


def test_a_sound_repository_is_left_as_it_is(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, reference: str
) -> None:
    before = without_locks(vault)
    assert store.repair([other]).clean
    assert without_locks(vault) == before


def test_what_is_sound_in_a_damaged_pack_is_not_taken_from_others(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore
) -> None:
    flip_blob(store, vault)
    repaired = store.repair([other])
    assert repaired.fetched_blobs == {"two": 1}
    assert repaired.salvaged_blobs > 5


def test_what_is_damaged_there_as_well_comes_from_the_next_vault(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, reference: str, tmp_path: Path
) -> None:
    third = new_store("three")
    with third.writing() as writing:
        writing.copy(store, reference)
    lose_every_pack(store, vault)
    assert isinstance(other.vault, MemoryVault)
    for key in packs_of(other, BlobKind.DATA):
        other.vault.flip(key, 50)
    repaired = store.repair([other, third])
    assert repaired.lost_blobs == 0
    assert repaired.fetched_blobs["three"] == len(packs_of(other, BlobKind.DATA))
    see_that_it_restores(store, reference, tmp_path / "out")


def test_a_vault_that_cannot_help_is_named_and_the_next_one_asked(
    store: RepositoryStore,
    vault: MemoryVault,
    other: RepositoryStore,
    reference: str,
    tmp_path: Path,
) -> None:
    busy = new_store("three")
    with busy.writing() as writing:
        writing.copy(store, reference)
    lose_pack(store, vault)
    with locked(busy.files, exclusive=True):
        repaired = store.repair([busy, other])
    assert "three" in repaired.troubles[0] and "locked" in repaired.troubles[0]
    assert repaired.lost_blobs == 0
    see_that_it_restores(store, reference, tmp_path / "out")


def test_what_is_in_no_vault_is_said_to_be_lost_and_the_rest_comes_back(
    store: RepositoryStore, vault: MemoryVault, reference: str, tmp_path: Path
) -> None:
    flip_blob(store, vault)
    before = set(vault.keys("/data/"))
    repaired = store.repair()
    assert repaired.lost_blobs == 1
    assert "intact in no vault" in repaired.damages[-1].detail
    assert before < set(vault.keys("/data/"))
    (damage,) = store.verify().damages
    assert damage.references == (reference,) and len(damage.paths) == 1
    problems = store.reader(reference).restore(tmp_path / "out").problems
    assert [problem.path for problem in problems] == list(damage.paths)
    # It comes back as soon as there is a vault that has it, or the source is read again.
    draft, _ = store_tree(store, MemoryTree(CONTENT), parent=reference, number=1)
    assert (draft.changed_entries, draft.unchanged_entries) == (1, len(CONTENT))
    see_that_it_restores(store, reference, tmp_path / "healed")


def test_lost_trees_come_back_when_the_source_is_read_again(
    store: RepositoryStore, vault: MemoryVault, reference: str, tmp_path: Path
) -> None:
    lose_trees(store, vault)
    assert store.repair().lost_blobs == 1, "what is below a lost tree is not known"
    store_tree(store, MemoryTree(CONTENT), parent=reference, number=1)
    see_that_it_restores(store, reference, tmp_path / "healed")


def test_a_damaged_snapshot_is_named_and_left(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, reference: str
) -> None:
    (key,) = vault.keys("/snapshots/")
    vault.flip(key, 40)
    lose_index(store, vault)
    repaired = store.repair([other])
    assert repaired.unreadable == (reference,)
    assert key in vault.files
    assert listed(store) == set(vault.keys("/data/"))


def test_a_lost_snapshot_is_committed_again_from_what_the_catalog_knows(
    store: RepositoryStore, vault: MemoryVault, reference: str, tmp_path: Path
) -> None:
    (committed,) = store.committed()
    store.expire([reference])
    with store.writing() as writing:
        again = writing.recommit(committed.root, label(0, "point:x"))
        with pytest.raises(DamageError):
            writing.recommit("ab" * 32, label())
    (now,) = store.committed()
    assert (now.reference, now.root, now.time, now.tags) == (again, committed.root, committed.time, ("point:x",))
    see_that_it_restores(store, again, tmp_path / "out")


# -- with prune --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    moment = [datetime.now(UTC) + timedelta(hours=1)]
    monkeypatch.setattr(clock, "now", lambda: moment[0])

    def later(by: timedelta) -> None:
        moment[0] += by

    return later


def test_damaged_packs_are_deleted_by_a_prune_a_day_later(
    store: RepositoryStore,
    vault: MemoryVault,
    other: RepositoryStore,
    reference: str,
    hours: Callable[[timedelta], None],
    tmp_path: Path,
) -> None:
    flip_blob(store, vault)
    (bad,) = store.repair([other]).unlisted
    key = store.files.key("data", bad)
    assert key in vault.files and key not in listed(store)
    rules = PruneRules(small_bytes=0)
    hours(DAY - timedelta(seconds=1))
    store.prune(rules)
    assert key in vault.files
    hours(timedelta(seconds=1))
    store.prune(rules)
    assert key not in vault.files
    see_that_it_restores(store, reference, tmp_path / "out")


def test_a_damaged_pack_that_was_listed_again_waits_anew(
    store: RepositoryStore, vault: MemoryVault, reference: str, hours: Callable[[timedelta], None]
) -> None:
    index = {key: vault.files[key] for key in vault.keys("/index/")}
    (snapshot,) = vault.keys("/snapshots/")
    kept = vault.files[snapshot]
    store.expire([reference])
    store.prune()
    hours(2 * DAY)
    vault.files |= {**index, snapshot: kept}  # as by a writer that brought it back
    flip_blob(store, vault)
    (bad,) = store.repair().unlisted
    store.expire([reference])
    store.prune()
    assert store.files.key("data", bad) in vault.files
    hours(DAY)
    store.prune()
    assert store.files.key("data", bad) not in vault.files


def test_what_is_in_front_of_the_cut_in_a_pack_of_trees_is_saved(
    store: RepositoryStore, vault: MemoryVault, tmp_path: Path
) -> None:
    small = [{b"a": b"first" * 100}, {b"b": b"second" * 100}]
    references = [store_tree(store, MemoryTree(content), number=number)[1] for number, content in enumerate(small)]
    store.prune(PruneRules(small_packs=1))
    for pack in set(vault.keys("/data/")) - listed(store):
        vault.delete(pack)
    (key,) = packs_of(store, BlobKind.TREE)
    index = load_index(store.files)
    trees = [place for kind, _, place in index.blobs_in(range(index.pack_count)) if kind is BlobKind.TREE]
    assert len(trees) == len(small)
    vault.files[key] = vault.files[key][: max(place.offset for place in trees) + 50]
    assert store.repair().lost_blobs == 1
    whole = [reference for reference in references if not store.verify([reference]).damages]
    assert len(whole) == 1
    assert not store.reader(whole[0]).restore(tmp_path / "out").problems


def test_packs_that_a_prune_took_out_of_the_index_stay_out_unless_they_are_needed(
    store: RepositoryStore, vault: MemoryVault, reference: str, hours: Callable[[timedelta], None], tmp_path: Path
) -> None:
    store_tree(store, MemoryTree({b"x": b"x" * 5000}), number=1)
    (snapshot,) = (key for key in vault.keys("/snapshots/") if reference not in key)
    kept = vault.files[snapshot]
    store.expire([snapshot.rpartition("/")[2]])
    dropped = {store.files.key("data", use.name) for use in store.prune(PruneRules(small_bytes=0)).plan.drop}
    assert len(dropped) == 2
    assert store.repair().clean
    lose_index(store, vault)
    store.repair()
    assert listed(store) == set(vault.keys("/data/")) - dropped
    vault.files[snapshot] = kept
    assert store.repair().salvaged_blobs == 2
    assert store.verify().damages == ()
    see_that_it_restores(store, reference, tmp_path / "out")


# -- locks and kills ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_lock_of_anybody_forbids_it(
    store: RepositoryStore, vault: MemoryVault, reference: str, exclusive: bool
) -> None:
    lose_index(store, vault)
    with locked(store.files, exclusive=exclusive):
        before = dict(vault.files)
        with pytest.raises(BusyError):
            store.repair()
        assert vault.files == before


def test_a_lost_lock_ends_it_before_anything_goes(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_blob(store, vault)
    before = without_locks(vault)
    put = MemoryVault.put

    def lose_lock(self: MemoryVault, key: str, *rest: object, **options: object) -> None:
        put(self, key, *rest, **options)  # type: ignore[arg-type]
        if "/data/" in key:
            for lock in vault.keys("/locks/"):
                vault.delete(lock)

    monkeypatch.setattr(MemoryVault, "put", lose_lock)
    with pytest.raises(BusyError, match="lost"):
        store.repair([other])
    assert before.keys() <= vault.files.keys()
    assert not vault.keys("/unlisted/")


def test_a_lock_that_is_lost_while_it_reads_ends_it_before_anything_is_written(
    store: RepositoryStore, vault: MemoryVault, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_index(store, vault)
    before = without_locks(vault)
    read = MemoryVault.read

    def lose_lock(self: MemoryVault, key: str, *rest: int | None) -> bytes:
        if "/data/" in key:
            for lock in vault.keys("/locks/"):
                vault.delete(lock)
        return read(self, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryVault, "read", lose_lock)
    with pytest.raises(BusyError, match="lost"):
        store.repair()
    assert without_locks(vault) == before


def test_a_new_pack_that_vanishes_ends_it_before_anything_goes(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_blob(store, vault)
    before = without_locks(vault)
    put = MemoryVault.put

    def lose(self: MemoryVault, key: str, *rest: object, **options: object) -> None:
        if "/data/" not in key:
            put(self, key, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryVault, "put", lose)
    with pytest.raises(DamageError, match="was not repaired"):
        store.repair([other])
    assert before.keys() <= vault.files.keys()


class StoppedError(Exception):
    """The process ends here."""


def stop_at(monkeypatch: pytest.MonkeyPatch, vault: MemoryVault, nth: int) -> Iterator[None]:
    """Let writes to the vault up to the n-th through, and no other."""
    asked = 0
    put, delete = MemoryVault.put, MemoryVault.delete

    def counted(do: object) -> object:
        def write(self: MemoryVault, key: str, *rest: object, **options: object) -> None:
            nonlocal asked
            asked += self is vault
            if asked > nth and self is vault:
                raise StoppedError
            do(self, key, *rest, **options)  # type: ignore[operator]

        return write

    monkeypatch.setattr(MemoryVault, "put", counted(put))
    monkeypatch.setattr(MemoryVault, "delete", counted(delete))
    yield
    monkeypatch.setattr(MemoryVault, "put", put)
    monkeypatch.setattr(MemoryVault, "delete", delete)


@pytest.mark.parametrize("damage", [flip_blob, lose_packs_and_index, flip_index])
def test_stopped_at_any_write_the_next_repair_finishes(
    store: RepositoryStore,
    vault: MemoryVault,
    other: RepositoryStore,
    reference: str,
    damage: Callable[[RepositoryStore, MemoryVault], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    damage(store, vault)
    start = dict(vault.files)
    whole = False
    for nth in range(100):
        vault.files = dict(start)
        whole = True
        for _ in stop_at(monkeypatch, vault, nth):
            try:
                store.repair([other])
            except StoppedError:
                whole = False
        for key in vault.keys("/locks/"):
            vault.delete(key)
        assert {key for key in start if "/data/" in key} <= vault.files.keys()
        store.repair([other])
        listed(store)
        see_that_it_restores(store, reference, tmp_path / f"{nth}")
        if whole:
            break
    assert nth > 3 and whole


def test_a_vault_that_is_full_keeps_all_it_has(
    store: RepositoryStore, vault: MemoryVault, other: RepositoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_pack(store, vault)
    before = without_locks(vault)
    put = MemoryVault.put

    def full(self: MemoryVault, key: str, *rest: object, **options: object) -> None:
        if "/data/" in key:
            raise VaultError("full")
        put(self, key, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryVault, "put", full)
    with pytest.raises(VaultError, match="full"):
        store.repair([other])
    assert before.keys() <= vault.files.keys()
