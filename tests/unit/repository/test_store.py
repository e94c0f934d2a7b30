"""The store from outside: opening, keys, locks, deduplication, damage, restores onto existing and hostile things."""

import hashlib
import os
import random
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from fakes.memory import MemoryTree, MemoryVault
from hypothesis import given, settings
from hypothesis import strategies as st
from payload_store_contract import CONTENT, LARGE, label, store_tree

from cto_backups import _native
from cto_backups.core.ports import Existing
from cto_backups.core.trees import Buffer, Entry, EntryKind
from cto_backups.errors import (
    BusyError,
    DamageError,
    KeyProblemError,
    NotFoundError,
    RefusedError,
    RestoreError,
    VaultError,
    VaultFullError,
    VaultReadOnlyError,
)
from cto_backups.repository import restore
from cto_backups.repository.depot import Bench, Depot
from cto_backups.repository.gotime import format_time
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.layout import is_there
from cto_backups.repository.locks import username
from cto_backups.repository.options import MIB, RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

QUICK = RepositoryOptions(scrypt=ScryptParameters(n=2))
PREFIX = "repositories/main"


def create(vault: MemoryVault, *, polynomial: int | None = None, options: RepositoryOptions = QUICK) -> RepositoryStore:
    return RepositoryStore.create(
        vault,
        PREFIX,
        "secret",
        polynomial=polynomial,
        now=datetime.now(UTC),
        hostname="h",
        username="u",
        options=options,
    )


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def store(vault: MemoryVault) -> RepositoryStore:
    return create(vault)


class TestOpening:
    def test_what_was_created_opens_and_shares_its_polynomial(self, vault: MemoryVault) -> None:
        assert not is_there(vault, PREFIX)
        made = create(vault)
        assert is_there(vault, PREFIX)
        opened = RepositoryStore.open(vault, PREFIX, "secret")
        assert (opened.repository_id, opened.polynomial) == (made.repository_id, made.polynomial)
        other = create(MemoryVault(), polynomial=made.polynomial)
        assert other.polynomial == made.polynomial
        assert other.repository_id != made.repository_id

    def test_a_wrong_password_is_a_key_problem(self, store: RepositoryStore) -> None:
        with pytest.raises(KeyProblemError, match="vault memory"):
            RepositoryStore.open(store.vault, PREFIX, "wrong")

    def test_no_repository_is_not_found(self, vault: MemoryVault) -> None:
        with pytest.raises(NotFoundError):
            RepositoryStore.open(vault, PREFIX, "secret")

    def test_one_is_never_created_over_another(self, store: RepositoryStore, vault: MemoryVault) -> None:
        before = dict(vault.files)
        with pytest.raises(RefusedError):
            create(vault)
        assert vault.files == before

    def test_a_reducible_polynomial_is_refused(self, vault: MemoryVault) -> None:
        with pytest.raises(RefusedError):
            create(vault, polynomial=1 << 53)

    @pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"garbage", b'{"kdf":"scrypt","N":1e99}'])
    def test_unreadable_keys_are_damage(self, store: RepositoryStore, vault: MemoryVault, content: bytes) -> None:
        vault.files[vault.keys("/keys/")[0]] = content
        with pytest.raises(DamageError, match="key file"):
            RepositoryStore.open(vault, PREFIX, "secret")

    def test_a_key_file_cannot_make_us_spend_all_memory(self, store: RepositoryStore, vault: MemoryVault) -> None:
        key = vault.keys("/keys/")[0]
        vault.files[key] = orjson.dumps(orjson.loads(vault.files[key]) | {"N": 1 << 40})
        with pytest.raises(DamageError):
            RepositoryStore.open(vault, PREFIX, "secret")

    def test_a_key_file_whose_bytes_changed_is_damage_not_a_wrong_password(self, vault: MemoryVault) -> None:
        create(vault)
        key = vault.keys("/keys/")[0]
        document = orjson.loads(vault.files[key])
        document["salt"] = "A" + document["salt"][1:] if document["salt"][0] != "A" else "B" + document["salt"][1:]
        vault.files[key] = orjson.dumps(document)
        with pytest.raises(DamageError):
            RepositoryStore.open(vault, PREFIX, "secret")

    def test_a_second_key_opens_past_a_damaged_one(self, store: RepositoryStore, vault: MemoryVault) -> None:
        vault.files[f"{PREFIX}/keys/{'0' * 64}"] = b"garbage"
        assert RepositoryStore.open(vault, PREFIX, "secret").repository_id == store.repository_id

    def test_a_damaged_config_is_damage(self, store: RepositoryStore, vault: MemoryVault) -> None:
        vault.flip(f"{PREFIX}/config", 20)
        with pytest.raises(DamageError, match="config"):
            RepositoryStore.open(vault, PREFIX, "secret")

    def test_another_format_version_is_named(self, store: RepositoryStore, vault: MemoryVault) -> None:
        config = {"version": 9, "id": "x", "chunker_polynomial": "3"}
        vault.files[f"{PREFIX}/config"] = store.files.sealer.seal(orjson.dumps(config))
        with pytest.raises(DamageError) as caught:
            RepositoryStore.open(vault, PREFIX, "secret")
        assert "version 9" in caught.value.why


