from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.assurance import SEVERITY, judge
from cto_backups.core.facts import Facts
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import ActionKind, Outcome, Rung, Sample, Status
from cto_backups.core.streams import StreamFacts

HEALTHY, OVERDUE, FAILED_TEST, UNPROTECTED = (
    Status.HEALTHY,
    Status.OVERDUE,
    Status.FAILED_TEST,
    Status.UNPROTECTED,
)
BACKUP, COPY, TEST = ActionKind.BACKUP, ActionKind.COPY, ActionKind.RESTORE_TEST
DAY = timedelta(days=1)


def verdict(build, known=None, source=None, **changes):
    policy = build.policy(source or build.source())
    return judge(policy, build.facts(known, **changes), build.now)["ledger"]


def says(verdict, words):
    return any(words in reason for reason in verdict.reasons)


def test_a_source_that_meets_its_policy_is_healthy_and_the_reason_has_the_figures(build):
    found = verdict(build)
    assert found.status is HEALTHY
    assert found.reasons == (
        "newest complete point is 1 h old (RPO 24 h), 2 copies, proven by a restore test 48 h ago",
    )
    assert (found.rung, found.rung_wanted) == (Rung.PROVEN, Rung.RESTORED)
    assert (found.age, found.copies, found.copies_wanted) == (timedelta(hours=1), 2, 2)
    assert found.tested_at == build.ago(days=2)


# -- UNPROTECTED


def test_a_source_without_any_fact_is_unprotected(build):
    found = judge(build.policy(), Facts(), build.now)["ledger"]
    assert (found.status, found.rung, found.age, found.copies) == (UNPROTECTED, Rung.DECLARED, None, 0)
    assert found.reasons == ("there is no complete recovery point",)


def test_an_incomplete_point_alone_protects_nothing(build):
    partial = build.point(build.ago(hours=1), incomplete=True)
    found = verdict(build, build.healthy(newest=None, newest_any=partial, copies=()))
    assert (found.status, found.rung) == (UNPROTECTED, Rung.RECORDED)
    assert says(found, "is incomplete: 1 entry could not be captured")


def test_a_point_that_no_vault_holds_protects_nothing(build):
    found = verdict(build, build.healthy(copies=()))
    assert (found.status, found.rung) == (UNPROTECTED, Rung.RECORDED)
    assert says(found, "no vault holds a copy")


def test_copies_that_are_all_damaged_protect_nothing(build):
    newest = build.point(build.ago(hours=1))
    copies = tuple(build.copy(newest, vault, read_passed=False) for vault in ("near", "far"))
    found = verdict(build, build.healthy(newest=newest, copies=copies))
    assert (found.status, found.copies) == (UNPROTECTED, 0)
    assert says(found, "vaults near and far found damage")


# -- FAILED_TEST


def test_a_failed_restore_test_shows_until_one_passes(build):
    failed = build.healthy(last_test=build.test(build.ago(hours=3), passed=False))
    found = verdict(build, failed)
    assert found.status is FAILED_TEST
    assert found.reasons[0] == "the last restore test, 3 h ago, failed: checksum content differs"
    assert found.rung < Rung.RESTORED
    assert found.tested_at == build.ago(hours=3)
    passed_since = replace(failed, proven_at=build.ago(hours=1))
    assert verdict(build, passed_since).status is HEALTHY
    wordless = replace(failed, last_test=build.test(build.ago(hours=3), passed=False, reason=""))
    assert verdict(build, wordless).reasons[0] == "the last restore test, 3 h ago, failed"


def test_a_test_that_never_passed_has_failed(build):
    failed = build.test(build.ago(hours=3), passed=False)
    assert verdict(build, build.healthy(last_test=failed, proven_at=None)).status is FAILED_TEST


