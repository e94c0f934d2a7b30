"""No room: at each write of each operation in turn, and on a real file system that is too small.

A full disk is an error that says so. Nothing that was reported is lost, nothing half is shown, and once there is room
again the same operation ends well.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.vaults import Fault, FaultyVault, InterceptedVault

from cto_backups.errors import BackupsError, VaultFullError
from faults.logged_vault import Line, Moment
from faults.operations import OPERATIONS, wrong_after
from faults.workplace import Workplace

Ready = Callable[[str], tuple[Workplace, list[Line]]]
Property = Callable[[str, object], None]
MIB = 1 << 20


STRIKES = [(name, late) for name in OPERATIONS if name != "clear" for late in (False, True)]
MOST_WRITES = 16  # of one operation; with so many rounds for each strike, all of them meet no room
STAYING = [(name, room) for name in ("backup", "copy", "prune", "repair") for room in (0, 1, 2, 4)]
DISKS = [
    (name, free)
    for name in ("backup", "copy", "prune")
    for free in (0, 4096, 9000, 40_000, MIB, 2 * MIB + 100_000, 20 * MIB)
]


def see_that_it_goes_on(place: Workplace, name: str) -> None:
    """What must hold after there was no room, and once there is again."""
    operation = OPERATIONS[name]
    assert wrong_after(place, name) == []
    operation.run(place, place.vault(operation.writes_to))
    assert place.half_shown(operation.touches) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_writes_are_within_reach(ready_for: Ready, name: str) -> None:
    """Rounds enough would meet each; how many packs a run writes depends a little on its threads."""
    _, lines = ready_for(name)
    assert sum(line.moment is Moment.BEFORE and not line.stage.endswith("-delete") for line in lines) <= MOST_WRITES


@pytest.mark.different_faults(MOST_WRITES * len(STRIKES))
def test_no_room_at_any_write(fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property) -> None:
    """Each write in turn; also when the file is there in spite of the error, as after a lost answer."""
    (name, late), nth = STRIKES[fault_seed % len(STRIKES)], fault_seed // len(STRIKES) % MOST_WRITES + 1
    place = ready_for(name)[0].copy(harmed)
    operation = OPERATIONS[name]
    vault = FaultyVault(place.vault(operation.writes_to), Fault("put", nth, late=late, error=VaultFullError))
    try:
        operation.run(place, vault)
    except BackupsError as error:
        assert isinstance(error, VaultFullError), "it is not said that there is no room"
    if vault.failed:
        record_property("fault", f"no room at a write of {name}")
    see_that_it_goes_on(place, name)


@pytest.mark.different_faults(len(STAYING))
def test_a_full_vault_stays_full(fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property) -> None:
    """From one write on nothing can be stored, as it is in life; and what was stored can be read."""
    name, room = STAYING[fault_seed % len(STAYING)]
    place = ready_for(name)[0].copy(harmed)
    operation = OPERATIONS[name]
    puts: list[str] = []

    def full(action: str, key: str) -> None:
        if action == "put":
            puts.append(key)
            if len(puts) > room:
                raise VaultFullError("No room", why=f"for {key}")

    with pytest.raises(VaultFullError):
        operation.run(place, InterceptedVault(place.vault(operation.writes_to), full))
    record_property("fault", f"no room from a write of {name} on")
    see_that_it_goes_on(place, name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size (such as "8m") at a new folder; only for root, and where mounting is allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk-{size}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("nothing can be mounted here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
@pytest.mark.different_faults(len(DISKS))
def test_a_real_disk_that_is_full(
    fault_seed: int,
    ready_for: Ready,
    harmed: Path,
    small_disk: Callable[[str], Path],
    record_property: Property,
) -> None:
    """The vault lies on a file system with more or less room: none for a lock, for a pack, for an index file."""
    name, free = DISKS[fault_seed * 11 % len(DISKS)]
    place = ready_for(name)[0].copy(harmed)
    operation = OPERATIONS[name]
    disk = small_disk("64m")
    vault = place.root / operation.writes_to
    shutil.copytree(vault, disk / "vault")
    shutil.rmtree(vault)
    vault.symlink_to(disk / "vault")
    _leave_free(disk, free)
    try:
        operation.run(place, place.vault(operation.writes_to))
    except VaultFullError:
        assert free <= 2 * MIB + 100_000
        record_property("fault", f"a full disk in {name}")
    else:
        assert free >= MIB
    assert not list((disk / "vault").rglob(".tmp-*")), "what did not fit was left"
    assert place.half_shown(operation.touches) == []  # there is still no room
    (disk / "ballast").unlink()
    see_that_it_goes_on(place, name)


def _leave_free(disk: Path, free: int) -> None:
    """Fill a disk up to so many bytes, in whole pages."""
    room = os.statvfs(disk)
    size = room.f_bavail * room.f_frsize - (free + 4095) // 4096 * 4096
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
