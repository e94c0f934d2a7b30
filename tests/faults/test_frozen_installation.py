"""Processes that are stopped in the middle of something, until another has taken over and finished, and then go on.

As SIGSTOP does it, or a virtual machine that is suspended. Who comes back writes nothing more that anybody sees; what
he has stored is garbage, which a prune removes.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.core.model import Action, ActionKind
from cto_backups.errors import BusyError
from cto_backups.flows import expire
from cto_backups.flows.installation import Installation
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import prune
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.runs import doing
from cto_backups.flows.verify import verify
from cto_backups.process import HOST_VARIABLE
from faults import test_kill_installation as killing
from faults.installation_child import CATALOG_KILL, LOST, VAULT
from faults.logged_vault import FREEZE, KILL, Moment
from integration import conftest
from integration.conftest import VAULTS, Workshop
from servers import postgresql
from servers.postgresql import Server


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs) as made:
        yield made


@pytest.fixture(params=["file", "server"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An installation with one point, and a change since, with its catalog in a file or on a server."""
    if request.param == "file":
        yield killing.fill_home(tmp_path)
        return
    server: Server = request.getfixturevalue("server")
    server.do("CREATE DATABASE backups ENCODING 'UTF8' TEMPLATE template0")
    yield killing.fill_home(tmp_path, f"postgresql://{server.user}@/backups?host={server.place}")
    server.do("DROP DATABASE backups WITH (FORCE)")


# Before anything is claimed, or once all is given back, there is nothing to take over: these are in the middle.
STRIKES = [
    *({VAULT: vault, KILL: f"{stage}:{nth}:{moment}"} for vault, stage, nth in killing.WRITES for moment in Moment),
    *({CATALOG_KILL: f"{step}:{moment}"} for step in killing.CATALOG_STEPS for moment in ("before", "after")),
]
STRIDE = 13
assert len(STRIKES) % STRIDE
PATIENCE_SECONDS = 120