def test_a_test_that_could_not_run_has_failed(build):
    run = build.run(TEST, build.ago(hours=1), Outcome.FAILED, message="vault near is not there")
    known = build.healthy(last_runs=build.runs(run))
    found = verdict(build, known)
    assert found.status is FAILED_TEST
    assert says(found, "1 h ago, could not run: vault near is not there")
    assert verdict(build, replace(known, proven_at=build.ago(minutes=5))).status is HEALTHY
    silent = build.healthy(last_runs=build.runs(replace(run, message="")), proven_at=None)
    assert says(verdict(build, silent), "could not run")


def test_a_failed_test_counts_even_where_none_is_required(build):
    failed = build.healthy(last_test=build.test(build.ago(hours=3), passed=False))
    assert verdict(build, failed, build.source(test_every="none")).status is FAILED_TEST


def test_a_damaged_copy_is_a_failed_test(build):
    newest = build.point(build.ago(hours=1))
    copies = (build.copy(newest, "near", read_passed=False), build.copy(newest, "far", read_passed=True))
    vaults = build.read_vaults()
    vaults["near"] = replace(vaults["near"], read_passed=False)
    found = verdict(build, build.healthy(newest=newest, copies=copies), vaults=vaults)
    assert (found.status, found.copies) == (FAILED_TEST, 1)
    assert len(found.reasons) == 1
    assert says(found, "vault near found damage, so its copy does not count")


def test_damage_found_before_the_newest_copy_was_stored_still_counts(build):
    found = verdict(build, vaults=build.read_vaults(read_passed=False))
    assert found.status is FAILED_TEST
    assert says(found, "the last reading of vault near found damage")


# -- vaults that are not there


def test_a_copy_in_a_vault_that_is_not_there_counts_for_nothing(build):
    found = verdict(build, vaults_away={"near": "its disk is not mounted"})
    assert (found.status, found.copies, found.rung) == (OVERDUE, 1, Rung.PROVEN)
    assert found.reasons[0] == (
        "the copy in vault near does not count, since nobody can read it now: its disk is not mounted"
    )
    assert verdict(build, vaults_away={}).status is HEALTHY
    assert verdict(build, vaults_away={"elsewhere": "gone"}).status is HEALTHY, "nothing of it lies there"


def test_without_any_vault_there_is_nothing_to_return_to(build):
    gone = {"near": "not mounted", "far": "not mounted"}
    found = verdict(build, vaults_away=gone)
    assert (found.status, found.copies, found.rung) == (UNPROTECTED, 0, Rung.RECORDED)
    newest = build.point(build.ago(hours=1))
    copies = (build.copy(newest, "near", read_passed=False), build.copy(newest, "far", read_passed=True))
    damaged = build.healthy(newest=newest, copies=copies)
    assert verdict(build, damaged, vaults_away={"far": "not mounted"}).status is UNPROTECTED, "one damaged, one away"
    assert verdict(build, damaged, vaults_away={"near": "not mounted"}).status is FAILED_TEST, "far is well"


# -- streams


def test_what_a_stream_brought_counts_as_fresh_and_one_that_stands_still_is_said(build):
    stream = StreamFacts("ledger", reached_at=build.ago(minutes=1), leased_until=build.now + timedelta(seconds=20))
    old = build.point(build.ago(days=3))

    def judged(stream, triggers="daily, continuous"):
        known = replace(build.healthy(newest=old), stream=stream)
        return verdict(build, known, build.source(triggers=triggers))

    found = judged(stream)
    assert (found.status, found.age) == (HEALTHY, timedelta(minutes=1))
    assert not says(found, "its log")
    lost = judged(replace(stream, leased_until=None, problem="no such server"))
    assert lost.status is HEALTHY, "the RPO has its say when it is over"
    assert says(lost, "its log is followed by no worker, for 1 minute: no such server")
    assert judged(replace(stream, reached_at=build.ago(days=2), leased_until=None)).status is OVERDUE
    assert judged(replace(stream, reached_at=build.now + DAY)).status is OVERDUE, "a clock is wrong"
    assert not says(judged(replace(stream, leased_until=None), "daily"), "its log"), "it is not wanted any more"


