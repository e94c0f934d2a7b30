"""The disk of the server that keeps the catalog is full: it is told as that, nothing is lost, and goes on with room."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from servers import postgresql

from .conftest import Home

pytestmark = pytest.mark.root

SOURCE = "data-files"


@pytest.fixture
def disk(home: Home, postgresql_programs: Path, tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, with the installation's catalog in a tablespace on it."""
    with postgresql.server(postgresql_programs) as server:
        disk = server.place / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True)
        if mounted.returncode:
            pytest.skip("nothing can be mounted here")
        try:
            space = disk / "space"
            space.mkdir()
            os.chown(space, pwd.getpwnam("postgres").pw_uid, -1)
            server.do(f"CREATE TABLESPACE small LOCATION '{space}'")
            server.do("CREATE DATABASE backups ENCODING 'UTF8' TEMPLATE template0 TABLESPACE small")
            policy = home.policy.read_text()
            address = f"postgresql://postgres@/backups?host={server.place}"
            home.policy.write_text(policy.replace("catalog: sqlite:catalog.db", f"catalog: {address}"))
            assert home("catalog", "move", "--from", "sqlite:catalog.db").status is ExitStatus.SUCCESS
            yield disk
        finally:
            server.do("DROP DATABASE IF EXISTS backups WITH (FORCE)")
            server.do("DROP TABLESPACE IF EXISTS small")
            subprocess.run(["umount", disk], check=True)


def test_a_server_without_room_is_told_as_that_and_goes_on_with_room(home: Home, disk: Path) -> None:
    room = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize))
    made = []
    for number in range(40):  # there still is some room in the pages of the tables
        home.change(f"the figures of day {number}\n" * 100)
        answer = home("backup", SOURCE, "--json")
        made += [point["id"] for point in home("points", "--json").document["points"][:1]]
        if answer.status is not ExitStatus.SUCCESS:
            break
    assert answer.status is ExitStatus.CATALOG, answer
    error = answer.document.get("error") or answer.document["sources"][0]["error"]
    assert error["code"] == "catalog-full" and "No space left on device" in error["why"], error
    assert "Make room" in error["todo"]
    assert home("status").status in (ExitStatus.SUCCESS, ExitStatus.RED), "what only reads goes on"
    once = home("worker", "--once")
    assert once.status in (ExitStatus.CATALOG, ExitStatus.SUCCESS), once

    ballast.unlink()
    assert home("backup", SOURCE).status is ExitStatus.SUCCESS
    shown = [point["id"] for point in home("points", "--all", "--json").document["points"]]
    assert set(shown) >= set(made), "nothing that was there is lost"
    for command in (("verify",), ("evidence", "verify"), ("test", SOURCE)):
        assert home(*command).status is ExitStatus.SUCCESS, command
