"""A worker that has much to judge before it tells people goes on with its work meanwhile."""

import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.alerts import AlertPolicy, AlertRule, Trouble
from cto_backups.flows import telling, troubles, work
from cto_backups.flows.backup import backup
from cto_backups.flows.telling import Telling
from cto_backups.flows.troubles import Judging, of_sources


@pytest.fixture
def switch(workshop: Any) -> Any:
    """An installation with a dead man's switch, and how often that was told."""
    told: list[str] = []

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Switch) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        policy = replace(workshop.installation.policy, dead_mans_switch=f"http://127.0.0.1:{server.server_port}/well")
        installation = replace(workshop.installation, policy=policy)
        workshop.catalog.sync_policy(policy, workshop.installation.policy_text, clock.now())
        yield installation, told
        server.shutdown()


@pytest.fixture
def in_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """One source at a time, and one slice for each."""
    monkeypatch.setattr(troubles, "AT_ONCE", 1)
    monkeypatch.setattr(telling, "JUDGE_SECONDS", 0.0)


def test_a_judgement_in_slices_finds_what_one_of_all_finds(switch: Any, in_ones: None) -> None:
    """In the same order, too."""
    installation, _ = switch
    for name in installation.policy.sources:
        backup(installation, name)
    rule = AlertRule("soon", Trouble.NO_BACKUP, ("cto",), after=timedelta(microseconds=1))
    policy = replace(installation.policy, alerts=AlertPolicy(rules=(*installation.policy.alerts.rules, rule)))
    whole = list(of_sources(policy, installation.catalog, {}, clock.now()))
    judging = Judging(replace(installation, policy=policy))
    assert [judging.go_on(0.0) for _ in range(3)] == [False, False, True]
    assert [(each.rule, each.subject) for each in judging.found] == [(each.rule, each.subject) for each in whole]
    assert {each.subject for each in whole} == set(policy.sources)


def test_people_and_the_switch_are_told_once_all_are_judged_and_not_before(switch: Any, in_ones: None) -> None:
    installation, told = switch
    for name in installation.policy.sources:
        backup(installation, name)
    warned: list[str] = []
    teller = Telling(installation, threading.Event(), warned.append)
    for expected in (False, False, True):
        assert told == []
        assert teller.go_on(leads=True, is_idle=False, is_alone=True) is expected
    assert (told, warned) == (["/well"], [])
    assert not teller.go_on(leads=True, is_idle=False, is_alone=True), "it rests"
    assert told == ["/well"]


def test_who_leads_no_more_leaves_it_to_another(switch: Any, in_ones: None) -> None:
    installation, told = switch
    teller = Telling(installation, threading.Event(), lambda _sentence: None)
    assert not teller.go_on(leads=True, is_idle=False, is_alone=False)
    for _ in range(5):
        assert not teller.go_on(leads=False, is_idle=False, is_alone=False)
    assert told == []


def test_signs_of_life_and_plans_come_between_the_slices(
    switch: Any, in_ones: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another policy has everything judged: what is due does not wait for the last source."""
    installation, told = switch
    events: list[str] = []

    def noted(name: str, function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            events.append(name)
            return function(*given, **named)

        return call

    monkeypatch.setattr(work, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(work, "beat", noted("beat", work.beat))
    monkeypatch.setattr(work.Desk, "leads", noted("asked what is due", work.Desk.leads))
    monkeypatch.setattr(troubles, "_judged", noted("judged", troubles._judged))
    stop = threading.Event()
    done: list[Any] = []
    worker = threading.Thread(target=work.work, args=(installation, stop, done.append))
    worker.start()
    deadline = clock.monotonic() + 60
    while not told and clock.monotonic() < deadline:
        stop.wait(0.05)
    stop.set()
    worker.join(60)
    assert told and done, events
    first, *_, last = [number for number, event in enumerate(events) if event == "judged"]
    slices = "|".join(events[first : last + 1]).split("judged")[1:-1]
    assert len(slices) >= 2
    assert all("beat" in between and "asked what is due" in between for between in slices), events
