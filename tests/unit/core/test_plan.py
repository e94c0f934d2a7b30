from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.facts import Facts, SourceFacts, VaultFacts
from cto_backups.core.model import NO_FINGERPRINT, ActionKind, Outcome
from cto_backups.core.plan import due, lead, upcoming
from cto_backups.core.policy import Access, LockMode
from cto_backups.core.retries import retry_at
from cto_backups.core.schedule import AT_ONCE, parse_triggers
from cto_backups.core.timetable import timetable, upkeep_of_vaults
from cto_backups.core.worker import WorkerPolicy

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UTC_ZONE = ZoneInfo("UTC")
BACKUP, COPY, TEST, VERIFY, EXPIRE, PRUNE = (
    ActionKind.BACKUP,
    ActionKind.COPY,
    ActionKind.RESTORE_TEST,
    ActionKind.VERIFY,
    ActionKind.EXPIRE,
    ActionKind.PRUNE,
)
RENEW = ActionKind.RENEW


def planned(policy, facts, now, kind):
    return [action for action in due(policy, facts, now) if action.kind is kind]


def test_nothing_is_due_for_a_source_that_is_in_order(build):
    assert due(build.policy(), build.facts(), build.now) == ()


# -- backup


def test_a_source_that_was_never_backed_up_is_due_at_once_and_nothing_else_is(build):
    policy = build.policy()
    (action,) = due(policy, Facts(), build.now)
    assert (action.kind, action.source, action.reason, action.due_at) == (BACKUP, "ledger", "no backup yet", build.now)
    known = SourceFacts("ledger", first_seen=build.ago(days=3))
    (again,) = due(policy, build.facts(known, vaults={}), build.now)
    assert again.due_at == build.ago(days=3)
    assert again.key == action.key


def test_a_backup_is_due_when_a_trigger_asks_for_it(build):
    policy, facts = build.policy(), build.facts()
    assert not planned(policy, facts, build.now + 5 * HOUR - MINUTE, BACKUP)
    (action,) = planned(policy, facts, build.now + 5 * HOUR, BACKUP)
    assert action.due_at == build.now + 5 * HOUR
    assert action.reason == "trigger 'every 6 h'"


def test_a_missed_slot_keeps_its_key_until_it_is_done(build):
    policy = build.policy(build.source(triggers="daily at 02:00"))
    facts = build.facts()
    keys = {action.key for days in (1, 2, 3) for action in planned(policy, facts, build.now + days * DAY, BACKUP)}
    assert len(keys) == 1


def test_the_key_changes_with_the_policy(build):
    policy, later = build.policy(), build.now + DAY
    changed = replace(policy, digest="f" * 64)
    assert planned(policy, build.facts(), later, BACKUP)[0].key != planned(changed, build.facts(), later, BACKUP)[0].key


def test_a_scan_that_found_nothing_changed_serves_its_slot(build):
    policy = build.policy(build.source(triggers="hourly"))
    unchanged = build.healthy(confirmed_at=build.ago(minutes=5))
    assert not planned(policy, build.facts(unchanged), build.now, BACKUP)
    assert planned(policy, build.facts(unchanged), build.now + HOUR, BACKUP)


def test_an_incomplete_run_serves_its_slot_and_a_failed_one_does_not(build):
    policy = build.policy(build.source(triggers="hourly"))
    for outcome, kinds in ((Outcome.INCOMPLETE, 0), (Outcome.UNCHANGED, 0), (Outcome.FAILED, 1)):
        run = build.run(BACKUP, build.ago(minutes=10), outcome)
        assert len(planned(policy, build.facts(build.healthy(last_runs=build.runs(run))), build.now, BACKUP)) == kinds


def test_an_interval_that_equals_the_rpo_comes_early_by_twice_the_last_duration(build):
    policy = build.policy(build.source(category="A", triggers="hourly"))
    newest = build.point(build.ago(minutes=50), took=5 * MINUTE)
    (action,) = planned(policy, build.facts(build.healthy(newest=newest)), build.now, BACKUP)
    assert action.due_at == build.now
    quick = build.run(BACKUP, build.ago(minutes=50), Outcome.UNCHANGED, took=timedelta(seconds=1))
    calm = build.facts(build.healthy(newest=newest, last_runs=build.runs(quick)))
    assert not planned(policy, calm, build.now, BACKUP)


def test_the_lead_is_twice_what_the_last_backup_took(build):
    assert lead(SourceFacts("ledger")) == timedelta()
    newest = build.point(took=3 * MINUTE)
    assert lead(build.healthy(newest=newest)) == 6 * MINUTE
    failed = build.run(BACKUP, build.now, Outcome.FAILED, took=HOUR)
    assert lead(build.healthy(newest=newest, last_runs=build.runs(failed))) == 6 * MINUTE
    backwards = build.point(took=-MINUTE)
    assert lead(build.healthy(newest=backwards)) == timedelta()


