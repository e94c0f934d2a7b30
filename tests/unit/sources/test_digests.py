"""The cache of digests is only ever a help: whatever happens to it, the worst is that files are read again."""

import struct
import tempfile
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups._native import KnownDigests, LearnedDigests, token
from cto_backups.sources import digests

RECORDS = b"".join(bytes([number]) * 48 for number in range(10))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    digests.save(tmp_path / "deep" / "digests", [RECORDS[:96], RECORDS[96:]])
    loaded = digests.load(tmp_path / "deep" / "digests")
    assert len(loaded) == 10
    assert all(loaded.get(bytes([number]) * 16) == bytes([number]) * 32 for number in range(10))
    assert loaded.get(bytes([10]) * 16) is None


def test_a_missing_cache_knows_nothing(tmp_path: Path) -> None:
    assert len(digests.load(tmp_path / "digests")) == 0
    assert len(digests.load(tmp_path)) == 0


@given(st.data())
def test_a_damaged_cache_knows_nothing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digests"
        digests.save(file, [RECORDS[:96], RECORDS[96:]])
        content = bytearray(file.read_bytes())
        if data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        else:
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        file.write_bytes(content)
        assert len(digests.load(file)) == 0


def test_saving_leaves_nothing_else_behind(tmp_path: Path) -> None:
    digests.save(tmp_path / "digests", [RECORDS[:96], RECORDS[96:]])
    digests.save(tmp_path / "digests", [])
    assert [path.name for path in tmp_path.iterdir()] == ["digests"]
    assert len(digests.load(tmp_path / "digests")) == 0


state = st.tuples(
    st.binary(max_size=8),
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1),
)


@given(state, state)
def test_each_state_of_each_file_has_its_own_token(one: tuple, two: tuple) -> None:  # type: ignore[type-arg]
    assert (token(*one) == token(*two)) == (one == two)


@given(state)
def test_a_token_is_what_it_always_was(one: tuple) -> None:  # type: ignore[type-arg]
    path, size, mtime_ns, ctime_ns, inode = one
    packed = struct.pack("<QqqQ", size, mtime_ns, ctime_ns, inode)
    assert token(*one) == blake2b(packed + path, digest_size=16).digest()


def test_a_time_beyond_64_bits_has_a_token_too() -> None:
    assert token(b"/x", 1, 2**63, 2**63, 4) != token(b"/x", 1, 2**63 + 1, 2**63, 4)


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=50))
def test_known_digests_are_found_by_their_tokens(tokens: list[bytes]) -> None:
    records = [(one, bytes([number]) * 32) for number, one in enumerate(tokens + tokens[:3])]
    known = KnownDigests(b"".join(token + digest for token, digest in records))
    assert {token: known.get(token) for token in tokens} == dict(records)
    assert len(known) == len(set(tokens))
    assert known.get(b"short") is None


def test_records_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        KnownDigests(b"x" * 47)


@given(st.lists(st.integers(0, 99), unique=True), st.integers(0, 60), st.integers(1, 40_000))
@settings(max_examples=20)
def test_what_is_learned_is_what_held_again_and_what_is_new(seen: list[int], fresh: int, padding: int) -> None:
    def record(number: int, digest: int = 7) -> tuple[bytes, bytes]:
        return number.to_bytes(16, "big"), bytes([digest]) * 32

    stored = b"".join(b"".join(record(number)) for number in range(100 + padding))
    learned = LearnedDigests(10, KnownDigests(b"head" + stored, 4))
    changed = seen[: len(seen) // 2]
    for number in seen:
        learned.add(*record(number, 8 if number in changed else 7), 1)
    for number in range(fresh):
        learned.add(*record(10**9 + number), 1)
    learned.add(*record(10**9 + fresh), 10)  # too fresh to be sure of
    parts: list[bytes] = []
    while (part := learned.part(len(parts))) is not None:
        parts.append(part)
    everything = b"".join(parts)
    found = [everything[start : start + 48] for start in range(0, len(everything), 48)]
    wanted = {b"".join(record(number, 8 if number in changed else 7)) for number in seen}
    wanted |= {b"".join(record(10**9 + number)) for number in range(fresh)}
    assert len(found) == len(wanted)
    assert set(found) == wanted
