"""A worker that watches a database under constant writing, as people run it; and how far back `--at` leads."""

import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from cto_backups.errors import ExitStatus

PATIENCE_SECONDS = 60

# Each transaction books an amount twice, with either sign: whatever is committed sums up to nothing.
WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = wal")
number = 0
while True:
    number += 1
    database.execute("BEGIN")
    database.execute("INSERT INTO entries (amount, note) VALUES (?, 'debit')", (number,))
    database.execute("INSERT INTO entries (amount, note) VALUES (?, 'credit')", (-number,))
    database.execute("COMMIT")
    time.sleep(0.005)
"""


def continuous(home: Any) -> None:
    """Only the database, with an RPO of four minutes: a second between two points at least."""
    text = home.policy.read_text()
    start = text.index("\nsources:\n") + len("\nsources:\n")
    end = text.index("\n\n", start)
    home.policy.write_text(
        text[:start]
        + f"""\
  ledger-database:
    kind: sqlite
    class: user-data
    category: quick
    triggers: continuous
    retention: 1 day
    path: {home.data / "ledger.db"}
categories:
  quick: {{based_on: A, rpo: 4 minutes}}"""
        + text[end:]
    )
    with closing(sqlite3.connect(home.data / "ledger.db")) as database, database:
        database.execute("DELETE FROM entries")


def started(home: Any, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        env={"PATH": "/usr/bin:/bin", "CTO_BACKUPS_POLICY": str(home.policy), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def books(path: Path) -> tuple[int, float]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count, total = database.execute("SELECT count(*), total(amount) FROM entries").fetchone()
        return count, total


def restored(home: Any, name: str, *arguments: str) -> tuple[int, float]:
    place = home.root / name
    answer = home("restore", "ledger-database", "--to", str(place), *arguments)
    assert answer.status is ExitStatus.SUCCESS, answer
    (database,) = place.rglob("ledger.db")
    return books(database)


def test_writer_and_worker_killed_in_the_middle_leave_whole_points_and_the_next_one_is_whole(home: Any) -> None:
    continuous(home)
    writer, worker = (
        started(home, "-c", WRITER, str(home.data / "ledger.db")),
        started(home, "-m", "cto_backups", "worker"),
    )
    try:
        assert worker.stdout is not None
        made = 0
        end = time.monotonic() + PATIENCE_SECONDS
        while made < 3:
            assert time.monotonic() < end
            made += "backup ledger-database: made" in worker.stdout.readline()
        time.sleep(1.1)  # the next one begins, or will in a moment
    finally:
        for process in (worker, writer):
            process.send_signal(signal.SIGKILL)
            process.communicate()
    held = restored(home, "before")
    assert held[0] > 0 and held[1] == 0
    assert home("backup").status is ExitStatus.SUCCESS
    assert restored(home, "after") == books(home.data / "ledger.db")
    tested = home("test")
    assert tested.status is ExitStatus.SUCCESS, tested
    assert home("verify").status is ExitStatus.SUCCESS


def test_at_says_how_far_the_point_is_from_the_moment_and_what_comes_next(home: Any) -> None:
    source, file = "data-files", home.root / "restored"

    def at(moment: str) -> str:
        answer = home("restore", source, "--at", moment, "--to", str(file), "--dry-run")
        assert answer.status is ExitStatus.SUCCESS, answer
        return str(answer.err)

    first = home("points", source, "--json").document["points"][0]["captured_at"]
    time.sleep(0.05)
    assert "It is the newest: what changed since is in no point." in at("now")
    assert home("backup", source).status is ExitStatus.SUCCESS
    between = home("status", source, "--json").document["now"]
    told = at(first.replace("Z", "+00:00"))
    assert re.search(r"Its moment is \S+ \d\d:\d\d:\d\d, 0.\d s before the one asked for", told)
    assert "Nothing had changed when the source was looked at" in told
    home.change("later\n")
    assert home("backup", source).status is ExitStatus.SUCCESS
    assert "what changed between the two is not in this one" in at(between)
