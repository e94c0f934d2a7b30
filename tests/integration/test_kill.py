"""``kill -9`` around every write that a backup makes, in its vaults and in its catalog, each in a real child process.

Whatever is shown afterwards comes back, from every vault that is said to hold it; the next run repairs and continues.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cto_backups.flows.protect import protect
from cto_backups.flows.recover import recover
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify
from faults.logged_vault import KILL, LOG, Moment, read_log
from integration.conftest import VAULTS, Workshop, build, fill
from integration.protect_child import CATALOG_KILL, VAULT

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("protect_child.py")
# What the commit order of a backup with two copies consists of; a test of its own sees that nothing is left out.
STAGES = {"lock", "pack", "index", "snapshot", "records", "lock-delete"}
CATALOG_STEPS = (
    "start_run",
    "record_resources",
    "append_record",
    "advance_vault_head",
    "add_point_with_copy",
    "add_copy",
    "finish_run",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation with one point, and a change since."""
    data = tmp_path / "data"
    data.mkdir()
    sources = {name: source for name, source in fill(data).items() if name == "documents"}
    workshop = build(tmp_path / "home", data, sources)
    protect(workshop.installation, "documents")
    workshop.catalog.close()
    (data / "files" / "new.bin").write_bytes(os.urandom(3_000_000))
    (data / "files" / "report.txt").write_text("changed\n")
    return tmp_path


def start_child(home: Path, task: str = "protect", **environment: str) -> subprocess.Popen[bytes]:
    """A process of its own that does the task."""
    path = os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "contract")])
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(home / "home"), str(home / "data"), task],
        env={**os.environ, "PYTHONPATH": path, LOG: str(home / "log"), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run_child(home: Path, task: str = "protect", **environment: str) -> int:
    """The child's exit status; -9 when it was killed."""
    return start_child(home, task, **environment).wait()


def reopened(home: Path) -> Workshop:
    files = {"paths": (str(home / "data" / "files"),), "include": (), "exclude": (), "one_file_system": False}
    return build(home / "home", home / "data", {"documents": ("files", files)})


def see_that_nothing_is_lost(home: Path) -> None:
    """Every point that is shown comes back from every vault said to hold it; then a new run completes the picture."""
    workshop = reopened(home)
    try:
        recover(workshop.installation)
        shown = workshop.catalog.points()
        assert shown, "the point from before must still be shown"
        for point in shown:
            for facts in workshop.catalog.copies(point.id):
                evidence = restore_test(workshop.installation, "documents", point=point, vault=facts.copy.vault)
                assert evidence.passed, f"{point.id} from {facts.copy.vault}: {evidence.reason}"
        done = protect(workshop.installation, "documents")
        assert not done.vault_problems
        newest = workshop.catalog.latest("documents")
        assert newest is not None
        assert {facts.copy.vault for facts in workshop.catalog.copies(newest.id)} == set(VAULTS)
        for vault in VAULTS:
            result = verify(workshop.installation, vault)
            assert result.passed, result.evidence.reason
            committed = workshop.installation.store(vault).committed()
            known = {f"point:{point.id}" for point in workshop.catalog.points()}
            assert {tag for one in committed for tag in one.tags if tag.startswith("point:")} <= known
    finally:
        workshop.catalog.close()


def test_the_stages_named_here_are_those_that_a_backup_has(home: Path) -> None:
    """A new kind of write in the commit order must be killed at too."""
    assert run_child(home) == 0
    assert {line.stage for line in read_log(home / "log")} == STAGES


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize(
    ("vault", "stage", "nth"),
    [("one", "lock", 1), ("one", "pack", 1), ("one", "pack", 2), ("one", "index", 1), ("one", "snapshot", 1),
     ("one", "records", 1), ("one", "records", 2), ("one", "lock-delete", 1),
     ("two", "lock", 1), ("two", "pack", 1), ("two", "pack", 2), ("two", "index", 1), ("two", "snapshot", 1),
     ("two", "records", 1), ("two", "records", 3), ("two", "lock-delete", 1)],
)  # fmt: skip
def test_killed_at_a_write_of_a_vault(home: Path, vault: str, stage: str, nth: int, moment: Moment) -> None:
    """Before it, with its bytes in a temporary file, after it; in the vault backed up to, and in one copied to."""
    assert run_child(home, **{KILL: f"{stage}:{nth}:{moment}", VAULT: vault}) == -9, "the kill point was not reached"
    assert any(line.stage == stage for line in read_log(home / "log"))
    see_that_nothing_is_lost(home)


@pytest.mark.parametrize("moment", ("before", "after"))
@pytest.mark.parametrize("step", CATALOG_STEPS)
def test_killed_at_a_write_of_the_catalog(home: Path, step: str, moment: str) -> None:
    """Before its transaction, and after it."""
    nth = 2 if step == "append_record" else 1
    assert run_child(home, **{CATALOG_KILL: f"{step}:{nth}:{moment}"}) == -9, "the kill point was not reached"
    see_that_nothing_is_lost(home)


def test_killed_at_any_moment(home: Path, fault_rounds: int) -> None:
    """Wherever the clock strikes: seeded moments over the whole life of a backup, again and again in one place."""
    dice = random.Random(20260101)
    started = time.monotonic()
    assert run_child(home) == 0
    life = time.monotonic() - started
    killed = tried = 0
    while killed < fault_rounds:
        tried += 1
        assert tried <= 20 * fault_rounds, "no moment is found at which it lives"
        (home / "data" / "files" / "new.bin").write_bytes(dice.randbytes(1_500_000))
        child = start_child(home)
        time.sleep(dice.uniform(0.2, 1.0) * life)
        child.kill()
        if child.wait() == -9:
            killed += 1
            if killed % 5 == 0:
                see_that_nothing_is_lost(home)
        else:
            life *= 0.9  # it lives shorter than thought: the machine was busier before
    see_that_nothing_is_lost(home)


@pytest.mark.parametrize("kill", ("snapshot-delete:1:before", "snapshot-delete:1:after", "snapshot-delete:2:before"))
def test_killed_while_expiring(home: Path, kill: str) -> None:
    """The catalog has changed first: what is gone from one vault is shown by nobody."""
    workshop = reopened(home)
    for number in range(4):
        (home / "data" / "files" / "report.txt").write_text(f"version {number}\n")
        protect(workshop.installation, "documents")
    workshop.catalog.close()
    assert run_child(home, "expire", **{KILL: kill}) == -9, "the kill point was not reached"
    see_that_nothing_is_lost(home)
    workshop = reopened(home)
    assert workshop.catalog.expired_copies_to_delete() == ()
    workshop.catalog.close()
