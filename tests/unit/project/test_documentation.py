"""The documentation hangs together: links lead somewhere, maps list every page, decisions and make targets are told."""

import re
import subprocess
from pathlib import Path

import pytest

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)(#[^)]*)?\)")


def links_of(page: Path) -> list[str]:
    """The relative links of a page, without what stands in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    return [link[1] for link in LINK.finditer(text)]


def test_relative_links_lead_somewhere(project_files: list[Path], root: Path) -> None:
    pages = [file for file in project_files if file.suffix == ".md"]
    broken = [
        f"{page.relative_to(root)}: {link}"
        for page in pages
        for link in links_of(page)
        if not (page.parent / link).exists()
    ]
    assert not broken


def test_the_map_lists_every_page(project_files: list[Path], root: Path) -> None:
    folders = ("tutorial", "how-to", "reference", "explanation")
    pages = {
        file.relative_to(root / "docs").as_posix()
        for file in project_files
        if file.suffix == ".md" and any(file.is_relative_to(root / "docs" / folder) for folder in folders)
    }
    assert pages - set(links_of(root / "docs" / "README.md")) == set()


def decisions(root: Path) -> list[Path]:
    return sorted((root / "docs" / "adr").glob("[0-9]*.md"))


def test_every_decision_is_listed_with_its_title_and_status(root: Path) -> None:
    table = (root / "docs" / "adr" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(.+)\]\((.+)\) \| (.+) \|$", table, re.MULTILINE)
    told = []
    for page in decisions(root):
        heading, _, status, *_ = page.read_text("utf-8").split("\n")
        told.append((heading.removeprefix("# "), page.name, status.removeprefix("Status: ")))
    assert rows == told


def test_decisions_have_the_form_of_the_template(root: Path) -> None:
    numbers = []
    for page in decisions(root):
        lines = page.read_text("utf-8").split("\n")
        assert re.match(rf"# {page.name[:4]} \S", lines[0]), page.name
        assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]
        assert len(lines) <= 41, f"{page.name} is longer than forty lines"
        numbers.append(int(page.name[:4]))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_make_target_is_told_to_developers(root: Path) -> None:
    page = (root / "docs" / "how-to" / "develop.md").read_text("utf-8")
    offered = re.findall(r"^([a-z-]+):[^#\n]*## ", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^\| `make ([a-z-]+)` ", page, re.MULTILINE) == offered


def test_make_alone_prints_the_targets(root: Path) -> None:
    printed = subprocess.run(["make", "-C", root], check=True, capture_output=True, text=True).stdout
    assert "make test" in printed
    assert "make demo" in printed


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands(root: Path, command: str) -> None:
    assert command in (root / "README.md").read_text("utf-8")
