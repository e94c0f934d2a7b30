"""`hold` as people type it: place, see it everywhere, release."""

import os
import pwd

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home

USER = pwd.getpwuid(os.getuid()).pw_name


def test_a_hold_is_seen_with_who_when_and_why_until_it_is_released(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `hold list`, `points` and `expire --dry-run`; who did it is the system's user, not what variables say."""
    monkeypatch.setenv("LOGNAME", "mallory")
    added = home("hold", "add", "data-files", "--reason", "case  4711", "--approver", "Ada", "--json")
    assert added.status is ExitStatus.SUCCESS, added
    hold = added.document["hold"]
    assert (hold["source"], hold["point"], hold["reason"], hold["approver"]) == ("data-files", None, "case 4711", "Ada")
    assert hold["placed_by"] == USER

    said = f"by {USER}, approved by Ada: case 4711"
    point = home("points", "data-files", "--json").document["points"][0]
    assert point["holds"] == [hold]
    for command in (
        ("hold",),
        ("hold", "list"),
        ("points",),
        ("points", point["id"]),
        ("expire", "--dry-run"),
        ("expire", "data-files"),
    ):
        out = " ".join(home(*command).out.split())
        assert said in out, command
        assert hold["id"] in out, command
    assert "held" in home("points", "data-files").out

    released = home("hold", "release", hold["id"], "--reason", "case closed")
    assert released.status is ExitStatus.SUCCESS, released
    assert home("hold").out == "There is no hold in force.\n"
    everything = home("hold", "list", "--all").out
    assert said in everything
    assert f"by {USER}: case closed" in everything
    assert home("points", "data-files", "--json").document["points"][0]["holds"] == []
    assert home("hold", "release", hold["id"], "--reason", "again").status is ExitStatus.REFUSED


def test_a_hold_without_a_reason_or_on_nothing_is_refused(home: Home) -> None:
    """Nothing is written."""
    assert home("hold", "add", "data-files").status is ExitStatus.USAGE
    assert home("hold", "add", "data-files", "--reason", " ").status is ExitStatus.USAGE
    assert home("hold", "release", "x", "--reason", "").status is ExitStatus.USAGE
    mistyped = home("hold", "add", "data-file", "--reason", "case")
    assert mistyped.status is ExitStatus.NOT_FOUND
    assert "did you mean 'data-files'?" in mistyped.err
    assert home("hold", "release", "hold-1", "--reason", "x").status is ExitStatus.NOT_FOUND
    assert home("hold", "list", "--all", "--json").document == {"holds": []}