def test_what_is_running_is_not_planned_again(build):
    newest = build.point(build.ago(days=40))
    facts = build.healthy(
        newest=newest,
        last_test=None,
        copies=(build.copy(newest, "near"),),
        last_runs=build.runs(
            *(build.run(kind, build.ago(minutes=1), Outcome.RUNNING) for kind in (BACKUP, COPY, TEST, EXPIRE))
        ),
    )
    running = build.run(VERIFY, build.ago(minutes=1), Outcome.RUNNING)
    kept = {"ledger": (newest, build.point(build.ago(days=400)))}
    vaults = build.read_vaults(read_at=None, last_run=running)
    policy = build.policy(build.source(retention="1 version"))
    assert due(policy, build.facts(facts, vaults=vaults, kept_points=kept), build.now) == ()
    idle = replace(facts, last_runs={})
    kinds = [action.kind for action in due(policy, build.facts(idle, kept_points=kept), build.now)]
    assert kinds == [BACKUP, COPY, TEST, EXPIRE]


def test_a_record_dated_in_the_future_does_not_stop_backups(build):
    newest = build.point(build.now + 900 * DAY)
    facts = build.healthy(newest=newest, confirmed_at=build.now + 900 * DAY)
    assert planned(build.policy(), build.facts(facts), build.now, BACKUP)
    served = build.run(BACKUP, build.ago(minutes=5))
    after = replace(facts, last_runs=build.runs(served))
    assert not planned(build.policy(), build.facts(after), build.now, BACKUP)


@pytest.mark.parametrize("kind", [BACKUP, COPY, TEST])
def test_a_failure_dated_in_the_future_puts_nothing_off(build, kind):
    """Where a clock was put forward, certificates and logins have run out, and what failed of that is due at once."""
    newest = build.point(build.ago(days=2))
    here = (build.copy(newest, "near"),)
    facts = build.healthy(newest=newest, copies=here, last_test=None, failures={kind: 3})
    failed = build.run(kind, build.now + DAY, Outcome.FAILED)
    policy = build.policy()
    assert planned(policy, build.facts(replace(facts, last_runs=build.runs(failed))), build.now, kind)
    near = build.run(kind, build.now + MINUTE, Outcome.FAILED)
    assert not planned(policy, build.facts(replace(facts, last_runs=build.runs(near))), build.now, kind)
    poison = replace(build.run(kind, build.now + HOUR, Outcome.FAILED, error_code="crash"), crashes=3)
    assert not planned(policy, build.facts(replace(facts, last_runs=build.runs(poison))), build.now, kind)


# -- spread


def test_sources_of_a_fleet_are_put_off_each_by_its_own_time_that_stays(build):
    spread = 20 * MINUTE
    worker = WorkerPolicy(spread=spread, place="host:/srv/backups.yaml")
    names = [f"source-{number}" for number in range(40)]
    shifts = [worker.shift(name) for name in names]
    assert shifts == [WorkerPolicy(spread=spread, place="host:/srv/backups.yaml").shift(name) for name in names]
    assert all(timedelta() <= shift < spread for shift in shifts) and len(set(shifts)) > 30
    assert shifts != [replace(worker, place="other:/srv/backups.yaml").shift(name) for name in names]
    assert WorkerPolicy(place="host").shift("any") == timedelta()


def test_the_timetable_tells_by_how_much_a_source_is_put_off(build):
    source = build.source("ledger", triggers=parse_triggers("daily at 02:00"))
    facts = build.facts(build.healthy())
    (plain,) = timetable(build.policy(source), facts, build.now, ZoneInfo("UTC"))
    policy = replace(build.policy(source), worker=WorkerPolicy(spread=20 * MINUTE, place="here"))
    (spread,) = timetable(policy, facts, build.now, ZoneInfo("UTC"))
    assert spread.next_run - plain.next_run == policy.worker.shift("ledger") != timedelta()
    assert "later to spread the load" in spread.why and "later" not in plain.why


def test_the_upkeep_of_vaults_is_told_vault_by_vault_the_earliest_first(build):
    policy = build.policy()
    told = tuple(upkeep_of_vaults(policy, build.facts(build.healthy()), build.now))
    assert list(dict.fromkeys(action.vault for action in told)) == list(policy.vaults)
    for vault in policy.vaults:
        moments = [action.due_at for action in told if action.vault == vault]
        assert moments == sorted(moments) and moments
    assert {action.kind for action in told} == {VERIFY} and not any(action.source for action in told)
    with pytest.raises(ValueError, match="no time zone"):
        tuple(upkeep_of_vaults(policy, build.facts(build.healthy()), build.now.replace(tzinfo=None)))


