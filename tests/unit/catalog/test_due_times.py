"""When each source and vault is due: what is looked at, and what has everything that changes looked at again."""

import ast
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import cto_backups.catalog
from cto_backups.core.keeping import Hold
from cto_backups.core.looks import EVERYTHING_WITHIN, Looked, Place
from cto_backups.core.model import ActionKind, Outcome, TakenPoint
from cto_backups.core.retention import Retention
from cto_backups.core.streams import StreamFacts

HOUR = timedelta(hours=1)
LEDGER, NEAR, FAR = Place("ledger"), Place("near", is_vault=True), Place("far", is_vault=True)


def keys(places):
    return [place.key for place in places]


@pytest.fixture
def seen(catalog, build):
    """Gives what is to be looked at, at a moment."""

    def seen(now=build.now, *, limit=99, at_leisure=99, **also):
        return sorted(keys(catalog.due_times.to_look_at(now, limit=limit, at_leisure=at_leisure, **also)))

    return seen


@pytest.fixture
def settle(catalog, build):
    """Looks at all there is, and finds it due at a moment (None: never)."""

    def settle(due_at=None, now=build.now, expiry_at=None):
        places = catalog.due_times.to_look_at(now, limit=999, at_leisure=999, also=(LEDGER, NEAR, FAR))
        catalog.due_times.note([Looked(place, (), due_at, expiry_at) for place in places], now)
        return places

    return settle


def test_what_policy_names_is_looked_at_at_first(seen):
    assert seen() == ["source:ledger", "vault:far", "vault:near"]


def test_what_was_looked_at_is_looked_at_again_when_it_is_due(build, catalog, seen, settle):
    settle(build.now + HOUR / 2)
    assert seen() == []
    assert catalog.due_times.next_look(build.now) == build.now + HOUR / 2
    assert seen(build.now + HOUR / 2 - timedelta(microseconds=1)) == []
    assert len(seen(build.now + HOUR / 2)) == 3
    assert len(seen(build.now, until=build.now + HOUR / 2)) == 3


def test_everything_is_looked_at_now_and_then(build, catalog, seen, settle):
    settle()
    last = build.now + EVERYTHING_WITHIN
    assert catalog.due_times.next_look(build.now) == last
    assert seen(last - timedelta(microseconds=1)) == []
    assert len(seen(last)) == 3
    assert len(seen(last, at_leisure=2)) == 2


def test_what_was_looked_at_in_the_future_is_looked_at_again(build, catalog, seen, settle):
    settle(build.now + 9 * HOUR)
    before = build.now - timedelta(seconds=1)
    assert len(seen(before)) == 3
    assert catalog.due_times.next_look(before) == before


def test_what_is_due_longest_comes_first(build, catalog, seen, settle):
    places = settle(build.now + HOUR)
    catalog.due_times.note(
        [Looked(place, (), build.now + number * HOUR / 9) for number, place in enumerate(places, 1)], build.now
    )
    assert seen(build.now + HOUR / 2, limit=1) == [places[0].key]


def test_what_is_named_is_looked_at_once(build, catalog, seen, settle):
    settle()
    assert seen(also=[NEAR, LEDGER, Place("unknown")]) == ["source:ledger", "vault:near"]
    catalog.confirm("ledger", build.now)
    assert seen(also=[LEDGER]) == ["source:ledger"]


def test_an_empty_catalog_has_nothing_to_look_at(open_catalog, build):
    catalog = open_catalog()
    assert catalog.due_times.next_look(build.now) is None
    assert catalog.due_times.to_look_at(build.now, limit=9, at_leisure=9) == ()
    catalog.due_times.note([], build.now)


def test_what_changes_while_somebody_looks_is_looked_at_again(build, catalog, seen):
    places = catalog.due_times.to_look_at(build.now, limit=99, at_leisure=99)
    catalog.confirm("ledger", build.now)
    catalog.due_times.note([Looked(place, (), None) for place in places], build.now)
    assert seen() == ["source:ledger"]


