"""Databases under constant writing, whose server, client or worker is killed in the middle; by every method alike.

And what everybody may see meanwhile who looks at the processes of this machine.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home, copied
from integration.cli.databases import (
    METHODS,
    SECRET,
    Database,
    Writer,
    begun,
    descendants,
    in_the_middle,
    running,
    said,
)
from integration.cli.following import until

TOLD = (b"pg_dump", b"pg_restore", b"psql")
"""Programs that are told a password by their environment, which their own user can read, and root."""


@pytest.fixture(scope="module", params=METHODS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with running(request.param, request) as made:
        yield made


@pytest.fixture(scope="module")
def kept(database: Database, template: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation whose policy names the server, for all tests of it."""
    return database.added(copied(template, tmp_path_factory.mktemp("kept")))


def points(home: Home) -> list[str]:
    return [point["id"] for point in home("points", "shop", "--json").document["points"]]


def test_whoever_is_killed_in_the_middle_leaves_no_point_and_the_next_is_whole(database: Database, kept: Home) -> None:
    """The program that reads the data, where that is one of its own; the server; and then ourselves."""
    with Writer(database) as writer:
        for killed in ("client", "server") if database.program else ("server",):
            backing_up = begun(kept, "backup", "shop")
            reader = in_the_middle(database, backing_up)
            if killed == "client":
                os.kill(reader, signal.SIGKILL)
            else:
                database.broken()
            assert backing_up.wait(60) == ExitStatus.SOURCE, (killed, said(kept))
            assert "Error: source shop: " in said(kept) and " Why: " in said(kept) and " Next: " in said(kept)
            assert SECRET not in said(kept)
            assert points(kept) == []
        backing_up = begun(kept, "backup", "shop")
        in_the_middle(database, backing_up)
        below = set(descendants(backing_up.pid)) - {backing_up.pid}
        backing_up.kill()
        backing_up.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), "nothing of it runs on")
        until(lambda: database.is_free(), "the server keeps nothing for it")
        assert points(kept) == []
        before = writer.written
        backing_up = begun(kept, "backup", "shop")
        assert backing_up.wait(60) == ExitStatus.SUCCESS, said(kept)
        assert "interrupted" in said(kept), "it says what became of the one before"
        assert writer.written > before
    tested = begun(kept, "test", "shop")
    assert tested.wait(120) == ExitStatus.SUCCESS, said(kept)
    assert "shop: proven in " in said(kept)


@contextmanager
def looking() -> Iterator[tuple[set[str], set[str]]]:
    """What programs below this one ran meanwhile, and which of them, or of others, showed the password to whom."""
    seen: set[str] = set()
    shown: set[str] = set()
    stop = threading.Event()
    secret = SECRET.encode()

    def look() -> None:
        while not stop.wait(0.01):
            for pid, name in descendants(os.getpid()).items():
                with suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    variables = Path(f"/proc/{pid}/environ").read_bytes()
                    seen.add(name)
                    if secret in command:
                        shown.add(f"command line of {name}")
                    is_command_of_ours = b"cto_backups" in command
                    is_told = any(program in command for program in TOLD)
                    theirs = is_told and Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
                    if secret in variables and not is_command_of_ours and not theirs:
                        shown.add(f"environment of {name}: {command!r}")

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen, shown
    finally:
        stop.set()
        looker.join()


@pytest.mark.parametrize("database", [method for method in METHODS if "18" not in method], indirect=True)
def test_the_password_is_on_no_command_line_and_in_no_environment_of_others(database: Database, kept: Home) -> None:
    """While a backup, a restore test and a restore into the server run; the policy names a variable of ours."""
    program = {"postgresql": "pg_restore", "mariadb": "mariadb"}[database.method.partition(",")[0].split()[0]]
    with looking() as (seen, shown):
        for words in (("backup", "shop"), ("test", "shop"), ()):
            command = begun(kept, *(words or database.restored_by(kept)))
            assert command.wait(120) == ExitStatus.SUCCESS, said(kept)
    assert database.program in {*seen, ""}, seen
    assert program in seen or not database.into_server
    assert shown == set()
