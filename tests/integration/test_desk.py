"""The desk of a worker looks at what is worth it: what is due, what ended without a trace, what waits for long."""

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.looks import IN_HAND
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.plan import due
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.watched import Noticed
from cto_backups.core.windows import Window
from cto_backups.core.worker import Limits
from cto_backups.errors import BusyError
from cto_backups.flows.desk import LONGEST_BESIDE_OTHERS, LONGEST_SLEEP, Desk
from cto_backups.flows.fleet import Member
from cto_backups.flows.perform import Performed
from cto_backups.flows.protect import protect
from cto_backups.flows.work import run_due


@dataclass
class Finding:
    """A pool that finds others at whatever it is to do, which leaves no trace in the catalog."""

    limits: Limits = field(default_factory=lambda: Limits(9, 9, 9))
    running: tuple[Action, ...] = ()

    def start(self, action: Action) -> None:
        self.running = (*self.running, action)

    def ended(self, seconds: float) -> tuple[Performed, ...]:
        done, self.running = self.running, ()
        return tuple(Performed(action, BusyError("Another run is at it")) for action in done)


@pytest.fixture
def desk(workshop: Any) -> Desk:
    return desk_of(workshop.installation)


def desk_of(installation: Any) -> Desk:
    queue = installation.queue()
    return Desk(installation, Finding(), queue, Member(installation, queue), None, again=0.0)


def waiting(desk: Desk, kind: ActionKind = ActionKind.BACKUP) -> list[str]:
    return sorted(action.source or action.vault or "" for action in desk.queue.waiting() if action.kind is kind)


def test_what_is_due_waits_after_a_look_and_goes_on_waiting(desk: Desk) -> None:
    desk.look()
    assert waiting(desk) == sorted(desk.installation.policy.sources)
    desk.look()
    assert waiting(desk) == sorted(desk.installation.policy.sources)


def test_what_somebody_else_was_at_is_tried_again(desk: Desk) -> None:
    """It is still due, and nothing has changed: nobody else would look at it for a while."""
    desk.look()
    desk.begin(threading.Event(), lambda _action: None)
    begun = {action.source for action in desk.pool.running if action.kind is ActionKind.BACKUP}
    assert len(begun) == 3
    desk.ended(0.0)
    assert waiting(desk) == []
    assert desk.wait() == 1.0
    desk.look()
    assert set(waiting(desk)) == begun


def test_what_another_process_did_meanwhile_waits_no_more(desk: Desk) -> None:
    desk.look()
    protect(desk.installation, "documents")
    desk.look()
    assert "documents" not in waiting(desk)
    assert len(waiting(desk)) == 2


def test_a_worker_that_begins_takes_over_what_the_one_before_had_in_hand(workshop: Any, desk: Desk) -> None:
    desk.look()
    after = desk_of(workshop.installation)
    after.look()
    assert waiting(after) == waiting(desk) != []


def test_what_waits_for_long_is_looked_at_again_whoever_else_did(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker of this catalog, with a queue of its own, has looked at it since: the catalog says nothing."""
    desk.look()
    desk.left = desk.waiting()
    protect(desk.installation, "documents")
    desk_of(desk.installation).look()
    assert "documents" in waiting(desk)
    later = clock.monotonic() + IN_HAND.total_seconds()
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    desk.look()
    assert "documents" not in waiting(desk)


def test_heavy_work_waits_no_more_once_its_window_has_closed(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    protect(workshop.installation, "documents")
    now = clock.now() + timedelta(days=8)
    monkeypatch.setattr(clock, "now", lambda: now)
    policy = workshop.installation.policy
    begin = (now - timedelta(minutes=5)).hour * 60 + (now - timedelta(minutes=5)).minute
    window = Window(begin, (begin + 10) % 1440)
    installation = replace(
        workshop.installation,
        policy=replace(
            policy,
            timezone="UTC",
            prune_every=timedelta(days=7),
            worker=replace(policy.worker, heavy_work=(window,)),
        ),
    )
    desk = desk_of(installation)
    desk.look()
    assert waiting(desk, ActionKind.PRUNE)
    closed = now + timedelta(minutes=11)
    monkeypatch.setattr(clock, "now", lambda: closed)
    assert desk.outdated()
    desk.look()
    assert not waiting(desk, ActionKind.PRUNE)


def test_others_are_looked_after_more_often_than_oneself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.member.is_alone
    for name in desk.installation.policy.sources:
        protect(desk.installation, name)
    for _ in range(3):
        desk.look()
    assert LONGEST_BESIDE_OTHERS.total_seconds() < desk.wait() <= LONGEST_SLEEP.total_seconds()
    monkeypatch.setattr(Member, "is_alone", False)
    assert desk.wait() <= LONGEST_BESIDE_OTHERS.total_seconds()


class Watcher:
    """Somebody who has noticed a change."""

    noticed = ("ledger",)

    def observed(self, facts: Any, until: Any) -> Any:
        known = replace(facts.sources["ledger"], noticed=Noticed(until - IN_HAND, until - IN_HAND))
        return replace(facts, sources={**facts.sources, "ledger": known})


def test_who_does_not_lead_looks_at_what_it_has_noticed_itself(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it knew when it looked last may be that a backup was under way; nobody else looks at it for the change."""
    installation = workshop.installation
    triggers = parse_triggers("continuous")
    sources = {**installation.policy.sources}
    sources["ledger"] = replace(sources["ledger"], triggers=triggers)
    desk = desk_of(replace(installation, policy=replace(installation.policy, sources=sources)))
    protect(desk.installation, "ledger")
    later = clock.now() + timedelta(minutes=10)
    monkeypatch.setattr(clock, "now", lambda: later)
    desk.watching = Watcher()  # type: ignore[assignment]
    assert desk.leads() and desk.unserved() == (), "who leads looks at everything"
    monkeypatch.setattr(Member, "leads", lambda _self: False)
    assert not desk.leads()
    assert desk.unserved() == ("ledger",)
    desk.look(desk.unserved())
    assert "ledger" in waiting(desk)
    desk.watching = None
    assert desk.unserved() == ()


def test_what_broke_off_with_its_process_comes_last_where_that_is_the_only_one(workshop: Any) -> None:
    """Who runs once, now and then, and dies of the same action each time, gets the others done before."""
    installation, now = workshop.installation, clock.now()
    first, *others = [action.source for action in due(installation.policy, workshop.catalog.facts(now), now)]
    run = {"source": first, "vault": None, "point": None, "pid": 1, "host": "host"}
    workshop.catalog.start_run(ActionKind.BACKUP, now=now, **run)
    workshop.catalog.interrupt_dead_runs("host", lambda _pid: False, now)
    began = []
    for done in run_due(installation, threading.Event(), expiry=False):
        began.append(done.action.source)
        if len(began) == 3:
            break
    assert began == [*others, first]