@contextmanager
def foreign_lock(store: RepositoryStore, **changes: object) -> Iterator[str]:
    document = {
        "time": format_time(datetime.now(UTC)),
        "exclusive": True,
        "hostname": "elsewhere",
        "username": "ann",
        "pid": 77,
        "uid": 0,
        "gid": 0,
    }
    name = store.files.save("locks", document | changes)
    yield name
    store.vault.delete(store.files.key("locks", name))


class TestLocks:
    def test_a_lock_stands_while_writing_and_is_gone_afterwards(
        self, store: RepositoryStore, vault: MemoryVault
    ) -> None:
        with store.writing():
            (key,) = vault.keys("/locks/")
            document = store.files.load("locks", key.rpartition("/")[2])
            assert (document["exclusive"], document["pid"]) == (False, os.getpid())
        assert not vault.keys("/locks/")

    def test_an_exclusive_lock_keeps_writers_out_and_is_named(self, store: RepositoryStore) -> None:
        with foreign_lock(store), pytest.raises(BusyError) as caught, store.writing():
            pass
        assert "ann@elsewhere" in caught.value.why

    def test_a_shared_lock_keeps_only_expiry_out(self, store: RepositoryStore) -> None:
        _, reference = store_tree(store, MemoryTree({b"a": b"a"}))
        with foreign_lock(store, exclusive=False):
            with store.writing():
                pass
            with pytest.raises(BusyError):
                store.expire([reference])
        assert len(store.committed()) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"time": format_time(datetime.now(UTC) - timedelta(minutes=31))},
            {"hostname": socket.gethostname(), "pid": 2**22 + 1},
            {
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "time": format_time(datetime.now(UTC) - timedelta(minutes=20)),
            },
        ],
    )
    def test_a_stale_lock_stops_nobody_and_is_repaired(
        self, store: RepositoryStore, changes: dict[str, object]
    ) -> None:
        with foreign_lock(store, **changes):
            with store.writing():
                pass
            (sentence,) = store.clear_leftovers()
            assert "process is gone" in sentence
            assert store.clear_leftovers() == ()

    def test_of_stale_locks_only_our_own_are_cleared_where_we_may_only_add(
        self, store: RepositoryStore, vault: MemoryVault
    ) -> None:
        old = {"time": format_time(datetime.now(UTC) - timedelta(hours=1))}
        vault.files[f"{PREFIX}/locks/{'1' * 64}"] = b"garbage"
        with (
            foreign_lock(store, **old, username=username(), hostname="elsewhere"),
            foreign_lock(store, **old, username="another", hostname=socket.gethostname()),
            foreign_lock(store, **old, username=username(), hostname=socket.gethostname()),
        ):
            (sentence,) = store.clear_leftovers(own=True)
            assert f"{username()}@{socket.gethostname()}" in sentence
            assert len(vault.keys("/locks/")) == 3

    def test_who_may_not_look_for_unfinished_files_clears_the_rest(self) -> None:
        class Unlisted(MemoryVault):
            def sweep(self) -> int:
                raise VaultReadOnlyError("no unfinished uploads are listed", why="s3:ListBucketMultipartUploads")

        store = create(Unlisted("one"))
        with foreign_lock(store, hostname=socket.gethostname(), pid=2**22 + 1):
            cleared, told = store.clear_leftovers()
        assert "process is gone" in cleared and "s3:ListBucketMultipartUploads" in told

    def test_repair_leaves_a_live_lock(self, store: RepositoryStore, vault: MemoryVault) -> None:
        with foreign_lock(store), pytest.raises(BusyError):
            assert store.clear_leftovers() == ()
            store.expire(["ab" * 32])

    def test_a_lock_file_of_garbage_stops_expiry_until_repaired(
        self, store: RepositoryStore, vault: MemoryVault
    ) -> None:
        vault.files[f"{PREFIX}/locks/{'1' * 64}"] = b"garbage"
        with pytest.raises(BusyError):
            store.expire(["ab" * 32])
        with store.writing():
            pass
        assert len(store.clear_leftovers()) == 1
        store.expire(["ab" * 32])

    def test_a_lost_lock_prevents_the_commit(self, store: RepositoryStore, vault: MemoryVault) -> None:
        with pytest.raises(BusyError, match="lost"), store.writing() as writing:
            draft = writing.write(MemoryTree(CONTENT))
            for key in vault.keys("/locks/"):
                vault.delete(key)
            writing.commit(draft, label())
        assert not store.committed()

    def test_vanished_packs_prevent_the_commit(self, store: RepositoryStore, vault: MemoryVault) -> None:
        with pytest.raises(DamageError, match="vanished"), store.writing() as writing:
            draft = writing.write(MemoryTree(CONTENT))
            vault.delete(vault.keys("/data/")[0])
            writing.commit(draft, label())
        assert not store.committed()

    @pytest.mark.parametrize("error", [VaultReadOnlyError, VaultFullError])
    def test_a_vault_that_takes_nothing_can_be_read(
        self, store: RepositoryStore, vault: MemoryVault, tmp_path: Path, error: type[VaultError]
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))

        def refuse(*_: object, **__: object) -> None:
            raise error("Vault memory takes nothing")

        vault.put = refuse  # type: ignore[method-assign]
        assert store.verify().damages == ()
        assert not store.reader(reference).restore(tmp_path / "out").problems