def test_a_log_that_nobody_ever_followed_is_said(build):
    """A worker that never ran is the commonest reason."""
    newest = build.point(build.ago(minutes=1))
    sample = Sample(LOG_SAMPLE, {"log": "server-1", "first_position": "10", "end_position": "30"})
    logged = replace(newest, fingerprint=replace(newest.fingerprint, samples=(sample,)))

    def judged(newest, triggers="daily, continuous"):
        return verdict(build, build.healthy(newest=newest), build.source(triggers=triggers))

    assert says(judged(logged), "its log was never followed: only a worker does")
    assert judged(logged).status is HEALTHY, "the RPO has its say when it is over"
    assert not says(judged(logged, "daily"), "its log")
    assert not says(judged(newest), "its log"), "there is none to follow"


# -- OVERDUE


def test_a_point_older_than_the_rpo_is_overdue_to_the_second(build):
    newest = build.point(build.ago(hours=24))
    at_limit = build.healthy(newest=newest)
    assert verdict(build, at_limit).status is HEALTHY
    beyond = build.healthy(newest=build.point(build.ago(hours=26)))
    found = verdict(build, beyond)
    assert (found.status, found.reasons) == (OVERDUE, ("newest complete point is 26 h old; RPO is 24 h",))
    just_beyond = build.healthy(newest=build.point(build.ago(hours=24, seconds=1)))
    assert verdict(build, just_beyond).status is OVERDUE
    assert says(verdict(build, just_beyond), "is a little over 24 h old; RPO is 24 h")


def test_a_scan_that_confirms_that_nothing_changed_counts_as_freshness(build):
    old = build.point(build.ago(days=50))
    known = build.healthy(newest=old, confirmed_at=build.ago(hours=2))
    assert (verdict(build, known).status, verdict(build, known).age) == (HEALTHY, timedelta(hours=2))


def test_a_newer_incomplete_point_is_said_and_does_not_count_as_freshness(build):
    partial = build.point(build.ago(minutes=5), incomplete=True)
    fresh = verdict(build, build.healthy(newest_any=partial))
    assert fresh.status is HEALTHY
    assert says(fresh, "is incomplete")
    stale = build.healthy(newest=build.point(build.ago(days=3)), newest_any=partial)
    assert verdict(build, stale).status is OVERDUE


def running(build, started_at):
    return build.runs(build.run(BACKUP, started_at, Outcome.RUNNING))


def test_a_daily_backup_is_not_overdue_while_its_successor_runs(build):
    newest = build.point(build.ago(hours=24, minutes=10))
    known = build.healthy(newest=newest, last_runs=running(build, build.ago(minutes=10)))
    found = verdict(build, known)
    assert found.status is HEALTHY
    assert says(found, "is a little over 24 h old; RPO is 24 h; the backup that replaces it is under way")


def test_a_run_excuses_only_when_it_began_in_time_and_takes_no_longer_than_usual(build):
    newest = build.point(build.ago(hours=25))
    late = build.healthy(newest=newest, last_runs=running(build, build.ago(minutes=10)))
    assert verdict(build, late).status is OVERDUE
    hanging = build.healthy(newest=newest, last_runs=running(build, build.ago(hours=1)))
    assert verdict(build, hanging).status is OVERDUE
    slow = build.point(build.ago(hours=25), took=timedelta(minutes=40))
    usual = build.healthy(newest=slow, last_runs=running(build, build.ago(hours=1)))
    assert verdict(build, usual).status is HEALTHY
    finished = build.runs(build.run(BACKUP, build.ago(minutes=61)))
    assert verdict(build, build.healthy(newest=newest, last_runs=finished)).status is OVERDUE
    from_the_future = build.healthy(newest=newest, last_runs=running(build, build.now + DAY))
    assert verdict(build, from_the_future).status is OVERDUE


@pytest.mark.parametrize("where", ["newest", "confirmed_at"])
def test_a_point_dated_in_the_future_is_never_green(build, where):
    ahead = build.now + timedelta(hours=3)
    known = build.healthy(newest=build.point(ahead)) if where == "newest" else build.healthy(confirmed_at=ahead)
    found = verdict(build, known)
    assert (found.status, found.age) == (OVERDUE, None)
    assert says(found, "dated 3 h in the future")


