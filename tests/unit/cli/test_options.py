"""Options that every command takes, before or after its name."""

from pathlib import Path

import pytest

from cto_backups.cli.options import GlobalOptions, presumed


def test_options_after_the_command_join_those_before_it() -> None:
    before = GlobalOptions(policy=Path("a.yaml"), json=True)
    after = GlobalOptions(policy=Path("b.yaml"), verbose=True)
    assert before.also(after) == GlobalOptions(policy=Path("b.yaml"), json=True, verbose=True)
    assert before.also(GlobalOptions()).policy == Path("a.yaml")


def test_the_command_line_tells_how_its_own_errors_are_shown() -> None:
    assert presumed(["--json", "statsu"]).json
    assert presumed(["status", "-vq"]) == GlobalOptions(quiet=True, verbose=True)
    assert not presumed(["restore", "--", "--json"]).json


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_the_environment_can_forbid_colours(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert GlobalOptions().colored is colored
    assert not GlobalOptions(no_color=True).colored