# -- retries


@pytest.mark.parametrize(
    ("failures", "delay"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (50, 60), (10**9, 60)]
)
def test_each_failure_doubles_the_delay_up_to_an_hour(build, failures, delay):
    run = build.run(BACKUP, build.now, Outcome.FAILED, took=10 * MINUTE)
    assert retry_at(run, failures, build.now) == build.now + 10 * MINUTE + delay * MINUTE


def test_only_failures_delay(build):
    assert retry_at(None, 3, build.now) == AT_ONCE
    assert retry_at(build.run(BACKUP, build.now), 3, build.now) == AT_ONCE
    interrupted = build.run(BACKUP, build.now, Outcome.INTERRUPTED)
    assert retry_at(interrupted, 0, build.now) == AT_ONCE
    assert retry_at(interrupted, 2, build.now) == interrupted.finished_at + 2 * MINUTE
    unfinished = replace(interrupted, finished_at=None, outcome=Outcome.FAILED)
    assert retry_at(unfinished, 1, build.now) == build.now + MINUTE


def test_what_took_its_process_down_three_times_is_left_alone_for_a_day(build):
    """However often it failed otherwise: that is no reason to leave anything alone."""
    crashed = build.run(BACKUP, build.now, Outcome.FAILED, error_code="crash")
    failed = build.run(BACKUP, build.now, Outcome.FAILED, error_code="source")
    for run, crashes, failures, delay in (
        (crashed, 2, 2, 2 * MINUTE),
        (crashed, 1, 4, 8 * MINUTE),
        (crashed, 3, 3, DAY),
        (crashed, 9, 12, DAY),
        (failed, 3, 4, 8 * MINUTE),
    ):
        assert retry_at(replace(run, crashes=crashes), failures, build.now) == run.finished_at + delay
    crashed = replace(crashed, crashes=3)
    facts = replace(build.healthy(), last_runs=build.runs(crashed), failures={BACKUP: 5})
    (row,) = timetable(build.policy(), build.facts(facts), build.now, ZoneInfo("UTC"))
    assert row.next_run == crashed.finished_at + DAY
    assert "quarantined" in row.why and "3 times" in row.why


def test_a_failed_backup_is_tried_again_after_its_delay(build):
    run = build.run(BACKUP, build.ago(minutes=5), Outcome.FAILED)
    facts = build.healthy(newest=None, newest_any=None, last_runs=build.runs(run), failures={BACKUP: 4})
    assert not planned(build.policy(), build.facts(facts), build.now, BACKUP)
    (action,) = planned(build.policy(), build.facts(facts), build.now + 4 * MINUTE, BACKUP)
    assert action.reason == "no backup yet; tried again after 4 failed runs"


# -- copy


def test_each_vault_that_lacks_the_newest_complete_point_gets_a_copy(build):
    newest = build.point(build.ago(hours=1))
    facts = build.facts(build.healthy(newest=newest, copies=(build.copy(newest, "far"),)))
    policy = build.policy(build.source(vaults=("near", "far", "third")))
    actions = planned(policy, facts, build.now, COPY)
    assert {(action.vault, action.point) for action in actions} == {("near", newest.id), ("third", newest.id)}
    assert len({action.key for action in actions}) == 2
    assert newest.id in actions[0].reason


def test_a_point_dated_in_the_future_keeps_none_that_came_after_it_from_being_copied(build):
    ahead, newest = build.point(build.now + DAY), build.point(build.ago(hours=1))
    known = build.healthy(newest=ahead, copies=(build.copy(ahead, "near"), build.copy(ahead, "far")))
    assert not planned(build.policy(), build.facts(known), build.now, COPY)
    known = replace(known, current=newest, current_copies=(build.copy(newest, "near"),))
    (action,) = planned(build.policy(), build.facts(known), build.now, COPY)
    assert (action.vault, action.point) == ("far", newest.id)
    running = build.run(COPY, build.ago(minutes=1), Outcome.RUNNING, vault="far")
    assert not planned(build.policy(), build.facts(replace(known, last_runs=build.runs(running))), build.now, COPY)


def test_nothing_is_copied_when_there_is_nothing_to_copy_from(build):
    assert not planned(build.policy(), build.facts(build.healthy(copies=())), build.now, COPY)


