"""Bytes and meaning: names, times, modes, seals, packs, index tables, trees, each there and back."""

import hashlib
import random
import stat
import threading
from pathlib import Path

import orjson
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups import _native
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import DamageError
from cto_backups.repository import gotime, names
from cto_backups.repository.chunker import LARGEST, SMALLEST, Chunker
from cto_backups.repository.index import BlobKind, Index, Location, PackedBlob
from cto_backups.repository.polynomial import DEGREE, irreducible, random_irreducible
from cto_backups.repository.seal import OVERHEAD, MasterKey, SealBrokenError, Sealer
from cto_backups.repository.tree import content_text, decode_tree

COUNT = 210_000  # more than from where the table spreads
NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
TIMES = st.integers(-(2**62), 2**62)
UNSIGNED = st.integers(0, 2**64 - 1)


class TestNames:
    @given(st.binary())
    def test_any_bytes_survive_quoting_and_json(self, name: bytes) -> None:
        quoted = names.quote(name)
        assert orjson.loads(f'"{names.json_text(quoted)}"') == quoted
        if name.strip(b"./") and not set(name) & {0, 47}:
            (node,) = decode_tree(orjson.dumps({"nodes": [{"name": quoted, "type": "fifo"}]}))
            assert node.entry.name == name

    @pytest.mark.parametrize(
        ("name", "quoted"),
        [
            (b"plain name.txt", "plain name.txt"),
            (b'say "hi"', r"say \"hi\""),
            (b"back\\slash", r"back\\slash"),
            (b"\x00\x07\x1b\x7f\n", r"\x00\a\x1b\x7f\n"),
            (b"caf\xe9", r"caf\xe9"),
            ("café 😀".encode(), "café 😀"),
            ("\u2028\u202e\ufeff".encode(), r"\u2028\u202e\ufeff"),
            ("\U000e0001".encode(), r"\U000e0001"),
            (b"it's", "it's"),
        ],
    )
    def test_names_are_quoted_as_go_quotes_them(self, name: bytes, quoted: str) -> None:
        assert names.quote(name) == quoted

    def test_json_is_escaped_as_go_escapes_it(self) -> None:
        assert names.json_text('<a&b>\u2028\n"\\') == r"\u003ca\u0026b\u003e\u2028\n\"\\"

    @pytest.mark.parametrize("text", ["\\", "\\q", "\\x1", "\\u12", "\\UFFFFFFFF", "\\777", "\\ud800"])
    def test_escapes_that_go_does_not_write_are_refused(self, text: str) -> None:
        with pytest.raises(DamageError):
            decode_tree(orjson.dumps({"nodes": [{"name": text, "type": "fifo"}]}))


class TestTimes:
    @given(TIMES)
    def test_nanoseconds_survive(self, moment: int) -> None:
        assert gotime.parse_ns(gotime.format_ns(moment)) == moment

    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ],
    )
    def test_trailing_zeros_are_dropped(self, moment: int, text: str) -> None:
        assert gotime.format_ns(moment) == text

    def test_offsets_are_understood(self) -> None:
        assert gotime.parse_ns("2023-11-14T23:13:20.5+01:00") == gotime.parse_ns("2023-11-14T22:13:20.5Z")

    @pytest.mark.parametrize(
        "text", ["", "yesterday", "2023-13-01T00:00:00Z", "2023-01-01T00:00:00", "2023-02-29T00:00:00Z", "\ud800"]
    )
    def test_nonsense_is_a_value_error(self, text: str) -> None:
        with pytest.raises(ValueError):
            gotime.parse_ns(text)


