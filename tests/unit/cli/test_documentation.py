"""The reference of commands says what there is: an undocumented command or option is a failing test."""

import re
from pathlib import Path

import pytest

from cto_backups.cli import command_table, commands

REFERENCE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
SHARED = {"--policy", "--json", "--quiet", "--verbose", "--no-color", "--help"}


def sections() -> dict[str, str]:
    """The text under each second-level heading."""
    parts = re.split(r"^## (.+)$", REFERENCE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options_of_commands() -> dict[str, set[str]]:
    """The long options of each command, by its whole name."""
    found: dict[str, set[str]] = {}

    def walk(command: object, names: tuple[str, ...]) -> None:
        long = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}  # type: ignore[attr-defined]
        found[" ".join(names)] = long
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*names, name))

    walk(commands.build(), ())
    return found


OPTIONS = options_of_commands()


def documented_options(section: str) -> set[str]:
    """The options in a section's table of options."""
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    return {option for row in rows for option in re.findall(r"--[a-z-]+", row)}


def test_the_reference_has_a_section_for_each_command_and_for_nothing_else() -> None:
    assert set(sections()) - {"Global options"} == set(OPTIONS) - {""}


def test_the_global_options_are_documented() -> None:
    assert documented_options(sections()["Global options"]) == SHARED


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {""}))
def test_each_option_of_a_command_is_in_its_table_and_no_other_one_is(name: str) -> None:
    assert documented_options(sections()[name]) == OPTIONS[name] - SHARED


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {""}))
def test_each_section_shows_how_the_command_is_typed_and_its_json(name: str) -> None:
    assert f"`cto.backups {name}" in sections()[name]
    assert "JSON: " in sections()[name]


def test_the_examples_in_the_help_fit_80_columns() -> None:
    """A terminal would break them in the middle of a word."""
    examples = [text for entry in command_table.COMMANDS for each in (entry, *entry.below) for text in each.examples]
    assert [text for text in examples if len(f"  {commands.NAME} {text}") > 80] == []
