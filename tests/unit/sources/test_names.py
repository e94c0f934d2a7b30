from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources.names import raw, readable

names = st.binary(max_size=40)


@given(names)
def test_a_readable_name_leads_back_to_the_bytes(name: bytes) -> None:
    assert raw(readable(name)) == name


@given(names, names)
def test_different_names_read_differently(one: bytes, two: bytes) -> None:
    assert (readable(one) == readable(two)) == (one == two)


@given(names)
def test_a_readable_name_can_be_printed_and_stored(name: bytes) -> None:
    text = readable(name)
    text.encode("utf-8")
    assert not any(character < " " or character == "\x7f" for character in text)


def test_ordinary_names_read_as_they_are() -> None:
    assert readable("/home/ada/Ünterlagen/año.txt".encode()) == "/home/ada/Ünterlagen/año.txt"
