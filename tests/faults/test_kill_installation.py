"""``kill -9`` around every write of an installation, in its vaults and in its catalog, each in a real child process.

Whatever is shown afterwards comes back, from every vault that is said to hold it; the next run repairs and continues.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from children import import_path
from cto_backups.flows import expire
from cto_backups.flows.protect import protect
from cto_backups.flows.recover import recover
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify
from faults.installation_child import CATALOG_KILL, VAULT
from faults.logged_vault import KILL, LOG, Moment, read_log
from integration.conftest import CATALOG_URL, VAULTS, Workshop, build, fill

Copied = tuple[str, str]  # a point, and a vault that holds a copy of it

CHILD = Path(__file__).with_name("installation_child.py")
# What the commit order of a backup with two copies consists of; a test of its own sees that nothing is left out.
STAGES = {"lock", "pack", "index", "snapshot", "records", "lock-delete"}
CATALOG_STEPS = (
    "start_run:1",
    "record_resources:1",
    "append_records:1",
    "append_records:2",
    "add_point_with_copy:1",
    "add_copy:1",
    "finish_run:1",
)

WRITES = [
    ("one", "lock", 1), ("one", "pack", 1), ("one", "pack", 2), ("one", "index", 1), ("one", "snapshot", 1),
    ("one", "records", 1), ("one", "records", 2), ("one", "lock-delete", 1),
    ("two", "lock", 1), ("two", "pack", 1), ("two", "pack", 2), ("two", "index", 1), ("two", "snapshot", 1),
    ("two", "records", 1), ("two", "records", 3), ("two", "lock-delete", 1),
]  # fmt: skip
STRIKES = [
    *({VAULT: vault, KILL: f"{stage}:{nth}:{moment}"} for vault, stage, nth in WRITES for moment in Moment),
    *({CATALOG_KILL: f"{step}:{moment}"} for step in CATALOG_STEPS for moment in ("before", "after")),
    *({KILL: f"snapshot-delete:{when}"} for when in ("1:before", "1:after", "2:before")),
]
STRIDE = 17  # few rounds spread over all of them
assert len(STRIKES) % STRIDE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation with one point, and a change since."""
    return fill_home(tmp_path)


def fill_home(tmp_path: Path, catalog: str = "") -> Path:
    """An installation with one point, and a change since; its catalog is at an address, or else in a file."""
    if catalog:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / CATALOG_URL).write_text(catalog)
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
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(home / "home"), str(home / "data"), task],
        env={**os.environ, **import_path("contract"), LOG: str(home / "log"), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run_child(home: Path, task: str = "protect", **environment: str) -> int:
    """The child's exit status; -9 when it was killed."""
    return start_child(home, task, **environment).wait()


def reopened(home: Path) -> Workshop:
    files = {"paths": (str(home / "data" / "files"),), "include": (), "exclude": (), "one_file_system": False}
    return build(home / "home", home / "data", {"documents": ("files", files)})


def see_that_nothing_is_lost(home: Path, *, promised: set[Copied]) -> None:
    """What was promised is shown, and every copy that is shown comes back; then a new run completes the picture."""
    workshop = reopened(home)
    try:
        recover(workshop.installation)
        shown = workshop.catalog.points()
        assert promised
        copies = {(point.id, facts.copy.vault) for point in shown for facts in workshop.catalog.copies(point.id)}
        assert promised <= copies, "what was reported must still be shown"
        for point in shown:
            for facts in workshop.catalog.copies(point.id):
                evidence = restore_test(workshop.installation, "documents", point=point, vault=facts.copy.vault)
                assert evidence.passed, f"{point.id} from {facts.copy.vault}: {evidence.reason}"
        assert workshop.catalog.expired_copies_to_delete() == ()
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
    assert {line.stage for line in read_log(home / "log")} == STAGES == {stage for _, stage, _ in WRITES}


@pytest.mark.different_faults(len(STRIKES))
def test_killed_at_a_write(fault_seed: int, home: Path, record_property: Callable[[str, object], None]) -> None:
    """Around each write of each vault, and around each transaction of the catalog, in turn."""
    strike = STRIKES[fault_seed * STRIDE % len(STRIKES)]
    task = prepare(home, strike)
    before = shown(home)
    assert run_child(home, task, **strike) == -9, "the kill point was not reached"
    record_property("fault", f"kill -9 of an installation's {task}")
    see_that_nothing_is_lost(home, promised=before)


@pytest.mark.different_faults(100)
def test_killed_from_outside(fault_seed: int, home: Path, record_property: Callable[[str, object], None]) -> None:
    """By another process, as soon as the log of a vault has so many lines: several times in the same place."""
    dice = random.Random(fault_seed)
    before = shown(home)
    for _ in range(dice.randint(1, 3)):
        (home / "data" / "files" / "new.bin").write_bytes(dice.randbytes(1_500_000))
        (home / "log").unlink(missing_ok=True)
        child = start_child(home, **{VAULT: dice.choice(VAULTS)})
        until = dice.randint(0, 16)
        while child.poll() is None and not ((home / "log").exists() and len(read_log(home / "log")) >= until):
            time.sleep(0.0005)
        child.kill()
        child.wait()
    record_property("fault", "kill -9 of an installation's protect from outside")
    see_that_nothing_is_lost(home, promised=before)


def test_killed_while_it_clears_up_behind_one_that_was_killed(home: Path) -> None:
    """What the first one left is cleared by the third one, who takes its claim over, if not before."""
    before = shown(home)
    for strike in ("snapshot:1:after", "lock-delete:1:after"):
        assert run_child(home, **{VAULT: "one", KILL: strike}) == -9, "the kill point was not reached"
    see_that_nothing_is_lost(home, promised=before)


def prepare(home: Path, strike: dict[str, str]) -> str:
    """Make something to expire where that is to be killed; the task."""
    if "snapshot-delete" not in strike.get(KILL, ""):
        return "protect"
    workshop = reopened(home)
    for number in range(4):
        (home / "data" / "files" / "report.txt").write_text(f"version {number}\n")
        protect(workshop.installation, "documents")
    workshop.catalog.close()
    return "expire"


def shown(home: Path) -> set[Copied]:
    """What is promised: each copy of each point that retention keeps."""
    workshop = reopened(home)
    try:
        plan = expire.plan(workshop.installation, "documents")
        kept = [decision.point.id for decision in plan.decisions if decision.keep]
        return {(point, facts.copy.vault) for point in kept for facts in workshop.catalog.copies(point)}
    finally:
        workshop.catalog.close()
