"""A dead worker is told, by status, by audit and by the silence of a dead man's switch."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.flows import heartbeat

PATIENCE_SECONDS = 60
LONG_AGO = "2026-01-01T00:00:00.000000Z"


class Watcher:
    """What stands behind a dead man's switch: it notes who asks for what, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: int | None = 200
        self.released = threading.Event()
        watcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watcher.asked.append(self.path)
                if watcher.answer is None:
                    # A byte in time for each read, and never an end: no limit on single reads notices this.
                    self.wfile.write(b"HTTP/1.0 200 OK\r\n")
                    while not watcher.released.wait(0.1):
                        self.wfile.write(b"X-More: to come\r\n")
                    return
                self.send_response(watcher.answer)
                self.end_headers()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping/s3cr3t"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    if made.thread.is_alive():
        made.close()


def watched_by(home: Any, url: str) -> None:
    """Name the address in the policy."""
    home.policy.write_text(f"{home.policy.read_text()}\ndead_mans_switch: {url}\n")


def in_catalog(home: Any, statement: str) -> list[Any]:
    """Run a statement on the catalog, behind the program's back."""
    with closing(sqlite3.connect(home.root / "catalog.db", timeout=PATIENCE_SECONDS)) as connection, connection:
        return connection.execute(statement).fetchall()