def test_a_failed_copy_backs_off_but_a_new_point_is_tried_at_once(build):
    newest = build.point(build.ago(hours=1))
    failed = build.run(COPY, build.ago(minutes=10), Outcome.FAILED, vault="far")
    known = build.healthy(
        newest=newest, copies=(build.copy(newest, "near"),), last_runs=build.runs(failed), failures={COPY: 9}
    )
    assert not planned(build.policy(), build.facts(known), build.now, COPY)
    assert planned(build.policy(), build.facts(known), build.now + HOUR, COPY)
    newer = build.point(build.ago(minutes=5))
    known = replace(known, newest=newer, copies=(build.copy(newer, "near"),))
    assert planned(build.policy(), build.facts(known), build.now, COPY)


def test_a_copy_that_runs_to_one_vault_does_not_hold_up_another(build):
    newest = build.point(build.ago(hours=1))
    running = build.run(COPY, build.ago(minutes=1), Outcome.RUNNING, vault="far")
    known = build.healthy(newest=newest, copies=(build.copy(newest, "near"),), last_runs=build.runs(running))
    policy = build.policy(build.source(vaults=("near", "far", "third")))
    assert [action.vault for action in planned(policy, build.facts(known), build.now, COPY)] == ["third"]


# -- restore test


def test_a_source_that_was_never_tested_is_tested_as_soon_as_it_has_a_point(build):
    (action,) = planned(build.policy(), build.facts(build.healthy(last_test=None)), build.now, TEST)
    assert action.reason == "never tested"
    assert action.vault == "near"
    without_point = build.healthy(newest=None, newest_any=None, last_test=None, copies=())
    assert not planned(build.policy(), build.facts(without_point), build.now, TEST)
    without_copy = build.healthy(copies=(), last_test=None)
    assert not planned(build.policy(), build.facts(without_copy), build.now, TEST)


def test_a_point_that_was_taken_over_is_not_tested_since_there_is_nothing_to_compare_it_with(build):
    newest = build.point(build.ago(hours=1), fingerprint=NO_FINGERPRINT)
    known = build.healthy(newest=newest, copies=(build.copy(newest, "near"),), last_test=None)
    assert planned(build.policy(), build.facts(known), build.now, TEST) == []
    assert newest.complete
    assert newest.taken_over


def test_no_test_is_planned_where_none_is_required(build):
    policy = build.policy(build.source(test_every="none"))
    assert not planned(policy, build.facts(build.healthy(last_test=None)), build.now, TEST)


def test_a_test_comes_a_day_before_the_last_one_is_too_old(build):
    facts = build.facts()
    tested = build.ago(days=2)
    assert not planned(build.policy(), facts, tested + 29 * DAY - MINUTE, TEST)
    (action,) = planned(build.policy(), facts, tested + 29 * DAY, TEST)
    assert action.reason == "tested every 30 days"
    short = build.policy(build.source(test_every="10 h"))
    assert planned(short, facts, tested + 9 * HOUR, TEST)


def test_a_failed_test_is_repeated_with_growing_delays(build):
    failed = build.test(build.ago(minutes=30), passed=False)
    run = build.run(TEST, build.ago(minutes=31), Outcome.FAILED)
    known = build.healthy(last_test=failed, last_runs=build.runs(run), failures={TEST: 6})
    assert not planned(build.policy(), build.facts(known), build.now, TEST)
    (action,) = planned(build.policy(), build.facts(known), build.now + 2 * MINUTE, TEST)
    assert action.reason == "the last restore test failed: checksum content differs"


def test_a_test_dated_in_the_future_does_not_count(build):
    known = build.healthy(last_test=build.test(build.now + DAY))
    assert planned(build.policy(), build.facts(known), build.now, TEST)
    near = build.healthy(last_test=build.test(build.now + MINUTE))
    assert not planned(build.policy(), build.facts(near), build.now, TEST), "clocks of hosts differ a little"


def test_a_test_dated_in_the_future_is_made_up_for_once_and_not_again_and_again(build):
    """It stays the last one by its date until that comes; the run that was made since tells."""
    run = build.run(TEST, build.ago(minutes=5))
    known = build.healthy(last_test=build.test(build.now + DAY), last_runs=build.runs(run))
    assert not planned(build.policy(), build.facts(known), build.now, TEST)
    ahead = build.facts(replace(known, last_test=build.test(build.now + 60 * DAY)))
    assert planned(build.policy(), ahead, build.now + 30 * DAY, TEST)


