"""What the worker does to vaults on its own schedule: it prunes them, and reads them in parts."""

import os
import threading
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.model import ActionKind, Outcome, RecoveryPoint
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.windows import Window
from cto_backups.errors import DamageError
from cto_backups.flows import desk
from cto_backups.flows import work as work_flow
from cto_backups.flows.copy import bring
from cto_backups.flows.protect import protect
from cto_backups.flows.verify import verify
from cto_backups.flows.work import run_due


def later(workshop: Any, monkeypatch: Any, **length: float) -> None:
    """Let so much time pass."""
    now = clock.now() + timedelta(**length)
    monkeypatch.setattr(clock, "now", lambda: now)


def performed(workshop: Any, kind: ActionKind, **changes: Any) -> list[Any]:
    """What of this kind a worker does now, under the policy with these changes."""
    policy = replace(workshop.installation.policy, **changes)
    installation = replace(workshop.installation, policy=policy)
    done = list(run_due(installation, threading.Event(), expiry=False))
    return [each for each in done if each.action.kind is kind]


def scheduled(workshop: Any) -> Any:
    """The installation, with copies to the third vault every twelve hours."""
    policy = workshop.installation.policy
    three = replace(policy.vaults["three"], copies=parse_triggers("every 12 h"))
    policy = replace(policy, vaults={**policy.vaults, "three": three})
    workshop.catalog.sync_policy(policy, b"", clock.now())
    return replace(workshop.installation, policy=policy)


def test_the_worker_prunes_every_vault_when_its_time_has_come(workshop: Any, monkeypatch: Any) -> None:
    """Weekly, by the facts in the catalog, and not again before the week is over."""
    protect(workshop.installation, "documents")
    week = {"prune_every": timedelta(days=7)}
    assert performed(workshop, ActionKind.PRUNE, **week) == []
    later(workshop, monkeypatch, days=8)
    done = performed(workshop, ActionKind.PRUNE, **week)
    assert sorted(each.action.vault for each in done) == ["one", "three", "two"]
    assert [each.error for each in done] == [None] * 3
    facts = workshop.catalog.facts(clock.now()).vaults
    assert {vault.prune_run.outcome for vault in facts.values()} == {Outcome.SUCCEEDED}
    assert performed(workshop, ActionKind.PRUNE, **week) == []


def in_windows(workshop: Any, *windows: Window) -> dict[str, Any]:
    """Settings that prune weekly, in windows by the clock of UTC."""
    worker = replace(workshop.installation.policy.worker, heavy_work=windows)
    return {"prune_every": timedelta(days=7), "timezone": "UTC", "worker": worker}


def test_the_worker_keeps_heavy_work_to_its_windows(workshop: Any, monkeypatch: Any) -> None:
    """Half an hour before the window nothing is pruned, and in it all is."""
    protect(workshop.installation, "documents")
    later(workshop, monkeypatch, days=8)
    opening = clock.now() + timedelta(minutes=30)
    begin = opening.hour * 60 + opening.minute
    settings = in_windows(workshop, Window(begin, (begin + 60) % 1440))
    assert performed(workshop, ActionKind.PRUNE, **settings) == []
    later(workshop, monkeypatch, minutes=45)
    assert len(performed(workshop, ActionKind.PRUNE, **settings)) == 3


def test_what_waits_while_its_window_closes_does_not_begin_any_more(workshop: Any, monkeypatch: Any) -> None:
    """One pass of a worker may take hours; what it has begun it ends."""
    protect(workshop.installation, "documents")
    later(workshop, monkeypatch, days=8)
    begin = clock.now().hour * 60 + clock.now().minute
    policy = replace(workshop.installation.policy, **in_windows(workshop, Window(begin, (begin + 60) % 1440)))
    begun = []
    for done in run_due(replace(workshop.installation, policy=policy), threading.Event(), expiry=False):
        begun.append(done.action.kind)
        if done.action.kind is ActionKind.PRUNE:
            assert done.error is None
            later(workshop, monkeypatch, hours=2)
    assert begun.count(ActionKind.PRUNE) == 1


def test_that_holds_for_a_pass_for_some_sources_too(workshop: Any, monkeypatch: Any) -> None:
    """Two sources whose first tests wait: the window closes over the first, and the second one stays untested."""
    names = list(workshop.installation.policy.sources)[:2]
    for name in names:
        protect(workshop.installation, name)
    begin = clock.now().hour * 60 + clock.now().minute
    policy = replace(workshop.installation.policy, **in_windows(workshop, Window(begin, (begin + 60) % 1440)))
    tested = []
    installation = replace(workshop.installation, policy=policy)
    for done in run_due(installation, threading.Event(), expiry=False, sources=names):
        if done.action.kind is ActionKind.RESTORE_TEST:
            tested.append(done.action.source)
            later(workshop, monkeypatch, hours=2)
    assert len(tested) == 1


class Sleeping(threading.Event):
    """Tells when a worker has slept so often in a row that nothing else is about to be planned."""

    count = 0
    sleeps: threading.Event

    def wait(self, timeout: float | None = None) -> bool:
        if threading.current_thread() is not threading.main_thread():
            self.count += 1
            if self.count == 20:
                self.sleeps.set()
        return super().wait(timeout)


