"""The disk of the catalog and the state folder is full: nothing is lost, it is told plainly, and goes on with room."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home

pytestmark = pytest.mark.root

SOURCE = "data-files"


@pytest.fixture
def small(home: Home, tmp_path: Path) -> Iterator[Home]:
    """An installation whose catalog and state lie on a small disk of their own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    for name in ("catalog.db", "state"):
        if (home.root / name).exists():
            shutil.move(home.root / name, disk / name)
    text = home.policy.read_text()
    home.policy.write_text(
        text.replace("sqlite:catalog.db", f"sqlite:{disk}/catalog.db").replace(
            "\nstate: state\n", f"\nstate: {disk}/state\n"
        )
    )
    assert str(disk) in home.policy.read_text()
    yield home
    subprocess.run(["umount", disk], check=True)


def disk(home: Home) -> Path:
    return home.data.parent / "disk"


def fill(home: Home, leave: int) -> Path:
    """Take all room of the small disk but so many bytes."""
    ballast = disk(home) / "ballast"
    room = os.statvfs(disk(home))
    with ballast.open("wb") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
    return ballast


@pytest.mark.parametrize("leave", [0, 16384])
def test_a_backup_without_room_for_the_catalog_says_so_and_goes_on_with_room(small: Home, leave: int) -> None:
    points = [point["id"] for point in small("points", "--all", "--json").document["points"]]
    small.change("the figures of the day\n" * 3000)
    ballast = fill(small, leave)
    answer = small.process("backup", SOURCE)
    assert answer.status in (ExitStatus.SUCCESS, ExitStatus.CATALOG, ExitStatus.SOURCE, ExitStatus.POLICY), answer
    if leave == 0:
        assert answer.status is not ExitStatus.SUCCESS and "space" in answer.err
    assert small.process("status").status in (ExitStatus.SUCCESS, ExitStatus.RED), "what only reads goes on"
    shown = [point["id"] for point in small.process("points", "--all", "--json").document["points"]]
    assert set(shown) >= set(points), "nothing that was there is lost"
    ballast.unlink()
    again = small("backup", SOURCE)
    assert again.status is ExitStatus.SUCCESS, again
    newest = small("points", SOURCE, "--json").document["points"][0]
    assert newest["id"] not in points
    for vault in ("one", "two", "three"):
        assert small("verify", vault).status is ExitStatus.SUCCESS
    assert small("test", SOURCE).status is ExitStatus.SUCCESS
    assert small("evidence", "verify").status is ExitStatus.SUCCESS