def test_each_vault_gets_its_turn_and_damaged_or_foreign_ones_come_last(build):
    newest = build.point(build.ago(hours=1))

    def chosen(*copies):
        facts = build.facts(build.healthy(newest=newest, last_test=None, copies=copies))
        return planned(build.policy(), facts, build.now, TEST)[0].vault

    tested = build.copy(newest, "near", tested_at=build.ago(days=1))
    assert chosen(tested, build.copy(newest, "far")) == "far"
    assert chosen(tested, build.copy(newest, "far", tested_at=build.ago(days=2))) == "far"
    assert chosen(tested, build.copy(newest, "far", read_passed=False)) == "near"
    assert chosen(tested, build.copy(newest, "elsewhere")) == "near"
    assert chosen(build.copy(newest, "far"), build.copy(newest, "near")) == "near"


# -- verify


def test_every_byte_is_read_again_by_half_of_the_strictest_time(build):
    strict = build.source("strict", category="A", triggers="hourly", vaults=("near",))
    loose = build.source("loose", category="C", vaults=("near", "far"))
    vaults = build.read_vaults(read_at=build.ago(days=4))
    facts = Facts(vaults=vaults)
    actions = planned(build.policy(strict, loose), facts, build.now, VERIFY)
    assert [(action.vault, action.due_at) for action in actions] == [("near", build.ago(hours=12))]
    assert actions[0].reason == "every byte is read within 7 days"


def in_parts(build, share):
    return build.policy(vaults=(build.vault("near", read_part=Fraction(share)),))


def test_a_vault_that_is_read_in_parts_is_read_whole_with_a_turn_to_spare(build):
    facts = Facts(vaults=build.read_vaults(read_at=build.ago(hours=20), read_since=build.ago(days=5, hours=20)))
    (action,) = planned(in_parts(build, "1/6"), facts, build.now + DAY, VERIFY)
    assert action.due_at == build.ago(hours=20) + DAY, "six turns and one to spare in seven days"
    assert action.reason == "every byte is read within 7 days, 1/6 at a time"


def test_parts_follow_each_other_at_once_while_the_oldest_reading_is_late(build):
    late = Facts(vaults=build.read_vaults(read_at=build.ago(minutes=1), read_since=build.ago(days=6, hours=1)))
    (action,) = planned(in_parts(build, "1/6"), late, build.now, VERIFY)
    assert action.due_at == build.ago(hours=1)
    damaged = Facts(vaults=build.read_vaults(read_at=build.ago(minutes=1), read_since=None, read_passed=False))
    assert not planned(in_parts(build, "1/6"), damaged, build.now, VERIFY), "damage is not read over and over"


def test_a_small_part_read_by_hand_does_not_put_off_the_whole(build):
    facts = Facts(vaults=build.read_vaults(read_at=build.ago(minutes=1), read_since=build.ago(days=4)))
    (action,) = planned(build.policy(build.source(vaults=("near",))), facts, build.now, VERIFY)
    assert action.due_at == build.ago(hours=12)


def test_the_first_turn_through_a_vault_has_its_parts_one_after_the_other(build):
    vaults = build.read_vaults(read_at=build.ago(hours=25), read_since=None, first_copy_at=build.ago(days=2))
    (action,) = planned(in_parts(build, "1/6"), Facts(vaults=vaults), build.now, VERIFY)
    assert action.due_at == build.ago(hours=1)


def pruned(build, **known):
    """What is planned for pruning of a weekly policy, by what is known of both vaults."""
    policy = replace(build.policy(build.source(vaults=("near",))), prune_every=7 * DAY)
    vaults = build.read_vaults(**{"first_copy_at": build.ago(days=8), **known})
    return planned(policy, Facts(vaults=vaults), build.now, PRUNE)


def test_vaults_are_pruned_on_a_schedule_of_their_own(build):
    (first,) = pruned(build)
    assert (first.vault, first.source, first.due_at) == ("near", None, build.ago(days=1))
    assert first.reason == "pruned every 7 days"
    assert not pruned(build, first_copy_at=build.ago(days=6))
    assert not pruned(build, first_copy_at=None)
    (again,) = pruned(build, prune_run=build.run(PRUNE, build.ago(days=7, hours=1)))
    assert again.due_at == build.ago(hours=1)
    assert again.key != first.key
    assert not pruned(build, prune_run=build.run(PRUNE, build.ago(days=6)))
    assert not pruned(build, prune_run=build.run(PRUNE, build.ago(minutes=5), Outcome.RUNNING))


def test_a_vault_that_this_host_may_only_add_to_is_pruned_by_its_owner(build):
    policy = replace(build.policy(build.source(vaults=("near",))), prune_every=7 * DAY)
    facts = Facts(vaults={"near": VaultFacts("near", first_copy_at=build.ago(days=8))})
    assert planned(policy, facts, build.now, PRUNE)
    vaults = {"near": replace(policy.vaults["near"], access=Access.APPEND_ONLY)}
    assert not planned(replace(policy, vaults=vaults), facts, build.now, PRUNE)


