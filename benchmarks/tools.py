"""The programs that are compared behind one interface, each as its user runs it: whole processes, start-up and all.

Encryption is on everywhere, compression is zstd at level 3 everywhere, and each program keeps the cache that it keeps
by default, in a folder of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cto_backups.app import starting

Command = list[str]

FIRST, UNCHANGED, CHANGED, SECOND = "first backup", "unchanged", "1 % changed", "second machine"
RESTORE, IN_PLACE, CHECK, PRUNE, COPY = "restore", "restore in place", "check, all data", "drop and prune", "copy"
BACKUPS = (FIRST, UNCHANGED, CHANGED, SECOND)
OPERATIONS = (*BACKUPS, RESTORE, IN_PLACE, CHECK, PRUNE, COPY)
"""In the order in which they run, all on one repository. Prune keeps the newest of each tree; that much is copied."""

PEERS = Path(__file__).resolve().parent.parent / ".cache" / "peers" / "bin"
PASSWORD = "x"


@dataclass(frozen=True)
class Places:
    """Folders: the program's own, the tree to protect, and that of another machine, which is mostly the same."""

    home: Path
    data: Path
    second: Path

    @property
    def restored(self) -> Path:
        """What is restored to; the tree's whole path is below it."""
        return self.home / "restored"

    @property
    def copied(self) -> Path:
        """The second repository."""
        return self.home / "copied"


@dataclass(frozen=True)
class Tool:
    """A program: its name in the table, its version as it prints it, what it is started with."""

    name: str
    version: str
    binary: tuple[str, ...]
    settings: str = ""

    def environment(self, at: Places) -> dict[str, str]:
        """What its environment holds."""
        return {}

    def preparation(self, at: Places) -> Sequence[Command]:
        """Commands that make empty repositories."""
        raise NotImplementedError

    def prepare(self, at: Places) -> None:
        """Make empty repositories."""
        at.home.mkdir(parents=True)
        at.restored.mkdir()
        self.carry_out(self.preparation(at), at)

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """The command lines of an operation, measured together; none when the program has no such operation."""
        raise NotImplementedError

    def beforehand(self, operation: str, at: Places) -> Sequence[Command]:
        """What is run unmeasured before the operation."""
        return ()

    def afterwards(self, operation: str, at: Places) -> Sequence[Command]:
        """What is run unmeasured before the repository's size is taken."""
        return ()

    def repository(self, at: Places) -> Path:
        """Where the repository's bytes are."""
        return at.home / "repo"

    def second_repository(self, at: Places) -> Path:
        """Where the bytes of the second one are, which is copied to."""
        return at.copied

    def carry_out(self, commands: Sequence[Command], at: Places) -> None:
        """Run commands that are not measured. Raises SystemExit with their words when one fails."""
        for command in commands:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, **self.environment(at)}
            )
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


class Ours(Tool):
    """cto.backups through its command line: fingerprints, records, catalog and all. Copying has no command."""

    def prepare(self, at: Places) -> None:
        """A new installation with two vaults, of which the sources use the first."""
        place = {"provider": "local-disk", "region": "here", "storage": "disk"}
        common = {"kind": "files", "class": "documentation", "vaults": ["one"], "retention": "1 version"}
        starting.initialise(
            at.home / "home",
            business="bench",
            sources={name: common | {"paths": [str(path)]} for name, path in (("data", at.data), ("other", at.second))},
            vaults={name: place | {"url": f"file:vaults/{name}"} for name in ("one", "two")},
        )

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """Ours."""
        restore = ["restore", "data", "--to", str(at.restored)]
        lines = {
            SECOND: [["backup", "other"]],
            RESTORE: [restore],
            IN_PLACE: [[*restore, "--overwrite", "--trust-times", "--patch"]],
            CHECK: [["verify", "one"]],
            PRUNE: [["expire"], ["prune", "one"]],
        }.get(operation, [["backup", "data"]])
        if operation == COPY:
            return [self._drive("copy", at, "two")]
        return [[*self.binary, *line, "--policy", str(self._policy(at)), "--quiet"] for line in lines]

    def afterwards(self, operation: str, at: Places) -> Sequence[Command]:
        """After a prune, what it took out of the index a day ago is deleted."""
        return [self._drive("grace-over", at, "one")] if operation == PRUNE else ()

    def repository(self, at: Places) -> Path:
        """The vault, with records and all."""
        return at.home / "home" / "vaults" / "one"

    def second_repository(self, at: Places) -> Path:
        """The vault, with records and all."""
        return at.home / "home" / "vaults" / "two"

    def _policy(self, at: Places) -> Path:
        return at.home / "home" / "backups.yaml"

    def _drive(self, what: str, at: Places, vault: str) -> Command:
        return [sys.executable, "-m", "benchmarks.driver", what, str(self._policy(at)), vault]