def test_clocks_that_differ_by_seconds_do_no_harm(build):
    found = verdict(build, build.healthy(newest=build.point(build.now + timedelta(seconds=20), took=timedelta())))
    assert (found.status, found.age) == (HEALTHY, timedelta())


def test_a_source_that_was_never_restored_is_not_healthy(build):
    found = verdict(build, build.healthy(proven=None, proven_at=None, last_test=None))
    assert found.status is OVERDUE
    assert says(found, "never proven by a restore test")
    assert found.tested_at is None


def test_a_source_whose_own_probe_answered_serves(build):
    answered = build.test(build.ago(days=2), rung=Rung.SERVING)
    assert verdict(build, build.healthy(last_test=answered)).rung is Rung.SERVING
    assert verdict(build, build.healthy(last_test=None)).rung is Rung.PROVEN


def test_a_source_of_which_only_samples_were_compared_stands_on_a_lower_rung(build):
    sampled = build.test(build.ago(days=2), rung=Rung.RESTORED)
    found = verdict(build, build.healthy(last_test=sampled))
    assert (found.status, found.rung) == (HEALTHY, Rung.RESTORED)
    assert says(found, "restored by a restore test 48 h ago")
    assert says(found, "the last restore test compared only a part of it")


def test_a_source_that_needs_no_test_is_healthy_without_one(build):
    untested = build.healthy(proven=None, proven_at=None, last_test=None)
    found = verdict(build, untested, build.source(category="C", test_every="none"))
    assert (found.status, found.rung) == (HEALTHY, Rung.READ)
    assert says(found, "not proven by a restore test")


def test_an_old_restore_test_is_overdue(build):
    known = build.healthy(proven_at=build.ago(days=31), last_test=build.test(build.ago(days=31)))
    found = verdict(build, known)
    assert (found.status, found.rung) == (OVERDUE, Rung.READ)
    assert says(found, "the last passed restore test was 31 days ago; one is due every 30 days")
    assert verdict(build, known, build.source(test_every="none")).rung is Rung.PROVEN


def test_fresh_tests_of_an_old_point_are_said_to_prove_nothing_newer(build):
    known = build.healthy(proven_until=build.ago(days=31))
    found = verdict(build, known)
    assert found.status is HEALTHY, "the test is fresh: the audit asks for one of a newer point"
    assert says(found, "prove nothing newer than")
    assert not says(verdict(build, build.healthy(proven_until=build.ago(days=30))), "prove nothing newer")
    assert not says(verdict(build, known, build.source(test_every="none")), "prove nothing newer")


def test_a_restore_test_dated_in_the_future_proves_nothing(build):
    found = verdict(build, build.healthy(proven_at=build.now + DAY))
    assert (found.status, found.rung) == (OVERDUE, Rung.READ)


def test_a_missing_copy_is_said_at_once_and_overdue_after_a_while(build):
    def missing(minutes, **changes):
        newest = build.point(build.ago(minutes=minutes), took=timedelta())
        return verdict(build, build.healthy(newest=newest, copies=(build.copy(newest, "near"),), **changes))

    assert missing(10).status is HEALTHY
    assert says(missing(10), "vault far has no copy of")
    assert says(missing(10), "yet")
    assert missing(16).status is OVERDUE
    assert says(missing(16), "which was made 16 minutes ago")
    assert missing(10, failures={COPY: 1}).status is OVERDUE


def test_several_missing_copies_are_named(build):
    newest = build.point(build.ago(hours=1))
    known = build.healthy(newest=newest, copies=(build.copy(newest, "elsewhere"),))
    found = verdict(build, known)
    assert (found.status, found.copies, found.rung) == (OVERDUE, 0, Rung.RECORDED)
    assert says(found, "vaults near and far have no copy of")


