"""What goes wrong around an installation: files of another user, read-only disks, lost keys, mistyped names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus

from .conftest import environment


def test_a_mistyped_source_is_not_taken_for_the_beginning_of_its_only_point(home: Any, tmp_path: Path) -> None:
    """`restore data-file` must not restore all of data-files; the nearest name is told."""
    for wrong in ("ledger-databas", "ledger-database-", "ledger"):
        for command in (("restore", wrong, "--to", str(tmp_path / "out")), ("points", wrong)):
            answer = home(*command)
            assert answer.status is ExitStatus.NOT_FOUND, answer
    assert "did you mean 'ledger-database'?" in home("restore", "ledger-databas", "--to", "x").err
    assert "did you mean 'ledger-database'?" in home("points", "ledger-databas").err
    assert "did you mean 'ledger-database'?" in home("backup", "ledger-databas").err
    assert not (tmp_path / "out").exists()


def test_a_restore_needs_the_repository_key_and_no_other(home: Any, tmp_path: Path) -> None:
    """The key that people are told to keep elsewhere has to be enough on the bad day."""
    (home.root / "keys" / "evidence.key").unlink()
    answer = home("restore", "data-files", "--to", str(tmp_path / "out"))
    assert answer.status is ExitStatus.SUCCESS, answer
    for command in (("points",), ("ls", "data-files"), ("find", "report.txt"), ("diff", "data-files", "data-files")):
        assert home(*command).status is ExitStatus.SUCCESS
    assert home.process("cat", "data-files", "files/report.txt").out == "figures\n" * 1000
    answer = home("backup")
    assert answer.status is ExitStatus.KEY
    assert "Restores work without it" in answer.err


@pytest.fixture
def bare(home: Any) -> Iterator[Any]:
    """An installation on a file system mounted read-only."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    for arguments in (["--bind", home.root, home.root], ["-o", "remount,bind,ro", home.root]):
        if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
            subprocess.run(["umount", home.root], capture_output=True, check=False)
            pytest.skip("nothing can be mounted here")
    try:
        yield home
    finally:
        subprocess.run(["umount", home.root], check=True)


def test_an_installation_that_can_only_be_read_can_be_restored_from(bare: Any, tmp_path: Path) -> None:
    """A rescued disk is mounted read-only: catalog, state and vaults are on it."""
    answer = bare("restore", "data-files", "--to", str(tmp_path / "out"))
    assert answer.status is ExitStatus.SUCCESS, answer
    for command in (("points",), ("ls", "data-files"), ("find", "report.txt"), ("diff", "data-files", "data-files")):
        assert bare(*command).status is ExitStatus.SUCCESS
    assert bare.process("cat", "data-files", "files/report.txt").out == "figures\n" * 1000
    assert bare("status").status is ExitStatus.RED
    answer = bare("backup")
    assert answer.status is ExitStatus.POLICY
    assert "state folder" in answer.err


