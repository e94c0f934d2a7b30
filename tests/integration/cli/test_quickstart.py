"""From nothing to proven backups: quickstart, init, and what they leave alone."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import fill, run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with data below it."""
    data = tmp_path / "data"
    data.mkdir()
    fill(data)
    return tmp_path


def test_quickstart_goes_from_nothing_to_proven_and_its_second_run_is_incremental(place: Path) -> None:
    first = run("quickstart", "data", "--home", "safe", cwd=place)
    assert first.status is ExitStatus.SUCCESS, first
    for number in range(1, 9):
        assert f"\n{number}. " in first.out
    assert first.out.count("proven in") == 3
    assert "All 3 sources are HEALTHY." in first.out
    assert "Audit score" in first.out
    assert "without this key, nobody can restore anything" in first.out
    key = (place / "safe" / "keys" / "repository.key").read_bytes()

    (place / "data" / "files" / "report.txt").write_text("other\n")
    second = run("quickstart", "--home", "safe", "--json", cwd=place)
    assert second.status is ExitStatus.SUCCESS, second
    document = second.document
    assert document["second_run"]
    outcomes = [backup["outcome"] for backup in document["backups"]]
    assert outcomes == ["saved", "unchanged", "unchanged"]
    assert sum(backup["added_bytes"] for backup in document["backups"]) < 20_000
    assert all(test["passed"] for test in document["tests"])
    assert all(vault["passed"] for vault in document["verifications"])
    assert document["status_report"]["healthy"]
    assert (place / "safe" / "keys" / "repository.key").read_bytes() == key

    third = run("quickstart", "data", "--home", "safe", cwd=place)
    assert "Second run: incremental. Of " in third.out
    assert ", 0 were new or changed; " in third.out
    assert third.out.count("unchanged, ") == 3


def test_the_commands_that_quickstart_suggests_can_be_typed(place: Path) -> None:
    commands = run("quickstart", "data", "--json", cwd=place).document["next"]
    ours = [command for command in commands if "restic" not in command]
    assert len(ours) == 3
    for command in ours:
        words = shlex.split(command)
        arguments = words[words.index("cto_backups") + 1 :] if "cto_backups" in words else words[1:]
        answer = run(*arguments, cwd=place)
        assert answer.status is ExitStatus.SUCCESS, (command, answer)
    assert any((place / "restored").rglob("*"))


def test_the_printed_restic_command_lists_the_repository(place: Path, stock_restic: Path) -> None:
    beside = f"{stock_restic.parent}{os.pathsep}{os.environ['PATH']}"
    commands = run("quickstart", "data", "--json", cwd=place, PATH=beside).document["next"]
    (line,) = [command for command in commands if " restic " in command]
    done = subprocess.run(
        ["sh", "-c", line], cwd=place, env={**os.environ, "PATH": beside}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert "3 snapshots" in done.stdout


def test_quickstart_on_nothing_says_that_there_is_nothing(place: Path) -> None:
    answer = run("quickstart", "no-such-folder", cwd=place)
    assert answer.status is ExitStatus.NOT_FOUND
    assert not (place / "cto-backups").exists()


def test_init_writes_a_policy_with_comments_and_a_key_for_its_owner_alone(place: Path) -> None:
    answer = run("init", "--protect", "data", "--business", "acme", "--json", cwd=place)
    assert answer.status is ExitStatus.SUCCESS, answer
    document = answer.document
    assert list(document["sources"]) == ["data-files", "app-repository", "ledger-database"]
    text = Path(document["policy"]).read_text()
    assert "business: acme" in text
    assert text.count("#") > 5
    key = Path(document["key"])
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().strip() not in answer.out


def test_init_says_that_both_keys_lie_in_one_folder_and_parting_them_ends_the_finding(
    home: Any, tmp_path: Path
) -> None:
    made = run("init", "new", "--protect", str(home.data), cwd=tmp_path)
    assert f"The key that signs evidence lies beside it, in {tmp_path / 'new' / 'keys'}" in " ".join(made.out.split())

    def found() -> list[str]:
        return [each["control"] for each in home("audit", "--json").document["findings"]]

    assert "keys-parted" in found()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (home.root / "keys" / "evidence.key").rename(tmp_path / "elsewhere" / "evidence.key")
    text = home.policy.read_text()
    home.policy.write_text(text.replace("file:keys/evidence.key", f"file:{tmp_path}/elsewhere/evidence.key"))
    assert "keys-parted" not in found()


def test_init_joins_what_it_finds_in_several_folders(place: Path) -> None:
    shutil.copytree(place / "data", place / "more" / "data", symlinks=True)
    document = run("init", "--protect", "data", "--protect", "more/data", "--json", cwd=place).document
    assert "data-files" in document["sources"]
    assert "data-files-2" in document["sources"]


def test_the_audit_finds_what_nobody_covers(home: Any) -> None:
    other = home.data.parent / "forgotten"
    other.mkdir()
    shutil.copy(home.data / "ledger.db", other / "customers.db")
    assert not any(finding["control"] == "coverage" for finding in json.loads(home("audit", "--json").out)["findings"])
    found = home("audit", "--look", str(other), "--fail-on", "critical")
    assert found.status is ExitStatus.RED
    assert "customers.db is covered by no source" in found.out


def test_a_point_is_shown_whole_by_its_id_or_the_beginning_of_it(home: Any) -> None:
    point = home("points", "ledger-database", "--json").document["points"][0]
    for name in (point["id"], point["id"][:-2]):
        shown = home("points", name)
        assert shown.status is ExitStatus.SUCCESS, shown
        assert point["id"] in shown.out
        assert "fingerprint" in shown.out
    document = home("points", point["id"], "--json").document
    assert {copy["vault"] for copy in document["copies"]} == {"one", "two", "three"}
    assert document["fingerprint"]["checksums"]


def test_quickstart_on_another_folder_does_not_pretend_to_protect_it(place: Path) -> None:
    """An installation that is there protects what its policy says, whatever folder is named."""
    other = place / "other"
    other.mkdir()
    assert run("quickstart", str(place / "data"), "--home", "backups", cwd=place).status is ExitStatus.SUCCESS
    again = run("quickstart", str(other), "--home", "backups", cwd=place)
    assert again.status is ExitStatus.USAGE
    assert "is not among what this installation protects" in again.err
    assert run("quickstart", str(place / "data"), "--home", "backups", cwd=place).status is ExitStatus.SUCCESS