class TestSeal:
    @given(st.binary(max_size=5000))
    def test_what_is_sealed_opens(self, plain: bytes) -> None:
        sealer = Sealer(MasterKey.random())
        sealed = sealer.seal(plain)
        assert len(sealed) == len(plain) + OVERHEAD
        assert sealer.open(sealed) == plain

    @given(st.binary(min_size=1, max_size=200), st.data())
    def test_any_changed_bit_is_noticed(self, plain: bytes, data: st.DataObject) -> None:
        sealer = Sealer(MasterKey.random())
        sealed = bytearray(sealer.seal(plain))
        sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(SealBrokenError):
            sealer.open(sealed)

    @given(st.binary(max_size=31))
    def test_short_bytes_are_noticed(self, sealed: bytes) -> None:
        with pytest.raises(SealBrokenError):
            Sealer(MasterKey.random()).open(sealed)

    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 64, 65, 16383, 16384, 16385, 16400, 32768, 50_001])
    def test_it_is_what_the_format_says_for_any_size(self, size: int) -> None:
        """AES-256 in counter mode and Poly1305-AES, as another implementation has them."""
        encrypt, mac_k, mac_r = (bytes(range(n, n + size)) for n, size in ((1, 32), (50, 16), (90, 16)))
        plain = random.Random(size).randbytes(size)
        sealer = _native.Sealer(encrypt, mac_k, mac_r)
        sealed = sealer.seal(plain)
        iv, ciphertext, tag = sealed[:16], sealed[16:-16], sealed[-16:]
        cipher = Cipher(algorithms.AES(encrypt), modes.CTR(iv)).encryptor()
        assert cipher.update(plain) + cipher.finalize() == ciphertext
        once = Cipher(algorithms.AES(mac_k), modes.ECB()).encryptor()
        assert Poly1305.generate_tag(mac_r + once.update(iv), ciphertext) == tag
        assert sealer.open(sealed) == plain

    def test_initialisation_vectors_never_repeat_across_threads(self) -> None:
        sealer = Sealer(MasterKey.random())
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.extend(sealer.seal(b"x")[:16] for _ in range(2000))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == len(found) == 8000

    def test_a_key_does_not_show_itself(self) -> None:
        assert repr(MasterKey.from_bytes(bytes(range(64)))) == "MasterKey()"


def packed(sealer: Sealer, *contents: bytes, level: int = 3) -> tuple[Index, bytes, list[PackedBlob]]:
    """A pack of blobs with these contents: an index that knows it, its bytes, and what its header lists."""
    index = Index()
    bench = _native.Bench(sealer.native, _native.Claims(index.native), level, 1, 1 << 30)
    for content in contents:
        bench.save(BlobKind.DATA, content)
    pack = bench.take_unfilled(BlobKind.DATA)
    assert pack is not None
    assert bench.take_unfilled(BlobKind.DATA) is None
    name = pack.finish(sealer.native)
    stored = bytes(pack)
    assert hashlib.sha256(stored).digest() == name
    index.native.add_stored(pack)
    return index, stored, listed(sealer, stored)


def listed(sealer: Sealer, stored: bytes) -> list[PackedBlob]:
    length = int.from_bytes(stored[-4:], "little")
    start = len(stored) - 4 - length
    return [PackedBlob(BlobKind(k), *rest) for k, *rest in _native.read_header(sealer.native, stored[start:-4], start)]


