"""Packs are proved by their header and their blobs: no harm that a pack's name alone would tell gets by.

Each test harms a stored pack in one way, and verification must name that pack.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fakes.memory import MemoryTree, MemoryVault
from fakes.vaults import LyingVault, flip_a_bit
from payload_store_contract import store_tree

from cto_backups import _native
from cto_backups.core.vaults import ReadingInto, Vault
from cto_backups.errors import DamageError
from cto_backups.repository import fetch, proving
from cto_backups.repository.fetch import Fetcher, Reach, Room
from cto_backups.repository.headers import read_header
from cto_backups.repository.index import BlobKind, PackedBlob, load_index
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.seal import OVERHEAD
from cto_backups.repository.store import RepositoryStore

PREFIX = "r"
DICE = random.Random(7)
CONTENT = {b"text": b"content " * 9000, b"noise": DICE.randbytes(70_000), b"small": b"x", b"same size": b"y"}


def create(vault: Vault, pack_bytes: int = 16 << 20) -> RepositoryStore:
    options = RepositoryOptions(scrypt=ScryptParameters(n=2), pack_bytes=pack_bytes)
    now = datetime.now(UTC)
    return RepositoryStore.create(vault, PREFIX, "secret", now=now, hostname="h", username="u", options=options)


class Stored:
    """A repository in memory; `key` is that of the pack with its data, `blobs` what lies there."""

    def __init__(self) -> None:
        self.vault = MemoryVault()
        self.store = create(self.vault)
        _, self.reference = store_tree(self.store, MemoryTree(CONTENT))
        index = load_index(self.store.files)
        self.name = index.pack_name(index.pack_of(BlobKind.DATA, hashlib.sha256(b"x").digest()))
        self.key = self.store.files.key("data", self.name.hex())
        self.content = self.vault.files[self.key]
        self.blobs: list[PackedBlob] = read_header(self.store.files, self.name, len(self.content))

    @property
    def header(self) -> int:
        """Where the sealed header begins."""
        return sum(blob.length for blob in self.blobs)

    def becomes(self, content: bytes) -> list[str]:
        """What verification says of the pack when these are its bytes."""
        assert content != self.content
        self.vault.files[self.key] = content
        verified = self.store.verify()
        assert [damage.what for damage in verified.damages] == [f"pack {self.name.hex()[:12]} is damaged"]
        assert {self.reference} == {one for damage in verified.damages for one in damage.references}
        assert verified.packs_read == verified.packs
        return [damage.detail for damage in verified.damages]


REACHES = {
    "near": fetch.NEAR,
    "near, blob by blob": replace(fetch.NEAR, piece_bytes=1),
    "far, in parts": replace(fetch.FAR, read_bytes=30_000, piece_bytes=30_000),
    "far, at once": fetch.FAR,
}
"""In parts, the largest blob begins before the pack's tail and ends in it."""


@pytest.fixture(params=REACHES)
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Reach:
    reach = REACHES[request.param]
    monkeypatch.setattr(fetch, "NEAR", reach)
    return reach


@pytest.fixture
def stored(reach: Reach) -> Stored:
    return Stored()


def harmed_places(stored: Stored) -> Iterator[tuple[str, int]]:
    for number, blob in enumerate(stored.blobs):
        yield f"first of IV {number}", blob.offset
        yield f"last of IV {number}", blob.offset + 15
        yield f"first of ciphertext {number}", blob.offset + 16
        yield f"middle of ciphertext {number}", blob.offset + blob.length // 2
        yield f"last of ciphertext {number}", blob.offset + blob.length - 17
        yield f"first of tag {number}", blob.offset + blob.length - 16
        yield f"last of tag {number}", blob.offset + blob.length - 1
    size = len(stored.content)
    for at in (0, 15, 16, 40, size - 4 - stored.header - 17, size - 4 - stored.header - 16):
        yield f"header byte {at}", stored.header + at
    for at in range(4):
        yield f"length byte {at}", size - 4 + at


def test_a_flipped_bit_is_named_wherever_it_is(stored: Stored) -> None:
    for place, at in harmed_places(stored):
        for bit in (0, 7):
            spoiled = bytearray(stored.content)
            spoiled[at] ^= 1 << bit
            assert stored.becomes(bytes(spoiled)) != [], place


def with_a_gap(stored: Stored) -> bytes:
    """Bytes between two blobs that a header of the key's own does not count."""
    at = stored.blobs[1].offset
    return stored.content[:at] + bytes(64) + stored.content[at:]


