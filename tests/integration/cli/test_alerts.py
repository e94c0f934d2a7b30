"""Somebody is told what is wrong: a whole story on the command line, with real servers that take the messages."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home, environment

SOURCE = "data-files"
MOMENT: list[datetime] = []


class Pager:
    """A receiver of webhooks: what it took, by whom it is for; it refuses while `down`."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.down = False
        self.url = ""

    def events(self, of: str = "") -> list[tuple[str, str]]:
        return [(each["event"], each["to"]) for each in self.taken if of in (each["rule"] or "")]


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not made.down:
                made.taken.append(body)
            self.send_response(503 if made.down else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/token-of-the-pager"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def told(home: Home, pager: Pager, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation whose people are called by the pager, and where a restore test of one source matters."""
    (home.root / "keys" / "pager.url").write_text(pager.url)
    (home.root / "keys" / "pager.url").chmod(0o600)
    section = """
alerts:
  channels:
    pager: {kind: webhook, url: "file:keys/pager.url", pages: true}
    post: {kind: webhook, url: "file:keys/pager.url"}
  people:
    red-phone: {reach: [pager ops, post ops]}
    cto: {reach: [post cto]}
    ceo: {reach: [post ceo]}
  rules:
    rpo-missed: {tell: [red-phone], then: [cto, ceo], repeat: 15 minutes, step_up: 40 minutes, urgent: true}
    no-backup-a: {after: 300 days}
    no-backup-b: {after: 300 days}
    worker-silent: {tell: [cto]}
"""
    home.policy.write_text(home.policy.read_text() + section)
    MOMENT[:] = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: MOMENT[0])
    return home


def later(_home: Home, **length: float) -> None:
    """Let time pass."""
    MOMENT[0] += timedelta(**length)


def run(home: Home) -> list[tuple[str, str]]:
    answer = home("alerts", "run", "--json")
    assert answer.status in (ExitStatus.SUCCESS, ExitStatus.CHANNEL), answer
    return [(each["event"], each["alert"]["subject"]) for each in answer.document["alerts"]]


def test_raised_once_repeated_stepped_up_answered_and_closed(told: Home, pager: Pager) -> None:
    assert run(told) == [], "all is well"
    later(told, days=8)
    raised = run(told)
    assert ("raised", SOURCE) in raised and {event for event, _ in raised} == {"raised"}
    number = len(raised)
    assert pager.events("rpo") == [("raised", "ops")] * number
    first = next(each for each in pager.taken if each["subject"] == SOURCE)
    assert f"cto.backups alerts ack {first['alert']}" in first["text"] and "no backup of source" in first["title"]
    assert run(told) == [], "once"
    later(told, minutes=15)
    assert {event for event, _ in run(told)} == {"repeated"}
    later(told, minutes=25)
    assert {event for event, _ in run(told)} == {"stepped-up"}
    assert pager.events("rpo")[-1] == ("stepped-up", "cto")
    listed = told("alerts", "--json").document["alerts"]
    assert len(listed) == number and all(each["told"] == ["red-phone", "cto"] for each in listed)
    for each in listed:
        answered = told("alerts", "ack", each["id"], "--note", "mending  the disk")
        assert answered.status is ExitStatus.SUCCESS and "takes care of it" in answered.out
    assert told("alerts", "ack", listed[0]["id"]).status is ExitStatus.REFUSED
    later(told, days=2)
    assert run(told) == [], "somebody is at it"
    assert told("backup").status is ExitStatus.SUCCESS
    closed = run(told)
    assert {event for event, _ in closed} == {"closed"} and len(closed) == number
    assert pager.taken[-1]["event"] == "closed"
    assert told("alerts").out.strip() == "There is no open alert."
    everything = told("alerts", "--all")
    assert "answered 40 minutes after it was raised: mending the disk" in everything.out
    assert "the condition has ended" in everything.out
    shown = told("alerts", "show", listed[0]["id"])
    assert "red-phone by pager: taken" in shown.out and "cto by post: taken" in shown.out
    assert told("evidence", "verify").status is ExitStatus.SUCCESS