class TestBlobs:
    @given(st.binary(min_size=1, max_size=3000))
    def test_what_was_saved_opens(self, plain: bytes) -> None:
        sealer = Sealer(MasterKey.random())
        _, stored, (blob,) = packed(sealer, plain)
        assert blob.id == hashlib.sha256(plain).digest()
        sealed = stored[blob.offset : blob.offset + blob.length]
        assert _native.open_blob(sealer.native, sealed, blob.id, blob.plain) == plain

    def test_random_bytes_are_left_alone_and_partly_compressible_ones_are_not(self) -> None:
        noise = random.Random(1).randbytes(1 << 20)
        _, _, (plain, squeezed) = packed(Sealer(MasterKey.random()), noise, noise[: 1 << 19] + bytes(1 << 19))
        assert (plain.plain, plain.length) == (0, (1 << 20) + OVERHEAD)
        assert squeezed.plain == 1 << 20
        assert squeezed.length < 600_000

    def test_a_level_that_compresses_more_is_used(self) -> None:
        text = Path(random.__file__).read_bytes()
        sealer = Sealer(MasterKey.random())
        (fast,), (strong,) = packed(sealer, text, level=1)[2], packed(sealer, text, level=15)[2]
        assert strong.length < fast.length

    def opened(self, frame: bytes, plain_size: int) -> bytes:
        sealer = Sealer(MasterKey.random())
        return _native.open_blob(sealer.native, sealer.seal(frame), bytes(32), plain_size)

    def test_a_frame_that_announces_more_than_was_recorded_costs_no_memory(self) -> None:
        bomb = zstandard.ZstdCompressor(level=3).compress(bytes(64 << 20))
        with pytest.raises(DamageError) as caught:
            self.opened(bomb, 1000)
        assert "67108864" in caught.value.why

    def test_a_frame_without_announced_size_is_bounded(self) -> None:
        compressor = zstandard.ZstdCompressor(level=3, write_content_size=False)
        writer = compressor.compressobj()
        bomb = writer.compress(bytes(8 << 20)) + writer.flush()
        with pytest.raises(DamageError):
            self.opened(bomb, 1000)
        with pytest.raises(DamageError):
            _native.expand_file(bomb, 1 << 20)
        assert _native.expand_file(bomb, 8 << 20) == bytes(8 << 20)
        with pytest.raises(DamageError, match="early"):
            _native.expand_file(bomb[:-9], 8 << 20)

    def test_a_stored_file_of_announced_size_is_bounded(self) -> None:
        plain = bytes(1000)
        frame = _native.compress_file(plain)
        assert _native.expand_file(frame, 1000) == plain
        with pytest.raises(DamageError):
            _native.expand_file(frame, 999)
        with pytest.raises(DamageError):
            _native.expand_file(frame[:-1], 1000)

    @given(st.binary(max_size=100), st.integers(0, 200))
    def test_garbage_is_damage(self, garbage: bytes, size: int) -> None:
        with pytest.raises(DamageError):
            self.opened(b"\x00" + garbage, size)

    def test_what_another_repository_sealed_is_compared_with_its_id(self) -> None:
        origin, sealer = Sealer(MasterKey.random()), Sealer(MasterKey.random())
        _, stored, (blob,) = packed(origin, b"content " * 100)
        sealed = stored[blob.offset : blob.offset + blob.length]
        bench = _native.Bench(sealer.native, _native.Claims(_native.BlobIndex()), 3, 1, 1 << 20)
        with pytest.raises(DamageError):
            bench.copy(origin.native, BlobKind.DATA, bytes(32), sealed, blob.plain)
        with pytest.raises(SealBrokenError):
            bench.copy(sealer.native, BlobKind.DATA, blob.id, sealed, blob.plain)
        assert bench.copy(origin.native, BlobKind.DATA, blob.id, sealed, blob.plain) == 800
        assert bench.copy(origin.native, BlobKind.DATA, blob.id, sealed, blob.plain) is None
        assert bench.added_blobs == 1


