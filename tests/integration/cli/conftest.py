"""The real program as a process of its own, on a small installation with files, a git repository and a database."""

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cto_backups.cli import main
from cto_backups.errors import ExitStatus
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault

SOURCES = ("data-files", "app-repository", "ledger-database")
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    status: ExitStatus
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON document; nothing else may stand on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Home:
    """An installation below `root`, and the data that it protects below `data`."""

    root: Path
    data: Path

    @property
    def policy(self) -> Path:
        """The policy file."""
        return self.root / "backups.yaml"

    def vault(self, name: str) -> Path:
        """The folder of a vault."""
        return self.root / "vaults" / name

    def opened(self, path: Path) -> bytes:
        """What a sealed record or policy in one of the vaults says."""
        return self._store(path).unseal(path.read_bytes())

    def seal(self, path: Path, content: bytes) -> None:
        """Write a record or policy into a vault, as whoever has the repository's key can."""
        sealed = self._store(path).seal(content)
        if path.exists():
            path.chmod(0o600)
        path.write_bytes(sealed)

    def _store(self, path: Path) -> RepositoryStore:
        name = path.relative_to(self.root / "vaults").parts[0]
        key = (self.root / "keys" / "repository.key").read_text().strip()
        return RepositoryStore.open(LocalVault(name, self.vault(name)), "repositories/main", key)

    def __call__(self, *arguments: str, **variables: str) -> Answer:
        """Run a command on this installation, in this process: what most tests do, since it is quick.

        Its environment has nothing but these variables.
        """
        out, err = io.StringIO(), io.StringIO()
        before, folder = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update(environment(CTO_BACKUPS_POLICY=str(self.policy), **variables))
        os.chdir(self.data.parent)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main.run(arguments)
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)
        return checked(Answer(status, out.getvalue(), err.getvalue()))

    def process(self, *arguments: str, **variables: str) -> Answer:
        """Run a command on this installation as people do, as a process of its own."""
        return run(*arguments, cwd=self.data.parent, CTO_BACKUPS_POLICY=str(self.policy), **variables)

    def change(self, text: str = "other figures\n") -> None:
        """Change one of the files that are protected."""
        (self.data / "files" / "report.txt").write_text(text)

    def settle(self) -> None:
        """Let the retentions of the policy have been there for long, so that a shortened one waits no more."""
        self("approve", "none", "--reason", "any command that writes notes what the policy says")
        with contextlib.closing(sqlite3.connect(self.root / "catalog.db")) as connection, connection:
            connection.execute("UPDATE retentions SET settled = 1")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would change the program's answers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CTO_BACKUPS_", "RESTIC_"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CLICOLOR_FORCE", "PY_COLORS"):
        kept.pop(name, None)
    return {**kept, **variables}


def run(*arguments: str, cwd: Path, **variables: str) -> Answer:
    """Run a command."""
    done = subprocess.run(
        [sys.executable, "-m", "cto_backups", *arguments],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return checked(Answer(ExitStatus(done.returncode), done.stdout, done.stderr))


def checked(answer: Answer) -> Answer:
    """What no answer may hold, whatever went wrong."""
    assert "Traceback" not in answer.out + answer.err, answer
    assert answer.status is not ExitStatus.DEFECT, answer
    assert "\x1b" not in answer.out + answer.err, "colours on something that is no terminal"
    return answer


def fill(data: Path) -> None:
    """Real data: files with a link and an odd name, a git repository with a branch, a SQLite database."""
    files = data / "files"
    (files / "deep" / "er").mkdir(parents=True)
    (files / "report.txt").write_text("figures\n" * 1000)
    (files / "deep" / "er" / "blob.bin").write_bytes(bytes(range(256)) * 3000)
    (files / "odd name [bold] é.txt").write_text("odd\n")
    (files / "link").symlink_to("report.txt")
    app = data / "app"
    app.mkdir()
    git = ["git", "-C", str(app), "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    (app / "main.py").write_text("print('hello')\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "First"], ["branch", "other"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    connection = sqlite3.connect(data / "ledger.db")
    with connection:
        connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, amount REAL, note TEXT)")
        rows = [(number * 1.5, f"entry {number}") for number in range(500)]
        connection.executemany("INSERT INTO entries (amount, note) VALUES (?, ?)", rows)
    connection.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation as `init` makes it, with one backup of each source. Tests get copies of it."""
    top = tmp_path_factory.mktemp("template")
    made = Home(top / "home", top / "data")
    made.data.mkdir()
    fill(made.data)
    # In this process, where key files are made that cost little to open: most of what a small command does, else.
    answer = made("init", str(made.root), "--protect", str(made.data), "--business", "acme")
    assert answer.status is ExitStatus.SUCCESS, answer
    answer = made("backup")
    assert answer.status is ExitStatus.SUCCESS, answer
    return made


def copied(template: Home, place: Path) -> Home:
    """A copy of the template: an installation may be moved, its policy's own places are relative to it."""
    copy = Home(place / "home", place / "data")
    for source, destination in ((template.root, copy.root), (template.data, copy.data)):
        shutil.copytree(source, destination, symlinks=True)
    copy.policy.write_text(template.policy.read_text().replace(str(template.data.parent), str(place)))
    # The data has moved: a point made of it where it is now, so that restoring in place means this copy.
    assert copy("backup").status is ExitStatus.SUCCESS
    return copy


@pytest.fixture
def home(template: Home, tmp_path: Path) -> Home:
    """An installation of this test's own, see `copied`."""
    return copied(template, tmp_path)
