"""What lies beside what snapshots need: strays among the packs are named, and no damage; spoilt key files are."""

import hashlib
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import store_tree

from cto_backups.core.verification import Part
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def store(vault: MemoryVault) -> RepositoryStore:
    store = RepositoryStore.create(
        vault,
        "r",
        "secret",
        now=datetime.now(UTC),
        hostname="h",
        username="u",
        options=RepositoryOptions(scrypt=ScryptParameters(n=2)),
    )
    store_tree(store, MemoryTree({b"a": b"content" * 9000}))
    return store


def put(vault: MemoryVault, name: str, content: bytes) -> None:
    vault.put(f"r/data/{name[:2]}/{name}", [content])


def test_a_repository_without_strays_has_no_remarks(store: RepositoryStore) -> None:
    assert store.verify().remarks == ()


def test_foreign_files_are_named_by_every_verification(store: RepositoryStore, vault: MemoryVault) -> None:
    vault.put("r/data/README.txt", [b"who put this here?"])
    vault.put(f"r/data/00/{'ab' * 32}", [b"in the wrong folder"])
    for verified in (store.verify(), store.verify(read_data=False), store.verify(part=Part(share=Fraction(1)))):
        assert verified.damages == ()
        keys = [remark.partition(" ")[0] for remark in verified.remarks]
        assert keys == [f"r/data/00/{'ab' * 32}", "r/data/README.txt"]
        assert "is no pack" in verified.remarks[0]


def test_a_copy_of_a_pack_under_another_name_is_named_with_its_original(
    store: RepositoryStore, vault: MemoryVault
) -> None:
    (original, *_) = vault.keys("/data/")
    put(vault, "cd" * 32, vault.files[original])
    verified = store.verify()
    assert verified.damages == ()
    name = original.rpartition("/")[2][:12]
    assert verified.remarks == (f"pack {'cd' * 6}, which no index lists, is a copy of pack {name} under another name",)


def test_a_file_whose_name_is_not_its_hash_is_named(store: RepositoryStore, vault: MemoryVault) -> None:
    put(vault, "cd" * 32, b"something else")
    assert store.verify().remarks == (f"pack {'cd' * 6}, which no index lists, is not what its name says",)


def test_a_pack_that_a_killed_run_left_is_nothing_to_remark_on(store: RepositoryStore, vault: MemoryVault) -> None:
    content = bytes(40 << 20)  # longer than is read at a time
    put(vault, hashlib.sha256(content).hexdigest(), content)
    assert store.verify().remarks == ()


def test_a_listed_pack_in_the_wrong_folder_is_missing(store: RepositoryStore, vault: MemoryVault) -> None:
    (key, *_) = vault.keys("/data/")
    name = key.rpartition("/")[2]
    vault.files[f"r/data/{'00' if name[:2] != '00' else '11'}/{name}"] = vault.files.pop(key)
    verified = store.verify()
    assert any(damage.detail == "it is missing" for damage in verified.damages)
    assert name in verified.remarks[0]


def test_a_key_file_that_still_opens_but_is_not_what_it_was_is_damage(
    store: RepositoryStore, vault: MemoryVault
) -> None:
    (key,) = vault.keys("r/keys/")
    vault.files[key] = vault.files[key].replace(b'"username":"u"', b'"username":"v"')
    again = RepositoryStore.open(vault, "r", "secret")
    (damage,) = again.verify().damages
    assert damage.what == f"key file {key.rpartition('/')[2][:12]} is damaged"
    assert (damage.references, damage.paths) == ((), ())
