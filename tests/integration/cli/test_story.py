"""The story, command by command, as a person would type it."""

import filecmp
import re
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cto_backups import clock
from cto_backups.errors import ExitStatus
from cto_backups.repository.readback import ReadBack

SOURCES = ("data-files", "app-repository", "ledger-database")


def newest(home: Any, source: str) -> str:
    """The id of a source's newest point."""
    return str(home("points", source, "--limit", "1", "--json").document["points"][0]["id"])


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same names and contents."""
    compared = filecmp.dircmp(one, other)
    deeper = all(same(one / name, other / name) for name in compared.common_dirs)
    _, differing, odd = filecmp.cmpfiles(one, other, compared.common_files, shallow=False)
    return not (compared.left_only or compared.right_only or differing or odd) and deeper


def test_from_a_first_backup_to_a_proven_restore(home: Any, tmp_path: Path) -> None:
    before = home.process("status")
    assert before.status is ExitStatus.RED
    assert "never proven by a restore test" in before.out

    verified = home.process("verify")
    assert verified.status is ExitStatus.SUCCESS
    assert [line.split(":")[0] for line in verified.out.splitlines()] == ["one", "two", "three"]

    tested = home.process("test")
    assert tested.status is ExitStatus.SUCCESS, tested
    assert tested.out.count("proven in") == 3
    assert tested.out.count("  equal: ") == 3

    healthy = home.process("status")
    assert healthy.status is ExitStatus.SUCCESS, healthy
    assert healthy.out.splitlines()[-1] == "All 3 sources are HEALTHY."

    restored = home.process("restore", "data-files", "--to", "back")
    assert restored.status is ExitStatus.SUCCESS, restored
    (found,) = tmp_path.glob("back/**/files")
    assert same(found, home.data / "files")
    assert (found / "link").readlink() == Path("report.txt")

    assert home.process("restore", "ledger-database", "--to", "database").status is ExitStatus.SUCCESS
    (database,) = tmp_path.glob("database/**/ledger.db")
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*), sum(amount) FROM entries").fetchone() == (500, 187125.0)
    connection.close()

    answer = home.process("restore", newest(home, "app-repository"), "--to", "code", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    (place,) = tmp_path.glob("code/*.git")
    branches = subprocess.run(
        ["git", "-C", place, "for-each-ref", "--format=%(refname)"], capture_output=True, text=True, check=True
    )
    assert "refs/heads/other" in branches.stdout


def test_a_second_backup_confirms_what_has_not_changed(home: Any) -> None:
    first = {source: newest(home, source) for source in SOURCES}
    again = home("backup")
    assert again.status is ExitStatus.SUCCESS
    assert again.out.count("unchanged") == 3
    home.change()
    changed = home("backup", "--json").document["sources"]
    assert [answer["outcome"] for answer in changed] == ["saved", "unchanged", "unchanged"]
    # The file, and folders above the data in which others work at the same time.
    assert 1 <= changed[0]["changed_entries"] < changed[0]["unchanged_entries"]
    assert newest(home, "data-files") != first["data-files"]
    assert newest(home, "ledger-database") == first["ledger-database"]


def test_a_point_made_by_hand_is_made_although_nothing_changed_and_says_why(home: Any) -> None:
    assert home("backup", "data-files", "--before", "migration 42").status is ExitStatus.SUCCESS
    shown = home("points", newest(home, "data-files"))
    assert "migration 42" in shown.out
    assert "kept until" in shown.out


def test_a_point_in_time_brings_back_what_was_there_then(home: Any, tmp_path: Path) -> None:
    then = home("points", "data-files", "--json").document["points"][0]["captured_at"]
    home.change("later\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    answer = home("restore", "--source", "data-files", "--at", then, "--to", "then")
    assert answer.status is ExitStatus.SUCCESS, answer
    (found,) = tmp_path.glob("then/**/report.txt")
    assert found.read_text().startswith("figures")


def test_a_restore_overwrites_only_when_told_to(home: Any, tmp_path: Path) -> None:
    assert home("restore", "data-files", "--to", "back").status is ExitStatus.SUCCESS
    (found,) = tmp_path.glob("back/**/report.txt")
    found.write_text("mine\n")
    refused = home("restore", "data-files", "--to", "back")
    assert refused.status is ExitStatus.REFUSED
    assert "--overwrite" in refused.err
    assert found.read_text() == "mine\n"
    assert home("restore", "data-files", "--to", "back", "--overwrite").status is ExitStatus.SUCCESS
    assert found.read_text().startswith("figures")


def test_a_restore_over_files_says_what_it_kept_and_reads_it_back(home: Any, tmp_path: Path) -> None:
    assert home("restore", "data-files", "--to", "back", "--verify").status is ExitStatus.SUCCESS
    (found,) = tmp_path.glob("back/**/files")
    (found / "report.txt").write_text("changed")
    planned = home("restore", "data-files", "--to", "back", "--overwrite", "--dry-run", "--json").document
    assert planned["conflicts"] == [str(found / "report.txt")]
    assert (found / "report.txt").read_text() == "changed"
    answer = home("restore", "data-files", "--to", "back", "--overwrite", "--verify")
    assert "as they stood there" in answer.out and "read back from the disk" in answer.out
    assert same(found, home.data / "files")
    (found / "report.txt").unlink()
    done = home("restore", "data-files", "--to", "back", "--overwrite", "--patch", "--json").document
    assert (done["kept_entries"], done["kept_bytes"]) == (planned["kept_entries"], planned["kept_bytes"])
    assert 0 < done["kept_bytes"] < done["size_bytes"]


def test_what_matches_nothing_is_told_of_the_point_and_how_to_look_into_it(home: Any) -> None:
    answer = home("restore", "data-files", "--to", "back", "--only", "nothing.txt")
    assert answer.status is ExitStatus.NOT_FOUND
    (point,) = home("points", "data-files", "--limit", "1", "--json").document["points"]
    assert f"Nothing in {point['id']} matches nothing.txt" in " ".join(answer.err.split())
    assert f"cto.backups ls {point['id']}" in " ".join(answer.err.split())


def test_in_place_what_would_be_replaced_is_named_by_its_path(home: Any) -> None:
    planned = home("restore", "data-files", "--in-place", "--dry-run", "--json").document
    assert str(home.data / "files" / "report.txt") in planned["conflicts"]


def test_a_disk_that_does_not_hold_what_was_restored_is_damage(home: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(ReadBack, "run", spoilt_before(ReadBack.run, home.data.parent / "back"))
    answer = home("restore", "data-files", "--to", "back", "--verify")
    assert answer.status is ExitStatus.DAMAGE
    assert "report.txt (altered: read back from the disk" in answer.err


def spoilt_before(run: Any, place: Path) -> Any:
    """Reading back what somebody changed a moment before."""

    def changed(self: Any, *arguments: Any) -> None:
        for path in place.rglob("report.txt"):
            path.write_text("something else")
        run(self, *arguments)

    return changed


@pytest.mark.parametrize("option", ["--trust-times", "--patch"])
def test_how_to_overwrite_is_said_only_with_overwrite(home: Any, option: str) -> None:
    answer = home("restore", "data-files", "--to", "back", option)
    assert answer.status is ExitStatus.USAGE
    assert f"{option} needs --overwrite" in answer.err


def test_a_restore_in_place_needs_a_yes(home: Any) -> None:
    home.change("broken\n")
    home.data.parent.chmod(0o751)
    unasked = home("restore", "data-files", "--in-place", "--overwrite")
    assert unasked.status is ExitStatus.REFUSED
    assert "--yes" in unasked.err
    assert (home.data / "files" / "report.txt").read_text() == "broken\n"
    done = home("restore", "data-files", "--in-place", "--overwrite", "--yes")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert (home.data / "files" / "report.txt").read_text().startswith("figures")
    assert home.data.parent.stat().st_mode & 0o777 == 0o751, "a folder above the data belongs to others"


def test_a_dry_run_of_a_restore_writes_nothing_and_tells_what_is_in_the_way(home: Any, tmp_path: Path) -> None:
    seen = home("restore", "data-files", "--to", "nowhere", "--dry-run")
    assert seen.status is ExitStatus.SUCCESS
    assert "Nothing was written." in seen.out
    assert not (tmp_path / "nowhere").exists()
    in_place = home("restore", "data-files", "--in-place", "--dry-run", "--json").document
    assert in_place["would_be_refused"]
    assert any(path.endswith("report.txt") for path in in_place["conflicts"])


def test_only_what_is_asked_for_comes_back(home: Any, tmp_path: Path) -> None:
    answer = home("restore", "data-files", "--to", "some", "--only", "*.bin", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert [path.name for path in tmp_path.glob("some/**/*") if path.is_file()] == ["blob.bin"]


def test_expiry_keeps_what_it_must_and_a_dry_run_changes_nothing(home: Any) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace("  data-files:\n", '  data-files:\n    retention: "1 version"\n'))
    for number in range(2):
        home.change(f"version {number}\n")
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    home.settle()
    before = home("points", "data-files", "--json").document["points"]
    planned = home("expire", "data-files", "--dry-run", "--json").document["sources"][0]
    assert len(planned["dropped"]) == len(before) - 1
    assert planned["kept"][0]["point"] == before[0]["id"]
    assert home("points", "data-files", "--json").document["points"] == before
    done = home("expire", "data-files")
    assert done.status is ExitStatus.SUCCESS, done.err
    assert f"dropped {len(before) - 1}, kept 1" in done.out
    assert [point["id"] for point in home("points", "data-files", "--json").document["points"]] == [before[0]["id"]]


def test_prune_reclaims_what_expired_points_held_and_a_dry_run_changes_nothing(home: Any) -> None:
    text = home.policy.read_text()
    home.policy.write_text(text.replace("  data-files:\n", '  data-files:\n    retention: "1 version"\n'))
    for number in range(2):
        home.change(f"version {number}\n" * 1000)
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    home.settle()
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    planned = home("prune", "one", "--dry-run", "--json").document["vaults"][0]
    assert planned["freed_bytes"] > 0
    assert not planned["done"]
    shown = home("prune", "one", "--dry-run")
    assert "one: would be pruned" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    done = home("prune", "one", "--json").document["vaults"][0]
    changing = {"made_at", "seconds", "done", "added_bytes"}
    assert {name: value for name, value in done.items() if name not in changing} == {
        name: value for name, value in planned.items() if name not in changing
    }
    told = home("prune")
    assert told.status is ExitStatus.SUCCESS, told.err
    assert "one: pruned" in told.out
    assert "wait for that already" in told.out
    assert all(len(line) <= 80 for line in told.out.splitlines())
    assert home("verify").status is ExitStatus.SUCCESS
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    assert home("prune", "nowhere").status is ExitStatus.NOT_FOUND


def test_the_schedule_is_shown_and_changed_with_comments_kept(home: Any) -> None:
    shown = home("schedule")
    assert shown.status is ExitStatus.SUCCESS
    assert "hourly, daily at 02:00" in " ".join(shown.out.split())
    comments = [line for line in home.policy.read_text().splitlines() if line.startswith("#")]
    changed = home("schedule", "set", "data-files", "every 6 h, daily at 03:30")
    assert changed.status is ExitStatus.SUCCESS, changed
    assert [line for line in home.policy.read_text().splitlines() if line.startswith("#")] == comments
    rows = {row["source"]: row for row in home("schedule", "--json").document["sources"]}
    assert rows["data-files"]["triggers"] == "every 6 h, daily at 03:30"


def test_the_schedule_tells_why_of_all_that_comes_also_in_vaults(home: Any) -> None:
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    answer = home("schedule", "--json").document
    vaults = {row["vault"] for row in answer["vaults"]}
    assert {(row["action"], row["vault"]) for row in answer["vaults"]} == {
        (action, vault) for action in ("verify", "prune") for vault in vaults
    }
    shown = " ".join(home("schedule").out.split())
    rows = [*answer["sources"], *answer["vaults"]]
    assert all(row["why"] and row["why"] in shown for row in rows)
    assert all(row["test_why"] in shown for row in answer["sources"])
    assert all(f"{row['action']} {row['vault']}" in shown for row in answer["vaults"])


def test_why_a_test_is_due_leaves_room_for_what_is_tested(home: Any) -> None:
    """The reason may be as long as what a failed test said."""
    for name in ("one", "two", "three"):
        home.vault(name).rename(home.root / f"{name}-unmounted")
    assert home("test", "data-files").status is ExitStatus.VERIFICATION
    shown = home("schedule", COLUMNS="80").out
    (line,) = [line for line in shown.split("restore test of")[1].splitlines() if line.startswith("data-files")]
    assert re.match(r"data-files +\d{4}-\d\d-\d\d \d\d:\d\d \(.+\) +now", line), shown


def test_what_would_run_within_a_day_is_told(home: Any) -> None:
    assert home("schedule", "set", "data-files", "hourly, daily at 02:30").status is ExitStatus.SUCCESS
    actions = home("schedule", "--ahead", "1 day", "--json").document["actions"]
    assert [each["first"] for each in actions] == sorted(each["first"] for each in actions)
    (files,) = [each for each in actions if (each["action"], each["source"]) == ("backup", "data-files")]
    assert files["times"] in (24, 25, 26)  # each hour; at half past two, which begins a new one; now if that is due
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    shown = home("schedule", "--ahead", "1 day")
    assert "now" not in shown.out
    assert "backup data-files" in " ".join(shown.out.split())


def test_heavy_work_waits_for_its_window_and_a_command_by_hand_does_not(home: Any) -> None:
    """The window opens in three hours, by the clock of the policy, for one."""
    zone = ZoneInfo(home("schedule", "--json").document["timezone"])
    begin = (clock.now().astimezone(zone).hour + 3) % 24
    window = f'{{from: "{begin:02}:00", to: "{(begin + 1) % 24:02}:00"}}'
    home.policy.write_text(f"{home.policy.read_text()}\nworker:\n  heavy_work: [{window}]\n")
    once = home("worker", "--once")
    assert once.status is ExitStatus.SUCCESS and "restore test" not in once.out, once
    answer = home("schedule", "--json").document
    opens = datetime.fromisoformat(answer["heavy_work"]["opens"])
    assert opens > clock.now() and answer["heavy_work"]["notes"] == []
    (row,) = [row for row in answer["sources"] if row["source"] == "data-files"]
    assert (row["test_why"], row["test_next"]) == ("never tested; waits for its window", answer["heavy_work"]["opens"])
    actions = home("schedule", "--ahead", "1 day", "--json").document["actions"]
    assert {each["first"] for each in actions if each["action"] == "restore_test"} == {row["test_next"]}
    shown = " ".join(home("schedule").out.split())
    assert "The windows of heavy work (restore tests, verifications, prunes) are closed until" in shown
    assert "waits for its window" in shown
    assert "waits for its window" in " ".join(home("status", "data-files").out.split())
    assert home("test", "data-files").status is ExitStatus.SUCCESS


def test_the_worker_does_what_is_due_and_then_nothing_is(home: Any) -> None:
    first = home("worker", "--once")
    assert first.status is ExitStatus.SUCCESS, first
    assert first.out.count("restore test") >= 2
    again = home("worker", "--once")
    assert again.out.strip() == "Nothing is due."


def test_the_story_of_a_source_names_the_evidence_that_there_is(home: Any) -> None:
    before = home("status", "app-repository", "--json").document["sources"][0]
    assert before["forecast_rto"] is None
    (verification, *_) = home("verify", "one", "--json").document["vaults"]
    assert verification["passed"]
    (test,) = home("test", "app-repository", "--json").document["tests"]
    story = home("status", "app-repository", "--json").document["sources"][0]
    assert story["forecast_rto"]["tests"] == 1
    assert story["forecast_rto"]["wide"] is True
    assert 0 < story["forecast_rto"]["least_seconds"] < story["forecast_rto"]["most_seconds"]
    (tested,) = [ladder for ladder in story["ladders"] if ladder["vault"] == test["vault"]]
    assert tested["rung"] == "proven"
    assert [step["evidence"] for step in tested["steps"] if step["rung"] in ("restored", "proven")] == [test["id"]] * 2
    (read,) = [ladder for ladder in story["ladders"] if ladder["vault"] == "one"]
    assert [step["standing"] for step in read["steps"] if step["rung"] == "read"] == ["holds"]
    told = " ".join(home("status", "app-repository").out.split())
    assert test["id"] in told
    assert "wide: measured by 1 restore test" in told
