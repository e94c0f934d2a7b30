"""Stored files that are not what was written: each kind of file, harmed in each way that disks and people know.

After each: what was promised comes back from some vault, verification names exactly the snapshots and paths that are
hurt, and what is intact is neither reported nor lost.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cto_backups.core.payloads import Verified
from cto_backups.errors import BackupsError, DamageError, KeyProblemError, NotFoundError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.snapshot import load_snapshot
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.tree import decode_tree
from faults.operations import OPERATIONS
from faults.workplace import PREFIX, Promise, Workplace

Harm = Callable[[bytes, random.Random], bytes | None]


def _flip(content: bytes, dice: random.Random) -> bytes:
    spoiled = bytearray(content)
    spoiled[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(spoiled)


def _cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def _zeros_behind(content: bytes, dice: random.Random) -> bytes:
    """As a power cut leaves a file whose size was written before its bytes."""
    kept = dice.randrange(len(content) - 1)
    return content[:kept].ljust(len(content), b"\0")


def _zeros_before(content: bytes, dice: random.Random) -> bytes:
    lost = dice.randrange(1, len(content))
    return bytes(lost) + content[lost:]


def _gone(content: bytes, dice: random.Random) -> None:
    return None


def _empty(content: bytes, dice: random.Random) -> bytes:
    return b""


HARMS: dict[str, Harm] = {
    "a flipped bit": _flip,
    "cut off": _cut,
    "zeros at its end": _zeros_behind,
    "zeros at its beginning": _zeros_before,
    "missing": _gone,
    "emptied": _empty,
}
KINDS = ("config", "key", "index", "snapshot", "data pack", "tree pack", "pack header", "lock", "marks")
STRIKES = [(kind, harm) for kind in KINDS for harm in HARMS]
STRIDE = 37
assert len(STRIKES) % STRIDE

Hurt = dict[str, set[str]]


@dataclass(frozen=True)
class Ward:
    """A place whose vault `first` holds every kind of file, and what each stored file means to each snapshot."""

    place: Workplace
    packs: dict[str, BlobKind]
    needs: dict[str, Hurt]

    def keys(self, kind: str) -> list[str]:
        """The stored files of a kind, sorted."""
        folders = {"config": "config", "key": "keys", "index": "index", "snapshot": "snapshots", "lock": "locks"}
        if kind == "data pack":
            return sorted(key for key, blobs in self.packs.items() if blobs is BlobKind.DATA)
        if kind == "tree pack":
            return sorted(key for key, blobs in self.packs.items() if blobs is BlobKind.TREE)
        if kind == "pack header":
            return sorted(self.packs)
        folder = "unlisted" if kind == "marks" else folders[kind]
        root = self.place.root / "first"
        return sorted(
            str(path.relative_to(root)) for path in root.glob(f"{PREFIX}/{folder}{'/*' * (kind != 'config')}")
        )


@pytest.fixture(scope="module")
def ward(ready_for: Callable[..., tuple[Workplace, object]], tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """After a prune, which leaves marks; with a lock of a run that died, and all versions in both vaults."""
    ready, _ = ready_for("delete")
    place = ready.copy(tmp_path_factory.mktemp("ward") / "place")
    place.run("copy")
    store = place.store("first")
    store.files.save("locks", {"time": "2026-01-01T00:00:00Z", "exclusive": False, "hostname": "gone", "pid": 1})
    packs, needs = _layout(store)
    return Ward(place, packs, needs)


def _layout(store: RepositoryStore) -> tuple[dict[str, BlobKind], dict[str, Hurt]]:
    """The kind of each pack, and for each pack and index file the snapshots and paths that need what it holds."""
    index = load_index(store.files)
    fetcher = Fetcher(store.files, index)
    listed: dict[str, list[str]] = {}
    for name in index.files:
        for pack in store.files.load("index", name)["packs"]:
            listed.setdefault(pack["id"], []).append(store.files.key("index", name))
    packs: dict[str, BlobKind] = {}
    needs: dict[str, Hurt] = {}

    def note(kind: BlobKind, blob: bytes, snapshot: str, path: str) -> None:
        (place,) = index.locate(kind, blob)
        pack = fetcher.pack_name(place.pack)
        packs[store.files.key("data", pack)] = kind
        (index_file,) = listed[pack]
        for key in (store.files.key("data", pack), index_file):
            needs.setdefault(key, {}).setdefault(snapshot, set()).add(path)

    for committed in store.committed():
        stack = [("", load_snapshot(store.files, committed.reference).tree)]
        while stack:
            path, tree = stack.pop()
            note(BlobKind.TREE, tree, committed.reference, path or "/")
            for node in decode_tree(fetcher.tree(tree)):
                inner = f"{path}/{node.entry.name.decode()}"
                for blob in node.content:
                    note(BlobKind.DATA, blob, committed.reference, inner)
                if node.subtree is not None:
                    stack.append((inner, node.subtree))
        needs.setdefault(store.files.key("snapshots", committed.reference), {})[committed.reference] = set()
    return packs, needs


def test_every_kind_of_stored_file_is_harmed(ward: Ward) -> None:
    """What a vault holds beside these would never be tested."""
    root = ward.place.root / "first"
    stored = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {"vault.json"}
    strays = {key for key in stored if "/data/" in key} - set(ward.packs)  # unlisted since the prune
    assert strays
    assert stored - strays == {key for kind in KINDS for key in ward.keys(kind)}


def test_damage_is_named_and_costs_no_promise(
    fault_seed: int, ward: Ward, harmed: Path, record_property: Callable[[str, object], None]
) -> None:
    """One stored file of the first vault is not what it was; the second vault is sound."""
    kind, harm = STRIKES[fault_seed * STRIDE % len(STRIKES)]
    dice = random.Random(fault_seed)
    key = dice.choice(ward.keys(kind))
    place = ward.place.copy(harmed)
    _harm(place.root / "first" / key, kind, HARMS[harm], dice)
    record_property("fault", f"{harm}: {kind}")

    assert place.broken_promises() == []
    assert place.half_shown(["second"]) == []
    name = key.rpartition("/")[2][:12]
    if kind in ("config", "key"):
        try:
            verified = place.store("first").verify()
        except (DamageError, KeyProblemError, NotFoundError) as error:
            assert "first" in error.what, "the vault is not named"
            return
        # It opens all the same: what changed says who made it, and when.
        assert kind == "key"
        assert [name in damage.what for damage in verified.damages] == [True]
        return
    verified = place.store("first").verify([one.reference for one in place.promised() if one.vault == "first"])
    if kind in ("lock", "marks"):
        assert verified.damages == (), "nothing that a snapshot needs was harmed"
        _see_that_work_goes_on(place)
        return
    if (kind, harm) != ("index", "missing"):  # of which only its blobs are missed
        assert any(name in f"{damage.what} {damage.detail}" for damage in verified.damages), "the file is not named"
    see_that_all_and_only_what_is_hurt_is_named(place, verified, ward.needs[key])


def see_that_all_and_only_what_is_hurt_is_named(place: Workplace, verified: Verified, needs: Hurt) -> None:
    """What does not come back is named, and nothing that does not need the file is."""
    named = {reference for damage in verified.damages for reference in damage.references}
    paths = {path for damage in verified.damages for path in damage.paths}
    assert named, "no snapshot is named"
    assert named <= set(needs), "a snapshot that is intact is reported"
    assert paths <= {path for inside in needs.values() for path in inside}, "a path that is intact is reported"
    for promise in place.promised():
        if promise.vault != "first":
            continue
        lost = place.lost(promise)
        assert not lost or promise.reference in named, "a snapshot that is hurt is not named"
        if "/" not in lost:
            assert lost <= paths, "a path that is hurt is not named"


def _harm(path: Path, kind: str, harm: Harm, dice: random.Random) -> None:
    content = path.read_bytes()
    if kind == "pack header":
        start = len(content) - 4 - int.from_bytes(content[-4:], "little")
        whole, content = content, content[start:]
    else:
        whole, start = content, 0
    while (spoiled := harm(content, dice)) == content:
        pass  # zeros in the place of zeros
    path.unlink()
    if spoiled is not None:
        path.write_bytes(whole[:start] + spoiled)


def see_that_it_is_named(verified: Verified, key: str, kind: str, hurt: Hurt) -> None:
    """All and nothing but the snapshots and paths that need the file."""
    name = key.rpartition("/")[2]
    assert any(name[:12] in f"{damage.what} {damage.detail}" for damage in verified.damages), "the file is not named"
    named = {reference for damage in verified.damages for reference in damage.references}
    assert named == set(hurt), "these snapshots are hurt, and no other"
    paths = {path for damage in verified.damages for path in damage.paths}
    may = {path for inside in hurt.values() for path in inside}
    assert paths <= may, "a path that is intact is reported"
    unnamed = {path for path in may - paths if not any(path.startswith(f"{above.rstrip('/')}/") for above in paths)}
    if kind == "index":
        assert not unnamed, "a path that is hurt is not named"


def _see_that_work_goes_on(place: Workplace) -> None:
    """A lock or a mark that makes no sense is cleared, and costs time at most."""
    for name in ("delete", "backup"):
        OPERATIONS[name].run(place, place.vault("first"))
    assert place.half_shown() == []
    assert place.broken_promises() == []


@pytest.mark.parametrize("kind", ["key", "index", "snapshot", "data pack", "tree pack", "lock", "marks"])
def test_a_second_file_with_the_same_content_hurts_nothing(ward: Ward, harmed: Path, kind: str) -> None:
    """Somebody's tool for conflicts left a copy, under a name that its bytes do not have."""
    place = ward.place.copy(harmed)
    key = ward.keys(kind)[0]
    folder, _, name = key.rpartition("/")
    other = hashlib.sha256(name.encode()).hexdigest()
    content = (place.root / "first" / key).read_bytes()
    (place.root / "first" / folder / other).write_bytes(content)
    (place.root / "first" / folder / f"{name} (conflict)").write_bytes(content)

    promised = [one.reference for one in place.promised() if one.vault == "first"]
    verified = place.store("first").verify()
    assert {one for damage in verified.damages for one in damage.references} <= {other}
    assert all(other[:12] in damage.what for damage in verified.damages)
    assert set(promised) <= set(verified.references)
    for promise in place.promised():
        assert place.wrong_with(promise) == []


