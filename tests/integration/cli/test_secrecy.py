"""Keys and what is protected stay where they belong: not in output, logs, state, core files, nor open to others."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Answer

MARKER = "plainmarkerplainmarker"


@pytest.fixture
def marked(home: Any) -> Any:
    """An installation that protects content with a marker in it, in a file and in the rows of a database."""
    (home.data / "files" / "report.txt").write_text(f"{MARKER}\n" * 2000)
    with closing(sqlite3.connect(home.data / "ledger.db")) as connection, connection:
        connection.execute("UPDATE entries SET note = ?", (MARKER,))
        connection.execute("CREATE TABLE people (name TEXT PRIMARY KEY, born) WITHOUT ROWID")
        connection.execute("INSERT INTO people VALUES (?, 1971)", (MARKER,))
    return home


def secrets_of(home: Any) -> list[bytes]:
    """What nothing but the key files may hold: the keys as they stand there, and the content of what is protected."""
    keys = [path.read_bytes().strip() for path in sorted((home.root / "keys").iterdir())]
    assert len(keys) == 2 and all(len(key) > 30 for key in keys)
    return [*keys, *(key.removeprefix(b"ed25519:") for key in keys), MARKER.encode()]


def traces(home: Any, answers: list[Answer]) -> list[str]:
    """Where a secret is found: in the answers, or in any file of the installation but the keys'."""
    secrets = secrets_of(home)
    found = [f"answer {number}" for number, answer in enumerate(answers) if hits(repr(answer).encode(), secrets)]
    for path in home.root.rglob("*"):
        if path.is_file() and path.parent.name != "keys" and hits(path.read_bytes(), secrets):
            found.append(str(path.relative_to(home.root)))
    return found


def hits(content: bytes, secrets: list[bytes]) -> bool:
    return any(secret in content for secret in secrets)


def test_who_reads_a_vault_learns_neither_names_nor_people_nor_paths(home: Any) -> None:
    """Also not from what lies beside the repository: records of points and problems, and the policy."""
    (home.data / "files" / f"{MARKER}.txt").write_text("x")
    (home.data / "files" / f"{MARKER}-unreadable").mkdir(mode=0)
    home("backup")
    home("test", "data-files")
    assert home("hold", "add", "data-files", "--reason", MARKER).status is ExitStatus.SUCCESS
    told = [MARKER.encode(), b"report.txt", str(home.data).encode(), b"data-files", b"acme"]
    for vault in (home.root / "vaults").iterdir():
        files = [path for path in vault.rglob("*") if path.is_file()]
        assert {path.parent.name for path in files} >= {"policies", "snapshots"}
        assert any(path.parts[-3] == "records" for path in files)
        assert [str(path) for path in files if hits(path.read_bytes(), told)] == []


def test_no_command_leaves_a_trace_of_keys_or_content(marked: Any, tmp_path: Path) -> None:
    """Also with all that can be said: --verbose, --json, and the texts of errors."""
    answers = [
        marked.process(*arguments, "--verbose", CTO_BACKUPS_DEBUG="1")
        for arguments in (
            ("backup",), ("status",), ("audit",), ("points",), ("verify", "local-1"), ("test", "data-files"),
            ("restore", "data-files", "--to", str(tmp_path / "out")), ("prune", "--dry-run"), ("backup", "--json"),
        )
    ]  # fmt: skip
    assert all(answer.status in (ExitStatus.SUCCESS, ExitStatus.RED, ExitStatus.USAGE, ExitStatus.NOT_FOUND)
               for answer in answers), answers  # fmt: skip
    assert MARKER in (tmp_path / "out").joinpath(*marked.data.parts[1:], "files", "report.txt").read_text()
    assert traces(marked, answers) == []


def test_no_failure_leaves_a_trace_of_keys_or_content(marked: Any) -> None:
    """A damaged vault, a key that is wrong, a vault that is away: everything is said but a secret."""
    marked.process("backup")
    name = sorted(path.name for path in (marked.root / "vaults").iterdir())[0]
    for pack in (marked.root / "vaults" / name).glob("repositories/*/data/*/*"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-40] + bytes(40))
    answers = [marked.process("verify", name, "--verbose"), marked.process("verify", name, "--json")]
    assert {answer.status for answer in answers} == {ExitStatus.DAMAGE}
    key = marked.root / "keys" / "repository.key"
    right = key.read_text()
    key.write_text(right.strip()[:-1] + "0x\n")
    answers += [marked.process("backup", "--verbose"), marked.process("verify", "--verbose")]
    wrong = key.read_bytes().strip()
    assert not any(wrong in repr(answer).encode() for answer in answers)
    key.write_text(right)
    (marked.root / "vaults" / name).rename(marked.root / "vaults" / "away")
    answers.append(marked.process("verify", name, "--verbose"))
    assert answers[-1].status is ExitStatus.VAULT
    assert traces(marked, answers) == []


def test_the_search_finds_a_secret(marked: Any) -> None:
    """A test of the test."""
    assert traces(marked, []) == []
    (marked.root / "state" / "log").write_bytes(b"x" + secrets_of(marked)[0] + b"x")
    assert traces(marked, [Answer(ExitStatus.SUCCESS, MARKER, "")]) == ["answer 0", "state/log"]


def test_nothing_of_an_installation_can_be_read_by_others(home: Any) -> None:
    """Whatever the umask of who runs it: each file is closed to them, or lies in a folder that is.

    The policy file is not: no secret may stand in it.
    """
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    home.root.chmod(0o755)  # as if it had been there before
    open_to_others = [
        str((Path(folder) / name).relative_to(home.root))
        for folder, folders, names in os.walk(home.root)
        if not closed(folder, folders)
        for name in names
        if (Path(folder) / name).lstat().st_mode & 0o077
    ]
    assert open_to_others == ["backups.yaml"]


def closed(folder: str, folders: list[str]) -> bool:
    """Whether others cannot enter a folder; then what is below it is not walked."""
    if Path(folder).stat().st_mode & 0o077:
        return False
    folders.clear()
    return True


def test_a_command_leaves_no_core_file(tmp_path: Path) -> None:
    """Keys are in its memory; a limit of one byte also stops programs that collect core files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    program = (
        "import resource, sys\n"
        "from cto_backups.cli import main\n"
        "sys.argv = ['cto.backups', 'version']\n"
        "try:\n    main.main()\nexcept SystemExit:\n    print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    expected = 0 if 0 in (soft, hard) else 1
    assert done.stdout.splitlines()[-1] == f"({expected}, {expected})"
    assert os.listdir(tmp_path) == []  # noqa: PTH208
