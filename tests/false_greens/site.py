"""A real installation on disk, worked by the command line in this process, with a clock and disks that are told.

Real are the vaults, the catalog, the keys, the data and every command. Told are the time, so that weeks pass in
seconds, which disk a folder is on, since a test has one disk only, and that a pager takes what it is sent.
"""

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from cto_backups import clock
from cto_backups.app import environment
from cto_backups.channels.webhook import WebhookChannel
from cto_backups.cli import main
from cto_backups.errors import ExitStatus
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources import servers
from cto_backups.vaults.local import LocalVault

BEGIN = datetime(2031, 3, 3, 6, 0, tzinfo=UTC)
"""Later than any file of a test was written: nothing that is protected lies in the future."""

NOTHING_AROUND = servers.Places(sockets=(), kernel=Path("/nowhere"), volumes=())
"""What else runs on the machine of a test is none of its business."""

DATA_DISK, FIRST_DISK, SECOND_DISK = 1, 2, 3


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    status: ExitStatus
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its JSON document."""
        return json.loads(self.out)


@dataclass
class Site:
    """An installation in ``home`` and its data in ``data``, both below `root`, at the moment `now`.

    `disks` says on which disk what begins with a path is; the rest is on the disk of the data. `trouble` is in force
    while a command runs: what cannot be done to files, such as a disk without room. `around` is where servers may be,
    `servers` are those of tests that a fault is done to.
    """

    root: Path
    now: datetime = BEGIN
    disks: dict[str, int] = field(default_factory=dict)
    around: servers.Places = NOTHING_AROUND
    servers: dict[str, Any] = field(default_factory=dict)
    trouble: list[Callable[[], AbstractContextManager[Any]]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def policy(self) -> Path:
        return self.home / "backups.yaml"

    @property
    def catalog(self) -> Path:
        return self.home / "catalog.db"

    def vault(self, name: str) -> Path:
        return self.home / "vaults" / name

    def __call__(self, *arguments: str) -> Answer:
        """Run a command."""
        out, err = io.StringIO(), io.StringIO()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CTO_BACKUPS_")}
        with contextlib.ExitStack() as stack:
            variables = {**kept, "CTO_BACKUPS_POLICY": str(self.policy)}
            stack.enter_context(mock.patch.dict(os.environ, variables, clear=True))
            stack.enter_context(mock.patch.object(clock, "now", lambda: self.now))
            stack.enter_context(mock.patch.object(servers, "USUAL", self.around))
            stack.enter_context(mock.patch.object(WebhookChannel, "send", lambda *_: None))
            stack.enter_context(mock.patch.object(environment, "_place", partial(self._place, environment._place)))
            for trouble in self.trouble:
                stack.enter_context(trouble())
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            status = main.run(arguments)
        answer = Answer(status, out.getvalue(), err.getvalue())
        self.now += timedelta(seconds=1)  # no two things happen at one moment
        assert status is not ExitStatus.DEFECT and "Traceback" not in answer.out + answer.err, answer
        return answer

    def _place(self, original: Callable[[Path], Any], path: Path) -> Any:
        told = [disk for beginning, disk in self.disks.items() if str(path).startswith(beginning)]
        return replace(original(path), device=told[-1] if told else DATA_DISK)

    def well(self, *arguments: str) -> Answer:
        """Run a command that has to succeed."""
        answer = self(*arguments)
        assert answer.status is ExitStatus.SUCCESS, (arguments, answer)
        return answer

    def later(self, **length: float) -> None:
        """Let time pass in which nothing runs."""
        self.now += timedelta(**length)

    def work(self, *, days: float = 0, every: float = 1, hours: float = 0) -> None:
        """Let time pass, with a pass of the worker every so many days; then one at the end. Passes may fail."""
        until = self.now + timedelta(days=days, hours=hours)
        while self.now < until:
            self.now = min(self.now + timedelta(days=every), until)
            self("worker", "--once", "--every", f"{round(24 * every)} h")

    def edit(self, *changes: tuple[str, str]) -> None:
        """Change the policy file."""
        text = self.policy.read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        self.policy.write_text(text)

    def in_catalog(self, statement: str, **values: object) -> list[Any]:
        """Run a statement on the catalog, behind the program's back."""
        with closing(sqlite3.connect(self.catalog)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def points(self, source: str) -> list[str]:
        """The ids of its points, newest first."""
        rows = self.in_catalog("SELECT id FROM points WHERE source = :source ORDER BY captured_at DESC", source=source)
        return [row[0] for row in rows]

    def stored(self, vault: str, what: str) -> list[Path]:
        """The files of a kind in a vault's repository (data, index, snapshots, keys), the largest first."""
        files = (path for path in (self.vault(vault) / "repositories" / "main" / what).rglob("*") if path.is_file())
        return sorted(files, key=lambda path: (-path.stat().st_size, path))

    def records(self, vault: str) -> list[Path]:
        """The records in a vault, in order."""
        return sorted(path for path in (self.vault(vault) / "records").rglob("*") if path.is_file())

    def said(self, record: Path) -> bytes:
        """What a sealed record in a vault says."""
        return self._store(record).unseal(record.read_bytes())

    def seal(self, record: Path, content: bytes) -> None:
        """Put a record into a vault, as whoever has the repository's key can."""
        sealed = self._store(record).seal(content)
        if record.exists():
            record.chmod(0o600)
        record.parent.mkdir(exist_ok=True)
        record.write_bytes(sealed)

    def _store(self, record: Path) -> RepositoryStore:
        name = record.relative_to(self.home / "vaults").parts[0]
        key = (self.home / ("own/two.key" if name == "two" else "keys/repository.key")).read_text().strip()
        return RepositoryStore.open(LocalVault(name, self.vault(name)), "repositories/main", key)

    def copy_to(self, place: Path) -> None:
        """Set all of it aside."""
        shutil.copytree(self.root, place, symlinks=True)

    def back_from(self, place: Path) -> None:
        """Be again as it was when it was set aside."""
        shutil.rmtree(self.root)
        shutil.copytree(place, self.root, symlinks=True)


def git(folder: Path, *arguments: str) -> None:
    """Run git in a repository."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def commit(folder: Path, text: str) -> None:
    """A commit, in a repository that is made when there is none."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "main")
    (folder / "main.py").write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "A change")


