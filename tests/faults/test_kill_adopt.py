"""``kill -9`` around any write while a repository of restic's is taken over: the next run completes it, once."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from children import import_path
from cto_backups import app
from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from cto_backups.evidence.records import Record, verify_chain
from stock.restic import PASSWORD, Restic

STRIDE = 7
MOST = 60  # moments to die at; a test sees that there are no more


@pytest.fixture(scope="session")
def untouched(stock_restic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that protects nothing yet, and a repository of restic's with two sources. Not to be changed."""
    root = tmp_path_factory.mktemp("adopt")
    restic = Restic(stock_restic, root / "repository")
    restic.run("init")
    for name in ("letters", "photos"):
        (root / "old" / name).mkdir(parents=True)
        (root / "old" / name / "one").write_text(name * 100)
        restic.backup(root / "old" / name)
    (root / "pw").write_text(PASSWORD)
    (root / "pw").chmod(0o600)
    source = {"kind": "files", "class": "documentation", "paths": [str(root / "pw")]}
    starting.initialise(root / "home", business="acme", sources={"other": source})
    return root


def adopt(root: Path, at: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [
        "adopt",
        root / "repository",
        "--password",
        f"file:{root / 'pw'}",
        "--policy",
        root / "home/backups.yaml",
    ]
    return subprocess.run(
        [sys.executable, "-m", "faults.adopt_child", str(at), root / "moments", *command],
        env=os.environ | import_path(),
        capture_output=True,
        text=True,
        check=False,
    )


def stored(root: Path) -> dict[str, bytes]:
    """What restic stored, by its path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("data", "index", "snapshots", "config")
        for path in [*(root / "repository" / folder).rglob("*"), root / "repository" / folder]
        if path.is_file()
    }


def test_there_are_no_more_moments_than_are_died_at(untouched: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(untouched, root)
    done = adopt(root)
    assert done.returncode == ExitStatus.SUCCESS, done.stderr
    assert 20 < int((root / "moments").read_text()) <= MOST


@pytest.mark.different_faults(MOST)
def test_killed_while_taking_over(
    fault_seed: int,
    untouched: Path,
    stock_restic: Path,
    harmed: Path,
    record_property: Callable[[str, object], None],
) -> None:
    at = 1 + fault_seed * STRIDE % MOST
    shutil.copytree(untouched, harmed)
    before = stored(harmed)
    killed = adopt(harmed, at)
    assert killed.returncode in (-9, ExitStatus.SUCCESS), killed.stderr
    record_property("fault", "kill -9 of adopt" if killed.returncode else "adopt was over before")
    assert stored(harmed) == before, "nothing that restic stored changes"
    done = adopt(harmed)
    assert done.returncode == ExitStatus.SUCCESS, done.stderr
    assert stored(harmed) == before
    with app.opened(harmed / "home/backups.yaml", write=False) as opening:
        points = opening.installation.catalog.points()
        assert sorted(point.source for point in points) == ["letters", "photos"]
        vaults = opening.installation.policy.vaults
        taken = next(name for name, vault in vaults.items() if vault.url.endswith("/repository"))
        unseal = opening.installation.store(taken).unseal
    folders = [folder for folder in (harmed / "repository/records").iterdir() if any(folder.iterdir())]
    (files,) = [sorted(folder.iterdir()) for folder in folders]
    chain = [Record.from_bytes(unseal(file.read_bytes())) for file in files]
    assert verify_chain(chain).intact
    said = Counter((record.kind, str(record.payload.get("id") or record.payload.get("point"))) for record in chain)
    assert set(said.values()) == {1}, "nothing is signed twice"
    assert {point.id for point in points} == {name for kind, name in said if kind == "recovery-point"}
    restic = Restic(stock_restic, harmed / "repository")
    restic.check("--read-data")
    assert len(restic.snapshots()) == 2
