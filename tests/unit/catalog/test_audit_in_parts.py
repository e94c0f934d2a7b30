"""An audit that is given its sources in parts says what one of all at once says: the same, in the same order.

What happened before it is whatever Hypothesis thinks of.
"""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.assurance import judge
from cto_backups.core.auditing import Auditing, audit, remembered
from cto_backups.core.controls import CONTROLS
from cto_backups.core.elsewhere import SAMPLE
from cto_backups.core.facts import Facts, SourceFacts, TimedRestore
from cto_backups.core.findings import Audited, AuditReport, ControlResult, Environment, Place
from cto_backups.core.model import Resource, Sample
from cto_backups.core.policy import Exclusion, Policy

from .test_troubles import SOURCES, World, blank, events

__all__ = ["blank"]
ELSEWHERE = (
    Sample(SAMPLE, {"program": "wal-g", "size_bytes": "7"}),
    Sample(f"{SAMPLE}: far", {"cipher": "", "holds": "yes"}),
)


def in_parts(policy: Policy, facts: Facts, world: World, environment: Environment, most: int) -> AuditReport:
    names, auditing = list(policy.sources), Auditing(policy, world.now, environment, points_of(world))
    for begin in range(0, len(names), most):
        part = names[begin : begin + most]
        of_part = {name: facts.sources[name] for name in part if name in facts.sources}
        some = replace(
            facts,
            sources=of_part,
            resources={name: found for name, found in facts.resources.items() if name in part},
            vanished={name: found for name, found in facts.vanished.items() if name in part},
            marks={name: found for name, found in facts.marks.items() if name in part},
        )
        auditing.add(some, judge(policy, some, world.now, part))
    slim = {name: remembered(known) for name, known in facts.sources.items()}
    return auditing.report(replace(facts, sources=slim, marks={}))


def points_of(world: World) -> Any:
    return lambda name: world.catalog.facts(world.now, [name], kept_points=True)


def found_of(world: World, inventories: list[set[int]]) -> None:
    """What was discovered in each source, now and before."""
    for number, resources in enumerate(inventories):
        found = {
            name: [
                Resource(f"files:/{name}/{each}", "files", f"/{name}/{each}", covered=each % 3 != 0)
                for each in sorted(resources)
            ]
            for name in (*SOURCES, "gone")[number % 2 :]
        }
        world.now += timedelta(hours=1)
        world.catalog.record_inventory({name: kept for name, kept in found.items() if name != "gone"}, world.now)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events, max_size=20), st.lists(st.sets(st.integers(0, 12)), max_size=3), st.booleans(), st.booleans())
def test_an_audit_in_parts_says_what_one_of_all_says(
    build: Any, blank: Path, events: list[Any], inventories: list[set[int]], looked: bool, kept_elsewhere: bool
) -> None:
    path = blank.with_name("audited.db")
    shutil.copyfile(blank, path)
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        world = World(build, catalog)
        for event in events:
            world.happen(event)
        found_of(world, inventories)
        exclusion = Exclusion("files:/books/*", "scratch", "ada", world.now + timedelta(days=1))
        policy = replace(world.policy, exclusions=(exclusion,))
        facts = replace(world.catalog.facts(world.now), vaults_away=world.away)
        if looked:
            facts = replace(facts, resources={**facts.resources, "": (Resource("files:/x", "files", "/x"),)})
        measured = {name: _measured(known) for name, known in facts.sources.items()}
        facts = replace(facts, sources=measured)
        if kept_elsewhere:
            facts = replace(facts, sources={name: _elsewhere(known) for name, known in facts.sources.items()})
        environment = Environment(
            unreachable={"books": "it is not there"},
            streams=tuple(policy.sources)[:1],
            sources={"books": (Place("/books", 1),)},
            vaults={"near": Place("/near", 1), "far": Place("/far", 2)},
            ciphers={"near": "a cipher"},
        )
        whole = audit(policy, facts, judge(policy, facts, world.now), world.now, environment, points_of(world))
        audited = Audited(policy, facts, judge(policy, facts, world.now), world.now, environment, points_of(world))
        assert whole.results == tuple(ControlResult(each, tuple(each.check(audited))) for each in CONTROLS)
        for most in (1, 2, 1000):
            parts = in_parts(policy, facts, world, environment, most)
            assert parts.results == whole.results
            assert parts.findings == whole.findings
            assert (parts.score, parts.scores, parts.counts) == (whole.score, whole.scores, whole.counts)


def _measured(known: SourceFacts) -> SourceFacts:
    """With a restore that took long, so that those of a category one after the other take too long."""
    return replace(known, restores=(TimedRestore("e1", 7200.0, 1000, 10),))


def _elsewhere(known: SourceFacts) -> SourceFacts:
    if known.newest is None:
        return known
    said = replace(known.newest.fingerprint, samples=ELSEWHERE)
    return replace(known, newest=replace(known.newest, fingerprint=said))
