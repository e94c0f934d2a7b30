"""Bytes and meaning: names, times, modes, seals, packs, index tables, trees, each there and back."""

import hashlib
import random
import stat
import threading

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups.core.ports import Entry, EntryKind
from cto_backups.errors import DamageError
from cto_backups.repository import gotime, names
from cto_backups.repository.blob import Squeezer, expand, expand_unsized, identify
from cto_backups.repository.chunker import LARGEST, SMALLEST, Chunker
from cto_backups.repository.index import BlobKind, BlobTable, Location
from cto_backups.repository.pack import PackBuilder, header_range, parse_header
from cto_backups.repository.polynomial import DEGREE, irreducible, random_irreducible
from cto_backups.repository.seal import OVERHEAD, Hand, MasterKey, SealBrokenError, Sealer
from cto_backups.repository.tree import content_text, decode_tree, encode_node, encode_tree

COUNT = 210_000  # more than from where the table spreads
NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
TIMES = st.integers(-(2**62), 2**62)
UNSIGNED = st.integers(0, 2**64 - 1)


class TestNames:
    @given(st.binary())
    def test_any_bytes_survive_quoting_and_json(self, name: bytes) -> None:
        quoted = names.quote(name)
        assert orjson.loads(f'"{names.json_text(quoted)}"') == quoted
        assert names.unquote(quoted) == name

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
        with pytest.raises(ValueError):
            names.unquote(text)


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

    @pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01T00:00:00Z", "2023-01-01T00:00:00"])
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


class TestBlobs:
    @given(st.binary(min_size=1, max_size=3000), st.booleans())
    def test_squeezed_bytes_expand(self, plain: bytes, always: bool) -> None:
        squeezer = Squeezer(3)
        frame = squeezer.squeeze(plain, always=always)
        assert frame is not None or not always
        if frame is not None:
            assert squeezer.expand(frame, len(plain)) == plain

    def test_random_bytes_are_left_alone_and_partly_compressible_ones_are_not(self) -> None:
        noise = random.Random(1).randbytes(1 << 20)
        assert Squeezer(3).squeeze(noise) is None
        assert Squeezer(3).squeeze(noise[: 1 << 19] + bytes(1 << 19)) is not None

    def test_a_frame_that_announces_more_than_was_recorded_costs_no_memory(self) -> None:
        bomb = zstandard.ZstdCompressor(level=3).compress(bytes(64 << 20))
        with pytest.raises(DamageError) as caught:
            expand(bomb, 1000)
        assert "67108864" in caught.value.why

    def test_a_frame_without_announced_size_is_bounded(self) -> None:
        compressor = zstandard.ZstdCompressor(level=3, write_content_size=False)
        writer = compressor.compressobj()
        bomb = writer.compress(bytes(8 << 20)) + writer.flush()
        with pytest.raises(DamageError):
            expand(bomb, 1000)
        with pytest.raises(DamageError):
            expand_unsized(bomb, 1 << 20)
        assert expand_unsized(bomb, 8 << 20) == bytes(8 << 20)

    @given(st.binary(max_size=100), st.integers(0, 200))
    def test_garbage_is_damage(self, garbage: bytes, size: int) -> None:
        with pytest.raises(DamageError):
            expand(b"\x00" + garbage, size)


class TestPacks:
    @given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20), st.booleans())
    def test_a_header_lists_what_was_packed(self, contents: list[bytes], absorb: bool) -> None:
        hand = Hand(MasterKey.random())
        builder, other = PackBuilder(BlobKind.DATA, 100), PackBuilder(BlobKind.DATA, 100)
        for number, content in enumerate(contents):
            target = other if absorb and number % 2 else builder
            target.add(hand, identify(content), content, 0)
        builder.absorb(other)
        pack, parts = builder.finish(hand)
        content = b"".join(parts)
        assert hashlib.sha256(content).digest() == pack
        start, length = header_range(len(content), content[-4:])
        blobs = parse_header(hand, memoryview(content)[start : start + length], start)
        assert blobs == builder.blobs
        opened = {hand.open(memoryview(content)[one.offset : one.offset + one.length]) for one in blobs}
        assert opened == set(contents)

    @given(st.binary(max_size=8), st.integers(0, 1 << 33))
    def test_a_length_out_of_range_is_damage(self, tail: bytes, size: int) -> None:
        try:
            start, length = header_range(size, tail)
        except DamageError:
            return
        assert start >= 0 and length <= size

    @given(st.binary(max_size=120))
    def test_a_header_of_nonsense_is_damage(self, plain: bytes) -> None:
        sealer = Sealer(MasterKey.random())
        try:
            blobs = parse_header(sealer.hand(), memoryview(sealer.seal(plain)), 1000)
        except DamageError:
            return
        assert sum(blob.length for blob in blobs) == 1000


class TestBlobTable:
    def test_every_blob_is_found_before_and_after_growing(self) -> None:
        chance = random.Random(4)
        table = BlobTable()
        expected = {chance.randbytes(32): Location(n % 7, n, n + 32, n % 3) for n in range(COUNT)}
        for blob, place in expected.items():
            table.add(blob, *place)
        for _ in range(2):
            assert len(table) == COUNT
            assert all(table.locate(blob) == [place] for blob, place in list(expected.items())[::97])
            assert all(table.pack_of(blob) == place.pack for blob, place in list(expected.items())[::89])
            assert not any(chance.randbytes(32) in table for _ in range(1000))
            table.grow()
        assert dict(table) == expected

    def test_a_blob_may_lie_in_several_packs(self) -> None:
        table = BlobTable()
        table.add(b"i" * 32, 1, 2, 3, 4)
        table.add(b"i" * 32, 5, 6, 7, 8)
        assert table.locate(b"i" * 32) == [Location(1, 2, 3, 4), Location(5, 6, 7, 8)]

    def test_bytes_that_only_look_like_an_id_across_records_are_not_one(self) -> None:
        table = BlobTable()
        first = bytes(32)
        table.add(first, 0, 0, 0, 0)
        assert b"\0" * 31 + b"\1" not in table
        assert table.pack_of(first) == 0
        assert len(table.locate(first)) == 1


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
        texts = []
        extras = []
        for entry in nodes:
            content = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=2))
            subtree = bytes(range(32))
            if entry.kind is EntryKind.FILE:
                texts.append(encode_node(entry, content=content_text(content), size=entry.size))
                extras.append((tuple(content), None))
            elif entry.kind is EntryKind.FOLDER:
                texts.append(encode_node(entry, subtree=subtree.hex()))
                extras.append(((), subtree))
            else:
                texts.append(encode_node(entry))
                extras.append(((), None))
        plain = encode_tree(texts)
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
