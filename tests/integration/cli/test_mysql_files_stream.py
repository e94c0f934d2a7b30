"""A MariaDB server's files, and its binary log streamed behind them: what is lost with it, and what comes back."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from integration.cli.following import crash, facts, followed, installed, until, worker
from integration.cli.test_mysql_stream import SECTION, Writer, add, caught_up, now, protect, without_us
from integration.test_mysql_files_log import carried_out
from servers import mariadb

FILES = SECTION + "    method: physical\n"
SELDOM = FILES + "    sums_every: 6 h\n"
QUIET = {"binlog-format": "ROW", "gtid-strict-mode": "0", "event-scheduler": "OFF"}


def test_killing_server_and_worker_loses_less_than_a_second_of_commits_after_files(
    home: Home, mariadbd: Path, mariadb_backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The restore test carries out what was streamed; a server on files and log has every commit but the last ones."""
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY)")
        protect(home, primary, FILES)
        first = worker(home, tmp_path / "first.log", "first")
        second: subprocess.Popen[bytes] | None = None
        try:
            with installed(home) as installation, Writer(primary) as writer:
                caught_up(installation, primary)
                first.kill()
                first.wait()
                between = writer.acknowledged
                second = worker(home, tmp_path / "second.log", "second")
                until(lambda: facts(installation).holder == "second", "the other worker takes over at once")
                until(lambda: writer.acknowledged > between + 500, "writes go on")
                caught_up(installation, primary)
                time.sleep(1.0)
                os.kill(primary.pid, signal.SIGKILL)
            committed, moments = writer.acknowledged, writer.moments
            until(lambda: "not followed" in (tmp_path / "second.log").read_text(), "the worker says so")
        finally:
            for process in (first, second):
                if process is not None:
                    crash(process)
    restored = home("restore", "shop", "--to", str(tmp_path / "back"))
    assert restored.status is ExitStatus.SUCCESS, restored
    assert list((tmp_path / "back").glob("streamed-*"))
    with mariadb.server(mariadbd, files=tmp_path / "back" / "data", **QUIET) as again:
        carried_out(again, tmp_path / "back")
        ((count, last),) = again.do("SELECT COUNT(*), MAX(n) FROM zoo.commits")
    assert count == last, "no commit before the last is missing"
    seconds = moments[committed] - moments[last] if last < committed else 0.0
    with capsys.disabled():
        lost = max(committed - last, 0)
        print(f"\nkill -9 of the server: {lost} of {committed} commits lost, of the last {seconds:.2f} s")
    assert last > between, "what the second worker brought is there"
    assert seconds < 3, "this is no measurement: machines are slow; see the printed figure"
    tested = home("test", "shop", "--json")
    assert tested.status is ExitStatus.SUCCESS, tested
    (step,) = [step for step in tested.document["tests"][0]["steps"] if step["name"] == "restore"]
    assert step["figures"]["streamed_bytes"] > 0


def test_any_second_after_files_comes_back_from_what_was_streamed(
    home: Home, mariadbd: Path, mariadb_backup: Path, tmp_path: Path
) -> None:
    """Also while the newest point has a log of its own; and what nobody can carry out fails the restore test."""
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
        protect(home, primary, FILES)
        add(primary, 1)
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        add(primary, 2)
        time.sleep(1.1)
        moment = now(primary)
        primary.do("DELETE FROM zoo.commits", "FLUSH BINARY LOGS", "CREATE TABLE zoo.later SELECT 3 AS n")
        with followed(home) as installation:
            caught_up(installation, primary)
            until(lambda: facts(installation).moment > moment, "a mark after it")
        for name, words, rows in (("at", ("--at", moment.isoformat()), [(1,), (2,)]), ("all", (), [])):
            done = home("restore", "shop", *words, "--to", str(tmp_path / name))
            assert done.status is ExitStatus.SUCCESS, done
            said = " ".join(done.err.split())
            assert "is to carry out binlog-* and streamed-* before anybody writes there" in said, done
            assert (f"streamed since, up to {moment:%Y-%m-%d %H:%M:%S}" in said) is (name == "at"), done
            with mariadb.server(mariadbd, files=tmp_path / name / "data", **QUIET) as again:
                carried_out(again, tmp_path / name)
                assert again.do("SELECT n FROM zoo.commits ORDER BY n") == rows
                assert bool(again.do("SHOW TABLES FROM zoo LIKE 'later'")) is (name == "all")
        # What never came into the log cannot be deleted by it.
        never = "SET sql_log_bin = 0", "INSERT INTO zoo.commits (n) VALUES (50)", "SET sql_log_bin = 1"
        primary.do(*never, "DELETE FROM zoo.commits WHERE n = 50")
        with followed(home) as installation:
            caught_up(installation, primary)
        failed = home("test", "shop")
        assert failed.status is ExitStatus.VERIFICATION and "the log stops" in " ".join(failed.err.split()), failed


def test_a_test_of_a_point_that_was_not_summed_up_says_that_it_proves_less(
    home: Home, mariadbd: Path, mariadb_backup: Path
) -> None:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
        protect(home, primary, SELDOM)
        add(primary, 1)
        assert home("backup", "shop").status is ExitStatus.SUCCESS
        told = home("points", "shop", "--json").document["points"]
        newest, summed = (point["id"] for point in told)
        assert [("summed_until" in point["log"]) for point in told] == [True, False]
    proven = home("test", "shop")
    assert proven.status is ExitStatus.SUCCESS and "shop: proven" in proven.out and summed in proven.out, proven
    less = home("test", "--point", newest)
    assert less.status is ExitStatus.SUCCESS and "shop: restored, NOT PROVEN" in less.out, less
    assert "Not compared: what was written after" in " ".join(less.err.split()), less
    (told,) = home("status", "shop", "--json").document["sources"]
    assert told["rung"] == "restored", told


def test_what_was_streamed_behind_files_is_carried_out_by_the_documented_commands(
    home: Home, mariadbd: Path, mariadb_backup: Path, stock_restic: Path, tmp_path: Path
) -> None:
    with mariadb.server(mariadbd, **{"binlog-format": "ROW"}) as primary:
        primary.do("CREATE DATABASE zoo", "CREATE TABLE zoo.commits (n bigint PRIMARY KEY, words longtext)")
        protect(home, primary, FILES)
        add(primary, 1)
        assert home("backup", "shop").status is ExitStatus.SUCCESS, "a point that has a log of its own"
        with followed(home) as installation:
            add(primary, 2)
            primary.do("FLUSH BINARY LOGS")
            add(primary, 3)
            caught_up(installation, primary)
            point = installation.catalog.latest("shop")
            assert point is not None
            (copy,) = [known.copy for known in installation.catalog.copies(point.id) if known.copy.vault == "one"]
    back = without_us(home, stock_restic, copy.reference, tmp_path)
    words = ["--defaults-file=data/backup-my.cnf", "--prepare", "--target-dir=data"]
    subprocess.run([mariadb_backup, *words], cwd=back, check=True, capture_output=True)
    with mariadb.server(mariadbd, files=back / "data", **QUIET) as again:
        carried_out(again, back)
        assert again.do("SELECT n FROM zoo.commits ORDER BY n") == [(1,), (2,), (3,)]