def test_a_file_under_the_name_of_another_is_named(ward: Ward, harmed: Path) -> None:
    """Two packs have changed places: each opens, and neither is what its name says."""
    place = ward.place.copy(harmed)
    one, other = (place.root / "first" / key for key in ward.keys("data pack")[:2])
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    verified = place.store("first").verify()
    hurt: Hurt = {}
    for key in ward.keys("data pack")[:2]:
        for reference, paths in ward.needs[key].items():
            hurt.setdefault(reference, set()).update(paths)
    see_that_all_and_only_what_is_hurt_is_named(place, verified, hurt)
    assert place.broken_promises() == []


@pytest.mark.different_faults(50)
def test_both_vaults_harmed_in_different_places_keep_every_promise(
    fault_seed: int, ward: Ward, harmed: Path, record_property: Callable[[str, object], None]
) -> None:
    """One snapshot's own data in the one, another's in the other: each version is whole somewhere."""
    dice = random.Random(fault_seed)
    place = ward.place.copy(harmed)
    by_vault = {name: _layout(place.store(name)) for name in ("first", "second")}
    versions = sorted({promise.version for promise in place.promised() if promise.vault == "first"})
    spared = dict(zip(("first", "second"), dice.sample(versions, 2), strict=True))
    for vault, version in spared.items():
        kept = next(one.reference for one in place.promised() if (one.vault, one.version) == (vault, version))
        packs, needs = by_vault[vault]
        for key in sorted(packs):
            if kept not in needs[key]:
                _harm(place.root / vault / key, "data pack", HARMS[dice.choice(sorted(HARMS))], dice)
    record_property("fault", "both vaults harmed")
    for vault, version in spared.items():
        for promise in place.promised():
            if (promise.vault, promise.version) == (vault, version):
                assert place.wrong_with(promise) == []


def test_the_judge_sees_a_lost_promise(ward: Ward, harmed: Path) -> None:
    """A test of the tests: what both vaults have lost is found."""
    place = ward.place.copy(harmed)
    for vault in ("first", "second"):
        for path in sorted((place.root / vault / PREFIX / "snapshots").iterdir())[:2]:
            path.unlink()
    assert place.broken_promises()
    assert place.half_shown()
    assert place.wrong_with(Promise("first", "0" * 64, 1))
    with pytest.raises(BackupsError):
        place.store("first").reader("0" * 64)
