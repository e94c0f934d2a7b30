"""Points whose data lie in repositories of others: what they count for, and what must not be claimed of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.assurance import judge
from cto_backups.core.controls import CONTROLS
from cto_backups.core.elsewhere import Elsewhere, Keeping, elsewhere, is_of_elsewhere, told
from cto_backups.core.facts import SourceFacts
from cto_backups.core.findings import Audited, Environment
from cto_backups.core.ladder import Standing, ladders
from cto_backups.core.model import Evidence, Fingerprint, Rung, Sample, Status
from cto_backups.core.restore_test_times import next_test

SUMMED = Fingerprint("postgresql-physical/1", {"rows": "ab"}, {"rows": 7})
UNASKED = Fingerprint("unasked/1", {}, {})
BOTH = Elsewhere("pgBackRest", 4096, (Keeping("repo1", cipher="aes", backup="F"), Keeping("repo2", backup="G")))


def point(build, where=BOTH, fingerprint=SUMMED, **changes):
    samples = (Sample("server", {"version": "15"}), *where.samples())
    return build.point(build.ago(hours=1), fingerprint=replace(fingerprint, samples=samples), **changes)


def verdict(build, where=BOTH, source=None, fingerprint=SUMMED, **changes):
    known = build.healthy(newest=point(build, where, fingerprint), **changes)
    return judge(build.policy(source or build.source()), build.facts(known), build.now)["ledger"]


def checks(build, control, where=BOTH, source=None, policy=None):
    policy = policy or build.policy(source or build.source())
    facts = build.facts(build.healthy(newest=point(build, where)))
    audited = Audited(policy, facts, judge(policy, facts, build.now), build.now, Environment(ciphers={"near": "a"}))
    (found,) = [each for each in CONTROLS if each.id == control]
    return {(check.subject, check.detail): check.passed for check in found.check(audited) if check.subject == "ledger"}


def test_a_fingerprint_tells_where_data_lie(build):
    lacking = Keeping("repo2", "a gap", "a wrong page", "a remark", "aes", "F")
    where = Elsewhere("pgBackRest", 4096, (Keeping("repo1"), lacking))
    assert elsewhere(point(build, where)) == where
    assert [each.repository for each in where.holding] == ["repo1"]
    assert all(is_of_elsewhere(sample) for sample in where.samples())
    assert not is_of_elsewhere(Sample("server", {}))


def test_a_point_that_no_repository_holds_says_so():
    where = Elsewhere("pgBackRest", 1, (Keeping("repo1", damage="wrong pages"),))
    assert str(where).startswith("no sound copy in pgBackRest's repositories")


def test_other_points_lie_in_vaults(build):
    assert elsewhere(None) is None
    assert elsewhere(build.point()) is None


def test_a_size_that_makes_no_sense_is_none():
    assert told(Fingerprint("x/1", {}, {}, (Sample("elsewhere", {"size_bytes": "many"}),))) == Elsewhere("", 0, ())


def test_what_is_healthy_says_that_vaults_have_the_record_alone(build):
    found = verdict(build)
    assert (found.status, found.copies) == (Status.HEALTHY, 2)
    words = "2 copies, in pgBackRest's repositories repo1 (backup F) and repo2 (backup G), with only its record"
    assert f"{words} in our vaults" in found.reasons[0]


@pytest.mark.parametrize(
    ("keeping", "word", "reason"),
    [
        (Keeping("repo2", lacks="it is away"), Status.OVERDUE, "repo2 does not hold the newest point: it is away"),
        (Keeping("repo2", damage="wrong pages"), Status.FAILED_TEST, "pgBackRest's repo2 is damaged: wrong pages"),
        (Keeping("repo2", remark="it is old"), Status.OVERDUE, "pgBackRest's repo2: it is old"),
    ],
)
def test_whatever_is_wrong_with_a_repository_is_red(build, keeping, word, reason):
    found = verdict(build, Elsewhere("pgBackRest", 1, (Keeping("repo1"), keeping)))
    assert found.status is word
    assert any(reason in each for each in found.reasons)
    assert found.copies == 1 + keeping.holds


def test_fewer_repositories_than_copies_asked_for_are_told(build):
    found = verdict(build, Elsewhere("pgBackRest", 1, (Keeping("repo1"),)))
    assert "pgBackRest has 1 repository, but category B asks for 2 copies" in found.reasons


def test_readings_of_our_vaults_prove_nothing_of_data_elsewhere(build):
    read = {"read_at": build.ago(hours=1), "read_passed": True, "read_since": build.ago(hours=1)}
    known = build.healthy(newest=point(build), proven=None, proven_at=None, last_test=None)
    facts = build.facts(known)
    vaults = {name: replace(vault, **read) for name, vault in facts.vaults.items()}
    policy = build.policy()
    assert judge(policy, replace(facts, vaults=vaults), build.now)["ledger"].rung is Rung.STORED
    copies = tuple(replace(copy, **read) for copy in known.copies)
    again = replace(facts, sources={"ledger": replace(known, copies=copies)})
    for ladder in ladders(policy, again, "ledger", build.now):
        assert {step.standing for step in ladder.steps if step.rung is Rung.READ} == {Standing.MISSING}
    damaged = tuple(replace(copy, read_passed=False) for copy in copies)
    again = replace(facts, sources={"ledger": replace(known, copies=damaged)})
    for ladder in ladders(policy, again, "ledger", build.now):
        assert {step.standing for step in ladder.steps if step.rung is Rung.READ} == {Standing.FAILED}


def restored(build, at, rung=Rung.RESTORED) -> Evidence:
    return build.test(at, passed=False, rung=rung, reason="there is nothing to compare it with")


@pytest.mark.parametrize(
    ("days", "every", "rung", "wanted"),
    [
        (2, 30, Rung.RESTORED, Rung.RESTORED),
        (40, 30, Rung.RESTORED, Rung.STORED),
        (-2, 30, Rung.RESTORED, Rung.STORED),
        (40, None, Rung.RESTORED, Rung.RESTORED),
        (2, 30, Rung.STORED, Rung.STORED),
    ],
)
def test_what_comes_back_and_cannot_be_compared_is_restored_and_never_green(build, days, every, rung, wanted):
    source = build.source(test_every=timedelta(days=every) if every else None)
    last = restored(build, build.ago(days=days), rung)
    found = verdict(build, source=source, fingerprint=UNASKED, proven=None, proven_at=None, last_test=last)
    assert (found.status, found.rung) == (Status.FAILED_TEST, wanted)


def test_what_came_back_and_was_not_what_it_should_be_is_not_restored(build):
    found = verdict(build, proven=None, proven_at=None, last_test=restored(build, build.ago(days=2)))
    assert (found.status, found.rung) == (Status.FAILED_TEST, Rung.STORED)


def test_of_what_was_never_tested_nothing_came_back(build):
    found = verdict(build, fingerprint=UNASKED, proven=None, proven_at=None, last_test=None)
    assert (found.status, found.rung) == (Status.OVERDUE, Rung.STORED)


def test_a_test_that_can_prove_nothing_is_not_repeated_at_once(build):
    source, newest = build.source(), point(build, fingerprint=UNASKED)
    copies = (build.copy(newest, "near"),)
    tested = build.ago(days=1)
    facts = SourceFacts("ledger", newest=newest, copies=copies, last_test=restored(build, tested))
    at, reason = next_test(source, facts, build.now)
    assert at == tested + source.test_every
    assert "nothing to compare" in reason
    for again in (
        replace(facts, last_test=restored(build, tested, Rung.STORED)),
        replace(facts, newest=point(build)),
    ):
        assert next_test(source, again, build.now)[0] == tested


def test_copies_count_where_the_data_lie(build):
    (passed,) = checks(build, "copies").values()
    assert passed
    one = Elsewhere("pgBackRest", 1, (Keeping("repo1"), Keeping("repo2", lacks="it is away")))
    (passed,) = checks(build, "copies", one).values()
    assert not passed


def test_nothing_is_assumed_of_a_repository_that_nobody_declared(build):
    for control in ("storage-types", "off-site", "failure-domains", "write-only"):
        source = build.source(category="A")
        assert not any(checks(build, control, source=source).values()), control
    one = Elsewhere("pgBackRest", 1, (Keeping("repo1"),))
    (told,) = checks(build, "failure-domains", one, build.source(category="C"))
    assert "in 0 failure domains apart from the data" in told[1]


def test_what_policy_declares_of_repositories_counts(build):
    kept = {
        "repo1": build.vault("repo1", off_site=True, storage="disk"),
        "repo2": build.vault("repo2", storage="object-storage"),
    }
    source = build.source(category="A", repositories=kept)
    for control in ("storage-types", "off-site", "failure-domains"):
        (passed,) = checks(build, control, source=source).values()
        assert passed, control


def test_a_repository_that_lacks_the_point_counts_for_nothing(build):
    where = Elsewhere("pgBackRest", 1, (Keeping("repo1"), Keeping("repo2", lacks="it is away")))
    kept = {"repo2": build.vault("repo2", off_site=True)}
    source = build.source(category="A", repositories=kept)
    assert checks(build, "off-site", where, source) == {("ledger", "no copy is off-site"): False}


def test_a_repository_that_is_not_encrypted_is_a_finding(build):
    assert checks(build, "encryption") == {
        ("ledger", "repo1: encrypted with aes"): True,
        ("ledger", "repo2: its backups lie there unencrypted"): False,
    }