def test_another_policy_has_everything_looked_at_beside_what_is_due(build, catalog, seen, settle):
    settle(build.now + 9 * HOUR, expiry_at=build.now + HOUR)
    catalog.sync_policy(build.policy(digest="d1"), b"the policy", build.now)
    assert seen() == []
    books = build.source("books", vaults=("near", "new"))
    catalog.sync_policy(build.policy(build.source(), books, digest="d2"), b"another", build.now)
    assert seen() == ["source:books", "source:ledger", "vault:far", "vault:near"]
    assert seen(at_leisure=0) == ["source:books"]
    (ledger,) = [
        place for place in catalog.due_times.to_look_at(build.now, limit=9, at_leisure=9) if place.key == LEDGER.key
    ]
    assert ledger.expiry_at < build.now, "its kept points as well"


def test_what_policy_names_no_more_is_not_looked_at(build, catalog, seen):
    catalog.sync_policy(build.policy(build.source("books"), digest="d2"), b"another", build.now)
    assert seen() == ["source:books", "vault:far", "vault:near"]
    catalog.takeover.activate(["ledger"])
    assert "source:ledger" in seen()


# -- what changes


def backup_of(build, catalog):
    catalog.add_point_with_copy(build.point("p1"), build.copy("p1"))
    catalog.add_point_with_copy(build.point("p2", suspicions=("it shrank",)), build.copy("p2"))


def stuck(build, catalog):
    facts = StreamFacts("ledger", token=catalog.streams.lease("ledger", "me", "here", 1, build.now, bool))
    return replace(facts, stuck_at="p1", stuck_since=build.now)


def held(build):
    return Hold("h1", "ledger", None, "a trial", build.now, "ada")


CHANGES = {
    "a run begins": (
        lambda build, catalog: None,
        lambda build, catalog, _: build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING),
        LEDGER,
    ),
    "a run ends": (
        lambda build, catalog: build.run(catalog, ActionKind.COPY, Outcome.RUNNING, vault="far"),
        lambda build, catalog, run: catalog.finish_run(run, outcome=Outcome.FAILED, now=build.now),
        LEDGER,
    ),
    "a run of a vault begins": (
        lambda build, catalog: None,
        lambda build, catalog, _: build.run(catalog, ActionKind.PRUNE, Outcome.RUNNING, source=None, vault="near"),
        NEAR,
    ),
    "a run of a vault ends": (
        lambda build, catalog: build.run(catalog, ActionKind.PRUNE, Outcome.RUNNING, source=None, vault="near"),
        lambda build, catalog, run: catalog.finish_run(run, outcome=Outcome.FAILED, now=build.now),
        NEAR,
    ),
    "a process is gone": (
        lambda build, catalog: build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING),
        lambda build, catalog, _: catalog.interrupt_dead_runs("host", lambda _pid: False, build.now),
        LEDGER,
    ),
    "a crash is noted": (
        lambda build, catalog: build.run(catalog, ActionKind.BACKUP, Outcome.RUNNING) and catalog.runs()[0],
        lambda build, catalog, run: catalog.note_crash(
            replace(run, outcome=Outcome.FAILED, finished_at=build.now), "host", 1
        ),
        LEDGER,
    ),
    "a crash is noted that began no run": (
        lambda build, catalog: (build.run(catalog, ActionKind.BACKUP), catalog.runs()[0])[1],
        lambda build, catalog, run: catalog.note_crash(
            replace(run, outcome=Outcome.FAILED, finished_at=build.now, started_at=build.now + HOUR), "host", 1
        ),
        LEDGER,
    ),
    "a point is made": (lambda build, catalog: None, lambda build, catalog, _: backup_of(build, catalog), LEDGER),
    "a copy is made": (backup_of, lambda build, catalog, _: catalog.add_copy(build.copy("p1", "far")), LEDGER),
    "the first copy comes to a vault": (
        backup_of,
        lambda build, catalog, _: catalog.add_copy(build.copy("p1", "far")),
        FAR,
    ),
    "a copy is made anew": (
        backup_of,
        lambda build, catalog, _: catalog.add_copy(build.copy("p1", reference="other")),
        LEDGER,
    ),
    "a copy is gone": (backup_of, lambda build, catalog, _: catalog.forget_copy("p1", "near"), LEDGER),
    "a test is made": (
        backup_of,
        lambda build, catalog, _: catalog.add_evidence(build.test("e1", "p1", passed=False)),
        LEDGER,
    ),
    "a vault is read": (backup_of, lambda build, catalog, _: catalog.add_evidence(build.reading("e1")), NEAR),
    "nothing has changed": (backup_of, lambda build, catalog, _: catalog.confirm("ledger", build.now), LEDGER),
    "a point expires": (
        backup_of,
        lambda build, catalog, _: catalog.expire_point("p1", build.now, ["old"], build.key),
        LEDGER,
    ),
    "a hold is placed": (backup_of, lambda build, catalog, _: catalog.place_hold(held(build), build.key), LEDGER),
    "a hold is released": (
        lambda build, catalog: catalog.place_hold(held(build), build.key),
        lambda build, catalog, _: catalog.release_hold("h1", by="ada", because="over", signer=build.key, now=build.now),
        LEDGER,
    ),
    "a suspicion is cleared": (
        backup_of,
        lambda build, catalog, _: catalog.marks.clear("p2", by="ada", because="meant", signer=build.key, now=build.now),
        LEDGER,
    ),
    "a retention is another": (
        lambda build, catalog: catalog.retentions.note(build.policy(), build.key, "ada", build.now),
        lambda build, catalog, _: catalog.retentions.note(
            build.policy(build.source(retention=Retention(keep_for=9 * HOUR))), build.key, "ada", build.now + HOUR
        ),
        LEDGER,
    ),
    "a retention has waited": (
        lambda build, catalog: catalog.retentions.note(build.policy(), build.key, "ada", build.now),
        lambda build, catalog, _: catalog.retentions.settle("ledger", "90 days"),
        LEDGER,
    ),
    "a stream needs a point": (
        stuck,
        lambda build, catalog, facts: catalog.streams.report(facts, build.now),
        LEDGER,
    ),
    "records of a point are taken over": (
        lambda build, catalog: None,
        lambda build, catalog, _: catalog.takeover.take_points(
            [TakenPoint(build.point("p1"), (build.copy("p1"),))], build.now
        ),
        LEDGER,
    ),
}
KEPT = ("a hold is placed", "a hold is released", "a suspicion is cleared", "a retention is another")


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_looked_at_again(build, catalog, seen, settle, change):
    before, do, place = CHANGES[change]
    given = before(build, catalog)
    settle(build.now + 99 * HOUR, expiry_at=build.now + HOUR)
    assert seen() == []
    do(build, catalog, given)
    assert place.key in seen()
    found = catalog.due_times.to_look_at(build.now, limit=99, at_leisure=0)
    (looked,) = [each for each in found if each.key == place.key]
    if not place.is_vault:
        assert (looked.expiry_at != build.now + HOUR) is (change in KEPT or "retention" in change or "taken" in change)


