"""A plan pass looks at what is due or has changed; together with what waits, that is what a plan of everything says.

Policies, what happens, and clocks that jump both ways are whatever Hypothesis thinks of.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.keeping import Hold
from cto_backups.core.looks import EVERYTHING_WITHIN, IN_HAND, place_of
from cto_backups.core.model import Action, ActionKind, Outcome
from cto_backups.core.plan import EXPIRE_EVERY, due
from cto_backups.core.policy import Policy
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.windows import Window
from cto_backups.core.worker import WorkerPolicy
from cto_backups.flows.planning import plan

SOURCES = ("ledger", "books", "docs")
VAULTS = ("near", "far")
SECOND = timedelta(seconds=1)
MOST_SECONDS = 40 * 86_400

names = st.sampled_from(SOURCES)
policies = st.fixed_dictionaries(
    {
        "sources": st.dictionaries(
            names,
            st.tuples(
                st.sampled_from(["hourly", "daily at 02:00", "on change", "every 10 min", "0 3 * * 1-5"]),
                st.sampled_from(["90 days", "2 days", "2 versions", "1 day, 3 daily", "permanent"]),
                st.sampled_from([None, timedelta(days=30), timedelta(days=2)]),
            ),
            min_size=1,
        ),
        "windows": st.sampled_from([(), (Window(22 * 60, 6 * 60),), (Window(3 * 60, 3 * 60 + 30),)]),
        "prune": st.sampled_from([None, timedelta(days=1), timedelta(days=7)]),
        "part": st.sampled_from([Fraction(1), Fraction(1, 7)]),
        "copied": st.sampled_from([(), parse_triggers("daily at 05:00")]),
        "checks": st.sampled_from([(), parse_triggers("weekly")]),
    }
)
outcomes = st.sampled_from(list(Outcome))
events = st.one_of(
    st.tuples(st.just("time"), st.integers(1, 3 * 3600)),
    st.tuples(st.just("time"), st.integers(3600, 5 * 86_400)),
    st.tuples(st.just("put back"), st.integers(1, 2 * 86_400)),
    st.tuples(st.just("policy"), policies),
    st.tuples(st.just("perform"), st.integers(0, 9), outcomes),
    st.tuples(st.just("backup"), names, st.integers(0, 3)),
    st.tuples(st.just("copy"), names, st.sampled_from(VAULTS)),
    st.tuples(st.just("test"), names, st.booleans()),
    st.tuples(st.just("read"), st.sampled_from(VAULTS), st.booleans()),
    st.tuples(st.just("confirm"), names),
    st.tuples(st.just("hold"), names),
    st.tuples(st.just("release")),
    st.tuples(st.just("run"), names, st.sampled_from(list(ActionKind)), outcomes),
    st.tuples(st.just("end"), outcomes),
    st.tuples(st.just("killed")),
)


class World:
    """A catalog in which things happen, and a worker that plans as it changes."""

    def __init__(self, build: Any, catalog: Catalog, policy: Policy) -> None:
        self.build, self.catalog, self.now = build, catalog, build.now
        self.numbers = count(1)
        self.waiting: dict[str, Action] = {}
        self.looked: dict[str, datetime] = {}
        self.running: list[int] = []
        self.holds: list[str] = []
        self.expiring: dict[str, datetime] = {}
        catalog.sync_policy(build.policy(*map(build.source, SOURCES)), b"", self.now)  # the catalog knows all of them
        self.take(policy)

    def take(self, policy: Policy) -> None:
        self.policy = policy
        self.catalog.sync_policy(policy, b"", self.now)
        self.waiting, self.looked = {}, {}

    def happen(self, event: tuple[Any, ...]) -> None:
        what, *given = event
        self.now += SECOND
        getattr(self, f"_{what.replace(' ', '_')}")(*given)

    # -- what happens

    def _time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _put_back(self, seconds: int) -> None:
        self.now -= timedelta(seconds=seconds)
        self.expiring = {}

    def _policy(self, said: dict[str, Any]) -> None:
        self.take(made(self.build, said, next(self.numbers)))
        self.expiring = {}

    def _backup(self, source: str, seconds: int) -> str:
        number = next(self.numbers)
        name = f"{source}-{number:06}"
        captured = self.now - timedelta(seconds=seconds)
        point = self.build.point(name, captured, source=source, finished_at=self.now)
        self.catalog.add_point_with_copy(point, self.build.copy(name, "near", self.now))
        return name

    def _copy(self, source: str, vault: str) -> None:
        if (point := self.catalog.latest(source)) is not None:
            self.catalog.add_copy(self.build.copy(point.id, vault, self.now))

    def _test(self, source: str, passed: bool) -> None:
        if (point := self.catalog.latest(source)) is not None:
            name = f"e{next(self.numbers)}"
            self.catalog.add_evidence(self.build.test(name, point.id, self.now, source=source, passed=passed))

    def _read(self, vault: str, passed: bool) -> None:
        self.catalog.add_evidence(self.build.reading(f"e{next(self.numbers)}", vault, self.now, passed=passed))

    def _confirm(self, source: str) -> None:
        self.catalog.confirm(source, self.now)

    def _hold(self, source: str) -> None:
        name = f"h{next(self.numbers):06}"
        self.catalog.place_hold(Hold(name, source, None, "a trial", self.now, "ada"), self.build.key)
        self.holds.append(name)

    def _release(self) -> None:
        if self.holds:
            name = self.holds.pop()
            self.catalog.release_hold(name, by="ada", because="over", signer=self.build.key, now=self.now)

    def _run(
        self, source: str | None, kind: ActionKind, outcome: Outcome, vault: str | None = None, point: str | None = None
    ) -> None:
        begun = self.catalog.start_run(kind, source=source, vault=vault, point=point, now=self.now, pid=1, host="host")
        number = begun.run
        self.now += SECOND
        if outcome is Outcome.RUNNING:
            self.running.append(number)
        else:
            self.catalog.finish_run(number, outcome=outcome, now=self.now)

    def _end(self, outcome: Outcome) -> None:
        if self.running and outcome is not Outcome.RUNNING:
            self.catalog.finish_run(self.running.pop(), outcome=outcome, now=self.now)

    def _killed(self) -> None:
        self.catalog.interrupt_dead_runs("host", lambda _pid: False, self.now)
        self.running = []

    def _perform(self, number: int, outcome: Outcome) -> None:
        """Do one of the actions that wait."""
        if not self.waiting:
            return
        action = list(self.waiting.values())[number % len(self.waiting)]
        self._run(action.source, action.kind, outcome, action.vault, action.point)
        if outcome is not Outcome.SUCCEEDED:
            return
        match action.kind:
            case ActionKind.BACKUP:
                self._backup(action.source or "", 0)
            case ActionKind.COPY:
                self._copy(action.source or "", action.vault or "")
            case ActionKind.RESTORE_TEST:
                self._test(action.source or "", True)
            case ActionKind.VERIFY:
                self._read(action.vault or "", True)
            case ActionKind.EXPIRE:
                for point in self.catalog.points(action.source)[2:]:
                    self.catalog.expire_point(point.id, self.now, ["old"], self.build.key)

    # -- what a worker does

    def plan(self) -> None:
        stale = [
            place_of(action)
            for action in self.waiting.values()
            if self.now - self.looked.get(place_of(action).key, self.build.ago(days=999)) >= IN_HAND
            or self.now < self.looked[place_of(action).key]
        ]
        found = plan(self.policy, self.catalog, self.now, also=stale)
        seen = {each.place.key for each in found.looked}
        kept = {key: action for key, action in self.waiting.items() if place_of(action).key not in seen}
        self.waiting = {**kept, **{action.key: action for action in found.due}}
        self.looked.update(dict.fromkeys(seen, self.now))


def made(build: Any, said: dict[str, Any], number: int) -> Policy:
    sources = [
        build.source(name, triggers=parse_triggers(triggers), retention=parse_retention(kept), test_every=every)
        for name, (triggers, kept, every) in said["sources"].items()
    ]
    policy: Policy = build.policy(*sources, digest=f"digest {number:09}")
    near = replace(policy.vaults["near"], read_part=said["part"], checks=said["checks"])
    far = replace(policy.vaults["far"], copies=said["copied"])
    return replace(
        policy,
        vaults={"near": near, "far": far},
        prune_every=said["prune"],
        timezone="Europe/Berlin",
        worker=WorkerPolicy(heavy_work=said["windows"]),
    )


def known(actions: Iterator[Action] | tuple[Action, ...]) -> set[tuple[Any, ...]]:
    """What tells actions apart; of which vault a test is made, whoever makes it chooses anew."""
    tests = ActionKind.RESTORE_TEST
    return {(each.kind, each.source, None if each.kind is tests else each.vault, each.point) for each in actions}


@pytest.fixture(scope="module")
def blank(empty_catalog: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty catalog."""
    path = tmp_path_factory.mktemp("blank") / "catalog.db"
    path.write_bytes(empty_catalog)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies, st.lists(events, min_size=5, max_size=30))
