"""What is wrong, without judging what is known to be well: the same as a judgement of everything says.

What happens, and clocks that jump both ways, are whatever Hypothesis thinks of.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.alerts import AlertPolicy, AlertRule, Trouble
from cto_backups.core.assurance import judge
from cto_backups.core.conditions import JUDGED_WITHIN, Scene, happenings
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.policy import Policy
from cto_backups.core.retries import CRASH
from cto_backups.flows import troubles

SOURCES, VAULTS = ("ledger", "books", "docs"), ("near", "far")
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
RULES = (
    AlertPolicy().rules,
    (
        AlertRule("soon", Trouble.NO_BACKUP, ("cto",), after=2 * HOUR),
        AlertRule("test-failed", Trouble.TEST_FAILED, ("cto",)),
    ),
)

names, vaults = st.sampled_from(SOURCES), st.sampled_from(VAULTS)
events = st.one_of(
    st.tuples(st.just("time"), st.integers(1, 2 * 3600)),
    st.tuples(st.just("time"), st.integers(3600, 3 * 86_400)),
    st.tuples(st.just("put back"), st.integers(1, 2 * 86_400)),
    st.tuples(st.just("policy"), st.sampled_from(RULES), st.sets(names, min_size=1)),
    st.tuples(st.just("backup"), names, st.sets(vaults), st.integers(-4000, 86_400), st.booleans()),
    st.tuples(st.just("copy"), names, vaults),
    st.tuples(st.just("forget"), names, vaults),
    st.tuples(st.just("expire"), names),
    st.tuples(st.just("clear"), names),
    st.tuples(st.just("confirm"), names),
    st.tuples(st.just("test"), names, st.booleans()),
    st.tuples(st.just("read"), vaults, st.booleans()),
    st.tuples(st.just("away"), st.sets(vaults)),
    st.tuples(st.just("run"), names, st.sampled_from(list(ActionKind)), st.sampled_from(list(Outcome)), st.booleans()),
    st.tuples(st.just("crash"), names),
)


class World:
    """A catalog in which things happen."""

    def __init__(self, build: Any, catalog: Catalog) -> None:
        self.build, self.catalog, self.now, self.numbers = build, catalog, build.now, count(1)
        self.away: dict[str, str] = {}
        self._policy(RULES[0], set(SOURCES))
        for source in SOURCES:
            self._backup(source, {"near", "far"}, 60, False)
            self._test(source, True)

    def happen(self, event: tuple[Any, ...]) -> None:
        what, *given = event
        self.now += SECOND
        getattr(self, f"_{what.replace(' ', '_')}")(*given)

    def _time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _put_back(self, seconds: int) -> None:
        self.now -= timedelta(seconds=seconds)

    def _policy(self, rules: tuple[AlertRule, ...], sources: set[str]) -> None:
        digest = f"digest {next(self.numbers):06}"
        policy: Policy = self.build.policy(*map(self.build.source, sorted(sources)), digest=digest)
        self.policy = replace(policy, alerts=AlertPolicy(rules=rules))
        self.catalog.sync_policy(self.policy, b"", self.now)

    def _backup(self, source: str, vaults: set[str], seconds: int, suspicious: bool) -> None:
        name = f"{source}-{next(self.numbers):06}"
        captured, why = self.now - timedelta(seconds=seconds), ("it shrank",) if suspicious else ()
        point = self.build.point(name, captured, source=source, finished_at=self.now, suspicions=why)
        self.catalog.add_point_with_copy(point, self.build.copy(name, "near", self.now))
        for vault in sorted(vaults - {"near"}):
            self.catalog.add_copy(self.build.copy(name, vault, self.now))

    def _copy(self, source: str, vault: str) -> None:
        if (point := self.catalog.latest(source)) is not None:
            self.catalog.add_copy(self.build.copy(point.id, vault, self.now))

    def _forget(self, source: str, vault: str) -> None:
        if (point := self.catalog.latest(source)) is not None:
            self.catalog.forget_copy(point.id, vault)

    def _expire(self, source: str) -> None:
        if (point := self.catalog.latest(source)) is not None:
            self.catalog.expire_point(point.id, self.now, ["old"], self.build.key)

    def _clear(self, source: str) -> None:
        if any(mark.source == source for mark in self.catalog.marks.listed()):
            self.catalog.marks.clear(source, by="ada", because="meant", signer=self.build.key, now=self.now)

    def _confirm(self, source: str) -> None:
        self.catalog.confirm(source, self.now)

    def _test(self, source: str, passed: bool) -> None:
        if (point := self.catalog.latest(source)) is not None:
            name = f"e{next(self.numbers)}"
            self.catalog.add_evidence(self.build.test(name, point.id, self.now, source=source, passed=passed))

    def _read(self, vault: str, passed: bool) -> None:
        self.catalog.add_evidence(self.build.reading(f"e{next(self.numbers)}", vault, self.now, passed=passed))

    def _away(self, vaults: set[str]) -> None:
        self.away = dict.fromkeys(vaults, "it is not mounted")

    def _run(self, source: str, kind: ActionKind, outcome: Outcome, crashed: bool = False) -> None:
        begun = self.catalog.start_run(kind, source=source, vault=None, point=None, now=self.now, pid=1, host="host")
        self.now += SECOND
        if outcome is not Outcome.RUNNING:
            code = CRASH if crashed else ""
            self.catalog.finish_run(begun.run, outcome=outcome, now=self.now, error_code=code)

    def _crash(self, source: str) -> None:
        self._run(source, ActionKind.BACKUP, Outcome.FAILED, True)

    def wrong(self) -> set[Any]:
        return set(troubles.of_sources(self.policy, self.catalog, self.away, self.now))

    def wrong_of_everything(self) -> set[Any]:
        facts = replace(self.catalog.facts(self.now), vaults_away=self.away, vaults={}, heartbeats=())
        facts = replace(facts, vaults=self.catalog.facts(self.now, ()).vaults)
        scene = Scene(self.policy, facts, judge(self.policy, facts, self.now), self.now)
        return {each for each in happenings(scene) if each.category is not None}


@pytest.fixture(scope="module")
def blank(empty_catalog: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty catalog."""
    path = tmp_path_factory.mktemp("blank") / "catalog.db"
    path.write_bytes(empty_catalog)
    return path


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events, min_size=5, max_size=30))
def test_what_is_wrong_is_what_a_judgement_of_everything_says(
    build: Any, blank: Path, events: list[tuple[Any, ...]]
) -> None:
    path = blank.with_name("used.db")
    shutil.copyfile(blank, path)
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        world = World(build, catalog)
        assert world.wrong() == world.wrong_of_everything()
        for event in events:
            world.happen(event)
            assert world.wrong() == world.wrong_of_everything()