def test_a_stream_that_goes_on_is_not_looked_at_with_each_report(build, catalog, seen, settle):
    facts = replace(stuck(build, catalog), stuck_at="", stuck_since=None)
    settle(build.now + HOUR)
    assert catalog.streams.report(replace(facts, reached_at=build.now), build.now)
    assert seen() == []


def test_a_copy_after_the_first_leaves_its_vault_alone(build, catalog, seen, settle):
    backup_of(build, catalog)
    settle(build.now + HOUR)
    catalog.add_point_with_copy(build.point("p3"), build.copy("p3"))
    assert seen() == ["source:ledger"]


FACTS = ("runs", "points", "copies", "evidence", "streams", "holds", "retentions")
_WRITES = re.compile(rf"(UPDATE|DELETE FROM|INSERT INTO)\s+({'|'.join(FACTS)})\b|insertion\(.({'|'.join(FACTS)})\b")
SILENT = {
    "streams.py:_write": "who writes a stream touches its source where its plan is another",
    "holdings.py:add_point": "counting the point touches its source",
    "holdings.py:drop_point": "counting the point touches its source",
    "retentions.py:note": "touches each source in the loop",
    "runs.py:note_crash": "ends or begins a run",
    "thinning.py:thin": "drops runs of which no fact is made",
}


def test_whoever_writes_what_plans_are_made_from_has_it_looked_at_again():
    """Each function of the catalog that writes such a table calls `due_times`, or says here why not."""
    folder, forgotten = Path(cto_backups.catalog.__file__).parent, []
    for file in folder.glob("*.py"):
        source = file.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                text = ast.get_source_segment(source, node) or ""
                if _WRITES.search(text) and "due_times." not in text:
                    forgotten.append(f"{file.name}:{node.name}")
    assert set(forgotten) <= set(SILENT), "these write facts, and nobody looks"