class Restic(Tool):
    """restic, its extra verification on as by default."""

    def environment(self, at: Places) -> dict[str, str]:
        """Repositories and passwords."""
        return {
            "RESTIC_REPOSITORY": str(self.repository(at)),
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_FROM_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": str(at.home / "cache"),
        }

    def preparation(self, at: Places) -> Sequence[Command]:
        """Two repositories that cut alike."""
        second = ["init", "-r", str(at.copied), "--from-repo", str(self.repository(at)), "--copy-chunker-params"]
        return [[*self.binary, "init"], [*self.binary, *second]]

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """Restic's."""
        restore = ["restore", "latest", "--path", str(at.data), "--target", str(at.restored)]
        line = {
            SECOND: ["backup", str(at.second), "--host", "second"],
            RESTORE: restore,
            IN_PLACE: [*restore, *self._only_what_differs],
            CHECK: ["check", "--read-data"],
            PRUNE: ["forget", "--keep-last", "1", "--prune"],
            COPY: ["copy", "-r", str(at.copied), "--from-repo", str(self.repository(at))],
        }.get(operation, ["backup", str(at.data)])
        return [[*self.binary, *line, "--quiet"]]

    @property
    def _only_what_differs(self) -> list[str]:
        """Restic below 0.17 replaces everything."""
        minor = int(self.version.split()[1].split(".")[1])
        return ["--overwrite", "if-changed"] if minor >= 17 else []


class Rustic(Tool):
    """rustic, its extra verification on as by default."""

    def environment(self, at: Places) -> dict[str, str]:
        """Repository, password, cache, and no settings of this user."""
        return {
            "RUSTIC_REPOSITORY": str(self.repository(at)),
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_CACHE_DIR": str(at.home / "cache"),
            "RUSTIC_NO_PROGRESS": "true",
            "HOME": str(at.home),
            "XDG_CONFIG_HOME": str(at.home),
        }

    def prepare(self, at: Places) -> None:
        """Two repositories that cut alike; rustic knows the second by a profile."""
        profile = f'[repository]\nrepository = "{at.copied}"\npassword = "{PASSWORD}"\n'
        (at.home / "rustic").mkdir(parents=True)
        (at.home / "rustic" / "second.toml").write_text(profile)
        at.restored.mkdir()
        self.carry_out([[*self.binary, "init", "--set-compression", "3"]], at)

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """Rustic's."""
        restore = ["restore", "latest", str(at.restored), "--filter-paths", str(at.data)]
        line = {
            SECOND: ["backup", str(at.second), "--host", "second"],
            RESTORE: restore,
            IN_PLACE: restore,
            CHECK: ["check", "--read-data"],
            PRUNE: ["forget", "--keep-last", "1", "--prune"],
            COPY: ["copy", "--init", "--target", "second"],
        }.get(operation, ["backup", str(at.data)])
        return [[*self.binary, *line]]

    def afterwards(self, operation: str, at: Places) -> Sequence[Command]:
        """After a prune, what it marked is deleted."""
        return [[*self.binary, "prune", "--keep-delete", "0d"]] if operation == PRUNE else ()


