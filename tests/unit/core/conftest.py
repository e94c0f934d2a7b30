"""Builders of policies and facts, so that each test says only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import parse_cadence
from cto_backups.core.facts import CopyFacts, Facts, SourceFacts, TimedRestore, VaultFacts
from cto_backups.core.keeping import Hold
from cto_backups.core.model import ActionKind, Copy, Evidence, Fingerprint, Outcome, Problem, RecoveryPoint, Run, Rung
from cto_backups.core.plan import of_source
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)  # a Wednesday
FINGERPRINT = Fingerprint("files/1", {"content": "ab"}, {"files": 1})


class Build:
    """What tests are made of."""

    now = NOW

    def ago(self, **length):
        return NOW - timedelta(**length)

    def hold(self, point=None, **changes):
        return replace(Hold("h", "ledger", point, "case 4711", NOW, "bo"), **changes)

    def point(self, captured_at=NOW, *, id=None, incomplete=False, took=timedelta(minutes=1), **changes):
        problems = (Problem("/data/x", "permission", "not readable"),) if incomplete else ()
        point = RecoveryPoint(
            id=id or f"p-{captured_at:%Y%m%dT%H%M%S.%f}",
            source="ledger",
            kind="files",
            category="B",
            business="acme",
            started_at=captured_at,
            captured_at=captured_at,
            finished_at=captured_at + took,
            size_bytes=10,
            added_bytes=10,
            entry_count=1,
            root="r",
            paths=("/data",),
            fingerprint=FINGERPRINT,
            policy_digest="d",
            problems=problems,
        )
        return replace(point, **changes)

    def source(self, name="ledger", **changes):
        text = {"triggers": parse_triggers, "retention": parse_retention, "test_every": parse_cadence}
        for key, parse in text.items():
            if isinstance(changes.get(key), str):
                changes[key] = parse(changes[key])
        category = changes.pop("category", "B")
        source = SourcePolicy(
            name=name,
            kind="files",
            category=CATEGORIES[category] if isinstance(category, str) else category,
            triggers=parse_triggers("every 6 h"),
            retention=parse_retention("90 days"),
            test_every=timedelta(days=30),
            vaults=("near", "far"),
            owner="ada",
        )
        return replace(source, **changes)

    def vault(self, name, **changes):
        vault = VaultPolicy(name, f"file:/vaults/{name}", provider=f"provider-{name}", region="here", storage=name)
        return replace(vault, **{"off_site": name == "far", **changes})

    def policy(self, *sources, timezone="UTC", exclusions=(), vaults=None, prune_every=None):
        return Policy(
            business="acme",
            timezone=timezone,
            sources={source.name: source for source in sources or (self.source(),)},
            vaults={vault.name: vault for vault in vaults or (self.vault("near"), self.vault("far"))},
            categories=CATEGORIES,
            classes=CLASSES,
            exclusions=exclusions,
            digest="0123456789abcdef0123456789abcdef",
            prune_every=prune_every,
        )

    def copy(self, point, vault, **changes):
        return CopyFacts(Copy(point.id, vault, f"ref-{vault}", point.finished_at, 5), **changes)

    def run(self, action, started_at, outcome=Outcome.SUCCEEDED, *, took=timedelta(minutes=1), **changes):
        finished_at = None if outcome is Outcome.RUNNING else started_at + took
        run = Run(1, ActionKind(action), "ledger", None, None, started_at, finished_at, outcome)
        return replace(run, **changes)

    def runs(self, *runs):
        return {run.action: run for run in runs}

    def test(self, finished_at, *, passed=True, **changes):
        evidence = Evidence(
            id="e1",
            kind="restore_test",
            source="ledger",
            point="p",
            vault="near",
            started_at=finished_at - timedelta(minutes=1),
            finished_at=finished_at,
            passed=passed,
            rung=Rung.PROVEN if passed else Rung.STORED,
            steps=(),
            reason="" if passed else "checksum content differs",
        )
        return replace(evidence, **changes)

    def restore(self, seconds, size_bytes=10, entries=1, evidence="e1"):
        return TimedRestore(evidence, seconds, size_bytes, entries)

    def healthy(self, **changes):
        """A source whose newest point is an hour old, in both vaults, proven two days ago."""
        newest = changes.pop("newest", self.point(self.ago(hours=1)))
        proven = self.point(self.ago(days=2, hours=1))
        facts = SourceFacts(
            source="ledger",
            newest=newest,
            newest_any=newest,
            copies=(self.copy(newest, "near"), self.copy(newest, "far")) if newest else (),
            proven=proven,
            proven_at=self.ago(days=2),
            last_test=self.test(self.ago(days=2)),
            restores=tuple(self.restore(seconds) for seconds in (60, 50, 70)),
            point_count=9,
            first_seen=self.ago(days=60),
        )
        return replace(facts, **changes)

    def read_vaults(self, **changes):
        vault = VaultFacts("near", read_at=self.ago(days=1), read_passed=True, first_copy_at=self.ago(days=60))
        changes.setdefault("read_since", changes.get("read_at", vault.read_at))
        return {name: replace(vault, **{"vault": name, **changes}) for name in ("near", "far")}

    def next_due_at(self, policy, name, facts):
        """When the next action of a source is due; None when nothing is waited for."""
        actions = of_source(policy, policy.sources[name], facts, NOW)
        return min((action.due_at for action in actions), default=None)

    def facts(self, source=None, **changes):
        known = self.healthy() if source is None else source
        return replace(Facts(sources={known.source: known}, vaults=self.read_vaults()), **changes)


@pytest.fixture(scope="session")
def build():
    return Build()