def rows(database: Path, number: int, text: str = "entry") -> None:
    """Add rows to a table, which is made when there is none."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, amount REAL, note TEXT)")
        values = [(index * 1.5, f"{text} {index}") for index in range(number)]
        connection.executemany("INSERT INTO entries (amount, note) VALUES (?, ?)", values)


def files(folder: Path, number: int, text: str = "figures") -> None:
    """Files of a few kilobytes, in folders of ten."""
    for index in range(number):
        file = folder / f"part-{index // 10}" / f"report-{index}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text} of {index}\n" * 200)


def make(root: Path, fill: Callable[[Site], None], policy: str) -> Site:
    """An installation made by ``init`` on data that `fill` makes, then with a policy of its own.

    In the policy, ``{data}`` is the folder of the data and ``{fingerprint}`` that of the evidence key. The two vaults
    are on disks of their own, vault two has a key of its own, and each of the three keys is in a folder of its own.
    """
    site = Site(root)
    site.data.mkdir(parents=True)
    fill(site)
    site.disks = {str(site.vault("one")): FIRST_DISK, str(site.vault("two")): SECOND_DISK}
    with mock.patch.dict(os.environ, {"CTO_BACKUPS_POLICY": ""}):
        site.well("init", str(site.home), "--protect", str(site.data), "--business", "acme")
    shutil.rmtree(site.vault("two"))
    shutil.rmtree(site.vault("three"))
    signing = site.home / "signing"
    signing.mkdir(mode=0o700)
    (site.home / "keys" / "evidence.key").rename(signing / "evidence.key")
    site.policy.write_text(HEAD + policy.replace("{data}", str(site.data)))
    site.well("vault", "init", "two")
    site.well("worker", "--once", "--every", "24 h")
    site.well("alerts", "test")
    return site


HEAD = """\
alerts:
  channels: {pager: {kind: webhook, url: "env:PAGER_URL", pages: true}}
  people: {red-phone: {reach: [pager]}}
  tested_within: 2 years
version: 1
business: acme
timezone: UTC
keys:
  repository: file:keys/repository.key
  evidence: file:signing/evidence.key
catalog: sqlite:catalog.db
state: state
vaults:
  one: {url: "file:vaults/one", provider: local-disk, region: cellar, storage: disk}
  two:
    url: file:vaults/two
    provider: other-disk
    region: office
    storage: tape
    off_site: true
    access: append-only
    key: file:own/two.key
"""
