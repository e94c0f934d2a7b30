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


def killed_once(database: Database, name: str, home: Home, *words: str) -> None:
    """A restore into the server that is killed once there is a database of this name."""
    restoring = begun(home, *words)
    until(lambda: restoring.poll() is not None or name in database.names(), "it is being made")
    assert restoring.poll() is None, said(home)
    below = set(descendants(restoring.pid)) - {restoring.pid}
    restoring.kill()
    restoring.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), "nothing of it runs on")


@pytest.mark.parametrize("database", ["postgresql 15, logical", "postgresql 15, physical"], indirect=True)
def test_a_database_whose_restore_is_killed_has_no_name_by_which_it_looks_whole(database: Database, kept: Home) -> None:
    assert begun(kept, "backup", "shop").wait(100) == ExitStatus.SUCCESS, said(kept)
    words = database.restored_by(kept)
    killed_once(database, "beside-unfinished", kept, *words)
    assert "shop" in database.names() and "beside" not in database.names()
    assert begun(kept, *words).wait(100) == ExitStatus.REFUSED
    drop = 'DROP DATABASE "beside-unfinished" WITH (FORCE)'
    assert drop in said(kept)
    database.do(drop)
    assert begun(kept, *words).wait(100) == ExitStatus.SUCCESS, said(kept)
    assert "beside" in database.names()
    database.do("DROP DATABASE beside")


@pytest.mark.parametrize("database", ["postgresql 15, logical"], indirect=True)
def test_what_stands_there_stands_until_what_is_restored_in_its_place_is_whole(database: Database, kept: Home) -> None:
    database.do("ALTER ROLE keeper SUPERUSER", "DROP DATABASE IF EXISTS beside")
    assert begun(kept, "backup", "shop").wait(100) == ExitStatus.SUCCESS, said(kept)
    database.do("CREATE TABLE later (n int)", database="shop")
    words = "restore", "shop", "--in-place", "--overwrite", "--yes"
    killed_once(database, "shop-unfinished", kept, *words)
    assert not any("before-restore" in name for name in database.names())
    assert database.do("SELECT count(*) FROM bulk, later", database="shop") == [(0,)], "it is what it was"
    assert begun(kept, *words).wait(100) == ExitStatus.REFUSED
    drop = 'DROP DATABASE "shop-unfinished" WITH (FORCE)'
    assert drop in said(kept)
    database.do(drop)
    assert begun(kept, *words).wait(100) == ExitStatus.SUCCESS, said(kept)
    assert any(name.startswith("shop-before-restore-") for name in database.names())
    assert database.do("SELECT to_regclass('later') IS NULL", database="shop") == [(True,)]


@pytest.mark.parametrize("database", ["mariadb, logical"], indirect=True)
def test_a_restore_of_mariadb_that_is_killed_is_not_taken_for_whole_by_the_next(database: Database, kept: Home) -> None:
    """A server that cannot rename a database has it under its own name, in part; whoever looks is told."""
    assert begun(kept, "backup", "shop").wait(100) == ExitStatus.SUCCESS, said(kept)
    words = database.restored_by(kept)
    killed_once(database, "shop", kept, *words)
    assert begun(kept, *words).wait(100) == ExitStatus.SUCCESS, said(kept)
    assert database.do("SELECT COUNT(*) FROM bulk", database="shop") == [(80_000,)]
    assert sorted(name for (name,) in database.do("SHOW TABLES", database="shop")) == ["bulk", "busy"]