class TestPacks:
    @given(st.lists(st.binary(min_size=1, max_size=300), min_size=2, max_size=20, unique=True))
    def test_a_header_lists_what_was_packed_also_after_packs_were_joined(self, contents: list[bytes]) -> None:
        sealer = Sealer(MasterKey.random())
        claims = _native.Claims(_native.BlobIndex())
        packs = []
        for half in (contents[::2], contents[1::2]):
            bench = _native.Bench(sealer.native, claims, 3, 1, 1 << 20)
            for content in half:
                bench.save(BlobKind.DATA, content)
            packs.append(bench.take_unfilled(BlobKind.DATA))
        first, second = packs
        assert first is not None
        assert second is not None
        first.absorb(second)
        assert (first.blob_count, second.blob_count) == (len(contents), 0)
        assert first.finish(sealer.native) == hashlib.sha256(bytes(first)).digest()
        stored = bytes(first)
        opened = {
            _native.open_blob(sealer.native, stored[one.offset : one.offset + one.length], one.id, one.plain)
            for one in listed(sealer, stored)
        }
        assert opened == set(contents)

    @pytest.mark.parametrize("one_in", [1, 3])
    def test_a_pack_is_named_after_its_bytes_whatever_the_sizes_of_its_blobs(self, one_in: int) -> None:
        # Each blob that is opened again is hashed beside the pack, by code of its own: both must be SHA-256.
        sealer, dice = Sealer(MasterKey.random()), random.Random(7)
        bench = _native.Bench(sealer.native, _native.Claims(_native.BlobIndex()), 3, one_in, 1 << 30)
        sizes = [*range(1, 200), *(dice.randrange(200, 50_000) for _ in range(60)), 100_000, 1 << 20]
        for size in sizes:
            content = dice.randbytes(size) if size % 2 else dice.randbytes(size // 2 + 1) * 2
            assert bench.save(BlobKind.DATA, content) == hashlib.sha256(content).digest()
        pack = bench.take_unfilled(BlobKind.DATA)
        assert pack is not None
        assert pack.blob_count == len(sizes)
        assert pack.finish(sealer.native) == hashlib.sha256(bytes(pack)).digest()

    def test_a_pack_in_use_keeps_its_bytes(self) -> None:
        sealer = Sealer(MasterKey.random())
        bench = _native.Bench(sealer.native, _native.Claims(_native.BlobIndex()), 3, 1, 1 << 20)
        bench.save(BlobKind.TREE, b"{}")
        pack = bench.take_unfilled(BlobKind.TREE)
        assert pack is not None
        with pytest.raises(BufferError):
            memoryview(pack)
        pack.finish(sealer.native)
        with memoryview(pack) as content:
            assert content.readonly
            with pytest.raises(BufferError):
                pack.release()
        pack.release()
        assert (pack.size, pack.blob_count) == (0, 1)

    @given(st.binary(max_size=120))
    def test_a_header_of_nonsense_is_damage(self, plain: bytes) -> None:
        sealer = Sealer(MasterKey.random())
        try:
            blobs = _native.read_header(sealer.native, sealer.seal(plain), 1000)
        except DamageError:
            return
        assert sum(length for _, _, _, length, _ in blobs) == 1000

    @given(st.data())
    def test_any_changed_byte_of_a_pack_is_found(self, data: st.DataObject) -> None:
        sealer = Sealer(MasterKey.random())
        index, stored, blobs = packed(sealer, b"one" * 50, b"two" * 50)
        assert _native.check_pack(index.native, sealer.native, 0, stored) == ("", [], 2)
        spoiled = bytearray(stored)
        at = data.draw(st.integers(0, len(stored) - 1))
        spoiled[at] ^= 1 << data.draw(st.integers(0, 7))
        hit = [(one.kind, one.id) for one in blobs if one.offset <= at < one.offset + one.length]
        try:
            why, bad, good = _native.check_pack(index.native, sealer.native, 0, spoiled)
        except DamageError as error:
            assert not hit, "the header is what cannot be read"
            assert error.why
        else:
            assert why
            assert (bad, good) == (hit, 2 - len(hit))

    @given(st.binary(max_size=40))
    def test_garbage_instead_of_a_pack_is_damage(self, garbage: bytes) -> None:
        sealer = Sealer(MasterKey.random())
        index, _, _ = packed(sealer, b"one")
        with pytest.raises(DamageError):
            _native.check_pack(index.native, sealer.native, 0, garbage)


class TestIndex:
    def test_every_blob_of_many_is_found(self) -> None:
        chance = random.Random(4)
        index = Index()
        expected = {chance.randbytes(32): Location(n % 7, n, n + 32, n % 3) for n in range(COUNT)}
        for pack in range(7):
            blobs = [
                PackedBlob(BlobKind.TREE, blob, *place[1:]) for blob, place in expected.items() if place.pack == pack
            ]
            assert index.add_pack(bytes([pack]) * 32, blobs) == pack
            assert index.pack_end(pack) == max(blob.offset + blob.length for blob in blobs)
        assert (index.native.count(BlobKind.TREE), index.native.count(BlobKind.DATA)) == (COUNT, 0)
        assert all(index.locate(BlobKind.TREE, blob) == [place] for blob, place in list(expected.items())[::97])
        assert all(index.pack_of(BlobKind.TREE, blob) == place.pack for blob, place in list(expected.items())[::89])
        assert all(index.pack_of(BlobKind.TREE, chance.randbytes(32)) == -1 for _ in range(1000))
        assert all(index.pack_of(BlobKind.DATA, blob) == -1 for blob in list(expected)[::89])
        found = index.blobs_in({3, 4})
        assert {blob: place for _, blob, place in found} == {
            blob: place for blob, place in expected.items() if place.pack in (3, 4)
        }

    def test_a_blob_may_lie_in_several_packs(self) -> None:
        index = Index()
        index.add_pack(b"p" * 32, [PackedBlob(BlobKind.DATA, b"i" * 32, 2, 33, 4)])
        index.add_pack(b"q" * 32, [PackedBlob(BlobKind.DATA, b"i" * 32, 6, 37, 8)])
        assert index.locate(BlobKind.DATA, b"i" * 32) == [Location(0, 2, 33, 4), Location(1, 6, 37, 8)]
        assert (index.pack_count, index.pack_name(1)) == (2, b"q" * 32)

    def test_a_pack_that_is_known_keeps_what_is_known_of_it(self) -> None:
        index = Index()
        for offset in (0, 99):
            assert index.add_pack(b"p" * 32, [PackedBlob(BlobKind.DATA, b"i" * 32, offset, 33, 0)]) == 0
        assert index.locate(BlobKind.DATA, b"i" * 32) == [Location(0, 0, 33, 0)]

    def test_ids_that_begin_alike_are_told_apart(self) -> None:
        index = Index()
        index.add_pack(b"p" * 32, [PackedBlob(BlobKind.DATA, bytes(32), 0, 32, 0)])
        assert index.pack_of(BlobKind.DATA, b"\0" * 31 + b"\1") == -1
        assert index.pack_of(BlobKind.DATA, bytes(32)) == 0

    def test_only_one_may_store_a_blob_and_what_was_there_is_relied_on(self) -> None:
        index = Index()
        index.add_pack(b"p" * 32, [PackedBlob(BlobKind.DATA, hashlib.sha256(b"known").digest(), 0, 33, 0)])
        claims = _native.Claims(index.native)
        sealer = Sealer(MasterKey.random())
        benches = [_native.Bench(sealer.native, claims, 3, 1, 1 << 20) for _ in range(8)]
        benches[0].save(BlobKind.DATA, b"known")
        assert (benches[0].added_blobs, claims.relied) == (0, {0})
        threads = [threading.Thread(target=bench.save, args=(BlobKind.DATA, b"new")) for bench in benches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(bench.added_blobs for bench in benches) == [0] * 7 + [1]
        assert claims.has(BlobKind.DATA, hashlib.sha256(b"new").digest())
        assert not claims.has(BlobKind.TREE, hashlib.sha256(b"new").digest())


class TestPolynomials:
    def test_random_ones_are_irreducible(self) -> None:
        polynomial = random_irreducible()
        assert polynomial.bit_length() == DEGREE + 1
        assert irreducible(polynomial)

    def test_known_ones_are_judged_rightly(self) -> None:
        assert irreducible(0x3DA3358B4DC173)
        assert [value for value in range(2, 32) if irreducible(value)] == [2, 3, 7, 11, 13, 19, 25, 31]


class TestChunker:
    @settings(max_examples=15)
    @given(st.integers(0, 2**32), st.lists(st.integers(1, 6 << 20), max_size=4))
    def test_boundaries_do_not_depend_on_how_the_file_was_read(self, seed: int, reads: list[int]) -> None:
        content = random.Random(seed).randbytes(3 << 20) + bytes(9 << 20) + random.Random(seed + 1).randbytes(2 << 20)
        chunker = Chunker(seed + 1)
        whole = list(chunker.ends(content, last=True))
        assert whole[-1] == len(content)
        found: list[int] = []
        start = end = 0
        for size in [*reads, len(content)]:
            end = min(len(content), end + size)
            ends = list(chunker.ends(content[start:end], last=end == len(content)))
            found += [start + one for one in ends]
            start = found[-1] if found else 0
            if end == len(content):
                break
        assert found == whole
        sizes = [b - a for a, b in zip([0, *whole], whole, strict=False)]
        assert all(SMALLEST <= size <= LARGEST for size in sizes[:-1])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(EntryKind))
    bits = {
        EntryKind.FILE: stat.S_IFREG, EntryKind.FOLDER: stat.S_IFDIR, EntryKind.SYMLINK: stat.S_IFLNK,
        EntryKind.DEVICE: stat.S_IFBLK, EntryKind.CHARACTER_DEVICE: stat.S_IFCHR, EntryKind.FIFO: stat.S_IFIFO,
        EntryKind.SOCKET: stat.S_IFSOCK,
    }  # fmt: skip
    name = draw(NAMES)
    device = kind in (EntryKind.DEVICE, EntryKind.CHARACTER_DEVICE)
    links = draw(st.integers(1, 3)) if kind is not EntryKind.FOLDER else 1
    target = st.binary(min_size=1, max_size=30).filter(lambda target: 0 not in target)
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    return Entry(
        name=name,
        path=name,
        kind=kind,
        mode=bits[kind] | draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 1)),
        gid=draw(st.integers(0, 2**32 - 1)),
        size=draw(UNSIGNED) if kind is EntryKind.FILE else 0,
        mtime_ns=draw(TIMES),
        ctime_ns=draw(TIMES),
        inode=draw(UNSIGNED),
        device_id=draw(UNSIGNED) if links > 1 else 0,
        links=links,
        device=draw(UNSIGNED) if device else 0,
        linktarget=draw(target) if kind is EntryKind.SYMLINK else b"",
        extended=tuple(draw(st.lists(st.tuples(text.map(str.encode), st.binary(max_size=20)), max_size=2))),
    )


