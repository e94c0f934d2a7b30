"""Reading single files of a repository: few reads, holes once, another place where the first is damaged."""

import random
from datetime import UTC, datetime

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import store_tree, walked

from cto_backups.core.payloads import Node
from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.repository.options import MIB, RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), workers=1, pack_bytes=64 * MIB)
DATA = random.Random(7).randbytes(24 * MIB)
HOLES = DATA[:MIB] + bytes(40 * MIB) + DATA[MIB : 2 * MIB]


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def store(vault: MemoryVault) -> RepositoryStore:
    return RepositoryStore.create(
        vault, "repositories/main", "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )


def stored(store: RepositoryStore, **files: bytes) -> dict[bytes, Node]:
    draft, _ = store_tree(store, MemoryTree({name.encode(): content for name, content in files.items()}))
    return walked(store, bytes.fromhex(draft.root))


def data_reads(vault: MemoryVault) -> int:
    return sum("/data/" in key for key in vault.reads)


def test_neighbouring_blobs_are_read_together(store: RepositoryStore, vault: MemoryVault) -> None:
    many = {f"{number:03}": DATA[number * 1000 : number * 1000 + 900] for number in range(200)}
    nodes = stored(store, **many)
    content = [blob for name in sorted(many) for blob in nodes[b"/" + name.encode()].content]
    vault.reads.clear()
    pieces = list(store.contents().content(content))
    assert b"".join(pieces) == b"".join(many[name] for name in sorted(many))
    assert len(pieces) == 200
    assert data_reads(vault) == 1


def test_a_large_file_is_read_in_pieces_of_bounded_size(store: RepositoryStore, vault: MemoryVault) -> None:
    node = stored(store, large=DATA)[b"/large"]
    vault.reads.clear()
    pieces = list(store.contents().content(node.content))
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= 8 * MIB
    assert data_reads(vault) <= len(pieces)


def test_a_hole_is_read_once_however_long(store: RepositoryStore, vault: MemoryVault) -> None:
    nodes = stored(store, holes=HOLES, zeros=bytes(40 * MIB))
    content = nodes[b"/zeros"].content
    assert len(content) >= len(set(content)) + 3, "the hole is cut into equal parts"
    vault.reads.clear()
    assert b"".join(store.contents().content(content)) == bytes(40 * MIB)
    assert data_reads(vault) <= len(set(content))
    assert b"".join(store.contents().content(nodes[b"/holes"].content)) == HOLES


def test_what_is_damaged_in_one_pack_is_taken_from_another(store: RepositoryStore, vault: MemoryVault) -> None:
    """Two writers at once may both store a blob."""
    with store.writing() as one, store.writing() as two:
        drafts = [writing.write(MemoryTree({b"large": DATA})) for writing in (one, two)]
    assert drafts[0].root == drafts[1].root
    node = walked(store, bytes.fromhex(drafts[0].root))[b"/large"]
    large = [key for key in vault.keys("/data/") if len(vault.files[key]) > MIB]
    assert len(large) == 2
    for key in large:
        vault.flip(key, len(vault.files[key]) // 2)
        assert b"".join(store.contents().content(node.content)) == DATA
        vault.flip(key, len(vault.files[key]) // 2)
        whole = vault.files.pop(key)
        assert b"".join(store.contents().content(node.content)) == DATA
        vault.files[key] = whole


def test_a_blob_that_is_missing_is_told_after_what_is_before_it(store: RepositoryStore) -> None:
    node = stored(store, large=DATA)[b"/large"]
    pieces = store.contents().content((*node.content, bytes(32)))
    read = b""
    with pytest.raises(DamageError, match="is missing"):
        for piece in pieces:
            read += piece
    assert read == DATA


def test_a_pack_that_is_gone_is_no_damage_but_a_file_that_is_missing(
    store: RepositoryStore, vault: MemoryVault
) -> None:
    node = stored(store, large=DATA)[b"/large"]
    for key in vault.keys("/data/"):
        del vault.files[key]
    with pytest.raises(VaultMissingError):
        list(store.contents().content(node.content))
