"""Pruning a repository: what snapshots need stays readable, the rest goes in two phases, damage and locks forbid it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import label, store_tree

from cto_backups import clock
from cto_backups.core.pruning import PruneRules
from cto_backups.errors import BusyError, DamageError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.locks import locked
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

PREFIX = "repositories/main"
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), pack_bytes=200_000, workers=2)
RULES = PruneRules(small_bytes=1000, small_packs=1000)
DAY = timedelta(hours=24)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC) + timedelta(hours=1)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "now", made.now)
    return made


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def store(vault: MemoryVault) -> RepositoryStore:
    return RepositoryStore.create(
        vault, PREFIX, "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )


def files(first: int, last: int) -> dict[bytes, bytes]:
    return {b"%03d" % number: random.Random(number).randbytes(20_000) for number in range(first, last)}


@pytest.fixture
def half_expired(store: RepositoryStore) -> tuple[str, dict[bytes, bytes]]:
    """A store whose packs are partly unused: the snapshot that stays, and its content."""
    everything = files(0, 60)
    _, first = store_tree(store, MemoryTree(everything))
    kept = {name: content for number, (name, content) in enumerate(everything.items()) if number % 3}
    _, second = store_tree(store, MemoryTree(kept), number=1)
    _, third = store_tree(store, MemoryTree(files(100, 140)), number=2)
    store.expire([first, third])
    return second, kept


def packs(vault: MemoryVault) -> set[str]:
    return {key.rpartition("/")[2] for key in vault.keys("/data/")}


def listed(store: RepositoryStore) -> set[str]:
    index = load_index(store.files)
    assert index.damages == []
    return {index.pack_name(number).hex() for number in range(index.pack_count)}


def see_that_it_restores(store: RepositoryStore, reference: str, content: dict[bytes, bytes], place: Path) -> None:
    assert store.verify().damages == ()
    assert not store.reader(reference).restore(place).problems
    assert {path.name.encode(): path.read_bytes() for path in place.iterdir()} == content


def test_what_is_needed_stays_and_the_rest_goes_a_day_later(
    store: RepositoryStore,
    vault: MemoryVault,
    half_expired: tuple[str, dict[bytes, bytes]],
    hours: Clock,
    tmp_path: Path,
) -> None:
    before = packs(vault)
    pruned = store.prune(RULES)
    assert pruned.done and pruned.plan.drop and pruned.plan.repack
    assert before < packs(vault), "nothing is deleted yet"
    gone = {use.name for use in (*pruned.plan.drop, *pruned.plan.repack)}
    assert listed(store) == packs(vault) - gone
    see_that_it_restores(store, *half_expired, tmp_path / "first")
    hours.moment += DAY - timedelta(seconds=1)
    assert {pack.name for pack in store.prune(RULES).plan.waiting} == gone
    assert gone < packs(vault)
    hours.moment += timedelta(seconds=1)
    assert {pack.name for pack in store.prune(RULES).plan.overdue} == gone
    assert packs(vault) == listed(store)
    assert not vault.keys("/unlisted/")
    see_that_it_restores(store, *half_expired, tmp_path / "second")
    needed = sum(map(len, half_expired[1].values()))
    assert sum(len(vault.files[key]) for key in vault.keys("/data/")) < 1.06 * needed + 50_000


def test_a_dry_run_shows_the_plan_that_is_carried_out_and_changes_nothing(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]]
) -> None:
    before = dict(vault.files)
    shown = store.prune(RULES, dry_run=True)
    assert vault.files == before
    assert not shown.done
    assert store.prune(RULES).plan == shown.plan
    assert store.prune(RULES).plan.changes_index is False


def test_data_and_trees_are_written_to_packs_of_their_own(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]]
) -> None:
    store.prune(PruneRules(unused_share=0, small_packs=1))
    index = load_index(store.files)
    for number in range(index.pack_count):
        assert len({kind for kind, _, _ in index.blobs_in({number})}) == 1
    assert index.native.count(BlobKind.DATA) == 40


def test_small_packs_are_joined(store: RepositoryStore, vault: MemoryVault, tmp_path: Path) -> None:
    for number in range(12):
        _, reference = store_tree(store, MemoryTree({b"file": b"%d" % number * 1000}), number=number)
    assert len(listed(store)) == 24
    assert len(store.prune().plan.repack) == 24
    assert len(listed(store)) == 2
    assert len(vault.keys("/index/")) == 1
    see_that_it_restores(store, reference, {b"file": b"11" * 1000}, tmp_path / "out")


def test_a_pack_that_no_index_lists_is_left_alone_until_its_grace_is_over(
    store: RepositoryStore, vault: MemoryVault, hours: Clock, tmp_path: Path
) -> None:
    _, reference = store_tree(store, MemoryTree(files(0, 3)))
    stray = f"{PREFIX}/data/ab/{'ab' * 32}"
    vault.files[stray] = b"of a backup that was killed"
    store.prune(RULES)
    hours.moment += DAY / 2
    store.prune(RULES)
    assert stray in vault.files
    hours.moment += DAY / 2
    store.prune(RULES)
    assert stray not in vault.files
    see_that_it_restores(store, reference, files(0, 3), tmp_path / "out")


def test_a_pack_that_is_listed_again_waits_anew_when_it_goes(
    store: RepositoryStore, vault: MemoryVault, hours: Clock
) -> None:
    _, reference = store_tree(store, MemoryTree(files(0, 3)))
    index = {key: vault.files[key] for key in vault.keys("/index/")}
    store.expire([reference])
    store.prune(RULES)
    hours.moment += 2 * DAY
    vault.files |= index  # as by a writer that brought it back
    assert store.prune(RULES).plan.overdue == ()
    assert len(packs(vault)) == 2
    hours.moment += DAY
    store.prune(RULES)
    assert packs(vault) == set()


def test_a_pack_that_a_snapshot_needs_again_is_listed_again(
    store: RepositoryStore, vault: MemoryVault, hours: Clock, tmp_path: Path
) -> None:
    """As by a writer that fell asleep after its last check, and woke after the prune."""
    _, reference = store_tree(store, MemoryTree(files(0, 3)))
    (snapshot,) = vault.keys("/snapshots/")
    content = vault.files[snapshot]
    store.expire([reference])
    store.prune(RULES)
    vault.files[snapshot] = content
    hours.moment += 2 * DAY
    assert len(store.prune(RULES).plan.relisted) == 2
    see_that_it_restores(store, reference, files(0, 3), tmp_path / "out")


def test_blobs_in_several_packs_are_kept_once(store: RepositoryStore, vault: MemoryVault, tmp_path: Path) -> None:
    _, reference = store_tree(store, MemoryTree(files(0, 3)))
    index = {key: vault.files.pop(key) for key in vault.keys("/index/")}
    _, second = store_tree(store, MemoryTree(files(0, 4)), number=1)
    vault.files |= index
    pruned = store.prune(RULES)
    assert pruned.plan.duplicate_blobs == 3
    assert len(load_index(store.files).native.pack(0)) == 3
    see_that_it_restores(store, reference, files(0, 3), tmp_path / "first")
    see_that_it_restores(store, second, files(0, 4), tmp_path / "second")


@pytest.mark.parametrize("older", [True, False], ids=["older", "newer"])
def test_of_blobs_in_several_packs_a_damaged_one_is_not_what_stays(
    store: RepositoryStore, vault: MemoryVault, hours: Clock, older: bool, tmp_path: Path
) -> None:
    content = files(0, 3)
    _, reference = store_tree(store, MemoryTree(content))
    first = packs(vault)
    index = {key: vault.files.pop(key) for key in vault.keys("/index/")}
    store_tree(store, MemoryTree(content), number=1)
    vault.files |= index
    damaged = {pack for pack in packs(vault) if (pack in first) == older}
    for pack in damaged:
        vault.flip(store.files.key("data", pack), 20)  # the first blob; the others in it are intact
    shown = store.prune(RULES, dry_run=True)
    assert store.prune(RULES).plan == shown.plan
    hours.moment += DAY
    store.prune(RULES)
    fetcher = Fetcher(store.files, load_index(store.files))
    for place in fetcher.index.locate(BlobKind.DATA, sha256(content[b"000"]).digest()):
        if fetcher.pack_name(place.pack) not in damaged:
            break
    else:
        pytest.fail("only the damaged one stayed")
    assert not store.reader(reference).restore(tmp_path / "out").problems
    assert {path.name.encode(): path.read_bytes() for path in (tmp_path / "out").iterdir()} == content


def test_of_blobs_in_several_packs_one_that_is_damaged_in_all_forbids_it(
    store: RepositoryStore, vault: MemoryVault
) -> None:
    store_tree(store, MemoryTree({b"a": b"a" * 5000}))
    index = {key: vault.files.pop(key) for key in vault.keys("/index/")}
    store_tree(store, MemoryTree({b"a": b"a" * 5000}), number=1)
    vault.files |= index
    loaded = load_index(store.files)
    for kind, _, place in loaded.blobs_in(range(loaded.pack_count)):
        if kind is BlobKind.DATA:
            vault.flip(store.files.key("data", loaded.pack_name(place.pack).hex()), 20)
    before = set(vault.files)
    with pytest.raises(DamageError, match="is damaged"):
        store.prune(RULES)
    assert set(vault.files) == before


@pytest.mark.parametrize("folder", ["snapshots", "index", "data"])
def test_damage_forbids_it_and_is_named(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]], folder: str
) -> None:
    index = load_index(store.files)
    trees = {index.pack_name(place.pack).hex() for kind, _, place in index.blobs_in(range(index.pack_count)) if kind}
    for key in vault.keys(f"/{folder}/"):
        if folder != "data" or key.rpartition("/")[2] in trees:
            vault.flip(key, 40)
    before = set(vault.files)
    with pytest.raises(DamageError, match="was not pruned") as caught:
        store.prune(RULES)
    assert {"snapshots": "snapshot", "index": "index file", "data": "tree"}[folder] in str(caught.value)
    assert set(vault.files) == before


def test_a_missing_pack_that_is_needed_forbids_it(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]]
) -> None:
    index = load_index(store.files)
    for key in vault.keys("/data/"):
        pack = bytes.fromhex(key.rpartition("/")[2])
        if any(kind is BlobKind.DATA for kind, _, _ in index.blobs_in({index.native.add_pack(pack, [])})):
            vault.delete(key)
    before = set(vault.files)
    with pytest.raises(DamageError, match="is missing"):
        store.prune(RULES)
    assert set(vault.files) == before


def test_a_missing_pack_that_nothing_needs_leaves_the_index(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]], tmp_path: Path
) -> None:
    unneeded = store.prune(RULES, dry_run=True).plan.drop[0].name
    vault.delete(store.files.key("data", unneeded))
    assert store.prune(RULES).plan.gone == (unneeded,)
    assert unneeded not in listed(store)
    see_that_it_restores(store, *half_expired, tmp_path / "out")


# -- locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_lock_of_anybody_forbids_it(
    store: RepositoryStore, vault: MemoryVault, half_expired: tuple[str, dict[bytes, bytes]], exclusive: bool
) -> None:
    with locked(store.files, exclusive=exclusive):
        before = dict(vault.files)
        with pytest.raises(BusyError):
            store.prune(RULES)
        assert vault.files == before


def test_a_writer_that_slept_through_a_prune_commits_nothing(
    store: RepositoryStore, vault: MemoryVault, hours: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reference = store_tree(store, MemoryTree(files(0, 3)))
    with store.writing() as writing:
        draft = writing.write(MemoryTree(files(0, 3)))
        with pytest.raises(BusyError):
            store.prune(RULES)
        hours.moment += timedelta(minutes=31)
        (snapshot,) = vault.keys("/snapshots/")
        vault.delete(snapshot)
        store.prune(RULES)
        writing._lock.refresh()  # type: ignore[attr-defined]  # as its thread does first of all when it wakes
        with pytest.raises(BusyError, match="lost"):
            writing.commit(draft, label())
    assert not store.committed()
    assert reference


def test_a_lock_that_somebody_removed_is_not_taken_again(store: RepositoryStore, vault: MemoryVault) -> None:
    with locked(store.files, exclusive=False) as lock:
        (key,) = vault.keys("/locks/")
        vault.delete(key)
        lock.refresh()
        assert not vault.keys("/locks/")
        with pytest.raises(BusyError, match="lost"):
            lock.check()


# -- killed ------------------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """The process ends here."""


def stop_at(vault: MemoryVault, monkeypatch: pytest.MonkeyPatch, nth: int) -> Iterator[str]:
    """Let writes up to the n-th through, and no other; what was asked for."""
    asked = 0
    put, delete = MemoryVault.put, MemoryVault.delete

    def counted(do: object) -> object:
        def write(self: MemoryVault, key: str, *rest: object, **options: object) -> None:
            nonlocal asked
            asked += 1
            if asked > nth:
                raise StoppedError
            do(self, key, *rest, **options)  # type: ignore[operator]

        return write

    monkeypatch.setattr(MemoryVault, "put", counted(put))
    monkeypatch.setattr(MemoryVault, "delete", counted(delete))
    yield ""
    monkeypatch.setattr(MemoryVault, "put", put)
    monkeypatch.setattr(MemoryVault, "delete", delete)


def test_stopped_at_any_write_it_loses_nothing_and_the_next_one_finishes(
    store: RepositoryStore,
    vault: MemoryVault,
    half_expired: tuple[str, dict[bytes, bytes]],
    hours: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    vault.files[f"{PREFIX}/data/ab/{'ab' * 32}"] = b"a stray"
    start = dict(vault.files)
    began = hours.moment
    for nth in range(200):
        vault.files = dict(start)
        hours.moment = began
        whole = True
        for _ in stop_at(vault, monkeypatch, nth):
            try:
                store.prune(RULES)
            except StoppedError:
                whole = False
        for key in vault.keys("/locks/"):
            vault.delete(key)
        see_that_it_restores(store, *half_expired, tmp_path / f"stopped-{nth}")
        store.prune(RULES)
        see_that_it_restores(store, *half_expired, tmp_path / f"next-{nth}")
        hours.moment += DAY
        store.prune(RULES)
        assert packs(vault) == listed(store)
        assert not vault.keys("/unlisted/")
        see_that_it_restores(store, *half_expired, tmp_path / f"last-{nth}")
        if whole:
            break
    assert nth > 10 and whole