def with_same_sized_blobs_swapped(stored: Stored) -> bytes:
    one, other = (blob for blob in stored.blobs if blob.length == OVERHEAD + 1)
    spoiled = bytearray(stored.content)
    spoiled[one.offset : one.offset + one.length] = stored.content[other.offset : other.offset + other.length]
    spoiled[other.offset : other.offset + other.length] = stored.content[one.offset : one.offset + one.length]
    return bytes(spoiled)


def with_a_blob_in_place_of_another(stored: Stored) -> bytes:
    """Each opens; one is there twice."""
    one, other = (blob for blob in stored.blobs if blob.length == OVERHEAD + 1)
    spoiled = bytearray(stored.content)
    spoiled[one.offset : one.offset + one.length] = stored.content[other.offset : other.offset + other.length]
    return bytes(spoiled)


def with_another_header(stored: Stored, entries: bytes) -> bytes:
    sealed = stored.store.files.sealer.seal(entries)
    return stored.content[: stored.header] + sealed + len(sealed).to_bytes(4, "little")


def entries(blobs: list[PackedBlob]) -> bytes:
    """A header's plain bytes."""
    return b"".join(
        bytes([blob.kind | (2 if blob.plain else 0)])
        + blob.length.to_bytes(4, "little")
        + (blob.plain.to_bytes(4, "little") if blob.plain else b"")
        + blob.id
        for blob in blobs
    )


def with_a_blob_listed_twice(stored: Stored) -> bytes:
    """A header as long as it was; one blob of it is named for another."""
    one, other = (number for number, blob in enumerate(stored.blobs) if blob.length == OVERHEAD + 1)
    listed = list(stored.blobs)
    listed[one] = listed[one]._replace(id=listed[other].id)
    return with_another_header(stored, entries(listed))


def with_blobs_and_header_swapped(stored: Stored) -> bytes:
    """All opens, and is as long as it was: but the index says that the one lies where the other is."""
    one, other = (number for number, blob in enumerate(stored.blobs) if blob.length == OVERHEAD + 1)
    swapped = list(stored.blobs)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    blobs = b"".join(stored.content[blob.offset : blob.offset + blob.length] for blob in swapped)
    return blobs + with_another_header(stored, entries(swapped))[stored.header :]


