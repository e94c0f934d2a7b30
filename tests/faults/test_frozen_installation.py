"""Processes that are stopped in the middle of something, until another has taken over and finished, and then go on.

As SIGSTOP does it, or a virtual machine that is suspended. Who comes back writes nothing more that anybody sees; what
he has stored is garbage, which a prune removes.
"""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cto_backups.errors import BusyError
from cto_backups.flows.installation import Installation
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import prune
from faults import test_kill_installation as killing
from faults.installation_child import CATALOG_KILL, LOST, VAULT
from faults.logged_vault import FREEZE, KILL, Moment
from integration.conftest import VAULTS, Workshop

home = killing.home

# Before anything is claimed, or once all is given back, there is nothing to take over: these are in the middle.
STRIKES = [
    *({VAULT: vault, KILL: f"{stage}:{nth}:{moment}"} for vault, stage, nth in killing.WRITES for moment in Moment),
    *(
        {CATALOG_KILL: f"{step}:{2 if step == 'append_record' else 1}:{moment}"}
        for step in killing.CATALOG_STEPS
        for moment in ("before", "after")
    ),
]
STRIDE = 13
assert len(STRIKES) % STRIDE
PATIENCE_SECONDS = 120


def frozen(home: Path, task: str, strike: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A process that does the task, stopped where it was told to be."""
    child = killing.start_child(home, task, **strike, **{FREEZE: "1"})
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


def let_leases_end(home: Path) -> None:
    """As if it had been stopped for two minutes."""
    with closing(sqlite3.connect(home / "home" / "catalog.db", timeout=PATIENCE_SECONDS)) as catalog, catalog:
        catalog.execute(
            "UPDATE claims SET leased_until = ?, doubted = 1 WHERE leased_until > ''", ("2026-01-01T00:00:00.000000Z",)
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
        claimed = holds_a_claim(workshop)
        if claimed:
            with pytest.raises(BusyError) as caught:
                protect_again(taking)
            assert "held by process" in str(caught.value)
        let_leases_end(home)
        protect_again(taking)
        before = facts(workshop)
        assert len(before["points"]) == 2
        status = goes_on(child)
        assert status == (LOST if claimed else 0), strike
        after = facts(workshop)
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
        try:
            done = protect(installation, "documents")
        except BusyError as error:
            if "safe already" not in str(error):
                raise
            continue
        for problem in done.vault_problems.values():
            raise problem
        return
    raise AssertionError("it was taken over twice")
