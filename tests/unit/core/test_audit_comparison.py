"""An audit against the one before it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.audit_comparison import (
    Comparison,
    FindingKey,
    KeptAudit,
    KeptFinding,
    compare,
    kept_findings,
    keyed,
)
from cto_backups.core.facts import Facts
from cto_backups.core.findings import AuditReport, Check, Control, ControlResult, Severity
from cto_backups.core.model import Resource


@pytest.fixture
def finding(build):
    def finding(control="rpo", subject="ledger", occurrence=1, *, days=0, by_look=False):
        key = FindingKey(control, subject, occurrence)
        return KeptFinding(key, "Title", Severity.HIGH, "why", "B", build.ago(days=days), by_look)

    return finding


@pytest.fixture
def previous(build):
    return KeptAudit(build.ago(days=1), 80, {Severity.HIGH: 2})


def report(build, *checked):
    """A report of failed checks: control, subject, severity."""
    results = tuple(
        ControlResult(
            Control(control, control, severity, "Why.", "Next.", lambda _: ()),
            tuple(Check(subject, passed=False, detail="bad", category="B") for subject in subjects),
        )
        for control, severity, *subjects in checked
    )
    return AuditReport(build.now, results)


def test_findings_are_told_apart_by_control_subject_and_number(build):
    low, high = Severity.LOW, Severity.HIGH
    found = report(build, ("owner", low, "a", "b"), ("failed-runs", high, "a", "a"))
    assert list(keyed(found.findings)) == [
        FindingKey("failed-runs", "a", 1),
        FindingKey("failed-runs", "a", 2),
        FindingKey("owner", "a", 1),
        FindingKey("owner", "b", 1),
    ]


def test_findings_are_kept_as_of_now_and_those_of_a_look_are_marked(build):
    found = report(
        build,
        ("coverage", Severity.HIGH, "git:/x", "git:/old"),
        ("exclusions-used", Severity.LOW, "git:/x"),
        ("vanished", Severity.HIGH, "git:/x"),
    )
    facts = Facts(resources={"": (Resource("git:/x", "git", "/x"),), "ledger": (Resource("git:/old", "git", "/old"),)})
    kept = kept_findings(found, facts)
    assert {each.since for each in kept} == {build.now}
    assert {(each.key.control, each.key.subject): each.by_look for each in kept} == {
        ("coverage", "git:/x"): True,
        ("coverage", "git:/old"): False,
        ("vanished", "git:/x"): False,
        ("exclusions-used", "git:/x"): True,
    }
    assert (kept[0].title, kept[0].severity, kept[0].detail, kept[0].category) == ("coverage", "high", "bad", "B")
    assert not any(each.by_look for each in kept_findings(report(build, ("coverage", Severity.LOW, "a")), Facts()))


def test_without_an_audit_before_it_nothing_is_new(finding):
    assert compare([finding()], None, []) == Comparison()


def test_what_was_there_before_is_open_since_then_and_what_is_gone_is_fixed(build, finding, previous):
    old, gone, new = finding(days=9), finding("copies", days=3), finding("clock")
    worded_anew = replace(finding(), detail="worse", title="Renamed", severity=Severity.LOW)
    compared = compare([worded_anew, new], previous, [old, gone])
    assert compared == Comparison(previous, {old.key: build.ago(days=9)}, (gone,), ())


def test_one_of_two_about_one_subject_is_fixed(finding, previous):
    first, second = finding("failed-runs"), finding("failed-runs", occurrence=2)
    compared = compare([first], previous, [first, second])
    assert (list(compared.since), compared.fixed) == ([first.key], (second,))


@pytest.mark.parametrize(
    ("looked", "fixed"),
    [
        ((), False),
        (("/other",), False),
        (("/home/ad",), False),
        (("/home/ada/",), True),
        (("/home/ada/x",), True),
        (("/",), True),
    ],
)
def test_what_a_look_found_is_fixed_only_where_somebody_looked_again(finding, previous, looked, fixed):
    stray = finding("coverage", "git:/home/ada/x", by_look=True)
    compared = compare([], previous, [stray], looked)
    assert (compared.fixed, compared.unseen) == (((stray,), ()) if fixed else ((), (stray,)))


def test_an_exclusion_that_left_nothing_out_is_fixed_only_where_somebody_looked_again(finding, previous):
    unused = finding("exclusions-used", "git:/x/*", by_look=True)
    assert compare([], previous, [unused], ()).unseen == (unused,)
    assert compare([], previous, [unused], ("/y",)).fixed == (unused,)


def test_a_finding_that_a_look_makes_again_is_open_whatever_was_looked_at(build, finding, previous):
    stray = finding("coverage", "git:/x", days=4, by_look=True)
    assert compare([finding("coverage", "git:/x", by_look=True)], previous, [stray]).since == {
        stray.key: build.now - timedelta(days=4)
    }