def test_alerts_come_back_with_a_lost_catalog(told: Home, pager: Pager) -> None:
    later(told, days=8)
    raised = run(told)
    later(told, minutes=40)
    run(told)
    answered = told("alerts", "--json").document["alerts"][0]["id"]
    assert told("alerts", "ack", answered).status is ExitStatus.SUCCESS
    assert told("verify", "one").status is ExitStatus.SUCCESS  # brings the records to the vault
    before = told("alerts", "--json").document["alerts"]
    for file in told.root.glob("catalog.db*"):
        file.unlink()
    rebuilt = told("catalog", "rebuild", "--json")
    assert rebuilt.document["alerts"] == len(before) == len(raised), rebuilt
    after = told("alerts", "--json").document["alerts"]
    assert [{**each, "told_at": None} for each in after] == [{**each, "told_at": None} for each in before]
    assert "raised" not in {event for event, _ in run(told)}, "they are known"
    assert told("backup").status is ExitStatus.SUCCESS
    assert {event for event, _ in run(told)} == {"closed"}


def test_who_is_not_reached_is_told_by_the_next_channel_or_in_their_place_the_next_person(
    told: Home, pager: Pager
) -> None:
    later(told, days=8)
    pager.down = True
    answer = told("alerts", "run")
    assert answer.status is ExitStatus.CHANNEL and "NOT taken" in answer.out and "503" in answer.out
    assert "token-of-the-pager" not in answer.out + answer.err
    assert all(each["told_at"] is None for each in told("alerts", "--json").document["alerts"])
    pager.down = False
    assert set(run(told)) >= {("repeated", SOURCE)}, "what was noted and not told is told as soon as it can be"
    policy = told.policy.read_text()
    told.policy.write_text(policy.replace("reach: [pager ops, post ops]", "reach: [broken ops]").replace(
        "    post: {kind", '    broken: {kind: webhook, url: "file:keys/nothing"}\n    post: {kind'
    ))  # fmt: skip
    later(told, minutes=15)
    run(told)
    assert pager.taken[-1]["to"] == "cto", "in the place of whoever cannot be reached"
    assert ("raised", "broken") in run(told), "a channel that failed is itself something to be told of"


def test_a_killed_run_tells_once_more_and_never_not_at_all(told: Home, pager: Pager) -> None:
    """Killed right before and right after each message is handed over."""
    later(told, days=8)
    at = clock.now()
    for when in ("before", "after"):
        child = f"""
import datetime, os, signal, sys
from cto_backups import clock
from cto_backups.channels.webhook import WebhookChannel
now = datetime.datetime.fromisoformat({at.isoformat()!r})
clock.now = lambda: now
plain = WebhookChannel.send
def send(self, *arguments):
    if {when!r} == "after":
        plain(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
WebhookChannel.send = send
from cto_backups.cli import main
main.run(["alerts", "run"])
"""
        done = subprocess.run(
            [sys.executable, "-c", child],
            env=environment(CTO_BACKUPS_POLICY=str(told.policy)),
            capture_output=True,
            check=False,
        )
        assert done.returncode == -9, done
    before = len(pager.taken)
    assert before == 1, "handed over, and killed before that was noted"
    run(told)
    sources = {each["subject"] for each in pager.taken[before:]}
    assert sources == {"data-files", "app-repository", "ledger-database"}, "each of them, once more"
    assert run(told) == []


def test_two_runs_at_once_tell_once(told: Home, pager: Pager) -> None:
    later(told, days=8)
    from cto_backups import app

    with app.opened(told.policy) as opening, opening.installation.exclusive_alerts():
        assert told("alerts", "run").status is ExitStatus.BUSY
        assert told("worker", "--once").status is not ExitStatus.BUSY, "work goes on"
    assert [each for each in pager.taken if each["rule"] == "rpo-missed"] == []