def test_fewer_vaults_than_copies_asked_for_is_said(build):
    found = verdict(build, source=build.source(category="A", triggers="hourly"))
    assert found.copies_wanted == 3
    assert says(found, "policy names 2 vaults, but category A asks for 3 copies")


def test_a_vault_that_is_not_read_in_time_is_overdue(build):
    stale = verdict(build, vaults=build.read_vaults(read_at=build.ago(days=8)))
    assert stale.status is OVERDUE
    assert says(stale, "the oldest reading of vault near was 8 days ago; every byte is to be read within 7 days")
    never = verdict(build, vaults=build.read_vaults(read_at=None, first_copy_at=build.ago(days=8)))
    assert says(never, "vault near was never read in full")
    new = verdict(build, vaults=build.read_vaults(read_at=None, first_copy_at=build.ago(days=6)))
    assert new.status is HEALTHY
    ahead = verdict(build, vaults=build.read_vaults(read_at=build.now + DAY))
    assert ahead.status is OVERDUE


def test_a_verification_in_parts_counts_as_old_as_its_oldest_reading(build):
    untested = build.healthy(proven=None, proven_at=None, last_test=None)
    source = build.source(category="C", test_every="none")  # every byte within 30 days

    def judged(**reading):
        vaults = build.read_vaults(read_at=build.ago(hours=1), first_copy_at=build.ago(days=60), **reading)
        return verdict(build, untested, source, vaults=vaults)

    fresh = judged(read_since=build.ago(days=29))
    assert (fresh.status, fresh.rung) == (HEALTHY, Rung.READ)
    stale = judged(read_since=build.ago(days=31))
    assert (stale.status, stale.rung) == (OVERDUE, Rung.STORED)
    assert says(stale, "the oldest reading of vault near was 31 days ago; every byte is to be read within 30 days")
    in_part = judged(read_since=None)
    assert (in_part.status, in_part.rung) == (OVERDUE, Rung.STORED), "the last part of it was read an hour ago"
    damaged = judged(read_since=build.ago(days=1), read_passed=False)
    assert (damaged.status, damaged.rung) == (FAILED_TEST, Rung.STORED)


def test_a_rung_that_is_not_reached_is_said(build):
    untested = build.healthy(proven=None, proven_at=None, last_test=None)
    source = build.source(category="C", test_every="none")
    new = verdict(build, untested, source, vaults=build.read_vaults(read_at=None, first_copy_at=build.ago(days=1)))
    assert (new.status, new.rung) == (HEALTHY, Rung.STORED)
    assert says(new, "it stands on rung stored; policy asks for read")
    assert verdict(build, untested, source, vaults={}).rung is Rung.STORED


# -- what is said in any case


def test_failed_and_interrupted_runs_are_said(build):
    failed = build.run(BACKUP, build.ago(minutes=5), Outcome.FAILED, message="disk full")
    interrupted = build.run(TEST, build.ago(minutes=5), Outcome.INTERRUPTED)
    found = verdict(build, build.healthy(last_runs=build.runs(failed, interrupted), failures={BACKUP: 3}))
    assert found.status is HEALTHY
    assert found.reasons[1:] == (
        "the last backup failed, 3 times in a row: disk full",
        "the last restore test was interrupted",
    )
    silent = build.run(COPY, build.ago(minutes=5), Outcome.FAILED)
    assert says(verdict(build, build.healthy(last_runs=build.runs(silent))), "the last copy failed, 1 time in a row")


def test_the_gravest_word_wins_and_its_reason_comes_first(build):
    bad = build.healthy(newest=build.point(build.ago(days=9)), last_test=build.test(build.ago(hours=1), passed=False))
    found = verdict(build, bad)
    assert found.status is FAILED_TEST
    assert found.reasons[0].startswith("the last restore test")
    assert says(found, "newest complete point is 9 days old")
    worst = replace(bad, newest=None, copies=())
    assert verdict(build, worst).status is UNPROTECTED


