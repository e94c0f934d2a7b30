"""What is printed for a terminal of 80 columns."""

import json
import shlex

from rich.console import Console

from cto_backups.cli.screen import _continued, _fitted, _of_many, as_json


def test_a_command_that_is_longer_than_a_line_goes_on_after_a_backslash() -> None:
    """It can be copied as it stands: a shell reads the same words."""
    words = ["cto.backups", "restore", "a-" * 30, "--to", "re stored/here", "--policy", "my home/backups.yaml"]
    shown = _continued(f"    {shlex.join(words)}", Console(force_terminal=True, width=80))
    assert len(shown.splitlines()) > 1
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shlex.split(shown.replace("\\\n", "")) == words


def test_a_command_in_a_pipe_stays_on_one_line() -> None:
    """So that grep finds it whole."""
    line = f"    cto.backups restore {'x' * 200}"
    assert _continued(line, Console(force_terminal=False, width=80)) == line


def test_a_number_is_not_parted_from_its_unit() -> None:
    """Otherwise a line begins with "kB/s"."""
    console = Console(force_terminal=True, width=80)
    for start in range(60, 80):
        assert not any(line.strip() == "kB/s)" for line in _fitted(f"{'x' * start} (58.8 kB/s)", console).splitlines())


def test_json_of_very_many_is_what_json_of_all_at_once_is() -> None:
    head, rest = {"now": "a\nb", "worker": {"alive": True, "workers": [{"name": "x"}]}}, {"healthy": False, "kept": {}}
    for rows in ([], [{"source": "one", "reasons": ["a\nb", "ü"], "none": {}}], [{"a": 1}, {"b": [[]]}, {"c": None}]):
        whole = "".join(as_json({**head, "sources": rows, **rest}))
        assert "".join(_of_many(head, "sources", iter(rows), lambda: rest)) == whole


def test_what_is_said_at_the_end_is_asked_for_at_the_end() -> None:
    seen: list[int] = []
    rows = ({"row": seen.append(number)} for number in range(3))
    text = "".join(_of_many({}, "rows", rows, lambda: {"many": len(seen)}))
    assert json.loads(text)["many"] == 3