def test_an_installation_that_can_only_be_read_can_be_audited(bare: Any) -> None:
    """What is found is judged as it is now, though nothing of it can be kept."""
    (bare.data / "ledger.db").rename(bare.data / "elsewhere.db")
    (bare.data / "files" / "report.txt").write_text("new")
    answer = bare("audit", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert answer.document["kept"] is False
    assert "state folder" in answer.document["not_kept"]["what"]
    assert "This audit is not kept" in bare("audit").err
    assert "reachable" in {finding["control"] for finding in answer.document["findings"]}
    assert bare("audit", "--fail-on", "low").status is ExitStatus.RED


def test_an_installation_that_has_lost_a_key_can_be_audited(home: Any) -> None:
    """The audit is what tells of it."""
    (home.root / "keys" / "evidence.key").unlink()
    answer = home("audit", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert "keys-there" in {finding["control"] for finding in answer.document["findings"]}
    assert answer.document["kept"] is False and answer.document["not_kept"]["code"] == "key"


def test_without_the_key_no_copy_counts(home: Any, tmp_path: Path) -> None:
    """All of them are there, and nobody can read one."""
    assert "UNPROTECTED" not in home("status").out
    (home.root / "keys" / "repository.key").rename(tmp_path / "repository.key")
    answer = home("status")
    assert answer.status is ExitStatus.RED and "UNPROTECTED" in answer.out
    assert "Key file:keys/repository.key is missing" in " ".join(answer.out.split())
    home.policy.write_text(home.policy.read_text().replace("file:keys/repository.key", '"command:cat /nowhere"'))
    assert "UNPROTECTED" not in home("status").out, "commands are for what opens vaults"


def test_a_state_folder_that_cannot_be_used_is_named(home: Any) -> None:
    """It is a mistake in the policy or in permissions, not a defect."""
    home.policy.write_text(home.policy.read_text().replace("state: state", "state: /dev/null/x"))
    answer = home("backup")
    assert answer.status is ExitStatus.POLICY
    assert "/dev/null/x" in answer.err


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system mounted read-only."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    (folder := tmp_path / "closed").mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_place_that_cannot_be_written_to_is_not_called_a_point_with_holes(home: Any, closed: Path) -> None:
    """The point is whole; another one would not help, another place would."""
    answer = home("restore", "data-files", "--to", str(closed))
    assert answer.status is ExitStatus.RESTORE, answer
    assert "Read-only file system" in answer.err and "--to FOLDER" in answer.err
    assert "unreadable" not in answer.err and "another point" not in answer.err
    assert "Nothing of data-files-" in answer.err and "The rest is restored" not in answer.err
    assert "Restored" not in answer.out
    assert home("restore", "data-files", "--to", str(closed), "--json").document["problems"][0]["kind"] == "unwritable"


def test_a_restore_to_a_file_is_told_before_anything_is_read(home: Any, tmp_path: Path) -> None:
    """A destination is a folder."""
    (tmp_path / "file").write_text("x")
    answer = home("restore", "data-files", "--to", str(tmp_path / "file"))
    assert answer.status is ExitStatus.USAGE
    assert "is not a folder" in answer.err


def test_a_file_called_secret_does_not_hide_why_it_could_not_be_read(home: Any) -> None:
    """What is redacted are secrets, and not what looks like one because of the words around it."""
    text = home.policy.read_text().replace("paths: [", f"paths: [{home.data}/no-secret, ")
    home.policy.write_text(text)
    answer = home("backup", "data-files")
    assert answer.status is ExitStatus.INCOMPLETE
    assert "no-secret (" in answer.err and "[hidden]" not in answer.err


def test_a_schedule_that_is_so_already_is_not_called_changed(home: Any) -> None:
    """Nothing became anything."""
    home("schedule", "set", "data-files", "hourly")
    assert "already" in home("schedule", "set", "data-files", "hourly").out


@pytest.mark.parametrize(
    "command",
    [("ls", "data-files"), ("ls", "data-files", "--json"), ("cat", "data-files", "files/report.txt"), ("status",)],
)
def test_an_answer_that_cannot_be_written_is_no_defect(home: Any, command: tuple[str, ...]) -> None:
    """`cat … > /full/disk` says that the disk is full, and does not end with success."""
    with Path("/dev/full").open("w") as full:
        done = _shown(home, command, stdout=full)
    assert done.returncode == ExitStatus.INTERRUPTED
    assert "No space left on device" in done.stderr
    assert "defect" not in done.stderr and "Traceback" not in done.stderr


def test_a_closed_output_is_nowhere_and_no_file_takes_its_place(home: Any) -> None:
    """`>&-` and `2>&-`: a catalog that is opened as descriptor 1 would be written over."""
    for command in (["status"], ["ls", "data-files"], ["backup"]):
        program = [sys.executable, "-m", "cto_backups", "--policy", str(home.policy), *command]
        shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *program]
        done = subprocess.run(shell, env=environment(), capture_output=True, check=False, timeout=60)
        assert done.returncode == (ExitStatus.RED if command == ["status"] else ExitStatus.SUCCESS), command
    assert home("verify").status is ExitStatus.SUCCESS


def _shown(home: Any, command: tuple[str, ...], stdout: Any) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-m", "cto_backups", "--policy", str(home.policy), *command]
    return subprocess.run(
        program, env=environment(), stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )


def test_a_hint_can_be_typed_as_it_is_told(home: Any) -> None:
    """A path of several words is quoted in the command that is to be run next."""
    folder = home.data / "files" / "two words"
    folder.mkdir()
    (folder / "x").write_text("x")
    home("backup", "data-files")
    for wrong in (("cat", "data-files", "files/two words"), ("ls", "data-files", "files/two words/y")):
        assert f"'{folder}'" in home(*wrong).err


def test_a_key_that_is_missing_for_every_vault_is_told_once(home: Any) -> None:
    (home.root / "keys" / "repository.key").unlink()
    answer = home("backup", "data-files")
    assert answer.status is ExitStatus.KEY
    said = " ".join(answer.err.split())
    assert "one, two and three: " in said
    assert said.count("keys/repository.key is missing") == 1