HARMS: dict[str, Callable[[Stored], bytes]] = {
    "a byte short": lambda stored: stored.content[:-1],
    "a byte more": lambda stored: stored.content + b"\0",
    "a byte before": lambda stored: b"\0" + stored.content,
    "a byte before the header": lambda stored: (
        stored.content[: stored.header] + b"\0" + stored.content[stored.header :]
    ),
    "a second pack behind it": lambda stored: stored.content + stored.content,
    "another header behind it": lambda stored: stored.content + stored.content[stored.header :],
    "a gap": with_a_gap,
    "blobs swapped": with_same_sized_blobs_swapped,
    "blobs swapped, and its header says so": with_blobs_and_header_swapped,
    "a blob twice": with_a_blob_in_place_of_another,
    "a blob listed twice": with_a_blob_listed_twice,
    "a header without its last blob": lambda stored: with_another_header(stored, entries(stored.blobs[:-1])),
    "a header of nothing": lambda stored: with_another_header(stored, b""),
    "zeros": lambda stored: bytes(len(stored.content)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_put_in_left_out_or_moved_is_named(stored: Stored, harm: str) -> None:
    stored.becomes(HARMS[harm](stored))


def test_packs_that_changed_places_are_both_named() -> None:
    """As like each other as can be: one blob each, of one length. Both open; the index tells them apart."""
    vault = MemoryVault()
    store = create(vault)
    contents = [DICE.randbytes(500) for _ in range(2)]
    for number, content in enumerate(contents):
        store_tree(store, MemoryTree({b"file": content}), number=number)
    index = load_index(store.files)
    packs = [
        index.pack_name(index.pack_of(BlobKind.DATA, hashlib.sha256(content).digest())).hex() for content in contents
    ]
    one, other = (store.files.key("data", name) for name in packs)
    assert len(vault.files[one]) == len(vault.files[other])
    vault.files[one], vault.files[other] = vault.files[other], vault.files[one]
    damages = store.verify().damages
    assert {damage.what for damage in damages} == {f"pack {name[:12]} is damaged" for name in packs}
    assert all("name" in damage.detail for damage in damages)


def test_a_pack_with_all_that_the_index_says_is_intact_under_any_name(stored: Stored) -> None:
    """Only who has the key can seal its header anew; every blob is what its id says, so nothing is hurt."""
    again = with_another_header(stored, entries(stored.blobs))
    assert hashlib.sha256(again).digest() != stored.name
    stored.vault.files[stored.key] = again
    assert stored.store.verify().damages == ()


def test_every_byte_of_an_intact_pack_is_read_once(
    stored: Stored, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    read = stored.vault.read

    def watched(key: str, offset: int = 0, length: int | None = None) -> bytes:
        if key == stored.key:
            assert length is not None
            seen.append((offset, length))
        return read(key, offset, length)

    monkeypatch.setattr(stored.vault, "read", watched)
    assert stored.store.verify().damages == ()
    assert [offset for offset, _ in sorted(seen)] == [0, *(offset + length for offset, length in sorted(seen)[:-1])]
    assert sum(length for _, length in seen) == len(stored.content)
    largest = max(blob.length for blob in stored.blobs)
    assert max(length for _, length in seen) <= max(reach.piece_bytes + largest, len(stored.content) - stored.header)
    if reach.tail_blobs:
        assert len(seen) == reach.reads(len(stored.content))
    if reach.piece_bytes == 1:
        assert len(seen) > 2


def test_what_reads_well_only_the_second_time_is_named() -> None:
    """A failing disk or memory: the second reading does not make the first one good."""
    vault = MemoryVault()
    store = create(vault)
    store_tree(store, MemoryTree(CONTENT))
    readings: dict[str, int] = {}

    def alter(content: bytes) -> bytes:
        readings["all"] = readings.get("all", 0) + 1
        return flip_a_bit(content) if readings["all"] == 1 else content

    index = load_index(store.files)
    key = store.files.key("data", index.pack_name(index.pack_of(BlobKind.DATA, hashlib.sha256(b"x").digest())).hex())
    (damage,) = RepositoryStore.open(LyingVault(vault, key, alter=alter), PREFIX, "secret").verify().damages
    assert "only the second time" in damage.detail


@pytest.mark.parametrize("size", [1, 31, 16 << 10, (16 << 10) + 1, (32 << 10) - 1, 100_000])
@pytest.mark.parametrize("filler", [b"compressible", b""])
def test_blobs_of_any_size_are_proved_and_a_flip_in_any_part_of_them_is_not(size: int, filler: bytes) -> None:
    """A blob goes through the cipher in parts; the ends of these are where a mistake would be."""
    vault = MemoryVault()
    store = create(vault)
    plain = (filler * size)[:size] if filler else DICE.randbytes(size)
    store_tree(store, MemoryTree({b"file": plain}))
    index = load_index(store.files)
    number = index.pack_of(BlobKind.DATA, hashlib.sha256(plain).digest())
    key = store.files.key("data", index.pack_name(number).hex())
    content = vault.files[key]
    fetcher = Fetcher(store.files, index)
    assert not isinstance(vault, ReadingInto)
    assert proving.proved_blobs(fetcher, number, len(content), Room()) == 1
    for at in {0, index.pack_end(number) - 1, *range(16, index.pack_end(number), 4096)}:
        vault.files[key] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        assert proving.proved_blobs(fetcher, number, len(content), Room()) is None


class TestCopies:
    """A blob that is brought over is proved on the way in; what is made of it is compared with that."""

    @pytest.fixture
    def bench(self, stored: Stored) -> _native.Bench:
        index = _native.BlobIndex()
        return _native.Bench(stored.store.files.sealer.native, _native.Claims(index), 3, 1, 1 << 30)

    def test_what_this_key_sealed_is_taken_as_it_is(self, stored: Stored, bench: _native.Bench) -> None:
        sealer = stored.store.files.sealer.native
        for blob in stored.blobs:
            sealed = stored.content[blob.offset : blob.offset + blob.length]
            assert bench.copy(sealer, blob.kind, blob.id, sealed, blob.plain) == (blob.plain or blob.length - OVERHEAD)
        pack = bench.take_unfilled(BlobKind.DATA)
        assert pack is not None
        pack.finish(sealer)
        with memoryview(pack) as content:
            assert content[: stored.header] == stored.content[: stored.header]

    def test_what_is_damaged_is_not_taken(self, stored: Stored, bench: _native.Bench) -> None:
        blob = stored.blobs[0]
        sealed = bytearray(stored.content[blob.offset : blob.offset + blob.length])
        sealed[20] ^= 1
        with pytest.raises(DamageError):
            bench.copy(stored.store.files.sealer.native, blob.kind, blob.id, sealed, blob.plain)
        assert bench.added_blobs == 0
        assert bench.take_unfilled(BlobKind.DATA) is None

    def test_what_changes_on_its_way_is_caught(self, stored: Stored, bench: _native.Bench) -> None:
        blob = max(stored.blobs, key=lambda blob: blob.length)
        sealed = stored.content[blob.offset : blob.offset + blob.length]
        _native.inject_fault("sealing", 100)
        try:
            with pytest.raises(DamageError, match="opened again"):
                bench.copy(stored.store.files.sealer.native, blob.kind, blob.id, sealed, blob.plain)
        finally:
            _native.inject_fault(None)
