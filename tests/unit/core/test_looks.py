"""When a place is to be looked at again: never later than something is due there. It is a noon in UTC."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cto_backups.core.facts import SourceFacts, VaultFacts
from cto_backups.core.looks import EVERYTHING_WITHIN, IN_HAND, Place, look, place_of, reads_kept_points
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.plan import EXPIRE_EVERY, due, priority
from cto_backups.core.policy import Access, LockMode
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.streams import StreamFacts
from cto_backups.core.watched import Noticed
from cto_backups.core.windows import Window
from cto_backups.core.worker import WorkerPolicy

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEDGER = Place("ledger")


def kinds(looked):
    return [action.kind for action in looked.due]


# -- sources


def test_what_is_not_due_is_looked_at_when_it_is(build):
    policy, facts = build.policy(build.source(triggers="every 6 h", test_every="30 days")), build.facts()
    looked = look(policy, LEDGER, facts, build.now)
    assert kinds(looked) == []
    assert looked.next_due_at == build.next_due_at(policy, "ledger", facts) == build.now + 5 * HOUR


def test_what_is_due_is_left_to_whoever_planned_it_for_a_while(build):
    looked = look(build.policy(), LEDGER, build.facts(SourceFacts("ledger")), build.now)
    assert kinds(looked) == [ActionKind.BACKUP]
    assert looked.next_due_at == build.now + IN_HAND


def test_nothing_is_planned_of_what_policy_does_not_name(build):
    for place in (Place("gone"), Place("gone", is_vault=True)):
        looked = look(build.policy(), place, build.facts(), build.now)
        assert (looked.due, looked.next_due_at, looked.expiry_at) == ((), None, None)
    assert not reads_kept_points(build.policy(), Place("gone"), build.facts(), build.now)


def test_naive_moments_are_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        look(build.policy(), LEDGER, build.facts(), build.now.replace(tzinfo=None))


def test_a_source_under_way_is_looked_at_when_something_changes_and_for_its_retention(build):
    running = build.runs(build.run("backup", build.now, Outcome.RUNNING))
    facts = build.facts(SourceFacts("ledger", last_runs=running))
    looked = look(build.policy(build.source(test_every=None)), LEDGER, facts, build.now)
    assert looked.next_due_at == looked.expiry_at == build.now + EXPIRE_EVERY


# -- retention


def aged(build, *ages, **changes):
    """Facts with kept points of these ages in days, and what they are without them."""
    points = [build.point(build.ago(days=age)) for age in ages]
    known = build.healthy(newest=points[0], oldest_at=points[-1].captured_at, **changes)
    facts = build.facts(known)
    return facts, replace(facts, kept_points={"ledger": tuple(points)})


def expires(build, facts, now=None, retention="90 days", **place):
    """Whether kept points are read, and when next."""
    policy = build.policy(build.source(triggers="every 300 days", retention=retention, test_every=None))
    light, full = facts
    at, where = now or build.now, Place("ledger", **place)
    reads = reads_kept_points(policy, where, light, at)
    return reads, look(policy, where, full if reads else light, at)


def test_kept_points_are_read_once_one_may_be_too_old(build):
    reads, looked = expires(build, aged(build, 1, 89.5))
    assert (reads, looked.expiry_at) == (False, build.now + DAY / 2)
    reads, looked = expires(build, aged(build, 1, 50))
    assert (reads, looked.expiry_at) == (False, build.now + EXPIRE_EVERY)
    reads, looked = expires(build, aged(build, 1, 95, 100))
    assert reads and kinds(looked) == [ActionKind.EXPIRE]
    assert looked.expiry_at == looked.next_due_at == build.now + IN_HAND


def test_kept_points_that_all_stay_are_read_again_after_a_day(build):
    for retention in ("90 days", "7 daily"):
        reads, looked = expires(build, aged(build, 1, 95), retention=retention)  # the last but one was superseded now
        assert reads and not looked.due
        assert looked.expiry_at == build.now + EXPIRE_EVERY
    assert expires(build, aged(build, 1, 95), retention="permanent")[0] is False


def test_kept_points_are_not_read_twice_a_day(build):
    reads, looked = expires(build, aged(build, 1, 95, 100), expiry_at=build.now + HOUR)
    assert (reads, looked.due, looked.expiry_at) == (False, (), build.now + HOUR)
    assert expires(build, aged(build, 1, 95, 100), expiry_at=build.now)[0]
    assert expires(build, aged(build, 1, 95, 100), expiry_at=build.now + 9 * DAY)[0], "a clock was put back"


def test_kept_points_are_not_read_before_retention_may_be_applied_again(build):
    for outcome, ago, again in (
        (Outcome.SUCCEEDED, HOUR, 23 * HOUR),
        (Outcome.FAILED, 2 * MINUTE, -MINUTE + MINUTE),
        (Outcome.RUNNING, HOUR, IN_HAND),
        (Outcome.SUCCEEDED, -9 * DAY, EXPIRE_EVERY),
    ):
        run = build.run("expire", build.now - ago, outcome)
        facts = aged(build, 1, 95, 100, last_runs=build.runs(run), failures={ActionKind.EXPIRE: 1})
        reads, looked = expires(build, facts)
        if outcome is Outcome.FAILED or ago < timedelta():
            assert reads, "one dated in the future puts nothing off"
            continue
        assert (reads, looked.due, looked.expiry_at) == (False, (), build.now + again), outcome


def test_a_source_without_points_has_nothing_to_expire(build):
    facts = build.facts(SourceFacts("ledger"))
    reads, looked = expires(build, (facts, facts))
    assert (reads, looked.expiry_at) == (False, build.now + EXPIRE_EVERY)


# -- vaults


def test_a_vault_is_looked_at_when_its_next_work_is_due(build):
    near = Place("near", is_vault=True)
    policy = replace(build.policy(), prune_every=61 * DAY)
    looked = look(policy, near, build.facts(), build.now)
    assert (kinds(looked), looked.next_due_at, looked.expiry_at) == ([], build.now + DAY, None)
    looked = look(policy, near, build.facts(), build.now + DAY)
    assert (kinds(looked), looked.next_due_at) == ([ActionKind.PRUNE], build.now + DAY + IN_HAND)
    assert look(policy, near, build.facts(vaults={}), build.now).next_due_at is None
    assert not reads_kept_points(policy, near, build.facts(), build.now)


# -- whatever policy and facts are

outcomes = st.sampled_from(list(Outcome))
minutes = st.integers(-3000, 100_000)  # ago; some lie in the future, since clocks were wrong
windows = st.lists(
    st.builds(Window, begin=st.integers(0, 1439), end=st.integers(0, 1439)).filter(lambda each: each.begin != each.end),
    max_size=2,
)
sources = st.builds(
    dict,
    captured=minutes,
    took=st.integers(0, 300),
    confirmed=st.none() | minutes,
    tested=st.none() | minutes,
    passed=st.booleans(),
    copies=st.sets(st.sampled_from(["near", "far"])),
    runs=st.dictionaries(st.sampled_from(list(ActionKind)), st.tuples(outcomes, minutes)),
    failures=st.integers(0, 9),
    triggers=st.sampled_from(["hourly", "daily at 02:00", "on change, weekly", "continuous", "0 3 * * 1-5"]),
    noticed=st.none() | st.integers(-5, 500),
    stuck=st.none() | minutes,
    old=st.lists(st.integers(0, 200_000), max_size=5),
    retention=st.sampled_from(["90 days", "3 versions", "10 days, 7 daily, 3 monthly", "permanent"]),
    spread=st.integers(0, 3600),
    windows=windows,
    copied=st.sampled_from([(), parse_triggers("daily at 03:00")]),
)

FUTURE = dict.fromkeys(("confirmed", "noticed", "stuck")) | {
    "captured": 0, "took": 2, "tested": -1, "passed": False, "copies": {"near"}, "runs": {}, "failures": 0,
    "triggers": "hourly", "old": [], "retention": "90 days", "spread": 0, "windows": [], "copied": (),
}  # fmt: skip
"""A test that failed in a minute, of a point that will be whole in two: clocks were wrong."""


def source_of(build, state):
    """A policy with one source, and facts of it, as they say."""
    newest = build.point(build.ago(minutes=state["captured"]), took=state["took"] * MINUTE)
    noticed, stuck = state["noticed"], state["stuck"]
    known = build.healthy(
        newest=newest,
        confirmed_at=None if state["confirmed"] is None else build.ago(minutes=state["confirmed"]),
        last_test=None
        if state["tested"] is None
        else build.test(build.ago(minutes=state["tested"]), passed=state["passed"]),
        copies=tuple(build.copy(newest, vault) for vault in sorted(state["copies"])),
        last_runs=build.runs(
            *(build.run(kind, build.ago(minutes=ago), outcome) for kind, (outcome, ago) in state["runs"].items())
        ),
        failures=dict.fromkeys(state["runs"], state["failures"]),
        noticed=None if noticed is None else Noticed(build.ago(minutes=noticed), build.ago(minutes=noticed - 1)),
        stream=None
        if stuck is None
        else StreamFacts("ledger", stuck_at=newest.id, stuck_since=build.ago(minutes=stuck)),
        oldest_at=build.ago(minutes=max([state["captured"], *state["old"]])),
    )
    older = sorted({ago for ago in state["old"] if ago > state["captured"]})
    points = (newest, *(build.point(build.ago(minutes=ago)) for ago in older))
    vaults = (build.vault("near"), build.vault("far", copies=state["copied"]))
    policy = build.policy(build.source(triggers=state["triggers"], retention=state["retention"]), vaults=vaults)
    worker = WorkerPolicy(spread=timedelta(seconds=state["spread"]), heavy_work=tuple(state["windows"]))
    facts = build.facts(known, vaults={}, kept_points={"ledger": points})
    return replace(policy, worker=worker, timezone="Europe/Berlin"), facts


def without_kept(facts):
    return replace(facts, kept_points={})


def steps(moment, now):
    """Moments up to one, and not that."""
    yield from (now + (moment - now) * part / 9 for part in range(9))
    yield moment - timedelta(microseconds=1)


@example(FUTURE)
@given(sources)
def test_nothing_is_due_at_a_source_before_it_is_looked_at_again(build, state):
    policy, facts = source_of(build, state)
    reads = reads_kept_points(policy, LEDGER, without_kept(facts), build.now)
    looked = look(policy, LEDGER, facts if reads else without_kept(facts), build.now)
    known = {action.key for action in looked.due}
    full = {action.key for action in due(policy, facts, build.now, ["ledger"])}
    assert known == full, "the moment of the look itself"
    assert looked.next_due_at is not None and build.now < looked.next_due_at <= build.now + EXPIRE_EVERY
    if looked.due:
        assert looked.next_due_at <= build.now + IN_HAND
        return
    for moment in steps(looked.next_due_at, build.now):
        others = [each.kind for each in due(policy, facts, moment, ["ledger"])]
        assert set(others) <= {ActionKind.EXPIRE}, moment  # which may come a day later, and did not before


@given(sources)
def test_retention_is_applied_within_a_day(build, state):
    policy, facts = source_of(build, state)
    expiry_at, now, found = None, build.now, False
    wanted = None
    for _ in range(50):
        place = replace(LEDGER, expiry_at=expiry_at)
        reads = reads_kept_points(policy, place, without_kept(facts), now)
        looked = look(policy, place, facts if reads else without_kept(facts), now)
        found = any(each.kind is ActionKind.EXPIRE for each in looked.due)
        is_due = any(each.kind is ActionKind.EXPIRE for each in due(policy, facts, now, ["ledger"]))
        assert is_due or not found
        wanted = now if is_due and wanted is None else wanted
        if found or now > build.now + 3 * DAY:
            break
        expiry_at, now = looked.expiry_at, max(looked.expiry_at, now + MINUTE)
    assert wanted is None or found or now - wanted <= EXPIRE_EVERY


vaults = st.builds(
    dict,
    read=st.none() | minutes,
    passed=st.booleans(),
    since=st.none() | minutes,
    first=st.none() | minutes,
    runs=st.dictionaries(st.sampled_from(["last", "prune", "renew", "check"]), st.tuples(outcomes, minutes)),
    failures=st.integers(0, 9),
    damage=st.booleans(),
    prune=st.none() | st.integers(1, 60),
    part=st.sampled_from([Fraction(1), Fraction(1, 7)]),
    lock=st.sampled_from([LockMode.NONE, LockMode.COMPLIANCE]),
    access=st.sampled_from(list(Access)),
    checks=st.sampled_from([(), parse_triggers("weekly")]),
    windows=windows,
)


AHEAD = {
    "read": 0,
    "passed": True,
    "since": 0,
    "first": -7,
    "runs": {"renew": (Outcome.INTERRUPTED, -6), "prune": (Outcome.FAILED, -6)},
    "failures": 0,
    "damage": False,
    "prune": 1,
    "part": Fraction(1),
    "lock": LockMode.COMPLIANCE,
    "access": Access.FULL,
    "checks": (),
    "windows": [],
}


@example(AHEAD)
@example({**AHEAD, "lock": LockMode.NONE, "first": 60})
@given(vaults)
def test_nothing_is_due_at_a_vault_before_it_is_looked_at_again(build, state):
    def ago(name):
        return None if state[name] is None else build.ago(minutes=state[name])

    runs = {
        f"{name}_run": build.run("verify", build.ago(minutes=at), outcome, error_code="damage" * state["damage"])
        for name, (outcome, at) in state["runs"].items()
    }
    failures = {name: state["failures"] for name in ("failures", "prune_failures", "renew_failures", "check_failures")}
    known = VaultFacts("near", ago("read"), state["passed"], read_since=ago("since"), first_copy_at=ago("first"))
    facts = build.facts(vaults={"near": replace(known, **runs, **failures)})
    near = build.vault(
        "near", read_part=state["part"], lock_mode=state["lock"], access=state["access"], checks=state["checks"]
    )
    policy = build.policy(vaults=(near, build.vault("far")))
    policy = replace(
        policy,
        worker=WorkerPolicy(heavy_work=tuple(state["windows"])),
        timezone="Europe/Berlin",
        prune_every=None if state["prune"] is None else state["prune"] * DAY,
    )

    def due_at(moment):
        return {each.key for each in due(policy, facts, moment) if each.vault == "near" and each.source is None}

    looked = look(policy, Place("near", is_vault=True), facts, build.now)
    assert {action.key for action in looked.due} == due_at(build.now)
    if looked.due:
        assert looked.next_due_at <= build.now + IN_HAND
    elif looked.next_due_at is None:
        assert not due_at(build.now + 99 * DAY)
    else:
        assert not any(due_at(moment) for moment in steps(looked.next_due_at, build.now))


def test_an_action_is_planned_at_its_source_or_at_the_vault_of_one_without(build):
    policy = replace(build.policy(), prune_every=61 * DAY)
    facts = build.facts(SourceFacts("ledger"))
    actions = due(policy, facts, build.now + DAY)
    places = {action.kind: place_of(action).key for action in actions if action.vault in (None, "near")}
    assert places == {ActionKind.BACKUP: "source:ledger", ActionKind.PRUNE: "vault:near"}


def test_what_is_more_urgent_has_a_higher_priority_whatever_its_rpo(build):
    sources = [build.source(name, category=name.upper()) for name in "abc"]
    policy = replace(build.policy(*sources), prune_every=DAY)
    actions = due(policy, build.facts(SourceFacts("a")), build.now)
    priorities = [priority(policy, action) for action in actions]
    assert [action.source for action in actions[:3]] == ["a", "b", "c"]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities[:4])) == 4, "a prune waits for all backups"
    century = replace(policy.sources["c"].category, rpo=36500 * DAY)
    policy = replace(policy, sources={**policy.sources, "c": replace(policy.sources["c"], category=century)})
    assert min(priorities[3:]) < priority(policy, actions[2]) < priorities[1]
    assert all(priority(policy, action) >= -(2**31) for action in actions)


def test_everything_is_looked_at_more_often_than_retention_is_applied():
    assert IN_HAND < EVERYTHING_WITHIN < EXPIRE_EVERY
