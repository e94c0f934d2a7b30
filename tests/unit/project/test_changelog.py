"""Changes that users see are told in fragments of one form."""

import runpy
from pathlib import Path
from typing import Any

import pytest

GOOD = "# Fixed: restore keeps the times of folders\n\nThey were those of the restore before.\n"


@pytest.fixture(scope="module")
def changelog(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "tools" / "changelog"))


def test_every_unreleased_fragment_has_the_right_form(changelog: dict[str, Any], root: Path) -> None:
    fragments = sorted((root / "changelog" / "unreleased").iterdir())
    assert fragments, "the release has nothing to tell"
    assert {file.name: changelog["faults"](file.name, file.read_text("utf-8")) for file in fragments} == {
        file.name: [] for file in fragments
    }


def test_the_template_itself_has_the_right_form(changelog: dict[str, Any], root: Path) -> None:
    assert changelog["faults"]("template.md", (root / "changelog" / "TEMPLATE.md").read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("Times.md", GOOD, "its name is not lower-case words"),
        ("times.txt", GOOD, "its name is not lower-case words"),
        ("times.md", GOOD.replace("# ", "", 1), "its first line is not"),
        ("times.md", GOOD.replace("Fixed", "Improved"), "its kind is Improved"),
        ("times.md", GOOD.replace("folders\n", "folders.\n"), "full stop"),
        ("times.md", GOOD.split("\n")[0] + "\n", "no text"),
        ("times.md", GOOD.replace("\n\n", "\n"), "no text"),
        ("times.md", GOOD + "x" * 121 + "\n", "longer than 120"),
        ("times.md", GOOD.rstrip("\n"), "one newline"),
    ],
)
def test_a_fragment_of_another_form_is_refused(changelog: dict[str, Any], name: str, content: str, fault: str) -> None:
    assert any(fault in found for found in changelog["faults"](name, content))


def test_fragments_are_shown_by_kind(changelog: dict[str, Any]) -> None:
    assert changelog["faults"]("times.md", GOOD) == []
    added = changelog["parse"]("# Added: a thing\n\nText.\n")
    shown = changelog["render"]([changelog["parse"](GOOD), added])
    assert shown == (
        "## Added\n\n### A thing\n\nText.\n\n"
        "## Fixed\n\n### Restore keeps the times of folders\n\nThey were those of the restore before.\n"
    )