def frozen(home: Path, task: str, strike: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A process that does the task, stopped where it was told to be."""
    child = killing.start_child(home, task, **strike, **{FREEZE: "1", HOST_VARIABLE: "host"})
    end = time.monotonic() + PATIENCE_SECONDS
    while state(child.pid) != "T":
        assert child.poll() is None and time.monotonic() < end, "it was not stopped"
        time.sleep(0.01)
    return child


def state(pid: int) -> str:
    """How the kernel calls what a process is at; T when it is stopped, Z when it has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def goes_on(child: "subprocess.Popen[bytes]") -> int:
    """The status with which it ends."""
    child.send_signal(signal.SIGCONT)
    return child.wait(PATIENCE_SECONDS)


def elsewhere(workshop: Workshop) -> Installation:
    """The same installation on another host, which cannot see what has become of processes of this one."""
    return replace(workshop.installation, host="elsewhere")


def let_leases_end(workshop: Workshop) -> None:
    """As if it had been stopped for two minutes."""
    with workshop.catalog._writing() as connection:
        connection.execute(
            "UPDATE claims SET leased_until = '2026-01-01T00:00:00.000000Z', doubted = 1 WHERE leased_until > ''"
        )


def facts(workshop: Workshop) -> dict[str, list[tuple[object, ...]]]:
    """What is shown, and how the runs ended that were in the way of others."""
    ended = "SELECT * FROM runs WHERE outcome <> 'unchanged' ORDER BY id"
    with workshop.catalog.reading() as connection:
        return {"runs": [tuple(row) for row in connection.execute(ended)]} | {
            table: [tuple(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in ("points", "copies", "evidence", "records")
        }


@pytest.mark.different_faults(len(STRIKES))
def test_one_that_was_frozen_does_not_protect_a_second_time(
    fault_seed: int, home: Path, record_property: Callable[[str, object], None]
) -> None:
    """Around each write of each vault, and around each transaction of the catalog, in turn."""
    strike = STRIKES[fault_seed * STRIDE % len(STRIKES)]
    child = frozen(home, "protect", strike)
    workshop = killing.reopened(home)
    try:
        taking = elsewhere(workshop)
        # Whose copy is shown has nothing left that another could do.
        claimed = holds_a_claim(workshop) and strike != {CATALOG_KILL: "add_copy:1:after"}
        if claimed:
            with pytest.raises(BusyError) as caught:
                protect_again(taking)
            assert "held by process" in str(caught.value)
        let_leases_end(workshop)
        protect_again(taking)
        before = facts(workshop)
        assert len(before["points"]) == 2
        status = goes_on(child)
        assert status == (LOST if claimed else 0), strike
        after = facts(workshop)
        if not claimed:  # its own run ends as it is to
            del before["runs"], after["runs"]
        assert after == before, strike
        assert len(after["points"]) == 2, "there is one point for each time"
        record_property("fault", "SIGSTOP of an installation's protect")
        for vault in VAULTS:
            prune(taking, vault)
            stored = {one.reference for one in workshop.installation.store(vault).committed()}
            assert stored == {copy.reference for copy in workshop.catalog.copies_in(vault)}, vault
    finally:
        workshop.catalog.close()
        child.kill()
        child.wait()
    killing.see_that_nothing_is_lost(home, promised=killing.shown(home))


def holds_a_claim(workshop: Workshop) -> bool:
    with workshop.catalog.reading() as connection:
        return bool(connection.scalar("SELECT count(*) FROM claims WHERE leased_until IS NOT NULL"))


def protect_again(installation: Installation) -> None:
    """As a worker does: what could not be done at once is tried again."""
    for _ in range(2):
        now = clock.now()
        try:
            with doing(Action(ActionKind.BACKUP, "backup", "due", now, source="documents", planned_at=now)):
                done = protect(installation, "documents")
        except BusyError as error:
            if "safe already" not in str(error):
                raise
            continue
        for problem in done.vault_problems.values():
            raise problem
        return
    raise AssertionError("it was taken over twice")


TASKS = [
    ("prune", {KILL: "pack-delete:1:before"}),
    ("prune", {KILL: "index-delete:1:before"}),
    ("expire", {KILL: "snapshot-delete:1:before"}),
    ("expire", {CATALOG_KILL: "expire_point:1:before"}),
    ("test", {KILL: "lock:1:after"}),
    ("test", {CATALOG_KILL: "append_records:1:before"}),
    ("verify", {CATALOG_KILL: "note_readings:1:before"}),
    ("verify", {CATALOG_KILL: "add_evidence:1:before"}),
]


@pytest.mark.parametrize(
    ("task", "strike"), TASKS, ids=[f"{task}-{next(iter(strike.values()))}" for task, strike in TASKS]
)
def test_one_that_was_frozen_deletes_and_proves_nothing_a_second_time(
    task: str, strike: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of who takes over says that two minutes have passed."""
    monkeypatch.setattr(conftest, "OPTIONS", replace(conftest.OPTIONS, prune_grace=timedelta()))
    prepare(home, task)
    child = frozen(home, task, strike)
    workshop = killing.reopened(home)
    try:
        taking, real = elsewhere(workshop), clock.now
        with pytest.raises(BusyError, match="held by process"):
            do_it(taking, task)
        for later in (timedelta(seconds=60), timedelta(seconds=120)):
            monkeypatch.setattr(clock, "now", lambda later=later: real() + later)
            if later == timedelta(seconds=60):
                with pytest.raises(BusyError, match="gives no sign of life"):
                    do_it(taking, task)
        do_it(taking, task)
        monkeypatch.setattr(clock, "now", real)
        before = facts(workshop)
        stored = files(home)
        assert goes_on(child) == LOST
        assert facts(workshop) == before
        gone = stored - files(home)
        assert not [path for path in gone if "locks" not in path], "it deletes nothing but its locks"
        for vault in VAULTS:
            assert verify(workshop.installation, vault).passed
    finally:
        monkeypatch.setattr(clock, "now", real)
        workshop.catalog.close()
        child.kill()
        child.wait()
    killing.see_that_nothing_is_lost(home, promised=killing.shown(home))


def prepare(home: Path, task: str) -> None:
    """Let there be something to expire, or to prune."""
    workshop = killing.reopened(home)
    for number in range(3):
        (home / "data" / "files" / "report.txt").write_text(f"version {number}\n")
        (home / "data" / "files" / "new.bin").write_bytes(os.urandom(2_000_000))
        protect(workshop.installation, "documents")
    if task == "prune":
        do_it(workshop.installation, "expire")
        do_it(workshop.installation, "prune")  # what is no longer listed goes with the next one
        (home / "data" / "files" / "new.bin").write_bytes(os.urandom(2_000_000))
        protect(workshop.installation, "documents")
        do_it(workshop.installation, "expire")
    workshop.catalog.close()


def do_it(installation: Installation, task: str) -> None:
    if task == "prune":
        prune(installation, "one")
    elif task == "verify":
        assert verify(installation, "one").passed
    elif task == "test":
        assert restore_test(installation, "documents").passed
    else:
        problems = expire.expire(installation, expire.plan(installation, "documents")).problems
        assert not problems, problems


def files(home: Path) -> set[str]:
    """All that is stored in vaults."""
    top = home / "home" / "vaults"
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
