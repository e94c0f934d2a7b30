"""A fleet in the catalog: which host has what, who plans for all, and what the dead had begun."""

from datetime import timedelta

import pytest

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.lanes import Homes
from cto_backups.core.model import Action, ActionKind, Outcome

MINUTE = timedelta(minutes=1)
ALL = (("ledger", "app"), ("near", "far"))


@pytest.fixture
def shared(server_url, build):
    """A catalog on a server, where a fleet can come together."""
    with Catalog.open(server_url, now=build.now) as catalog:
        catalog.sync_policy(build.policy(build.source("ledger"), build.source("app")), b"the policy", build.now)
        yield catalog


def test_a_file_is_of_one_host(path, build):
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        catalog.sync_policy(build.policy(), b"the policy", build.now)
        catalog.fleet.adopt("laptop", *ALL)
        assert not catalog.fleet.is_one
        assert catalog.fleet.homes() == Homes()


def test_the_first_that_asks_has_what_no_host_had(shared):
    shared.fleet.adopt("laptop", *ALL)
    shared.fleet.adopt("other", *ALL)
    assert shared.fleet.homes() == Homes(
        dict.fromkeys(("ledger", "app"), "laptop"), dict.fromkeys(("near", "far"), "laptop")
    )


def test_what_is_not_there_stays_free_for_a_host_that_has_it(shared):
    shared.fleet.adopt("laptop", ["ledger"], ["near"])
    assert shared.fleet.homes() == Homes({"ledger": "laptop"}, {"near": "laptop"})
    shared.fleet.adopt("web1", *ALL)
    assert shared.fleet.homes() == Homes({"ledger": "laptop", "app": "web1"}, {"near": "laptop", "far": "web1"})


def test_who_backed_a_source_up_last_has_it_and_the_folder_that_it_lies_in(shared, build):
    for host in ("former", "laptop"):
        build.run(shared, ActionKind.BACKUP, point=host, host=host)
        shared.add_point_with_copy(build.point(host), build.copy(host, "near"))
    build.run(shared, ActionKind.VERIFY, source=None, vault="far", host="attic")
    shared.fleet.adopt("asks-first", *ALL)
    assert shared.fleet.homes() == Homes({"ledger": "laptop", "app": "asks-first"}, {"near": "laptop", "far": "attic"})


def test_a_new_policy_leaves_a_source_where_it_is(shared, build):
    shared.fleet.adopt("laptop", *ALL)
    shared.sync_policy(build.policy(build.source(vaults=("near",)), digest="d2"), b"another", build.now)
    shared.fleet.adopt("other", *ALL)
    assert shared.fleet.homes().sources["ledger"] == "laptop"


def test_one_leads_at_a_time_and_another_one_once_it_has_given_no_sign(catalog, build):
    lead = catalog.fleet.lead
    assert lead("planner", "one", build.now, MINUTE)
    assert not lead("planner", "other", build.now + MINUTE / 2, MINUTE)
    assert lead("planner", "one", build.now + MINUTE / 2, MINUTE)
    assert not lead("planner", "other", build.now + MINUTE, MINUTE)
    assert lead("planner", "other", build.now + 1.5 * MINUTE, MINUTE)
    assert not lead("planner", "one", build.now + 1.6 * MINUTE, MINUTE)
    assert lead("of another policy", "one", build.now, MINUTE)


def test_the_lead_of_a_former_policy_is_forgotten(catalog, build):
    catalog.fleet.lead("of a former policy", "one", build.now, MINUTE)
    catalog.fleet.lead("planner", "one", build.now + timedelta(days=2), MINUTE)
    with catalog.reading() as connection:
        assert connection.scalars("SELECT name FROM leases") == ["planner"]


def test_who_goes_gives_the_lead_back(catalog, build):
    catalog.fleet.lead("planner", "one", build.now, MINUTE)
    catalog.fleet.yield_lead("planner", "other")
    assert not catalog.fleet.lead("planner", "other", build.now, MINUTE)
    catalog.fleet.yield_lead("planner", "one")
    assert catalog.fleet.lead("planner", "other", build.now, MINUTE)


def test_a_lead_that_was_taken_with_a_wrong_clock_holds_nobody_up(catalog, build):
    catalog.fleet.lead("planner", "one", build.now + timedelta(hours=5), MINUTE)
    assert catalog.fleet.lead("planner", "other", build.now, MINUTE)


def test_what_the_dead_were_at_is_ended_and_nothing_else(catalog, build):
    for kind, source, vault in (
        (ActionKind.BACKUP, "ledger", None),
        (ActionKind.COPY, "ledger", "far"),
        (ActionKind.COPY, "ledger", "near"),
        (ActionKind.VERIFY, None, "far"),
    ):
        build.run(catalog, kind, Outcome.RUNNING, source=source, vault=vault)
    for kind, source, vault in (
        (ActionKind.BACKUP, "ledger", None),
        (ActionKind.COPY, "ledger", "far"),
        (ActionKind.VERIFY, None, "near"),
    ):
        catalog.fleet.interrupt(Action(kind, "key", "because", build.now, source, vault), build.now)
    ended = {(run.action, run.vault): run.outcome for run in catalog.runs()}
    assert ended == {
        (ActionKind.BACKUP, None): Outcome.INTERRUPTED,
        (ActionKind.COPY, "far"): Outcome.INTERRUPTED,
        (ActionKind.COPY, "near"): Outcome.RUNNING,
        (ActionKind.VERIFY, "far"): Outcome.RUNNING,
    }
