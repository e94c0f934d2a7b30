"""``kill -9`` around any write of any operation on a repository, each in a real child process.

Whatever it dies at: nothing that was reported complete is lost, nothing is shown that is not whole, the next run goes
on from there, and stock restic finds nothing wrong.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.repository.locks import read_locks
from faults.logged_vault import Kill, Line, Moment, in_flight, read_log
from faults.operations import OPERATIONS, wrong_after
from faults.workplace import PREFIX, Workplace
from stock.restic import Restic

STRIKES = [
    (name, stage, moment) for name, operation in OPERATIONS.items() for stage in operation.stages for moment in Moment
]
STRIDE = 31  # few rounds spread over all operations; as many rounds as there are strikes meet each of them
assert len(STRIKES) % STRIDE

Ready = Callable[[str], tuple[Workplace, list[Line]]]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_stages_that_are_killed_at_are_those_that_an_operation_has(ready_for: Ready, name: str) -> None:
    """A new kind of write in an order of commit must be killed at too."""
    _, lines = ready_for(name)
    assert {line.stage for line in lines} == set(OPERATIONS[name].stages)


def test_killed_at_a_write(
    fault_seed: int,
    ready_for: Ready,
    harmed: Path,
    stock_restic: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Before it, with its bytes in a temporary file, after it: each stage of each operation in turn."""
    name, stage, moment = STRIKES[fault_seed * STRIDE % len(STRIKES)]
    ready, lines = ready_for(name)
    writes = sum(line.stage == stage and line.moment is Moment.BEFORE for line in lines)
    kill = Kill(stage, random.Random(fault_seed).randint(1, writes), moment)
    place = ready.copy(harmed)
    killed = place.run(name, kill)
    assert stage in {line.stage for line in killed}
    record_property("fault", f"kill -9 of {name} at {stage}")
    see_that_it_goes_on(place, name, killed, stock_restic, thoroughly=moment is Moment.AFTER)


def test_killed_from_outside(
    fault_seed: int,
    ready_for: Ready,
    harmed: Path,
    stock_restic: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Somewhere between two writes, or in one, by another process: as soon as its log has so many lines."""
    dice = random.Random(fault_seed)
    name = dice.choice(sorted(OPERATIONS))
    ready, lines = ready_for(name)
    place = ready.copy(harmed)
    until = dice.randint(0, len(lines) - 1)
    child = place.start(name)
    while child.poll() is None and not (place.log.exists() and len(read_log(place.log)) >= until):
        time.sleep(0.0005)
    child.kill()
    child.wait()
    record_property("fault", f"kill -9 of {name} from outside")
    see_that_it_goes_on(place, name, read_log(place.log) if place.log.exists() else [], stock_restic)


def see_that_it_goes_on(
    place: Workplace, name: str, killed: list[Line], stock_restic: Path, *, thoroughly: bool = False
) -> None:
    """What must hold after a kill, and once the same was done again."""
    flying = f"in flight: {in_flight(killed)}"
    touched, vault = OPERATIONS[name].touches, OPERATIONS[name].writes_to
    assert wrong_after(place, name) == [], flying
    place.run(name)
    assert place.half_shown(touched) == [], flying
    store = place.store(vault)
    locks, senseless = read_locks(store.files)
    assert not senseless
    # Unless its number is another process's by now: by the number alone nobody can tell, until it is stale.
    assert all(Path(f"/proc/{lock.pid}").exists() for lock in locks), "the dead run's lock should be gone"
    assert not list((place.root / vault).rglob(".tmp-*")), "what a dead writer left should be gone"
    if thoroughly:
        restic = Restic(stock_restic, place.root / vault / PREFIX)
        said = restic.start("check")
        assert "no errors were found" in said.stdout, said.stdout + said.stderr
        if name in ("backup", "copy"):
            blobs = restic.run("list", "blobs").split("\n")
            assert len(blobs) == len(set(blobs)), "what the killed run had indexed was stored a second time"
