"""What would come back, by the data itself: a source that changed, one that did not, and a dump that nobody writes."""

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from cto_backups.errors import ExitStatus

HOUR = 3600.0


def status_of(home: Any, source: str) -> Any:
    (row,) = home("status", source, "--json").document["sources"]
    return row


def expect_change(home: Any, source: str, length: str) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace(f"  {source}:\n", f"  {source}:\n    expects_change: {length}\n", 1))


def age(folder: Path, hours: float) -> None:
    """Make everything in a folder as old as that, from the leaves up."""
    then = time.time() - hours * HOUR
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (then, then), follow_symlinks=False)


def stale(home: Any) -> list[Any]:
    return [each for each in home("audit", "--json").document["findings"] if each["control"] == "content-stale"]


def test_a_database_that_was_written_to_since_its_newest_point_is_behind(home: Any) -> None:
    assert home("audit").status is ExitStatus.SUCCESS
    before = status_of(home, "ledger-database")["achieved_rpo"]
    assert (before["behind"], before["loss_seconds"]) != (True, None)
    assert before["newest_content_at"] <= before["holds_until"]
    with closing(sqlite3.connect(home.data / "ledger.db")) as connection, connection:
        connection.execute("INSERT INTO entries (note) VALUES ('new')")
    assert home("audit").status is ExitStatus.SUCCESS
    after = status_of(home, "ledger-database")["achieved_rpo"]
    assert after["behind"] is True
    assert after["source_changed_at"] > after["holds_until"] == before["holds_until"]
    told = " ".join(home("status", "ledger-database").out.split())
    assert "a loss now would cost at most the changes of the last" in told
    assert "and that would not come back" in told
    assert home("backup", "ledger-database").status is ExitStatus.SUCCESS
    assert home("audit").status is ExitStatus.SUCCESS
    assert status_of(home, "ledger-database")["achieved_rpo"]["behind"] is False


def test_backups_of_a_dump_that_nobody_writes_any_more_are_red(home: Any) -> None:
    """Every run ends well, every point is fresh, and what they hold is two days old."""
    expect_change(home, "data-files", "26 h")
    age(home.data, 49)
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    row = status_of(home, "data-files")
    assert row["status"] == "OVERDUE"
    assert row["expects_change_seconds"] == 26 * HOUR
    assert 48.9 * HOUR < row["achieved_rpo"]["content_age_seconds"] < 49.2 * HOUR
    assert any("its newest content was 49 h old; policy expects a change every 26 h" in why for why in row["reasons"])
    answer = home("status", "data-files")
    assert answer.status is ExitStatus.RED
    assert "newest of" in answer.out
    (finding,) = stale(home)
    assert (finding["subject"], finding["severity"]) == ("data-files", "high")
    home.change("the job runs again\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert stale(home) == []
    assert not any("policy expects a change" in why for why in status_of(home, "data-files")["reasons"])


def test_the_signed_record_of_a_point_says_how_new_its_content_is(home: Any) -> None:
    age(home.data, 49)
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    point = home("points", "data-files", "--limit", "1", "--json").document["points"][0]
    told = [
        json.loads(home.opened(file))["body"]["payload"] for file in home.vault("one").rglob("*-recovery-point.sealed")
    ]
    (payload,) = (each for each in told if each["id"] == point["id"])
    assert payload["newest_content_at"] == point["newest_content_at"] < payload["captured_at"]
    (home.root / "catalog.db").unlink()
    assert home("catalog", "rebuild", "--from", "one").status is ExitStatus.SUCCESS
    again = home("points", "data-files", "--limit", "1", "--json").document["points"][0]
    assert again["newest_content_at"] == point["newest_content_at"]
