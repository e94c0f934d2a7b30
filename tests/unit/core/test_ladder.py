"""What is known of each copy, since when, and by which evidence."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.ladder import Standing, ladders
from cto_backups.core.model import Rung
from cto_backups.core.policy import Policy

HOLDS, MISSING, FAILED, TOO_OLD = Standing.HOLDS, Standing.MISSING, Standing.FAILED, Standing.TOO_OLD


@pytest.fixture
def climb(build):
    """The ladders of a source in a situation given by its differences from a healthy one."""

    def climb(known=None, *, source=None, vaults=None):
        facts = build.facts(known)
        facts = facts if vaults is None else replace(facts, vaults=vaults)
        policy: Policy = build.policy(source or build.source())
        return ladders(policy, facts, "ledger", build.now)

    return climb


def with_copies(build, **changes):
    newest = build.point(build.ago(hours=1))
    return build.healthy(newest=newest, copies=(build.copy(newest, "near", **changes),))


def standings(ladder):
    return {step.rung.name.lower(): str(step.standing) for step in ladder.steps}


def test_a_source_of_which_nothing_is_known_has_no_ladder(build):
    assert ladders(build.policy(), Facts(), "ledger", build.now) == ()
    assert ladders(build.policy(), Facts(sources={"ledger": SourceFacts("ledger")}), "ledger", build.now) == ()


def test_each_rung_of_a_proven_copy_has_its_time_and_its_evidence(build, climb):
    read, tested = build.ago(days=3), build.ago(days=2)
    known = with_copies(
        build,
        read_at=read,
        read_passed=True,
        read_since=read,
        read_evidence="verify-1",
        tested_at=tested,
        test_passed=True,
        test_rung=Rung.PROVEN,
        test_evidence="test-1",
    )
    near = climb(known)[0]
    assert (near.point, near.vault, near.stored, near.rung) == (known.newest.id, "near", True, Rung.PROVEN)
    assert [(step.rung, step.standing, step.at, step.evidence) for step in near.steps] == [
        (Rung.DECLARED, HOLDS, None, "policy 0123456789ab"),
        (Rung.RECORDED, HOLDS, known.newest.finished_at, known.newest.id),
        (Rung.STORED, HOLDS, known.newest.finished_at, "ref-near"),
        (Rung.READ, HOLDS, read, "verify-1"),
        (Rung.RESTORED, HOLDS, tested, "test-1"),
        (Rung.PROVEN, HOLDS, tested, "test-1"),
    ]


def test_a_copy_that_policy_asks_for_and_that_is_not_there_is_told(build, climb):
    near, far = climb(with_copies(build))[:2]
    assert (far.vault, far.stored, far.rung) == ("far", False, Rung.RECORDED)
    assert standings(far) == {"declared": "holds", "recorded": "holds", "stored": "missing"}
    assert (near.stored, near.rung) == (True, Rung.STORED)
    assert standings(near)["read"] == standings(near)["proven"] == "missing"


def test_a_copy_in_a_vault_that_policy_names_no_longer_is_not_declared(build, climb):
    elsewhere = climb(with_copies(build), source=build.source(vaults=("far",)))[1]
    assert (elsewhere.vault, standings(elsewhere)["declared"]) == ("near", "missing")
    assert elsewhere.steps[3].due_at is None


def test_a_copy_whose_reading_found_damage_stands_on_recorded_however_well_it_was_tested(build, climb):
    known = with_copies(
        build,
        read_at=build.ago(hours=1),
        read_passed=False,
        read_evidence="verify-1",
        tested_at=build.ago(days=1),
        test_passed=True,
        test_rung=Rung.PROVEN,
    )
    near = climb(known)[0]
    assert (near.rung, near.steps[3].standing, near.steps[3].evidence) == (Rung.RECORDED, FAILED, "verify-1")


def test_what_was_read_only_in_part_shows_no_reading(build, climb):
    near = climb(with_copies(build, read_at=build.ago(hours=1), read_passed=True, read_evidence="verify-1"))[0]
    assert (near.steps[3].standing, near.steps[3].evidence) == (MISSING, None)


@pytest.mark.parametrize(
    ("rung", "restored", "proven", "stands"),
    [(Rung.STORED, FAILED, FAILED, Rung.STORED), (Rung.RESTORED, HOLDS, FAILED, Rung.RESTORED)],
)
def test_a_failed_test_fails_the_rungs_that_it_did_not_reach(build, climb, rung, restored, proven, stands):
    known = with_copies(build, tested_at=build.ago(days=1), test_passed=False, test_rung=rung, test_evidence="test-1")
    near = climb(known)[0]
    assert [(step.standing, step.evidence) for step in near.steps[4:]] == [(restored, "test-1"), (proven, "test-1")]
    assert near.rung is stands


def test_a_passed_test_of_samples_leaves_the_next_rung_missing(build, climb):
    known = with_copies(
        build, tested_at=build.ago(days=1), test_passed=True, test_rung=Rung.RESTORED, test_evidence="test-1"
    )
    near = climb(known)[0]
    assert [step.standing for step in near.steps[4:]] == [HOLDS, MISSING]
    assert near.rung is Rung.RESTORED


def test_evidence_that_is_older_than_policy_asks_or_from_the_future_holds_nothing(build, climb):
    month = timedelta(days=30)
    within = build.source().category.read_within

    def near(read, tested):
        changes = {"read_at": read, "read_since": read, "read_passed": True}
        changes |= {"tested_at": tested, "test_passed": True, "test_rung": Rung.PROVEN}
        return climb(with_copies(build, **changes))[0]

    assert near(build.now - within, build.now - month).rung is Rung.PROVEN
    second = timedelta(seconds=1)
    old = near(build.now - within - second, build.now - month - second)
    assert [step.standing for step in old.steps[3:]] == [TOO_OLD] * 3
    assert old.rung is Rung.STORED
    assert near(build.now, build.now + timedelta(hours=1)).rung is Rung.READ


def test_what_policy_asks_for_is_due_for_the_vault_and_the_source(build, climb):
    near = climb(with_copies(build))[0]
    within = build.source().category.read_within
    assert near.steps[3].due_at == build.ago(days=1) + within
    assert near.steps[5].due_at == build.ago(days=2) + timedelta(days=30)
    never = replace(with_copies(build), proven=None, proven_at=None)
    assert climb(never)[0].steps[5].due_at == never.newest.finished_at
    assert climb(never, source=build.source(test_every=None))[0].steps[5].due_at is None
    unread = build.read_vaults(read_since=None)
    assert climb(never, vaults=unread)[0].steps[3].due_at == build.ago(days=60) + within
    assert climb(never, vaults={})[0].steps[3].due_at is None


def test_the_copies_of_the_last_proven_point_follow(build, climb):
    known = with_copies(build)
    copies = (build.copy(known.proven, "far", tested_at=build.ago(days=2), test_rung=Rung.PROVEN),)
    found = climb(replace(known, proven_copies=copies))
    assert [(ladder.point, ladder.vault) for ladder in found] == [
        (known.newest.id, "near"),
        (known.newest.id, "far"),
        (known.proven.id, "far"),
    ]
    assert found[2].rung is Rung.PROVEN
    gone = climb(replace(known, newest=None, copies=(), proven_at=None, proven_copies=copies))
    assert [(ladder.point, ladder.steps[5].due_at) for ladder in gone] == [(known.proven.id, None)]
    assert len(climb(replace(known, proven=known.newest, proven_copies=copies))) == 2


@pytest.mark.parametrize(
    ("rung", "probe", "serving", "stands"),
    [
        (Rung.SERVING, True, "holds", Rung.SERVING),
        (Rung.PROVEN, True, "failed", Rung.PROVEN),
        (Rung.SERVING, False, "holds", Rung.SERVING),
        (Rung.PROVEN, False, None, Rung.PROVEN),
    ],
)
def test_the_users_own_probe_has_the_highest_rung(build, climb, rung, probe, serving, stands):
    known = with_copies(build, tested_at=build.ago(days=1), test_passed=rung is Rung.SERVING, test_rung=rung)
    near = climb(known, source=build.source(probe=("try-it",) if probe else ()))[0]
    assert standings(near).get("serving") == serving and near.rung is stands
    never = climb(with_copies(build), source=build.source(probe=("try-it",)))[0]
    assert standings(never)["serving"] == "missing"