def test_a_worker_that_stays_sees_its_window_open(workshop: Any, monkeypatch: Any) -> None:
    """It does not sleep until it would look anyway, here in an hour: what waited begins as the window opens."""
    protect(workshop.installation, "documents")
    later(workshop, monkeypatch, days=8)
    opening = clock.now() + timedelta(minutes=30)
    begin = opening.hour * 60 + opening.minute
    policy = replace(workshop.installation.policy, **in_windows(workshop, Window(begin, (begin + 60) % 1440)))
    stop, idle, pruned = Sleeping(), threading.Event(), []
    stop.sleeps = idle
    for flow in (work_flow, desk):
        monkeypatch.setattr(flow, "LONGEST_SLEEP", timedelta(hours=1))

    def report(done: Any) -> None:
        if done.action.kind is ActionKind.PRUNE:
            pruned.append(clock.now())
            stop.set()

    installation = replace(workshop.installation, policy=policy)
    worker = threading.Thread(target=work_flow.work, args=(installation, stop, report))
    worker.start()
    try:
        assert idle.wait(120)
        assert not pruned
        later(workshop, monkeypatch, minutes=45)
        assert stop.wait(120)
    finally:
        stop.set()
        worker.join(60)
    assert pruned and pruned[0] > opening


def test_the_worker_reads_a_vault_in_the_parts_that_the_policy_says(workshop: Any, monkeypatch: Any) -> None:
    """Each run is a part, and the next goes on from there."""
    for _ in range(3):  # no pack alone is half of it
        (workshop.data / "files" / "more.bin").write_bytes(os.urandom(100_000))
        protect(workshop.installation, "documents")
    vaults = workshop.installation.policy.vaults
    parts = {"vaults": {name: replace(vault, read_part=Fraction(1, 2)) for name, vault in vaults.items()}}
    later(workshop, monkeypatch, days=4)
    assert len(performed(workshop, ActionKind.VERIFY, **parts)) == 3
    (first, *_) = workshop.catalog.evidence(kind="verify")
    figures = first.steps[0].figures
    assert first.passed and first.read_since is None
    assert 0 < figures["packs_read"] < figures["packs_stored"]
    later(workshop, monkeypatch, days=3)
    assert performed(workshop, ActionKind.VERIFY, **parts)
    known = workshop.catalog.facts(clock.now()).vaults["one"]
    assert known.read_since is not None


def test_a_vault_on_a_schedule_gets_all_it_lacks_when_its_time_has_come(workshop: Any, monkeypatch: Any) -> None:
    """A backup leaves it alone; at its time the points before the newest come too, the oldest first, each opened."""
    installation = scheduled(workshop)
    vaults = installation.policy.vaults
    first = protect(workshop.installation, "documents").backup.point
    points = []
    for number in range(3):
        (workshop.data / "files" / f"new-{number}").write_bytes(os.urandom(1000))
        done = protect(installation, "documents")
        assert [copy.vault for copy in done.copies] == ["two"] and not done.vault_problems
        points.append(done.backup.point.id)
    assert [each for each in performed(workshop, ActionKind.COPY, vaults=vaults) if each.action.vault == "three"] == []
    known = workshop.catalog.facts(clock.now()).sources["documents"].lags["three"]
    assert (known.point, known.behind) == (first.id, 3)
    later(workshop, monkeypatch, hours=12)
    wanted = [
        each
        for each in performed(workshop, ActionKind.COPY, vaults=vaults)
        if (each.action.source, each.action.vault) == ("documents", "three")
    ]
    assert [(each.error, each.summary) for each in wanted] == [(None, f"copied {points[-1]} and 2 before it to three")]
    there = {copy.point for copy in workshop.catalog.copies_in("three")}
    assert there >= {first.id, *points}
    assert workshop.catalog.facts(clock.now()).sources["documents"].lags["three"].behind == 0
    assert verify(installation, "three").passed


def test_a_point_dated_in_the_future_leaves_none_behind_that_came_after_it(workshop: Any, monkeypatch: Any) -> None:
    """A vault on a schedule has it; what was made once the clock was right comes there all the same."""
    installation = scheduled(workshop)

    def another(number: int) -> RecoveryPoint:
        (workshop.data / "files" / f"new-{number}").write_bytes(os.urandom(1000))
        return protect(installation, "documents").backup.point

    bring(installation, another(0), "three")
    with monkeypatch.context() as wrong:
        later(workshop, wrong, hours=6)
        bring(installation, another(1), "three")
    points = [another(number) for number in (2, 3)]
    assert [copy.point for copy in bring(installation, points[-1], "three")] == [point.id for point in points]


def test_what_arrives_on_a_schedule_was_opened_and_what_is_damaged_is_left_behind(
    workshop: Any, monkeypatch: Any
) -> None:
    """A point that no vault has whole does not keep the others from coming, and is told."""
    schedule = replace(workshop.installation.policy.vaults["three"], copies=parse_triggers("every 12 h"))
    vaults = {**workshop.installation.policy.vaults, "three": schedule}
    workshop.catalog.sync_policy(replace(workshop.installation.policy, vaults=vaults), b"", clock.now())
    protect(workshop.installation, "documents")
    sources = dict(workshop.installation.policy.sources)
    sources["documents"] = replace(sources["documents"], vaults=("one", "three"))
    policy = replace(workshop.installation.policy, vaults=vaults, sources=sources)
    installation = replace(workshop.installation, policy=policy)
    stored = workshop.vault_root("one")
    before = set(stored.rglob("data/*/*"))
    (workshop.data / "files" / "hurt").write_bytes(os.urandom(1000))
    hurt = protect(installation, "documents").backup.point
    packs = set(stored.rglob("data/*/*")) - before
    (workshop.data / "files" / "hurt").unlink()
    (workshop.data / "files" / "whole").write_bytes(os.urandom(1000))
    whole = protect(installation, "documents").backup.point
    for pack in packs:
        pack.chmod(0o600)
        pack.write_bytes(bytes(pack.stat().st_size))
    later(workshop, monkeypatch, hours=12)
    with pytest.raises(DamageError):
        bring(installation, workshop.catalog.point(whole.id), "three")
    there = {copy.point for copy in workshop.catalog.copies_in("three")}
    assert packs
    assert hurt.id not in there
    assert whole.id in there
