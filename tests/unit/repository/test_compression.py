"""How blobs are compressed: a quicker way is taken at the usual level, for what it makes hardly larger."""

import random
import struct
from pathlib import Path

import pytest

from cto_backups import _native
from cto_backups.repository.index import BlobKind, Index
from cto_backups.repository.seal import MasterKey, Sealer

MIB = 1 << 20


def pages(seed: int) -> bytes:
    """A mebibyte of a database's pages: rows with numbers, moments and words."""
    drawn = random.Random(seed)
    made, number = [], seed * 10_000
    for _ in range(MIB // 8192):
        rows = []
        for place in range(70):
            number += 1
            rows.append(
                struct.pack("<IIIHHH4s", 731, 0, 0, 0, place, 7, b"\x03\x08\x18\0")
                + struct.pack("<qqq", number, drawn.randrange(600_000), 662_774_400_000_000 + number * 13_000_000)
                + drawn.choice([b"\x0bopen", b"\x0bpaid", b"\x0bsent", b"\x13returned"])
                + struct.pack("<hh", drawn.randrange(900), drawn.randrange(10_000))
                + (b"please ring twice, %016x" % drawn.getrandbits(64) if place % 4 else b"")
            )
        pointers = b"".join(struct.pack("<I", 8192 - place * 104) for place in range(70))
        head = struct.pack("<QQQ", number, 0, 8192) + pointers
        content = b"".join(reversed(rows))
        made.append(head.ljust(8192 - len(content), b"\0") + content)
    return b"".join(made)


def text() -> bytes:
    """A mebibyte of source code."""
    return b"".join(path.read_bytes() for path in sorted(Path(random.__file__).parent.glob("*.py")))[:MIB]


def stored(*contents: bytes, level: int = 3) -> list[int]:
    """How long each content is, compressed and sealed, after those before it."""
    bench = _native.Bench(Sealer(MasterKey.random()).native, _native.Claims(Index().native), level, 1, 1 << 30)
    lengths = []
    for content in contents:
        before = bench.added_bytes
        bench.save(BlobKind.DATA, content)
        lengths.append(bench.added_bytes - before)
    return lengths


@pytest.fixture(scope="module")
def shop() -> list[bytes]:
    return [pages(seed) for seed in range(2)]


def test_each_kind_is_compressed_the_way_that_makes_it_smaller(shop: list[bytes]) -> None:
    """Both ways are tried on the first content, and the better one is taken for those that follow."""
    other = text()[::-1]
    assert stored(*shop)[1] < stored(text(), shop[1])[1]
    assert stored(text(), other)[1] < stored(shop[0], other)[1]


def test_of_what_is_compressed_both_ways_the_smaller_is_kept(shop: list[bytes]) -> None:
    assert stored(shop[1])[0] == stored(*shop)[1]
    assert stored(text()[::-1])[0] == stored(text(), text()[::-1])[1]


def test_both_ways_are_tried_again_after_a_while(shop: list[bytes]) -> None:
    """What comes is of another kind by then."""
    texts = [bytes([number]) + text() for number in range(32)]
    assert stored(*texts, *shop)[-1] == stored(*shop)[1]
    assert stored(*texts[2:], *shop)[-1] == stored(text(), shop[1])[1]


def test_another_level_is_taken_as_it_is(shop: list[bytes]) -> None:
    for level in (2, 4):
        assert stored(*shop, level=level)[1] == stored(text(), shop[1], level=level)[1]