@contextmanager
def killed_at_the_end(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed whatever happens."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def make_healthy(home: Any) -> None:
    """Do what is due, as a worker."""
    done = home("worker", "--once", "--every", "1 h")
    assert done.status is ExitStatus.SUCCESS, done


def test_status_and_audit_are_red_once_the_worker_gives_no_sign_of_life(home: Any) -> None:
    assert home("status", "--json").document["worker"] is None
    make_healthy(home)
    answer = home("status", "--json")
    assert (answer.status, answer.document["worker"]["alive"]) == (ExitStatus.SUCCESS, True)
    in_catalog(home, f"UPDATE heartbeat SET at = '{LONG_AGO}', next_by = '{LONG_AGO}'")
    red = home("status")
    assert red.status is ExitStatus.RED
    assert "The worker is dead" in red.out.splitlines()[-1]
    document = home("status", "--json").document
    assert document["healthy"] is document["worker"]["alive"] is False
    findings = home("audit", "--json").document["findings"]
    assert [each["severity"] for each in findings if each["control"] == "worker"] == ["critical"]


def test_a_worker_that_stays_gives_signs_of_life_until_it_is_killed(home: Any) -> None:
    make_healthy(home)
    in_catalog(home, "DELETE FROM heartbeat")
    command = [sys.executable, "-m", "cto_backups", "--policy", str(home.policy), "worker"]
    with killed_at_the_end(command) as worker:
        until = time.monotonic() + PATIENCE_SECONDS
        while not (rows := in_catalog(home, "SELECT pid FROM heartbeat")) and time.monotonic() < until:
            time.sleep(0.05)
        assert rows == [(worker.pid,)]
        known = home("status", "--json").document["worker"]
        assert known["alive"]
        assert [each["pid"] for each in known["workers"]] == [worker.pid]
        # As long as its process is there, a worker in the middle of a long action is alive without another sign.
        silence = f"UPDATE heartbeat SET at = '{LONG_AGO}', next_by = '{LONG_AGO}', busy_with = 'backup/ledger'"
        in_catalog(home, silence)
        assert home("status").status is ExitStatus.SUCCESS
    in_catalog(home, silence)
    dead = home("status")
    assert dead.status is ExitStatus.RED
    assert "busy with" in dead.out.replace("\n", " ")


def test_a_worker_does_not_hide_the_death_of_another_until_that_is_forgotten(home: Any) -> None:
    make_healthy(home)
    (name,) = (each["name"] for each in home("status", "--json").document["worker"]["workers"])
    assert name.endswith("/once")
    in_catalog(home, f"UPDATE heartbeat SET at = '{LONG_AGO}', next_by = '{LONG_AGO}', host = 'elsewhere'")
    assert home("worker", "--once", "--every", "1 h", "--name", "nightly").status is ExitStatus.SUCCESS
    red = home("status")
    assert red.status is ExitStatus.RED
    said = " ".join(red.out.split())
    assert f"The worker '{name}' is dead" in said
    assert "nightly' is dead" not in said
    assert f"cto.backups worker --forget {name}" in said
    unknown = home("worker", "--forget", "nightyl")
    assert unknown.status is ExitStatus.NOT_FOUND
    assert "did you mean 'nightly'" in unknown.err
    assert home("worker", "--forget", name, "--json").document == {"forgotten": name}
    assert home("status").status is ExitStatus.SUCCESS


def test_once_alone_leaves_the_signs_of_the_worker_as_they_are(home: Any) -> None:
    """Whoever catches up by hand on what a dead worker left does not make it alive."""
    make_healthy(home)
    before = in_catalog(home, "SELECT * FROM heartbeat")
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert in_catalog(home, "SELECT * FROM heartbeat") == before


@pytest.mark.parametrize("arguments", [["--every", "1 h"], ["--once", "--every", "sometimes"]])
def test_every_needs_once_and_a_length_of_time(home: Any, arguments: list[str]) -> None:
    assert home("worker", *arguments).status is ExitStatus.USAGE


def test_a_pass_in_which_nothing_failed_is_told_to_the_dead_mans_switch(home: Any, watcher: Watcher) -> None:
    watched_by(home, watcher.url)
    make_healthy(home)
    assert watcher.asked == ["/ping/s3cr3t"]
    assert "Nothing is due." in home("worker", "--once").out
    assert len(watcher.asked) == 2, "that nothing was due is well too"


def test_a_pass_in_which_something_failed_is_not_told(home: Any, watcher: Watcher) -> None:
    watched_by(home, watcher.url)
    for vault in ("one", "two", "three"):
        home.vault(vault).rename(home.root / f"away-{vault}")
    assert home("worker", "--once").status is not ExitStatus.SUCCESS
    assert watcher.asked == []


def test_while_something_is_wrong_the_dead_mans_switch_is_not_told_whatever_went_well(
    home: Any, watcher: Watcher
) -> None:
    """On another host, a worker is dead; here nothing has failed."""
    make_healthy(home)
    watched_by(home, watcher.url)
    (name,) = (each["name"] for each in home("status", "--json").document["worker"]["workers"])
    in_catalog(home, f"UPDATE heartbeat SET at = '{LONG_AGO}', next_by = '{LONG_AGO}', host = 'elsewhere'")
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert watcher.asked == []
    assert home("worker", "--forget", name).status is ExitStatus.SUCCESS
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert watcher.asked == ["/ping/s3cr3t"]


def test_what_somebody_takes_care_of_keeps_nothing_from_the_dead_mans_switch(home: Any, watcher: Watcher) -> None:
    make_healthy(home)
    watched_by(home, watcher.url)
    (home.root / "keys" / "pager.url").write_text(watcher.url)
    (home.root / "keys" / "pager.url").chmod(0o600)
    people = """
alerts:
  channels: {pager: {kind: webhook, url: "file:keys/pager.url", pages: true}}
  people: {cto: {reach: [pager]}}
"""
    home.policy.write_text(home.policy.read_text() + people)
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert len(watcher.asked) == 1
    in_catalog(home, f"UPDATE heartbeat SET at = '{LONG_AGO}', next_by = '{LONG_AGO}', host = 'elsewhere'")
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert len(watcher.asked) == 1, "nobody has answered"
    (alert,) = home("alerts", "--json").document["alerts"]
    assert home("alerts", "ack", alert["id"], "--note", "it is being repaired").status is ExitStatus.SUCCESS
    assert home("worker", "--once").status is ExitStatus.SUCCESS
    assert len(watcher.asked) == 2


def test_a_dead_mans_switch_that_does_not_answer_is_a_warning_and_no_more(home: Any, watcher: Watcher) -> None:
    watched_by(home, watcher.url)
    watcher.answer = 503
    done = home("worker", "--once")
    assert done.status is ExitStatus.SUCCESS
    assert "The dead man's switch at 127.0.0.1 was not told that all is well: it answered 503" in done.err
    watcher.close()
    done = home("worker", "--once")
    assert done.status is ExitStatus.SUCCESS
    assert "Connection refused" in done.err
    assert "s3cr3t" not in done.err + done.out


def test_a_dead_mans_switch_that_hangs_is_not_waited_for(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher.answer = None
    monkeypatch.setattr(heartbeat, "PING_SECONDS", 0.3)
    began = time.monotonic()
    problem = heartbeat.ping(watcher.url)
    assert problem is not None
    assert time.monotonic() - began < 5, "the answer comes in pieces for 10 s before the library has enough of it"
    assert os.path.basename(watcher.url) not in problem  # noqa: PTH119


def test_the_policy_takes_no_other_address(home: Any) -> None:
    before = home.policy.read_text()
    for url in ("file:///etc/passwd", "watch.example/ping", "http://"):
        home.policy.write_text(f"{before}\ndead_mans_switch: '{url}'\n")
        answer = home("status")
        assert answer.status is ExitStatus.POLICY
        assert "dead_mans_switch" in answer.err