def test_everybody_gets_a_test_on_each_channel_and_the_audit_knows(told: Home, pager: Pager) -> None:
    def missing() -> set[str]:
        found = told("audit", "--json").document["findings"]
        return {each["subject"] for each in found if each["control"] == "escalation"}

    # The chief executive has nothing that rings, and is told when a recovery is late.
    assert missing() == {"red-phone", "cto", "ceo", "rule recovery-late"}
    answer = told("alerts", "test")
    assert answer.status is ExitStatus.SUCCESS and answer.out.count(": taken") == 4
    assert [each["event"] for each in pager.taken] == ["test"] * 4
    assert missing() == {"rule recovery-late"}
    later(told, days=91)
    assert missing() == {"red-phone", "cto", "ceo", "rule recovery-late"}
    pager.down = True
    answer = told("alerts", "test", "cto", "--json")
    assert answer.status is ExitStatus.CHANNEL and [each["person"] for each in answer.document["tellings"]] == ["cto"]
    assert told("alerts", "test", "cot").status is ExitStatus.NOT_FOUND


def test_a_drill_measures_how_long_the_answer_takes(told: Home, pager: Pager) -> None:
    begun = told("alerts", "drill", "--json").document["alert"]
    assert pager.events() == [("raised", "ops")] and "EXERCISE" in pager.taken[0]["title"]
    later(told, minutes=20)
    assert ("repeated", begun["subject"]) in run(told)
    answered = told("alerts", "ack", begun["id"], "--json").document["alert"]
    assert (answered["answered_after_seconds"], answered["cause"]) == (
        1200.0,
        f"answered by {answered['acknowledged_by']} after 20 minutes",
    )
    assert run(told) == [], "it is over with the answer"
    assert told("alerts", "drill", "--wait", "a while").status is ExitStatus.USAGE


def test_a_drill_waits_for_the_answer_in_another_process(told: Home, pager: Pager) -> None:
    def answer() -> None:
        for _ in range(200):
            if pager.taken:
                told.process("alerts", "ack", pager.taken[0]["alert"])
                return
            time.sleep(0.1)

    thread = threading.Thread(target=answer)
    thread.start()
    done = told.process("alerts", "drill", "--wait", "1 minute")
    thread.join()
    assert done.status is ExitStatus.SUCCESS and re.search(r"answered after \d+ second", done.out), done
    nobody = told.process("alerts", "drill", "--wait", "1 seconds")
    assert nobody.status is ExitStatus.RED and "Nobody has answered" in nobody.err


def test_a_recovery_that_takes_longer_than_its_rto_is_told_while_it_runs(
    told: Home, pager: Pager, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # a real clock: this is about time that passes
    text = told.policy.read_text()
    told.policy.write_text(
        text.replace("    worker-silent:", "    recovery-late: {after: 1 seconds}\n    worker-silent:")
    )
    from cto_backups.sources.files import FilesSource

    plain = FilesSource.restore

    def slow(*arguments: Any, **options: Any) -> Any:
        for _ in range(100):
            if pager.events("recovery-late"):
                break
            time.sleep(0.1)
        return plain(*arguments, **options)

    monkeypatch.setattr(FilesSource, "restore", slow)
    assert told("restore", SOURCE, "--to", str(tmp_path / "out")).status is ExitStatus.SUCCESS
    assert pager.events("recovery-late") == [("raised", "ceo"), ("closed", "ceo")]
    assert "is not done" in pager.taken[0]["text"] and "alerts ack" not in pager.taken[0]["text"]
    assert told("alerts", "--all").out.strip() == "There was never an alert."


def test_the_worker_tells_people_and_goes_on_when_nobody_can_be_reached(told: Home, pager: Pager) -> None:
    from cto_backups.sources.files import FilesSource  # noqa: F401

    later(told, days=8)
    (told.root / "vaults").rename(told.root / "away")
    told("worker", "--once")
    assert ("raised", "ops") in pager.events("rpo-missed")
    pager.down = True
    later(told, minutes=30)
    answer = told("worker", "--once")
    assert "Not everybody could be told what is wrong" in answer.err and "token-of-the-pager" not in answer.err


def test_without_people_nobody_is_told_and_it_is_said(home: Home) -> None:
    assert home("alerts", "test").status is ExitStatus.POLICY
    assert home("alerts", "drill").status is ExitStatus.POLICY
    assert home("alerts", "run").out.strip() == "Nobody needs to be told anything now."