def renewed(build, access=Access.FULL, **known):
    """What is planned for the locks of a vault that locks for 30 days at a time, by what is known of it."""
    policy = build.policy(build.source(vaults=("near",)))
    near = replace(policy.vaults["near"], lock_mode=LockMode.GOVERNANCE, access=access)
    facts = Facts(vaults={"near": VaultFacts("near", **{"first_copy_at": build.ago(days=8), **known})})
    return planned(replace(policy, vaults={"near": near}), facts, build.now, RENEW)


def test_locks_are_looked_at_four_times_in_their_length_whoever_owns_the_vault(build):
    (first,) = renewed(build)
    assert (first.vault, first.due_at, first.reason) == (
        "near", build.ago(days=8), "locks are looked at every 7 days"
    )  # fmt: skip
    assert renewed(build, access=Access.APPEND_ONLY), "it takes nothing away"
    assert not renewed(build, first_copy_at=None)
    assert not renewed(build, renew_run=build.run(RENEW, build.ago(days=7)))
    (again,) = renewed(build, renew_run=build.run(RENEW, build.ago(days=7, hours=13)))
    assert again.due_at == build.ago(hours=1)
    assert not renewed(build, renew_run=build.run(RENEW, build.ago(minutes=5), Outcome.RUNNING))
    failed = build.run(RENEW, build.ago(minutes=30), Outcome.FAILED)
    assert renewed(build, renew_run=failed, renew_failures=1), "tried again soon"
    assert not planned(build.policy(), Facts(vaults=build.read_vaults()), build.now + 999 * DAY, RENEW)


def test_a_policy_can_leave_pruning_to_people(build):
    later = build.now + 999 * DAY
    assert not planned(build.policy(), Facts(vaults=build.read_vaults()), later, PRUNE)


def test_what_is_dated_in_the_future_puts_no_renewal_prune_or_reading_off(build):
    """Locks would end meanwhile."""
    ahead = build.now + DAY
    assert renewed(build, renew_run=build.run(RENEW, ahead))
    assert renewed(build, renew_run=build.run(RENEW, ahead, Outcome.FAILED), renew_failures=1)
    assert pruned(build, prune_run=build.run(PRUNE, ahead))
    assert pruned(build, prune_run=build.run(PRUNE, ahead, Outcome.FAILED, error_code="damage"))

    def read(**known):
        policy, vaults = build.policy(), build.read_vaults(**known)
        return planned(policy, build.facts(build.healthy(), vaults=vaults), build.now, VERIFY)

    assert read(read_at=ahead, read_since=ahead)
    assert read(first_copy_at=ahead, read_at=None, read_since=None)
    done = build.run(VERIFY, build.ago(hours=1))
    assert not read(read_at=ahead, read_since=ahead, last_run=done), "it was read since"
    failed = build.run(VERIFY, build.ago(minutes=1), Outcome.FAILED)
    assert not read(read_at=ahead, read_since=ahead, last_run=failed, failures=5), "each failure waits longer"


def test_an_expiry_dated_in_the_future_puts_none_off(build):
    kept = {"ledger": (build.point(build.ago(hours=1)), build.point(build.ago(days=400)))}
    policy = build.policy(build.source(retention="1 version"))
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
        run = build.run(EXPIRE, build.now + DAY, outcome)
        facts = build.facts(build.healthy(last_runs=build.runs(run)), kept_points=kept)
        assert planned(policy, facts, build.now, EXPIRE)


def test_a_prune_that_did_not_end_well_is_tried_again_and_after_damage_only_daily(build):
    busy = build.run(PRUNE, build.ago(minutes=6), Outcome.FAILED, error_code="busy")
    (soon,) = pruned(build, prune_run=busy, prune_failures=2)
    assert soon.due_at == build.ago(minutes=3)
    assert "did not end well" in soon.reason
    assert not pruned(build, prune_run=busy, prune_failures=9)
    killed = build.run(PRUNE, build.ago(minutes=6), Outcome.INTERRUPTED)
    assert [action.due_at for action in pruned(build, prune_run=killed)] == [build.ago(minutes=6)]
    damage = build.run(PRUNE, build.ago(hours=23), Outcome.FAILED, error_code="damage")
    assert not pruned(build, prune_run=damage, prune_failures=1)
    damage = build.run(PRUNE, build.ago(hours=25), Outcome.FAILED, error_code="damage")
    assert "removed nothing" in pruned(build, prune_run=damage, prune_failures=1)[0].reason


