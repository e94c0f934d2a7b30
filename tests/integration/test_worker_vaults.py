"""What the worker does to vaults on its own schedule: it prunes them, and reads them in parts."""

import os
import threading
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

from cto_backups import clock
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.flows.protect import protect
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
