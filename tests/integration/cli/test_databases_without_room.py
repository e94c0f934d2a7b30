"""Databases backed up where a disk is full, ours or theirs, or where a login or a program does not serve any more."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home, copied
from integration.cli.databases import SECRET, VARIABLE, Database, begun, running, said
from integration.cli.following import crash, facts, installed, until, worker
from servers import mariadb

METHODS = ("postgresql 15, logical", "postgresql 15, physical", "mariadb, logical", "mariadb, physical")
MIB = 1 << 20


@dataclass(frozen=True)
class Disk:
    """A small disk of its own."""

    place: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Nothing goes there any more."""
        ballast = self.place / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(MIB)) == MIB:
                    pass
        except OSError:
            pass
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def disk(place: Path, megabytes: int) -> Iterator[Disk]:
    """A small disk at a folder, with what was in it."""
    aside = place.with_name(f"{place.name}.aside")
    place.rename(aside)
    place.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(aside, place, dirs_exist_ok=True, symlinks=True)
        place.chmod(0o755)  # whoever the servers are may come here
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
        aside.rename(place)


@pytest.fixture(scope="module", params=METHODS)
def theirs(request: pytest.FixtureRequest) -> Iterator[tuple[Database, Disk]]:
    """A server on a small disk, and that disk."""
    if request.param.startswith("mariadb"):
        mariadb.installed(())  # what all of this process's servers begin with, which stays
    place = Path(tempfile.mkdtemp(prefix="cto-disk-"))
    with disk(place, 400) as small, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        with running(request.param, request) as made:
            patch.setattr(tempfile, "tempdir", None)
            yield made, small
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def kept(theirs: tuple[Database, Disk], template: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation that has a point of the server."""
    home = theirs[0].added(copied(template, tmp_path_factory.mktemp("kept")))
    assert backed_up(home) == ExitStatus.SUCCESS, said(home)
    return home


def backed_up(home: Home) -> ExitStatus:
    status = ExitStatus(begun(home, "backup", "shop").wait(100))
    assert status is not ExitStatus.DEFECT and "Traceback" not in said(home), said(home)
    return status


def points(home: Home) -> list[str]:
    return [point["id"] for point in home("points", "shop", "--json").document["points"]]


@pytest.mark.root
def test_where_there_is_no_room_there_is_no_point_and_with_room_it_goes_on(
    theirs: tuple[Database, Disk], kept: Home
) -> None:
    """In the vaults; where this installation stages what it reads; and on the server."""
    database, server_disk = theirs
    before = points(kept)
    database.do("UPDATE bulk SET word = concat(md5(concat(word, n)), md5(concat(n, word)))", database="shop")
    with disk(kept.root / "vaults", 120) as vaults, vaults.full():
        assert backed_up(kept) is ExitStatus.VAULT, said(kept)
        assert "is full" in said(kept)
        assert points(kept) == before
    with disk(kept.root / "state", 8) as state, state.full():
        if backed_up(kept) is ExitStatus.SUCCESS:
            assert database.method == "postgresql 15, logical", "only there nothing is staged"
        else:
            assert "No space left" in said(kept) and str(kept.root / "state") in said(kept), said(kept)
            assert points(kept) == before
    before = points(kept)
    database.do("INSERT INTO busy (word) VALUES ('and another one')", database="shop")
    with server_disk.full():
        if backed_up(kept) is ExitStatus.SUCCESS:
            assert database.method.startswith("mariadb"), "it writes nothing for who reads"
        else:
            assert "No space left" in said(kept), said(kept)
            assert points(kept) == before
    assert backed_up(kept) is ExitStatus.SUCCESS, said(kept)
    assert len(points(kept)) > len(before) or database.method.startswith("mariadb")
    assert begun(kept, "test", "shop").wait(120) == ExitStatus.SUCCESS, said(kept)


def test_a_login_that_has_ended_and_programs_of_another_version_make_no_point(
    theirs: tuple[Database, Disk], kept: Home, tmp_path: Path
) -> None:
    """The programs are looked for before anything begins."""
    database, _ = theirs
    before = points(kept)
    login = "ALTER USER keeper@localhost"
    ended, again, told = f"{login} PASSWORD EXPIRE", f"{login} IDENTIFIED BY '{SECRET}'", "must SET PASSWORD"
    if database.method.startswith("postgresql"):
        login = "ALTER ROLE keeper VALID UNTIL"
        ended, again, told = f"{login} '2020-01-01'", f"{login} 'infinity'", "password authentication failed"
    database.do(ended)
    try:
        assert backed_up(kept) is ExitStatus.SOURCE
        assert told in said(kept) and SECRET not in said(kept)
        assert points(kept) == before
    finally:
        database.do(again)
    for program in ("pg_dump", "pg_dumpall", "pg_basebackup", "mariadb-dump", "mariadb-backup", "mariadb", "mysqldump"):
        named = f"{program} (PostgreSQL) 14.2" if program.startswith("pg_") else f"{program} from 5.5.68-MariaDB"
        (tmp_path / program).write_text(f"#!/bin/sh\necho '{named}'\n")
        (tmp_path / program).chmod(0o755)
    text = kept.policy.read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("    tools: ")]
    others = "".join(lines).replace("    user: keeper\n", f"    user: keeper\n    tools: {tmp_path}\n")
    kept.policy.write_text(others)
    try:
        if database.method == "postgresql 15, physical":  # what reads the files is in this program
            assert begun(kept, "test", "shop").wait(100) == ExitStatus.VERIFICATION, said(kept)
            assert "PostgreSQL 15's programs are not in" in said(kept)
        else:
            assert backed_up(kept) is ExitStatus.SOURCE
            assert "programs are not here" in said(kept)
        assert points(kept) == before
    finally:
        kept.policy.write_text(text)


@pytest.mark.root
@pytest.mark.parametrize("theirs", ["postgresql 15, physical", "mariadb, logical"], indirect=True)
def test_a_stream_says_why_it_stands_still_and_goes_on_from_where_it_was(
    theirs: tuple[Database, Disk], kept: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is another one, as is noticed when a connection breaks; and vaults without room."""
    database, _ = theirs
    monkeypatch.setenv(VARIABLE, SECRET)
    text = kept.policy.read_text()
    kept.policy.write_text(
        text.replace(
            "    user: keeper\n", "    user: keeper\n    base_every: 1 day\n    triggers: [hourly, continuous]\n"
        )
    )
    is_mariadb = database.method.startswith("mariadb")
    login = "ALTER USER keeper@localhost IDENTIFIED BY" if is_mariadb else "ALTER ROLE keeper PASSWORD"
    ended = "KILL USER keeper" if is_mariadb else "SELECT pg_terminate_backend(pid) FROM pg_stat_replication"
    told = "Access denied" if is_mariadb else "password authentication failed"

    def committed() -> None:
        """Wait until all that was committed by now is in a vault."""
        begun_at = clock.now()
        database.do("INSERT INTO busy (word) VALUES ('one more')", database="shop")
        until(lambda: (at := facts(installation).reached_at) and at > begun_at, "it is in a vault")

    with disk(kept.root / "vaults", 200) as vaults:
        assert backed_up(kept) is ExitStatus.SUCCESS, said(kept)
        following = worker(kept, tmp_path / "log", "here")
        try:
            with installed(kept) as installation:
                until(lambda: facts(installation) is not None, "it is followed")
                committed()
                database.do(f"{login} 'another password'")
                database.do(ended)
                until(lambda: told in " ".join(kept("status", "shop").out.split()), "it says why")
                assert "another password" not in (tmp_path / "log").read_text()
                database.do(f"{login} '{SECRET}'")
                committed()
                with vaults.full():
                    database.do("INSERT INTO busy (word) SELECT word FROM bulk", database="shop")
                    until(lambda: "full" in " ".join(kept("status", "shop").out.split()), "it says why")
                committed()
        finally:
            crash(following)
        assert begun(kept, "test", "shop").wait(120) == ExitStatus.SUCCESS, said(kept)
    kept.policy.write_text(text)
