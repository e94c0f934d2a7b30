"""The programs that are compared, each as its user runs it: a whole process, start-up and all."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cto_backups import app

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Tool:
    """A program: its name in the table, and its version as it prints it."""

    name: str
    version: str
    binary: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def prepare(self, place: Path, data: Path) -> None:
        """Make an empty repository below `place`."""
        raise NotImplementedError

    def command(self, operation: str, place: Path, data: Path) -> list[str]:
        """The command line of an operation."""
        raise NotImplementedError

    def repository(self, place: Path) -> Path:
        """Where the repository's bytes are."""
        raise NotImplementedError


class Ours(Tool):
    """cto.backups through its command line: one vault, fingerprints, records, catalog and all."""

    def prepare(self, place: Path, data: Path) -> None:
        """A new installation with one source and one vault."""
        vault = {"url": "file:vaults/one", "provider": "local-disk", "region": "here", "storage": "disk"}
        source = {"kind": "files", "class": "documentation", "paths": [str(data)]}
        app.initialise(place / "home", business="bench", sources={"data": source}, vaults={"one": vault})

    def command(self, operation: str, place: Path, data: Path) -> list[str]:
        """Ours."""
        common = ["--policy", str(place / "home" / "backups.yaml"), "--quiet"]
        return [*self.binary, *{
            "backup": ["backup", "data"],
            "restore": ["restore", "latest", "--source", "data", "--to", str(place / "restored")],
            "verify": ["verify", "one"],
        }[operation], *common]  # fmt: skip

    def repository(self, place: Path) -> Path:
        """The vault, with records and all."""
        return place / "home" / "vaults" / "one"


class Restic(Tool):
    """Stock restic, compression auto (zstd at its default level), with its cache in a folder of its own."""

    def _common(self, place: Path) -> list[str]:
        return [*self.binary, "-r", str(place / "repo"), "--cache-dir", str(place / "cache"), "--quiet"]

    def prepare(self, place: Path, data: Path) -> None:
        """An empty repository."""
        place.mkdir(parents=True)
        command = [*self._common(place), "init"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.environment})

    def command(self, operation: str, place: Path, data: Path) -> list[str]:
        """Restic's."""
        return [*self._common(place), *{
            "backup": ["backup", str(data)],
            "restore": ["restore", "latest", "--target", str(place / "restored")],
            "verify": ["check", "--read-data"],
        }[operation]]  # fmt: skip

    def repository(self, place: Path) -> Path:
        """The repository."""
        return place / "repo"


def all_tools() -> list[Tool]:
    """Ours first, then each restic that is here: the newest (see tools/newest-restic), else Debian's."""
    program = (sys.executable, "-m", "cto_backups")
    version = subprocess.run([*program, "version"], capture_output=True, text=True, check=True).stdout.strip()
    tools: list[Tool] = [Ours("cto.backups", version.splitlines()[0], program)]
    candidates = [REPOSITORY / ".cache" / "peers" / "bin" / "restic", shutil.which("restic")]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            said = subprocess.run([str(candidate), "version"], capture_output=True, text=True, check=True).stdout
            tools.append(Restic(" ".join(said.split()[:2]), said.strip(), (str(candidate),), {"RESTIC_PASSWORD": "x"}))
    return tools
