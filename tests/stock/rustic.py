"""Rustic, as its users call it: a repository, a password in the environment, no cache, no settings of theirs."""

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trees import compare

from .restic import PASSWORD


@dataclass(frozen=True)
class Rustic:
    """A binary and a repository that it works on."""

    binary: Path
    repository: Path

    def start(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run it and return how it ended."""
        surroundings = {
            "HOME": os.environ["HOME"],
            "PATH": os.environ["PATH"],
            "RUSTIC_REPOSITORY": os.fspath(self.repository),
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_NO_CACHE": "true",
            "RUSTIC_NO_PROGRESS": "true",
        }
        return subprocess.run(
            [self.binary, *arguments],
            env=surroundings,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    def run(self, *arguments: str | Path) -> str:
        """Its output; fails the test with all that it said when it did not succeed."""
        ended = self.start(*arguments)
        assert ended.returncode == 0, f"rustic {' '.join(map(str, arguments))}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def backup(self, tree: Path, *arguments: str) -> str:
        """Back up; the snapshot's id."""
        return str(json.loads(self.run("backup", tree, "--json", *arguments))["id"])

    def snapshots(self) -> list[dict[str, Any]]:
        """Its snapshots, oldest first."""
        groups = json.loads(self.run("snapshots", "--json"))
        return sorted((one for group in groups for one in group["snapshots"]), key=lambda snapshot: snapshot["time"])

    def check(self, *, waiting: bool = False) -> None:
        """Fails the test unless `rustic check` of all data ends well; packs of no index are told when they wait."""
        ended = self.start("check", "--read-data")
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said
        troubles = [line for line in said.splitlines() if re.match(r"\[(WARN|ERROR)\]", line)]
        assert waiting or troubles == [], said


def restores(root: Path) -> dict[bytes, compare.Node]:
    """The odd tree, or what was restored of it, without what is lost when rustic restores it."""
    found = compare.look(root)
    for path, node in found.items():
        if node.kind == "symlink":
            found[path] = replace(node, linked=b"")  # several names of one symbolic link come back as several links
        if path == b"modes/file-0000":
            found[path] = replace(node, mode="")  # a mode of 0 is not stored, as restic does; rustic sets none then
    return found
