"""Patterns name what a .gitignore file would name."""

import fnmatch
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.sources.patterns import Patterns, literal


def matches(patterns: list[str], path: str, *, folder: bool = False) -> bool:
    where = os.fsencode(path)
    return Patterns(patterns).match(where, where.rpartition(b"/")[2], folder)


@pytest.mark.parametrize(
    ("pattern", "path", "folder", "expected"),
    [
        ("*.log", "/srv/a/x.log", False, True),
        ("*.log", "/srv/a/x.log.gz", False, False),
        ("*.log", "/srv/a.log/x", False, False),
        ("node_modules", "/srv/node_modules", True, True),
        ("node_modules", "/srv/my_node_modules", True, False),
        ("cache/", "/srv/cache", True, True),
        ("cache/", "/srv/cache", False, False),
        ("c*e/", "/srv/cache", True, True),
        ("c*e/", "/srv/cache", False, False),
        ("/srv/tmp", "/srv/tmp", True, True),
        ("/srv/tmp", "/srv/tmp", False, True),
        ("/srv/tmp/", "/srv/tmp", True, True),
        ("/srv/tmp", "/data/srv/tmp", True, False),
        ("/srv/*/tmp", "/srv/a/tmp", True, True),
        ("/srv/*/tmp", "/srv/a/b/tmp", True, False),
        ("/srv/**/tmp", "/srv/a/b/tmp", True, True),
        ("/srv/**/tmp", "/srv/tmp", True, True),
        ("build/out", "/srv/build/out", True, True),
        ("build/out", "/srv/rebuild/out", True, False),
        ("build/*.o", "/srv/build/x.o", False, True),
        ("build/*.o", "/srv/build/sub/x.o", False, False),
        ("**/x", "/srv/deep/x", False, True),
        ("/srv/a/**", "/srv/a/b/c", False, True),
        ("?.txt", "/a.txt", False, True),
        ("?.txt", "/ab.txt", False, False),
        ("[a-c].txt", "/b.txt", False, True),
        ("[!a-c].txt", "/b.txt", False, False),
        ("[^a-c].txt", "/d.txt", False, True),
        ("[]x].txt", "/].txt", False, True),
        ("[z", "/[z", False, True),
        ("\\*.txt", "/*.txt", False, True),
        ("\\*.txt", "/a.txt", False, False),
        ("a.b", "/axb", False, False),
        ("*", "/line\nbreak", False, True),
        ("/x/y*", "/x/y\nz", False, True),
    ],
)
def test_a_pattern_names_what_it_should(pattern: str, path: str, folder: bool, expected: bool) -> None:
    assert matches([pattern], path, folder=folder) is expected


def test_the_last_pattern_that_fits_decides() -> None:
    patterns = ["*.log", "!keep.log", "/srv/bad/keep.log"]
    assert matches(patterns, "/srv/x.log")
    assert not matches(patterns, "/srv/keep.log")
    assert matches(patterns, "/srv/bad/keep.log")


def test_no_patterns_name_nothing() -> None:
    assert not Patterns([])
    assert not Patterns(["", "/"])
    assert not matches([], "/x")


def test_names_that_are_no_utf_8_are_matched_byte_by_byte() -> None:
    assert Patterns([os.fsdecode(b"\xff*")]).match(b"/a/\xffx", b"\xffx", False)
    assert Patterns(["?x"]).match(b"/a/\xffx", b"\xffx", False)


odd = st.text(st.sampled_from("ab*?[]!^-\\/.{}()+$|"), max_size=12)


@given(odd, odd)
def test_a_literal_names_its_path_and_no_other(one: str, two: str) -> None:
    path, other = Path("/top") / one.strip("/."), Path("/top") / two.strip("/.")
    assert matches([literal(path)], str(path))
    assert matches([literal(path)], str(other)) == (path == other)


@given(odd, odd)
def test_any_text_is_a_pattern(pattern: str, path: str) -> None:
    matches([pattern], "/" + path)


plain = st.text(st.sampled_from("ab"), min_size=1, max_size=3)
globs = st.text(st.sampled_from("ab*?"), min_size=1, max_size=4).filter(lambda text: "**" not in text)


@given(globs, plain)
def test_within_a_name_patterns_work_like_the_shells(pattern: str, name: str) -> None:
    assert matches([pattern], f"/x/{name}") == fnmatch.fnmatchcase(name, pattern)


@given(st.lists(globs, min_size=1, max_size=4), st.lists(plain, min_size=1, max_size=4))
def test_absolute_patterns_work_component_by_component(patterns: list[str], names: list[str]) -> None:
    expected = len(patterns) == len(names) and all(map(fnmatch.fnmatchcase, names, patterns))
    assert matches(["/" + "/".join(patterns)], "/" + "/".join(names)) is expected


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=4), st.lists(plain, min_size=1, max_size=4)
)
def test_two_stars_stand_for_any_number_of_folders(patterns: list[str], names: list[str]) -> None:
    if patterns[-1] == "**":
        patterns = [*patterns, "a"]
    parts = [r"(?:[^/]+/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in patterns]
    expected = re.fullmatch("/" + "".join(parts), "/" + "".join(name + "/" for name in names)) is not None
    assert matches(["/" + "/".join(patterns)], "/" + "/".join(names)) is expected