@given(
    age=st.integers(-500, 5000),
    confirmed=st.none() | st.integers(-500, 5000),
    tested=st.none() | st.integers(-500, 100_000),
    passed=st.booleans(),
    read=st.none() | st.integers(0, 20_000),
    damaged=st.sets(st.sampled_from(["near", "far"])),
    stored=st.sets(st.sampled_from(["near", "far"])),
    complete=st.booleans(),
)
def test_green_means_fresh_copied_undamaged_and_proven(
    build, age, confirmed, tested, passed, read, damaged, stored, complete
):
    newest = build.point(build.ago(minutes=age), took=timedelta()) if complete else None
    at = build.ago(minutes=tested) if tested is not None else None
    known = build.healthy(
        newest=newest,
        newest_any=newest or build.point(build.ago(minutes=age), incomplete=True),
        confirmed_at=None if confirmed is None else build.ago(minutes=confirmed),
        copies=tuple(build.copy(newest, vault, read_passed=vault not in damaged) for vault in sorted(stored))
        if newest
        else (),
        last_test=at and build.test(at, passed=passed),
        proven_at=at if passed else None,
    )
    vaults = build.read_vaults(read_at=None if read is None else build.ago(minutes=read))
    found = verdict(build, known, vaults=vaults)
    assert found.reasons
    assert found.status in SEVERITY
    if found.status is HEALTHY:
        assert newest is not None
        assert found.age <= timedelta(hours=24)
        assert age >= -5
        assert at is not None
        assert passed
        assert tested <= 30 * 24 * 60
        assert stored
        assert not damaged & stored
        assert len(stored) == 2 or any("no copy" in reason for reason in found.reasons)


@given(hours=st.integers(0, 1000))
def test_waiting_never_makes_a_source_greener(build, hours):
    policy, facts = build.policy(), build.facts()
    words = [judge(policy, facts, build.now + timedelta(hours=later))["ledger"].status for later in (0, hours)]
    assert SEVERITY.index(words[1]) <= SEVERITY.index(words[0])


def test_every_source_of_the_policy_gets_a_verdict(build):
    policy = build.policy(build.source("one"), build.source("two"))
    assert list(judge(policy, Facts(), build.now)) == ["one", "two"]


def test_naive_moments_are_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        judge(build.policy(), Facts(), build.now.replace(tzinfo=None))


# -- the change that policy expects


def test_a_source_that_stands_still_for_longer_than_policy_expects_is_overdue(build):
    """The job that writes the dump has stopped; each backup of the old dump ends well."""
    dump = build.source(expects_change=timedelta(hours=26))
    stale = build.point(build.ago(hours=1), newest_content_at=build.ago(hours=50))
    found = verdict(build, build.healthy(newest=stale), dump)
    assert found.status is OVERDUE
    assert says(
        found, "when it was last looked at, its newest content was 49 h old; policy expects a change every 26 h"
    )
    assert verdict(build, build.healthy(newest=stale)).status is HEALTHY
    fresh = build.point(build.ago(hours=1), newest_content_at=build.ago(hours=27))
    assert verdict(build, build.healthy(newest=fresh), dump).status is HEALTHY


def test_time_since_the_last_look_does_not_count_as_standing_still(build):
    """A rare backup would otherwise accuse the source of what nobody has looked at."""
    dump = build.source(expects_change=timedelta(hours=2))
    known = build.healthy(newest=build.point(build.ago(hours=20), newest_content_at=build.ago(hours=21)))
    assert verdict(build, known, dump).status is HEALTHY


def test_without_dates_a_source_changed_last_when_its_newest_point_was_made(build):
    dump = build.source(expects_change=timedelta(hours=26))
    known = build.healthy(newest=build.point(build.ago(hours=30)), confirmed_at=build.ago(hours=1))
    found = verdict(build, known, dump)
    assert found.status is OVERDUE
    assert says(found, "it had been the same for 29 h; policy expects a change every 26 h")
    assert verdict(build, replace(known, confirmed_at=build.ago(hours=5)), dump).status is HEALTHY