def test_a_vault_without_copies_or_without_sources_is_not_read(build):
    later = build.now + 999 * DAY
    assert not planned(build.policy(), Facts(vaults={"near": VaultFacts("near")}), later, VERIFY)
    unused = build.policy(build.source(vaults=("near",)))
    actions = planned(unused, Facts(vaults=build.read_vaults()), later, VERIFY)
    assert [action.vault for action in actions] == ["near"]


def test_a_vault_that_was_never_read_is_due_from_its_first_copy_on(build):
    vaults = build.read_vaults(read_at=None, read_passed=None, first_copy_at=build.ago(days=4))
    actions = planned(build.policy(), build.facts(vaults=vaults), build.now, VERIFY)
    assert [action.reason for action in actions] == ["every byte is read within 7 days; it was never read"] * 2


def test_a_damaged_vault_is_read_again_every_day(build):
    run = build.run(VERIFY, build.ago(hours=25), Outcome.FAILED, took=HOUR)
    vaults = build.read_vaults(read_at=build.ago(hours=24), read_passed=False, last_run=run, failures=1)
    actions = planned(build.policy(), build.facts(vaults=vaults), build.now, VERIFY)
    assert len(actions) == 2
    assert "found damage" in actions[0].reason
    assert not planned(build.policy(), build.facts(vaults=vaults), build.now - MINUTE, VERIFY)


def test_a_vault_that_could_not_be_read_is_tried_again_with_growing_delays(build):
    run = build.run(VERIFY, build.ago(minutes=30), Outcome.FAILED)
    vaults = build.read_vaults(read_at=build.ago(days=6), last_run=run, failures=7)
    assert not planned(build.policy(), build.facts(vaults=vaults), build.now, VERIFY)
    assert planned(build.policy(), build.facts(vaults=vaults), build.now + HOUR, VERIFY)


# -- expire


def expirable(build, **changes):
    old, newest = build.point(build.ago(days=200)), build.point(build.ago(days=100))
    return build.facts(build.healthy(proven=newest, **changes), kept_points={"ledger": (newest, old)})


def test_expiry_is_due_daily_while_retention_would_remove_something(build):
    (action,) = planned(build.policy(), expirable(build), build.now, EXPIRE)
    assert action.due_at == build.now
    assert action.reason == "retention no longer keeps 1 point"
    done = expirable(build, last_runs=build.runs(build.run(EXPIRE, build.ago(hours=23))))
    assert not planned(build.policy(), done, build.now, EXPIRE)
    assert planned(build.policy(), done, build.now + HOUR, EXPIRE)
    failed = expirable(build, last_runs=build.runs(build.run(EXPIRE, build.ago(minutes=5), Outcome.FAILED)))
    assert planned(build.policy(), failed, build.now, EXPIRE)


def test_an_enrolled_host_expires_nothing(build):
    enrolled = replace(build.policy(), enrolled_as="web1")
    assert not planned(enrolled, expirable(build), build.now, EXPIRE)


def test_nothing_expires_when_retention_keeps_everything(build):
    policy = build.policy(build.source(retention="permanent"))
    assert not planned(policy, expirable(build), build.now, EXPIRE)
    facts = expirable(build)
    proven = build.healthy(proven=build.point(build.ago(days=200)))
    assert not planned(build.policy(), replace(facts, sources={"ledger": proven}), build.now, EXPIRE)


# -- order and time


def test_critical_sources_come_first_within_each_kind(build):
    sources = [
        build.source("docs", category="C", triggers="daily"),
        build.source("books", category="A", triggers="hourly"),
        build.source("conf", category="B", triggers="daily"),
    ]
    vaults = build.read_vaults(read_at=build.ago(days=60))
    actions = due(build.policy(*sources), Facts(vaults=vaults), build.now)
    assert [action.source for action in actions if action.kind is BACKUP] == ["books", "conf", "docs"]
    assert [action.kind for action in actions] == [BACKUP] * 3 + [VERIFY] * 2


def test_of_equals_the_longest_waiting_comes_first(build):
    sources = [build.source(name) for name in ("one", "two")]
    known = {name: SourceFacts(name, first_seen=build.ago(days=days)) for name, days in (("one", 1), ("two", 2))}
    actions = due(build.policy(*sources), Facts(sources=known), build.now)
    assert [action.source for action in actions] == ["two", "one"]


states = st.builds(
    dict,
    captured=st.integers(0, 2000),
    took=st.integers(0, 100),
    confirmed=st.none() | st.integers(0, 2000),
    tested=st.none() | st.integers(0, 100_000),
    passed=st.booleans(),
    copies=st.sets(st.sampled_from(["near", "far"])),
    outcomes=st.dictionaries(st.sampled_from(list(ActionKind)), st.sampled_from(list(Outcome))),
    failures=st.integers(0, 9),
    triggers=st.sampled_from(["hourly", "daily at 02:00", "on change, weekly", "continuous"]),
)