@pytest.fixture
def world(build: Any, catalog: Catalog) -> World:
    return World(build, catalog)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The sources that were judged, in turn."""
    found: list[str] = []

    def noting(policy: Policy, facts: Any, now: datetime, sources: list[str]) -> Any:
        found.extend(sources)
        return judge(policy, facts, now, sources)

    monkeypatch.setattr(troubles, "judge", noting)
    yield found


def test_what_is_well_is_not_judged_again_before_something_changes(world: World, judged: list[str]) -> None:
    assert world.wrong() == set()
    assert sorted(judged) == sorted(SOURCES)
    judged.clear()
    world.happen(("time", 60))
    assert world.wrong() == set()
    assert judged == []
    world.happen(("confirm", "books"))
    assert world.wrong() == set()
    assert judged == ["books"]


def test_what_is_wrong_is_judged_each_time(world: World, judged: list[str]) -> None:
    world.happen(("test", "books", False))
    world.wrong()
    judged.clear()
    for _ in range(2):
        assert {each.subject for each in world.wrong()} == {"books"}
    assert judged == ["books", "books"]


def test_damage_in_a_vault_has_all_judged_that_have_copies_there(world: World) -> None:
    assert world.wrong() == set()
    world.happen(("read", "far", False))
    assert {each.subject for each in world.wrong()} == set(SOURCES)


def test_a_failed_test_that_vaults_which_are_away_have_hidden_is_told_when_they_are_back(world: World) -> None:
    world.happen(("test", "books", False))
    world.happen(("away", set(VAULTS)))
    assert world.wrong() == set(), "it is UNPROTECTED, which is the graver word"
    world.happen(("away", set()))
    assert {each.subject for each in world.wrong()} == {"books"}


def test_all_are_judged_within_the_hour_and_not_all_at_once(world: World, judged: list[str]) -> None:
    world.wrong()
    judged.clear()
    for _ in range(60):
        world.now += JUDGED_WITHIN / 60
        before = len(judged)
        world.wrong()
        assert len(judged) - before < len(SOURCES)
    assert set(judged) == set(SOURCES)


def test_what_changes_while_it_is_judged_is_judged_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*asked: Any) -> Any:
        found = judge(*asked)
        world.catalog.confirm("docs", world.now)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(troubles, "judge", meanwhile)
        world.wrong()
    assert [place.name for place in world.catalog.due_times.to_judge(world.now)] == ["docs"]
