"""The project speaks of itself only: not of the machine or place it was written on, nor of where packages come from."""

import re
from pathlib import Path

import pytest

# Each with a '~' in it, which is taken out: this file must not hold what it looks for.
_PLACES = "/wo~rk/main /wo~rk/shared ../sha~red /ro~ot/. .py~env/ /tmp/br~ief notes-repo~sitory notes-data~bases"
_INDEXES = (
    "py~pi.org python~hosted.org crates~.io npm~js.org npm~js.com proxy.go~lang.org sum.go~lang.org"
    " deb.deb~ian.org security.deb~ian.org maven~.org maven.apa~che.org"
)
_NAMES = [re.escape(name.replace("~", "")) for name in f"{_PLACES} {_INDEXES}".split()]
_WORDS = [r"\bissue \d+\b", r"\brequirements, section \d"]
# Cargo writes where a package comes from into its lock, and reads it only like that.
_CARGOS_OWN = re.compile(r'^source = "registry\+[^"]+"$', re.MULTILINE)
FORBIDDEN = re.compile("|".join([*_NAMES, *_WORDS]), re.IGNORECASE)


def found_in(content: str) -> list[str]:
    """Each line with a forbidden word: its number and the word."""
    lines = content.split("\n")
    return [f"{number}: {hit[0]}" for number, line in enumerate(lines, 1) for hit in FORBIDDEN.finditer(line)]


def content_of(file: Path) -> str:
    content = file.read_bytes().decode("utf-8", "replace")
    return _CARGOS_OWN.sub("", content) if file.name == "Cargo.lock" else content


def test_no_file_speaks_of_its_workplace_or_of_package_indexes(project_files: list[Path], root: Path) -> None:
    found = [
        f"{file.relative_to(root)}:{hit}"
        for file in project_files
        for hit in found_in(f"{file.relative_to(root)}\n{content_of(file)}")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["see /wo~rk/main/x", "from https://PY~PI.org/simple", "for iss~ue 7"])
def test_the_search_finds_what_it_should(text: str) -> None:
    assert len(found_in(text.replace("~", ""))) == 1


@pytest.mark.parametrize("text", ["Agent memory files", "work/mainframe", "restic issue tracker", "rooted", "PyPI"])
def test_the_search_leaves_ordinary_words_alone(text: str) -> None:
    assert found_in(text) == []
