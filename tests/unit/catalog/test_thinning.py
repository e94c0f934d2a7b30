"""Runs that are long past leave the catalog, and nothing that is known of anything is another thereby."""

import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.catalog import thinning
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.retries import CRASH

DAY = timedelta(days=1)
BACKUP, COPY = ActionKind.BACKUP, ActionKind.COPY

runs = st.tuples(
    st.sampled_from([("ledger", None), ("ledger", "near"), ("books", "far"), (None, "near"), (None, "far")]),
    st.sampled_from([BACKUP, COPY, ActionKind.VERIFY, ActionKind.RESTORE_TEST]),
    st.sampled_from(list(Outcome)),
    st.booleans(),
)


def thin(catalog: Catalog, before: datetime) -> None:
    last = catalog.thin_runs(before)
    while last is not None:
        last = catalog.thin_runs(before, last)


def begun(catalog: Catalog) -> list[int]:
    return [run.id for run in reversed(catalog.runs(limit=9999))]


def known(catalog: Catalog, now: datetime) -> Any:
    """All that is told of runs."""
    with catalog.reading() as connection:
        view = [tuple(row) for row in connection.execute("SELECT source, status FROM backup_status ORDER BY source")]
    return replace(catalog.facts(now), heartbeats=()), view


def test_what_went_well_again_since_is_dropped_once_it_is_old(build: Any, catalog: Catalog) -> None:
    for day in range(10):
        build.run(catalog, BACKUP, started_at=build.ago(days=10 - day))
    thin(catalog, build.ago(days=4))
    assert begun(catalog) == [7, 8, 9, 10]
    thin(catalog, build.now)
    assert begun(catalog) == [10], "the last one stays, however old it is"


def test_what_has_failed_since_it_went_well_last_stays(build: Any, catalog: Catalog) -> None:
    outcomes = [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.FAILED]
    for outcome in outcomes:
        build.run(catalog, COPY, outcome, vault="near", started_at=build.ago(days=9))
    thin(catalog, build.now)
    assert begun(catalog) == [3, 4, 5]
    assert catalog.facts(build.now).sources["ledger"].failures[COPY] == 2


def test_what_stays_with_a_reason_of_its_own(build: Any, catalog: Catalog) -> None:
    """What runs, whatever it says; and a backup that broke off, which tells what is left of it in a vault."""
    build.run(catalog, BACKUP, Outcome.FAILED, point="p1", started_at=build.ago(days=9))
    build.run(catalog, BACKUP, Outcome.INTERRUPTED, point="p2", started_at=build.ago(days=9))
    build.run(catalog, ActionKind.VERIFY, Outcome.RUNNING, source=None, vault="near", started_at=build.ago(days=9))
    for action, place in ((BACKUP, {}), (ActionKind.VERIFY, {"source": None, "vault": "near"})):
        build.run(catalog, action, started_at=build.ago(days=1), **place)
    thin(catalog, build.now)
    assert begun(catalog) == [1, 2, 3, 4, 5]


def test_very_many_are_looked_at_in_turn(build: Any, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "AT_ONCE", 3)
    for day in range(10):
        build.run(catalog, BACKUP, started_at=build.ago(days=10 - day))
    last = catalog.thin_runs(build.ago(days=4))
    assert (last, begun(catalog)[0]) == (3, 4)
    thin(catalog, build.ago(days=4))
    assert begun(catalog) == [7, 8, 9, 10]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(runs, max_size=25), st.integers(0, 30))
def test_nothing_that_is_known_is_another_thereby(
    build: Any, empty_catalog: bytes, tmp_path_factory: pytest.TempPathFactory, said: list[Any], days: int
) -> None:
    path = tmp_path_factory.mktemp("thinned") / "catalog.db"
    path.write_bytes(empty_catalog)
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        catalog.sync_policy(build.policy(build.source("ledger"), build.source("books")), b"", build.now)
        for number, ((source, vault), action, outcome, crashed) in enumerate(said):
            at = build.ago(days=30 - number)
            asked = {"source": source, "vault": vault, "point": None, "now": at, "pid": 1, "host": "host"}
            run = catalog.start_run(action, **asked).run
            if outcome is not Outcome.RUNNING:
                catalog.finish_run(run, outcome=outcome, now=at, error_code=CRASH if crashed else "")
        before = known(catalog, build.now)
        thin(catalog, build.ago(days=days))
        assert known(catalog, build.now) == before
    shutil.rmtree(path.parent)