class TestTrees:
    @given(st.lists(entries(), max_size=5, unique_by=lambda entry: entry.name), st.data())
    def test_every_node_is_read_back_as_it_was_written(self, nodes: list[Entry], data: st.DataObject) -> None:
        nodes.sort(key=lambda entry: entry.name)
        written = _native.Nodes(len(nodes))
        written.compare(nodes, None, _native.Claims(_native.BlobIndex()))
        extras: list[tuple[tuple[bytes, ...], bytes | None]] = []
        for place, entry in enumerate(nodes):
            content = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=2))
            subtree = bytes(range(32))
            if entry.kind is EntryKind.FILE:
                written.file(place, entry, content_text(content), entry.size)
                extras.append((tuple(content), None))
            elif entry.kind is EntryKind.FOLDER:
                written.folder(place, entry, subtree)
                extras.append(((), subtree))
            else:
                extras.append(((), None))
        plain = written.json()
        assert plain.endswith(b"]}\n")
        decoded = decode_tree(plain)
        assert [node.entry for node in decoded] == nodes
        assert [(node.content, node.subtree) for node in decoded] == extras

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "nul\\x00", "../up"])
    def test_hostile_names_are_damage(self, name: str) -> None:
        plain = orjson.dumps({"nodes": [{"name": name, "type": "fifo", "mode": 0}]})
        with pytest.raises(DamageError):
            decode_tree(plain)

    def test_two_nodes_of_one_name_are_damage(self) -> None:
        node = {"name": "a", "type": "fifo"}
        with pytest.raises(DamageError, match="tree"):
            decode_tree(orjson.dumps({"nodes": [node, node]}))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["nodes", "name", "type", "mode", "mtime", "content", "subtree", "size"]), inner
                )
            ),
        )
    )
    def test_json_of_the_wrong_shape_is_damage(self, document: object) -> None:
        try:
            plain = orjson.dumps({"nodes": document})
        except TypeError:
            return
        for candidate in (plain, plain[9:-1], plain[:-1]):
            try:
                decode_tree(candidate)
            except DamageError:
                continue

    @given(st.binary(max_size=60))
    def test_garbage_is_damage(self, garbage: bytes) -> None:
        with pytest.raises(DamageError):
            decode_tree(b"\xff" + garbage)
