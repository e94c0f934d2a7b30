"""Names of objects become paths, and come back, whatever they are."""

from hypothesis import example, given
from hypothesis import strategies as st

from cto_backups.sources.bucket.names import ITSELF, name_of, path_of

NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text("a/.%\0~-o☃", min_size=1, max_size=40),
    st.text("aé☃/", min_size=230, max_size=340),
).map(str.encode)


@given(NAMES)
@example(b"/")
@example(b"a//b/")
@example(b"%o")
@example(b"%-/%~/%25")
@example(b"../../etc/passwd")
@example(b"x" * 1024)
@example(b"x" * 241)
@example(b"x" * 240 + b".")
@example(b"x" * 238 + b"%" + b"..")
@example("☃".encode() * 341)
def test_each_part_of_a_path_can_be_a_file_and_the_name_comes_back(name: bytes) -> None:
    path = path_of(name)
    assert name_of(path) == name
    assert name_of(path + b"/" + ITSELF) == name
    for part in path.split(b"/"):
        assert part not in (b"", b".", b"..", ITSELF)
        assert len(part) <= 255
        assert b"\0" not in part
        part.decode()


@given(NAMES, NAMES)
def test_two_names_have_two_paths(one: bytes, other: bytes) -> None:
    assert (path_of(one) == path_of(other)) is (one == other)
    assert path_of(one) != path_of(other) + b"/" + ITSELF


def test_an_ordinary_name_is_its_own_path() -> None:
    for name in (b"a", b"deep/er/photo (1).jpg", "ünïcode ☃".encode(), b"...", b"a.b/.hidden"):
        assert path_of(name) == name