def test_what_waits_after_a_pass_is_what_a_plan_of_everything_says(
    build: Any,
    blank: Path,
    said: dict[str, Any],
    events: list[tuple[Any, ...]],
) -> None:
    path = blank.with_name("used.db")
    shutil.copyfile(blank, path)
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        world = World(build, catalog, made(build, said, 0))
        for event in events:
            world.happen(event)
            world.plan()
            agree(world)


def agree(world: World) -> None:
    """All that is due waits, and nothing else; points that retention lets go may stay for a day."""
    facts = world.catalog.facts(world.now, kept_points=True)
    wanted, waits = known(due(world.policy, facts, world.now)), known(tuple(world.waiting.values()))
    assert waits <= wanted, waits - wanted
    missing = wanted - waits
    assert {kind for kind, *_ in missing} <= {ActionKind.EXPIRE}, missing
    late = {source for _, source, *_ in missing}
    world.expiring = {source: world.expiring.get(source, world.now) for source in late}
    assert all(world.now - since < EXPIRE_EVERY for since in world.expiring.values())


@pytest.fixture
def world(build: Any, tmp_path: Path, path: Path) -> Iterator[World]:
    weekly = parse_triggers("weekly")
    sources = (build.source(f"s{number:03}", triggers=weekly) for number in range(50))
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        yield World(build, catalog, build.policy(*sources))


