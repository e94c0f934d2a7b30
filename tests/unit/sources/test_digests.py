"""The cache of digests is only ever a help: whatever happens to it, the worst is that files are read again."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources import digests

RECORDS = b"".join(bytes([number]) * 48 for number in range(10))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    digests.save(tmp_path / "deep" / "digests", RECORDS)
    loaded = digests.load(tmp_path / "deep" / "digests")
    assert loaded == {bytes([number]) * 16: bytes([number]) * 32 for number in range(10)}


def test_a_missing_cache_knows_nothing(tmp_path: Path) -> None:
    assert digests.load(tmp_path / "digests") == {}
    assert digests.load(tmp_path) == {}


@given(st.data())
def test_a_damaged_cache_knows_nothing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digests"
        digests.save(file, RECORDS)
        content = bytearray(file.read_bytes())
        if data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        else:
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        file.write_bytes(content)
        assert digests.load(file) == {}


def test_saving_leaves_nothing_else_behind(tmp_path: Path) -> None:
    digests.save(tmp_path / "digests", RECORDS)
    digests.save(tmp_path / "digests", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["digests"]
    assert digests.load(tmp_path / "digests") == {}


state = st.tuples(
    st.binary(max_size=8),
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1),
)


@given(state, state)
def test_each_state_of_each_file_has_its_own_token(one: tuple, two: tuple) -> None:  # type: ignore[type-arg]
    assert (digests.token(*one) == digests.token(*two)) == (one == two)
