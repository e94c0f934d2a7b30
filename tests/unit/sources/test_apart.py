"""The native code of sources and of the repository know nothing of each other: a broken writer must fail a proof."""

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[3] / "native" / "src"


@pytest.mark.parametrize(("here", "there"), [("sources", "repository"), ("repository", "sources")])
def test_no_file_of_one_refers_to_the_other(here: str, there: str) -> None:
    files = sorted((NATIVE / here).rglob("*.rs"))
    assert files
    for file in files:
        code = re.sub(r"//.*", "", file.read_text())
        assert not re.search(rf"\b{there}\b|\bcrate::(?!{here}\b)", code), file
