"""Stock restic, as its users call it: a repository, a password in the environment, no cache, an empty home."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Restic:
    """A binary and a repository that it works on."""

    binary: Path
    repository: Path
    password: str = PASSWORD
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run it and return how it ended."""
        surroundings = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "TMPDIR": os.environ.get("TMPDIR", "")}
        return subprocess.run(
            [self.binary, "--no-cache", "--repo", self.repository, *arguments],
            env=surroundings | {"RESTIC_PASSWORD": self.password, **self.environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            **options,
        )

    def run(self, *arguments: str | Path, **options: Any) -> str:
        """Its output; fails the test with all that it said when it did not succeed."""
        ended = self.start(*arguments, **options)
        assert ended.returncode == 0, f"restic {' '.join(map(str, arguments))}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def json(self, *arguments: str | Path) -> Any:
        """Its output with --json, parsed."""
        return json.loads(self.run(*arguments, "--json"))

    def backup(self, *arguments: str | Path) -> dict[str, Any]:
        """Back up; the summary that it ends with."""
        return json.loads(self.run("backup", "--json", *arguments).splitlines()[-1])

    def snapshots(self) -> list[dict[str, Any]]:
        """As `restic snapshots` lists them, oldest first."""
        return sorted(self.json("snapshots") or [], key=lambda snapshot: snapshot["time"])

    def check(self, *arguments: str) -> None:
        """Fails the test unless `restic check` ends well *and* has nothing to say against the repository."""
        ended = self.start("check", *arguments)
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said
        assert "no errors were found" in said, said
        assert not re.search(r"warn|error(?!s were found)|unreferenced|not referenced|additional files", said), said

    def blobs(self, kind: str) -> set[str]:
        """The ids of the blobs in the index; `kind` is "data" or "tree"."""
        found = re.findall(rf"^{kind} ([0-9a-f]{{64}})$", self.run("list", "blobs"), re.MULTILINE)
        return set(found)

    @property
    def version(self) -> tuple[int, ...]:
        """Such as (0, 14, 0)."""
        words = subprocess.run([self.binary, "version"], capture_output=True, text=True, check=True).stdout.split()
        return tuple(int(part) for part in re.findall(r"\d+", words[1])[:3])

    def elsewhere(self, repository: Path) -> "Restic":
        """The same binary and password on another repository."""
        return Restic(self.binary, repository, self.password, self.environment)
