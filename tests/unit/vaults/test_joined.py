"""Parts as one stream are read as if they had been joined."""

import io

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.vaults.joined import Joined

PARTS = st.lists(st.binary(max_size=20), max_size=8)
STEPS = st.lists(st.tuples(st.sampled_from(["read", "seek"]), st.integers(-1, 60)), max_size=12)


@given(PARTS, STEPS)
def test_every_read_gives_what_the_joined_parts_would_give(parts: list[bytes], steps: list[tuple[str, int]]) -> None:
    stream, expected = Joined(parts), io.BytesIO(b"".join(parts))
    assert len(stream) == stream.size == len(b"".join(parts))
    for step, number in steps:
        if step == "read":
            assert bytes(stream.read(number)) == expected.read(number)
        else:
            assert stream.seek(max(number, 0)) == expected.seek(max(number, 0))
        assert stream.tell() == expected.tell()
    assert stream.seek(0, 2) == expected.seek(0, 2)


def test_a_read_within_one_part_copies_nothing() -> None:
    part = bytearray(b"x" * 100)
    stream = Joined([b"head", part])
    assert bytes(stream.read(4)) == b"head"
    view = stream.read(50)
    part[0] = ord("y")
    assert bytes(view).startswith(b"yx")