def test_a_pass_looks_at_so_many_and_the_next_at_the_others(world: World) -> None:
    seen: set[str] = set()
    for _ in range(6):
        found = plan(world.policy, world.catalog, world.now, limit=10, at_leisure=5)
        assert len(found.looked) <= 15
        seen.update(each.place.key for each in found.looked)
    assert len(seen) == 52
    assert plan(world.policy, world.catalog, world.now).looked == ()


def test_who_begins_takes_over_what_others_had_in_hand(world: World) -> None:
    policy = world.policy
    first = plan(policy, world.catalog, world.now)
    assert len(first.due) == 50
    assert plan(policy, world.catalog, world.now).due == ()
    assert known(plan(policy, world.catalog, world.now, take_over=True).due) == known(first.due)
    assert known(plan(policy, world.catalog, world.now + IN_HAND).due) == known(first.due), "or after a while"


def test_what_changed_unseen_is_found_within_the_hour(world: World) -> None:
    """Whatever writes past the catalog: its facts are looked at all the same."""
    for name in world.policy.sources:
        world._backup(name, 0)
    plan(world.policy, world.catalog, world.now)
    with world.catalog._writing() as connection:
        connection.execute("UPDATE due_times SET next_due_at = NULL")
        connection.execute("UPDATE points SET expired_at = captured_at WHERE source = 's007'")
    assert plan(world.policy, world.catalog, world.now + EVERYTHING_WITHIN - 2 * SECOND).due == ()
    found = plan(world.policy, world.catalog, world.now + EVERYTHING_WITHIN)
    assert [action.source for action in found.due if action.kind is ActionKind.BACKUP] == ["s007"]


def test_a_pass_reads_kept_points_only_where_one_may_be_too_old(world: World, monkeypatch: Any) -> None:
    asked: list[tuple[tuple[str, ...], bool]] = []
    reading = Catalog.facts

    def facts(catalog: Catalog, now: datetime, sources: Any, *, kept_points: bool = False, **other: Any) -> Any:
        asked.append((tuple(sources), kept_points))
        return reading(catalog, now, sources, kept_points=kept_points, **other)

    monkeypatch.setattr(Catalog, "facts", facts)
    old, world.now = world.now, world.now - timedelta(days=200)
    for name in ("s001", "s002", "s003"):
        world._backup(name, 0)
    world.now = old - timedelta(days=100)
    world._backup("s001", 0)
    world.now = old
    world._backup("s001", 0)
    found = plan(world.policy, world.catalog, world.now)
    assert [names for names, kept in asked if kept] == [("s001", "s002", "s003")]
    assert [action.source for action in found.due if action.kind is ActionKind.EXPIRE] == ["s001"]
    asked.clear()
    plan(world.policy, world.catalog, world.now + IN_HAND)
    assert [names for names, kept in asked if kept] == [("s001",)]