class Borg(Tool):
    """borg, with AES-CTR and HMAC-SHA256, which is its faster choice where processors know SHA-256."""

    def environment(self, at: Places) -> dict[str, str]:
        """Repository, passphrase, cache."""
        return {
            "BORG_REPO": str(self.repository(at)),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(at.home),
            "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES",
        }

    def preparation(self, at: Places) -> Sequence[Command]:
        """One repository: borg 1.4 copies none."""
        return [[*self.binary, "init", "--encryption", "repokey"]]

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """Borg's."""
        names = {operation: f"::{operation.replace(' ', '-').replace('%', 'percent')}" for operation in BACKUPS}
        if operation in BACKUPS:
            tree = at.second if operation == SECOND else at.data
            return [[*self.binary, "create", "--compression", "zstd,3", names[operation], str(tree)]]
        extract = ["env", "-C", str(at.restored), *self.binary, "extract", names[CHANGED]]
        dropped = [names[operation][2:] for operation in (FIRST, UNCHANGED)]
        return {
            RESTORE: [extract],
            IN_PLACE: [extract],
            CHECK: [[*self.binary, "check", "--verify-data"]],
            PRUNE: [[*self.binary, "delete", "::", *dropped], [*self.binary, "compact"]],
        }.get(operation, [])


class Kopia(Tool):
    """kopia, with the algorithms that it chooses itself, and zstd, which it does not. It reads back nothing."""

    def environment(self, at: Places) -> dict[str, str]:
        """Password, caches and logs of its own, and no look for newer versions."""
        return {
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CONFIG_PATH": str(at.home / "kopia.config"),
            "KOPIA_CACHE_DIRECTORY": str(at.home / "cache"),
            "KOPIA_LOG_DIR": str(at.home / "logs"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
        }

    def preparation(self, at: Places) -> Sequence[Command]:
        """One repository; maintenance waits until it is asked for."""
        create = ["repository", "create", "filesystem", "--path", str(self.repository(at))]
        settings = ["policy", "set", "--global", "--compression", "zstd"]
        patience = ["maintenance", "set", "--enable-full", "false", "--enable-quick", "false"]
        return [[*self.binary, *line] for line in (create, settings, patience)]

    def beforehand(self, operation: str, at: Places) -> Sequence[Command]:
        """Its retention is part of its settings, and applied by each backup; so it is set when it is wanted."""
        ages = [f"--keep-{one}=0" for one in ("hourly", "daily", "weekly", "monthly", "annual")]
        settings = ["policy", "set", "--global", "--keep-latest=1", *ages]
        return [[*self.binary, *settings]] if operation == PRUNE else ()

    def commands(self, operation: str, at: Places) -> Sequence[Command]:
        """Kopia's. What it can copy is the whole repository, as it is."""
        if operation in BACKUPS:
            tree = at.second if operation == SECOND else at.data
            return [[*self.binary, "snapshot", "create", "--no-progress", str(tree)]]
        place = at.restored / at.data.relative_to("/")
        restore = ["snapshot", "restore", "--no-progress", "--snapshot-time=latest", str(at.data), str(place)]
        lines = {
            RESTORE: [restore],
            IN_PLACE: [restore],
            CHECK: [["snapshot", "verify", "--verify-files-percent=100"]],
            PRUNE: [["snapshot", "expire", "--all", "--delete"], ["maintenance", "run", "--full", "--safety=none"]],
        }.get(operation, [])
        return [[*self.binary, *line] for line in lines]


KINDS: tuple[tuple[str, type[Tool], str, str], ...] = (
    ("restic", Restic, "version", "--compression auto (zstd at its default level)"),
    ("rustic", Rustic, "--version", "zstd level 3"),
    ("kopia", Kopia, "--version", "--compression zstd (its default level)"),
    ("borg", Borg, "--version", "--compression zstd,3 --encryption repokey"),
)


def all_tools() -> tuple[list[Tool], list[str]]:
    """Ours first, then the peers that are here (see tools/peers; else on PATH); the names of those that are not."""
    program = (sys.executable, "-m", "cto_backups")
    tools: list[Tool] = [Ours("cto.backups", _said(*program, "version"), program, "zstd level 3, verify_on_write full")]
    missing = []
    for name, kind, version, settings in KINDS:
        found = PEERS / name if (PEERS / name).exists() else shutil.which(name)
        if found is None:
            missing.append(name)
            continue
        said = _said(str(found), version)
        # kopia says its version alone, and where it was built.
        said = said if said.startswith(name) else f"{name} {said.split()[0]}"
        tools.append(kind(name, said, (str(found),), settings))
    return tools, missing


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
