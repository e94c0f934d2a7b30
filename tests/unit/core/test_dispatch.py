from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.dispatch import PATIENCE, startable
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.worker import HEAVY, Limits

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = ("documents", "ledger", "app")
BACKUP, COPY, TEST, EXPIRE = ActionKind.BACKUP, ActionKind.COPY, ActionKind.RESTORE_TEST, ActionKind.EXPIRE
VERIFY, RENEW, PRUNE = ActionKind.VERIFY, ActionKind.RENEW, ActionKind.PRUNE
ROOMY = Limits(actions=10, per_source=10, per_vault=10)


def action(kind, source=None, vault=None):
    return Action(kind, f"{kind}:{source}:{vault}", "because", NOW, source=source, vault=vault)


@pytest.fixture(scope="module")
def policy():
    from cto_backups.core.policy import Policy

    class Source:
        vaults = ("near", "far")

    sources = dict.fromkeys(SOURCES, Source())
    return Policy("acme", "UTC", sources, {"near": None, "far": None}, {}, {}, (), "digest")


def begun(policy, waiting, running=(), limits=ROOMY, waited=None):
    return startable(policy, waiting, running, limits, waited)


vaults = st.sampled_from(["near", "far"])
sources = st.sampled_from(SOURCES)
actions = st.one_of(
    st.builds(action, st.sampled_from([BACKUP, EXPIRE]), sources),
    st.builds(action, st.sampled_from([COPY, TEST]), sources, vaults),
    st.builds(lambda kind, vault: action(kind, vault=vault), st.sampled_from([VERIFY, RENEW, PRUNE]), vaults),
)
plans = st.lists(actions, max_size=12, unique_by=lambda action: action.key)
limits = st.builds(Limits, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
waits = st.dictionaries(st.integers(0, 11), st.sampled_from([timedelta(), PATIENCE, 2 * PATIENCE]))


@given(plans, limits, waits)
def test_limits_are_kept_whatever_begins(policy, waiting, limits, waits):
    waited = {waiting[place].key: long for place, long in waits.items() if place < len(waiting)}
    together = begun(policy, waiting, limits=limits, waited=waited)
    assert len(together) <= limits.actions
    assert len(set(together)) == len(together) and set(together) <= set(waiting)
    for source in SOURCES:
        there = [each.kind for each in together if each.source == source]
        assert len(there) <= limits.per_source
        assert sum(kind in (BACKUP, TEST, EXPIRE) for kind in there) <= 1
    for vault in ("near", "far"):
        there = [each.kind for each in together if vault in working_in(each)]
        assert len(there) <= limits.per_vault
        assert PRUNE not in there or there == [PRUNE]


def working_in(action):
    if action.vault is not None:
        return (action.vault,)
    return ("near", "far") if action.kind is EXPIRE else ("near",)


@given(plans, plans, limits)
def test_what_could_begin_beside_what_is_under_way_keeps_the_limits_too(policy, first, then, limits):
    """All that begins after some others began could have begun together with them."""
    running = begun(policy, first, limits=limits)
    more = begun(policy, [each for each in then if each not in running], running, limits)
    assert len(running) + len(more) <= limits.actions
    places = [(each.kind, each.source, each.vault) for each in (*running, *more)]
    assert len(set(places)) == len(places)


@given(plans.filter(bool), limits)
def test_something_always_begins_where_nothing_is_under_way(policy, waiting, limits):
    assert waiting[0] in begun(policy, waiting, limits=limits)


@given(plans, limits)
def test_everything_has_its_turn_in_the_end(policy, waiting, limits):
    """However what is under way ends, one after the other."""
    left, running, rounds = list(waiting), [], 0
    while left or running:
        for each in begun(policy, left, running, limits):
            left.remove(each)
            running.append(each)
        running.pop()
        rounds += 1
    assert rounds == len(waiting)


def test_who_is_first_in_the_plan_begins_first(policy):
    backups = [action(BACKUP, source) for source in SOURCES]
    assert begun(policy, backups, limits=Limits(2, 2, 9)) == tuple(backups[:2])
    assert begun(policy, backups[::-1], limits=Limits(2, 2, 9)) == tuple(backups[::-1][:2])


def test_heavy_work_leaves_a_place_for_backups(policy):
    heavy = [action(VERIFY, vault="near"), action(VERIFY, vault="far"), action(TEST, "app", "near")]
    backup = action(BACKUP, "ledger")
    for number in (2, 3):
        chosen = begun(policy, [*heavy, backup], limits=Limits(number, 9, 9))
        assert sum(each.kind in HEAVY for each in chosen) == number - 1 and backup in chosen
    assert begun(policy, heavy, limits=Limits(1, 9, 9)) == (heavy[0],)


def test_a_copy_of_a_source_goes_beside_its_backup_and_a_second_run_of_either_does_not(policy):
    running = [action(BACKUP, "app")]
    copy, test = action(COPY, "app", "far"), action(TEST, "app", "far")
    assert begun(policy, [action(BACKUP, "app"), test, copy], running) == (copy,)
    assert begun(policy, [copy], [copy]) == ()
    assert begun(policy, [action(BACKUP, "app")], [test]) == ()


def test_a_prune_has_its_vault_for_itself(policy):
    prune, copy = action(PRUNE, vault="far"), action(COPY, "app", "far")
    assert begun(policy, [prune], [copy]) == ()
    assert begun(policy, [copy, action(BACKUP, "app")], [prune]) == (action(BACKUP, "app"),)


def test_others_pass_who_cannot_begin_yet_but_not_for_ever(policy):
    """A prune waits for the copies there; once it has waited long, no others begin before it."""
    prune, running, next_copy = action(PRUNE, vault="far"), action(COPY, "app", "far"), action(COPY, "ledger", "far")
    assert begun(policy, [prune, next_copy], [running]) == (next_copy,)
    waited = {prune.key: PATIENCE}
    elsewhere = action(BACKUP, "documents")
    assert begun(policy, [next_copy, prune, elsewhere], [running], waited=waited) == (elsewhere,)
    assert begun(policy, [next_copy, prune], [], waited=waited) == (prune,)


def test_what_concerns_no_source_of_the_policy_any_more_holds_nothing_up(policy):
    gone = action(BACKUP, "gone")
    assert begun(policy, [action(BACKUP, "app")], [gone]) == (action(BACKUP, "app"),)