class TestUploads:
    def pack(self, bench: Bench, content: bytes) -> _native.Pack:
        bench.save(BlobKind.DATA, content)
        pack = bench.native.take_unfilled(BlobKind.DATA)
        assert pack is not None
        return pack

    def test_a_full_pack_waits_with_the_thread_that_filled_it_until_one_is_stored(
        self, store: RepositoryStore, vault: MemoryVault
    ) -> None:
        storing, go_on, put = threading.Event(), threading.Event(), vault.put

        def slow(key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
            if "/data/" in key:
                storing.set()
                assert go_on.wait(30)
            put(key, parts, overwrite=overwrite)

        vault.put = slow  # type: ignore[method-assign]
        with Depot(store.files, load_index(store.files), QUICK) as depot:
            bench = depot.bench()
            for content in (b"first", b"second"):  # one for each uploading thread
                depot.upload(self.pack(bench, content))
            waiting = threading.Thread(target=depot.upload, args=[self.pack(bench, b"third")])
            waiting.start()
            assert storing.wait(30)
            waiting.join(0.2)
            assert waiting.is_alive()
            go_on.set()
            waiting.join(30)
            assert not waiting.is_alive()
            depot.finish()
        assert len(vault.keys("/data/")) == 3

    def test_who_waits_learns_that_the_pack_before_failed(self, store: RepositoryStore, vault: MemoryVault) -> None:
        def full(*_: object, **__: object) -> None:
            raise VaultFullError("Vault memory is full")

        vault.put = full  # type: ignore[method-assign]
        with (
            pytest.raises(VaultFullError),
            Depot(store.files, load_index(store.files), QUICK) as depot,
        ):
            bench = depot.bench()
            for number in range(5):
                depot.upload(self.pack(bench, b"%d" % number))


class TestDeduplication:
    def test_equal_blobs_are_stored_once_even_from_many_threads(self, vault: MemoryVault) -> None:
        store = create(vault, options=RepositoryOptions(scrypt=ScryptParameters(n=2), workers=8, pack_bytes=MIB // 8))
        same = [random.Random(number).randbytes(3000) for number in range(20)]
        tree = MemoryTree({b"%04d" % number: same[number % 20] for number in range(1200)})
        draft, _ = store_tree(store, tree)
        index = load_index(store.files)
        assert index.native.count(BlobKind.DATA) == 20
        assert len({blob for kind, blob, _ in index.blobs_in(range(index.pack_count)) if kind is BlobKind.DATA}) == 20
        assert draft.entries == 1200

    def test_a_killed_run_leaves_what_the_next_one_uses(self, vault: MemoryVault) -> None:
        options = RepositoryOptions(
            scrypt=ScryptParameters(n=2), workers=1, pack_bytes=MIB // 4, index_blobs=1, index_seconds=0
        )
        store = create(vault, options=options)
        files = {b"%02d" % number: random.Random(number).randbytes(200_000) for number in range(40)}
        tree = MemoryTree(files)

        def die(path: bytes) -> None:
            if path == b"/39":
                raise KeyboardInterrupt

        tree.during_read = die
        with pytest.raises(KeyboardInterrupt), store.writing() as writing:
            writing.write(tree)
        stored = len(vault.keys("/data/"))
        assert stored > 5
        draft, _ = store_tree(store, MemoryTree(files))
        assert draft.added_bytes < 0.5 * draft.size_bytes
        assert store.verify().damages == ()

    def test_blobs_of_a_vanished_pack_are_stored_again(
        self, store: RepositoryStore, vault: MemoryVault, tmp_path: Path
    ) -> None:
        _, parent = store_tree(store, MemoryTree(CONTENT))
        for key in vault.keys("/data/"):
            vault.delete(key)
        _, reference = store_tree(store, MemoryTree(CONTENT), parent=parent)
        assert not store.reader(reference).restore(tmp_path / "out").problems
        assert (tmp_path / "out/large").read_bytes() == LARGE

    def test_a_change_in_a_large_file_adds_little(self, store: RepositoryStore) -> None:
        before = random.Random(5).randbytes(30 << 20)
        at = 12_345_678
        _, parent = store_tree(store, MemoryTree({b"f": before}))
        changed = MemoryTree({b"f": before[:at] + b"inserted" + before[at:]})
        draft, _ = store_tree(store, changed, parent=parent)
        assert 0 < draft.added_bytes < 9 << 20

    def test_a_full_vault_is_an_error_and_nothing_is_committed(self, vault: MemoryVault) -> None:
        store = create(vault)
        put = vault.put

        def failing(key: str, *arguments: object, **options: object) -> None:
            if "/data/" in key:
                raise VaultError("Vault memory is full")
            put(key, *arguments, **options)  # type: ignore[arg-type]

        vault.put = failing  # type: ignore[method-assign]
        with pytest.raises(VaultError, match="full"):
            store_tree(store, MemoryTree(CONTENT))
        vault.put = put  # type: ignore[method-assign]
        assert not store.committed()
        assert not vault.keys("/locks/")


class TestBrokenMachines:
    """What is re-opened before it counts as stored, and compared before it is restored."""

    @pytest.fixture
    def fault(self) -> Iterator[Callable[..., None]]:
        yield _native.inject_fault
        _native.inject_fault(None)

    @pytest.mark.parametrize("kind", ["sealing", "compressing"])
    def test_a_blob_that_comes_out_wrong_is_caught_before_anything_is_committed(
        self, store: RepositoryStore, fault: Callable[..., None], kind: str
    ) -> None:
        fault(kind, 100)
        with pytest.raises(DamageError, match="opened again"):
            store_tree(store, MemoryTree(CONTENT))
        assert not store.committed()
        fault(None)
        store_tree(store, MemoryTree(CONTENT))
        assert not store.verify().damages

    def test_what_came_out_wrong_is_no_fault_of_a_copy_s_origin(
        self, store: RepositoryStore, fault: Callable[..., None]
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        fault("sealing", 100)
        with create(MemoryVault()).writing() as writing, pytest.raises(DamageError, match="opened again"):
            writing.copy(store, reference)

    def test_a_fault_before_a_blob_is_known_is_for_the_fingerprint_to_find(
        self, store: RepositoryStore, fault: Callable[..., None]
    ) -> None:
        fault("storing", 5000)
        store_tree(store, MemoryTree(CONTENT))
        fault(None)
        assert not store.verify().damages


class TestDamage:
    def test_one_damaged_index_file_is_named_and_the_others_serve(self, vault: MemoryVault, tmp_path: Path) -> None:
        store = create(vault)
        _, first = store_tree(store, MemoryTree({b"a": b"first"}))
        (broken,) = vault.keys("/index/")
        _, second = store_tree(store, MemoryTree({b"b": b"second"}), number=1)
        vault.files[broken] = vault.files[broken][:-7]
        verified = store.verify()
        assert any("index file" in damage.what for damage in verified.damages)
        assert {first} == {one for damage in verified.damages for one in damage.references}
        assert not store.reader(second).restore(tmp_path / "out").problems
        with pytest.raises(DamageError):
            store.reader(first).restore(tmp_path / "other")

    def test_a_garbage_snapshot_does_not_hide_the_others(self, store: RepositoryStore, vault: MemoryVault) -> None:
        _, good = store_tree(store, MemoryTree(CONTENT))
        bad = store.files.save("snapshots", {"time": "never", "tree": 7})
        listed = {one.reference: one for one in store.committed()}
        assert set(listed) == {good, bad}
        assert "damage" in listed[bad].detail
        assert not listed[bad].root
        with pytest.raises(DamageError):
            store.reader(bad)
        assert [damage.references for damage in store.verify().damages] == [(bad,)]

    @pytest.mark.parametrize("document", [[], {}, {"packs": 3}, {"packs": [{}]}, {"packs": [{"id": "x", "blobs": []}]}])
    def test_an_index_of_the_wrong_shape_is_damage(self, store: RepositoryStore, document: object) -> None:
        store.files.save("index", document)  # type: ignore[arg-type]
        assert len(load_index(store.files).damages) == 1

    def test_a_missing_pack_names_the_paths_it_hurts(self, store: RepositoryStore, vault: MemoryVault) -> None:
        _, reference = store_tree(store, MemoryTree({b"folder": {b"file": b"content"}}))
        _, other = store_tree(store, MemoryTree({b"other": b"else"}), number=1)
        index = load_index(store.files)
        pack = index.pack_name(index.pack_of(BlobKind.DATA, hashlib.sha256(b"content").digest())).hex()
        vault.delete(store.files.key("data", pack))
        (damage,) = store.verify([reference]).damages
        assert "missing" in damage.detail
        assert (damage.references, damage.paths) == ((reference,), ("/folder/file",))
        assert store.verify([other]).damages == ()

    def test_a_damaged_blob_costs_only_its_files(self, vault: MemoryVault, tmp_path: Path) -> None:
        store = create(vault, options=RepositoryOptions(scrypt=ScryptParameters(n=2), workers=1))
        files = {b"%02d" % number: random.Random(number).randbytes(1000) for number in range(30)}
        _, reference = store_tree(store, MemoryTree(files))
        index = load_index(store.files)
        (place,) = index.locate(BlobKind.DATA, hashlib.sha256(files[b"07"]).digest())
        vault.flip(store.files.key("data", index.pack_name(place.pack).hex()), place.offset + 30)
        (damage,) = store.verify().damages
        assert damage.paths == ("/07",)
        restored = store.reader(reference).restore(tmp_path / "out")
        assert [(problem.path, problem.kind) for problem in restored.problems] == [("/07", "damaged")]
        assert restored.entries == 29
        assert names_in(tmp_path / "out") == [f"{n:02d}" for n in range(30) if n != 7]

    @settings(max_examples=150)
    @given(st.data())
    def test_no_change_to_any_stored_byte_makes_a_traceback(self, data: st.DataObject) -> None:
        vault, _ = small_repository()
        damaged = MemoryVault()
        damaged.files = dict(vault.files)
        key = data.draw(st.sampled_from(sorted(damaged.files)))
        content = bytearray(damaged.files[key])
        change = data.draw(st.sampled_from(["flip", "cut", "empty", "grow", "gone"]))
        at = data.draw(st.integers(0, len(content) - 1))
        if change == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del content[at:]
        elif change == "empty":
            content.clear()
        elif change == "grow":
            content += b"more"
        damaged.files[key] = bytes(content)
        if change == "gone":
            del damaged.files[key]
        try:
            store = RepositoryStore.open(damaged, PREFIX, "secret")
        except (DamageError, KeyProblemError, NotFoundError):
            assert "/keys/" in key or key.endswith("/config")
            return
        store.committed()
        found = store.verify().damages
        if "/data/" in key or "/index/" in key or ("/snapshots/" in key and change != "gone"):
            assert found


SMALL: list[tuple[MemoryVault, str]] = []


def small_repository() -> tuple[MemoryVault, str]:
    if not SMALL:
        vault = MemoryVault()
        _, reference = store_tree(create(vault), MemoryTree({b"a": b"a" * 1000, b"d": {b"b": b"b"}}))
        SMALL.append((vault, reference))
    return SMALL[0]


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
TREES = st.recursive(
    st.binary(max_size=2000),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
).filter(lambda tree: isinstance(tree, dict))


class TestAnyTree:
    @settings(max_examples=60)
    @given(TREES)
    def test_any_tree_is_listed_and_restored_as_it_was(
        self, tmp_path_factory: pytest.TempPathFactory, content: dict
    ) -> None:  # type: ignore[type-arg]
        store = create(MemoryVault())
        _, reference = store_tree(store, MemoryTree(content))
        out = tmp_path_factory.mktemp("restored")
        assert not store.reader(reference).restore(out).problems
        assert look(os.fsencode(out)) == content


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def look(folder: bytes) -> dict[bytes, object]:
    return {
        entry.name: look(entry.path) if entry.is_dir() else Path(os.fsdecode(entry.path)).read_bytes()
        for entry in os.scandir(folder)
    }


def file_entry(size: int, **changes: object) -> Entry:
    entry = Entry(b"", b"", EntryKind.FILE, stat.S_IFREG | 0o640, size=size, mtime_ns=10**18, ctime_ns=10**18)
    for name, value in changes.items():
        setattr(entry, name, value)
    return entry


class TestHardLinks:
    def linked(self, content: bytes) -> MemoryTree:
        tree = MemoryTree(
            {name: file_entry(len(content), inode=9, device_id=4, links=3) for name in (b"1", b"2", b"3")}
        )
        tree.data = {b"/1": content, b"/2": content, b"/3": content}
        return tree

    @pytest.mark.parametrize("size", [10, 9_000_000])
    @pytest.mark.parametrize("reusable", [True, False])
    def test_names_of_one_file_stay_so(self, store: RepositoryStore, tmp_path: Path, size: int, reusable: bool) -> None:
        tree = self.linked(random.Random(6).randbytes(size))
        tree.reusable = reusable
        draft, reference = store_tree(store, tree)
        assert sorted(tree.read_paths) == ([b"/1"] if reusable else [b"/1", b"/2", b"/3"])
        assert draft.entries == 3
        assert not store.reader(reference).restore(tmp_path / "out").problems
        assert len({path.stat().st_ino for path in (tmp_path / "out").iterdir()}) == 1
        assert (tmp_path / "out/3").read_bytes() == tree.data[b"/3"]

    @pytest.mark.parametrize("size", [10, 9_000_000])
    def test_an_unreadable_name_does_not_cost_the_others(
        self, store: RepositoryStore, tmp_path: Path, size: int
    ) -> None:
        tree = self.linked(random.Random(7).randbytes(size))
        tree.unreadable = {b"/1"}
        draft, reference = store_tree(store, tree)
        assert draft.entries == 2
        store.reader(reference).restore(tmp_path / "out")
        assert names_in(tmp_path / "out") == ["2", "3"]


class TestRestoring:
    def test_long_runs_of_zeros_become_holes(self, store: RepositoryStore, tmp_path: Path) -> None:
        content = b"start" + bytes(20 << 20) + b"end"
        _, reference = store_tree(store, MemoryTree({b"sparse": content, b"zeros": bytes(1 << 20)}))
        store.reader(reference).restore(tmp_path / "out")
        assert (tmp_path / "out/sparse").read_bytes() == content
        assert (tmp_path / "out/sparse").stat().st_blocks * 512 < 4 << 20
        assert (tmp_path / "out/zeros").stat().st_blocks * 512 < 1 << 19

    def test_a_symlink_in_the_destination_never_leads_outside(self, store: RepositoryStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        outside = tmp_path / "outside"
        outside.mkdir()
        out = tmp_path / "out"
        out.mkdir()
        (out / "folder").symlink_to(outside)
        (out / "a.txt").symlink_to(outside / "victim")
        reader = store.reader(reference)
        assert set(reader.plan(out).conflicts) == {str(out / "folder"), str(out / "a.txt")}
        with pytest.raises(RefusedError):
            reader.restore(out)
        assert not reader.restore(out, existing=Existing.OVERWRITE).problems
        assert list(outside.iterdir()) == []
        assert (out / "folder").is_dir() and not (out / "folder").is_symlink()
        assert (out / "folder/deep/c").read_bytes() == b"c" * 5000

    def test_a_symlink_slipped_in_while_restoring_is_not_followed(
        self, store: RepositoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        outside = tmp_path / "outside"
        outside.mkdir()
        write_files = restore.Restorer._write_files

        def swapped(self: restore.Restorer, *arguments: object) -> None:
            (tmp_path / "out/folder/deep").rmdir()
            (tmp_path / "out/folder/deep").symlink_to(outside)
            write_files(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(restore.Restorer, "_write_files", swapped)
        restored = store.reader(reference).restore(tmp_path / "out")
        assert "/folder/deep/c" in {problem.path for problem in restored.problems}
        assert list(outside.iterdir()) == []

    def test_a_folder_is_never_replaced_by_a_file(self, store: RepositoryStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        (tmp_path / "a.txt").mkdir()
        (tmp_path / "a.txt/precious").write_text("keep")
        restored = store.reader(reference).restore(tmp_path, existing=Existing.OVERWRITE)
        assert [problem.path for problem in restored.problems] == ["/a.txt"]
        assert (tmp_path / "a.txt/precious").read_text() == "keep"
        assert (tmp_path / "large").read_bytes() == LARGE

    def test_an_overwritten_file_is_replaced_whole(self, store: RepositoryStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        (tmp_path / "large").write_bytes(b"old")
        held = (tmp_path / "large").open("rb")
        with held:
            store.reader(reference).restore(tmp_path, existing=Existing.OVERWRITE)
            assert held.read() == b"old"
        assert (tmp_path / "large").read_bytes() == LARGE
        assert names_in(tmp_path) == ["a.txt", "folder", "large"]

    def test_a_full_disk_is_said(self, store: RepositoryStore, tmp_path: Path) -> None:
        _, reference = store_tree(store, MemoryTree(CONTENT))
        _native.inject_fault("restoring")
        try:
            with pytest.raises(RestoreError) as caught:
                store.reader(reference).restore(tmp_path / "out")
        finally:
            _native.inject_fault(None)
        assert caught.value.why == "the disk is full"

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 90_000)), min_size=1, max_size=6))
    def test_zeros_become_holes_and_nothing_else_changes(self, runs: list[tuple[bool, int]]) -> None:
        content = b"".join(bytes(size) if zero else random.Random(size).randbytes(size) for zero, size in runs)
        store = create(MemoryVault())
        _, reference = store_tree(store, MemoryTree({b"sparse": content, b"zeros": bytes(300_000)}))
        with TemporaryDirectory() as place:
            assert not store.reader(reference).restore(Path(place)).problems
            assert (Path(place) / "sparse").read_bytes() == content
            assert (Path(place) / "zeros").stat().st_size == 300_000
            assert (Path(place) / "zeros").stat().st_blocks == 0

    def test_an_owner_that_no_system_has_is_a_problem_and_not_another_owner(self, store: RepositoryStore) -> None:
        odd = Entry(b"odd", b"/odd", EntryKind.FILE, stat.S_IFREG | 0o600, uid=2**32 - 1, size=7)
        tree = MemoryTree({b"odd": odd, b"fine": b"content"})
        tree.data[b"/odd"] = b"content"
        _, reference = store_tree(store, tree)
        with TemporaryDirectory() as place:
            restored = store.reader(reference).restore(Path(place))
            assert (Path(place) / "odd").read_bytes() == b"content"
        if os.geteuid() == 0:
            assert [(problem.path, problem.kind) for problem in restored.problems] == [("/odd", "permission")]

    def test_a_tree_that_names_its_way_out_is_damage(self, store: RepositoryStore, tmp_path: Path) -> None:
        with store.writing() as writing:
            tree = MemoryTree({b"..": b"escaped"})
            draft = writing.write(tree)
            hostile = writing.commit(draft, label())
        with pytest.raises(DamageError):
            store.reader(hostile).restore(tmp_path / "out")
        assert not (tmp_path / "escaped").exists()
        assert {hostile} == {one for damage in store.verify().damages for one in damage.references}
