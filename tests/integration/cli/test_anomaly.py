"""Points under suspicion as people meet them: said by `backup`, shown everywhere, cleared with a reason."""

import os

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home

WHY = "mass change of content that no longer compresses: "


def points(home: Home) -> list[dict[str, object]]:
    found: list[dict[str, object]] = home("points", "data-files", "--json").document["points"]
    return found


@pytest.fixture
def struck(home: Home) -> str:
    """The point of a source whose largest file was overwritten with random bytes; one ordinary point before it."""
    notes = home.data / "files" / "notes.txt"
    notes.write_text("".join(f"line {number} of the notes\n" for number in range(20_000)))
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    notes.write_bytes(os.urandom(notes.stat().st_size))
    said = home("backup", "data-files")
    assert said.status is ExitStatus.SUCCESS, "what there is was saved, whatever it is"
    (line,) = [line for line in said.out.splitlines() if "SUSPICIOUS" in line]
    point = str(points(home)[0]["id"])
    assert line.startswith(f"SUSPICIOUS: data-files: {WHY}")
    assert f"cto.backups anomaly clear {point} --reason TEXT" in line
    return point


def test_a_suspect_point_is_shown_everywhere_until_it_is_cleared(home: Home, struck: str) -> None:
    """And why; afterwards who cleared it, and why."""
    ours, before = points(home)[:2]
    assert str(ours["suspicions"]).startswith(f"['{WHY}")
    assert (before["suspicions"], before["mark"]) == ([], None)
    for command in (("anomaly",), ("anomaly", "list"), ("points",), ("points", struck), ("status", "data-files")):
        assert WHY.rstrip() in " ".join(home(*command).out.split()), command
    assert "suspect" in home("points", "data-files").out
    assert "Under suspicion, and to be looked at: data-files. See why: cto.backups anomaly" in home("status").out
    (mark,) = home("status", "data-files", "--json").document["sources"][0]["marks"]
    assert (mark["point"], mark["cleared_at"]) == (struck, None)
    change = home("points", struck, "--json").document["change"]
    assert change["new_bytes"] >= 400_000
    assert change["stored_bytes"] >= change["new_bytes"] == change["dense_bytes"]
    findings = home("audit", "--json").document["findings"]
    assert [each["subject"] for each in findings if each["control"] == "anomaly-free"] == ["data-files"]

    assert home("anomaly", "clear", "data-file", "--reason", "x").status is ExitStatus.NOT_FOUND
    assert home("anomaly", "clear", struck).status is ExitStatus.USAGE
    assert home("anomaly", "clear", struck, "--reason", " ").status is ExitStatus.USAGE
    cleared = home("anomaly", "clear", struck, "--reason", "a test of  ours", "--json")
    assert cleared.status is ExitStatus.SUCCESS, cleared
    (mark,) = cleared.document["marks"]
    assert (mark["point"], mark["cleared_because"]) == (struck, "a test of ours")
    assert home("anomaly").out == "No point is under suspicion.\n"
    assert "a test of ours" in home("anomaly", "list", "--all").out
    assert "a test of ours" in " ".join(home("points", struck).out.split())
    assert "suspect" not in home("points", "data-files").out
    assert points(home)[0]["mark"] == mark
    assert "Under suspicion" not in home("status").out
    assert home("anomaly", "clear", struck, "--reason", "again").status is ExitStatus.REFUSED


def test_expire_says_which_points_stay_because_of_it(home: Home, struck: str) -> None:
    """The clean points before it are under its protection."""
    assert f"clean before {struck}, which is under suspicion" in " ".join(home("expire", "--dry-run").out.split())


def test_no_point_was_ever_suspect(home: Home) -> None:
    """What an ordinary installation says."""
    assert home("anomaly", "list", "--all").out == "No point was ever under suspicion.\n"
    assert home("anomaly", "--json").document == {"marks": []}