def state_of(build, state):
    newest = build.point(build.ago(minutes=state["captured"]), took=state["took"] * MINUTE)
    known = build.healthy(
        newest=newest,
        confirmed_at=None if state["confirmed"] is None else build.ago(minutes=state["confirmed"]),
        last_test=None
        if state["tested"] is None
        else build.test(build.ago(minutes=state["tested"]), passed=state["passed"]),
        copies=tuple(build.copy(newest, vault) for vault in sorted(state["copies"])),
        last_runs={kind: build.run(kind, build.ago(minutes=9), outcome) for kind, outcome in state["outcomes"].items()},
        failures=dict.fromkeys(state["outcomes"], state["failures"]),
    )
    return build.policy(build.source(triggers=state["triggers"])), build.facts(known)


@given(states)
def test_a_plan_is_the_same_twice_and_its_keys_are_unique(build, state):
    policy, facts = state_of(build, state)
    actions = due(policy, facts, build.now)
    assert actions == due(policy, facts, build.now)
    assert len({action.key for action in actions}) == len(actions)
    assert all(action.due_at <= build.now and action.reason for action in actions)


@given(states)
def test_what_is_due_stays_due_until_something_happens(build, state):
    policy, facts = state_of(build, state)
    later = {action.key for action in due(policy, facts, build.now + 3 * HOUR)}
    assert {action.key for action in due(policy, facts, build.now)} <= later


@given(states)
def test_the_next_moment_of_a_source_is_when_something_becomes_due(build, state):
    policy, facts = state_of(build, state)
    facts = replace(facts, vaults={})
    moment = build.next_due_at(policy, "ledger", facts)
    if moment is None:
        assert not due(policy, facts, build.now + 999 * DAY)
    elif moment > build.now:
        assert not due(policy, facts, build.now)
        assert not due(policy, facts, moment - timedelta(microseconds=1))
        assert due(policy, facts, moment)
    else:
        assert due(policy, facts, build.now)


def test_naive_moments_are_refused(build):
    naive = build.now.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"):
        due(build.policy(), build.facts(), naive)


# -- timetable


def row(build, known=None, **source):
    policy = build.policy(build.source(**source))
    facts = Facts() if known is None else build.facts(known)
    (only,) = timetable(policy, facts, build.now, ZoneInfo("Europe/Berlin"))
    return only


def test_the_timetable_says_when_and_why(build):
    run = build.run(BACKUP, build.ago(hours=1))
    only = row(build, build.healthy(last_runs=build.runs(run)), triggers="hourly, daily at 02:00", category="B")
    assert (only.source, only.triggers) == ("ledger", "hourly, daily at 02:00")
    assert only.last_run == build.ago(hours=1)
    assert only.next_run == build.now
    assert only.next_run.hour == 13  # Berlin
    assert only.why == "trigger 'hourly'; due now"
    assert only.test_last == build.ago(days=2)
    assert only.test_next == build.ago(days=2) + 29 * DAY


def test_the_timetable_of_a_new_source_says_now(build):
    only = row(build)
    assert (only.last_run, only.next_run, only.why) == (None, build.now, "no backup yet")
    assert (only.test_last, only.test_next) == (None, None)


def test_the_timetable_shows_waiting_running_and_retries(build):
    assert row(build, build.healthy()).why == "trigger 'every 6 h'"
    waiting = build.healthy(newest=build.point(build.ago(hours=8)))
    assert row(build, waiting).why == "trigger 'every 6 h'; due for 2 h"
    running = build.run(BACKUP, build.now, Outcome.RUNNING)
    assert row(build, build.healthy(last_runs=build.runs(running))).why == "running now"
    failed = build.run(BACKUP, build.now, Outcome.FAILED)
    only = row(build, build.healthy(last_runs=build.runs(failed), failures={BACKUP: 2}), triggers="hourly")
    assert only.next_run == build.now + 3 * MINUTE
    assert only.why == "trigger 'hourly'; tried again after 2 failed runs"


def test_upcoming_tells_what_is_due_next_of_a_source_and_its_vaults(build):
    policy = build.policy(build.source(), build.source("other", vaults=("far",)))
    found = upcoming(policy, "ledger", build.facts(), build.now)
    assert [action.due_at for action in found] == sorted(action.due_at for action in found)
    assert {(action.kind.value, action.source, action.vault) for action in found} >= {
        ("backup", "ledger", None),
        ("verify", None, "near"),
        ("verify", None, "far"),
    }
    assert {action.source for action in found} == {"ledger", None}
    assert not any(action.vault == "near" for action in upcoming(policy, "other", build.facts(), build.now))
