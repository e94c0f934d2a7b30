"""Past audits in the catalog: what was found when, and for how long that is remembered."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from cto_backups.core.audit_comparison import KEPT_FOR, FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.errors import CatalogError

DAY = timedelta(days=1)


@pytest.fixture
def keep(catalog, build):
    """Keep an audit of some days ago that made findings about these subjects."""

    def keep(days, *subjects, looked=(), by_look=False, seconds=0):
        at = build.now - timedelta(days=days) + timedelta(seconds=seconds)
        findings = [
            KeptFinding(FindingKey("rpo", subject), "Title", Severity.HIGH, f"{subject}: é", "B", at, by_look)
            for subject in subjects
        ]
        catalog.keep_audit(KeptAudit(at, 100 - len(subjects), {Severity.HIGH: len(subjects)}), findings, looked)

    return keep


def open_at(catalog, build, days=None):
    """By subject, since how many days each finding was open."""
    kept = catalog.kept_audit(None if days is None else build.now - days * DAY)
    return None if kept is None else {each.key.subject: (build.now - each.since) / DAY for each in kept[1]}


def days_kept(catalog, build):
    return [(build.now - each.at) / DAY for each in catalog.kept_audits()]


def test_a_finding_stays_open_since_the_audit_that_first_made_it(catalog, build, keep):
    assert catalog.kept_audit() is None
    assert catalog.kept_audits() == ()
    keep(5, "a", "b")
    keep(3, "a", "c")
    keep(1, "c", "b")
    assert open_at(catalog, build) == {"c": 3, "b": 1}, "what comes again is new again"
    assert open_at(catalog, build, 2) == {"a": 5, "c": 3}
    assert open_at(catalog, build, 5) == {"a": 5, "b": 5}
    assert open_at(catalog, build, 6) is None
    audit, findings = catalog.kept_audit()
    assert (audit.score, audit.counts) == (98, {Severity.HIGH: 2})
    assert findings[0] == KeptFinding(
        FindingKey("rpo", "c"), "Title", Severity.HIGH, "c: é", "B", build.ago(days=3), by_look=False
    )


def test_an_open_finding_is_one_row_however_often_it_is_made(catalog, keep, path):
    for days in range(30, 0, -1):
        keep(days, "a", "b")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM audit_findings").fetchone() == (2,)


def test_the_last_audit_of_a_day_stands_for_it(catalog, build, keep):
    keep(3, "a")
    keep(3, "a", "b", seconds=60)
    keep(3, "b", seconds=120)
    keep(1)
    assert days_kept(catalog, build) == [1, 3 - 120 / 86400]
    assert set(open_at(catalog, build, 2)) == {"b"}


def test_what_a_look_found_stays_open_until_somebody_looks_again(catalog, build, keep):
    keep(3, "git:/x", by_look=True)
    keep(2)
    assert open_at(catalog, build) == {"git:/x": 3}
    keep(1, looked=("/",))
    assert open_at(catalog, build) == {}


def test_history_is_bounded(catalog, build, keep, path):
    old = KEPT_FOR.days
    keep(old + 5, "fixed long ago", "fixed late", "never fixed")
    keep(old + 3, "fixed late", "never fixed")
    keep(old - 2, "never fixed")
    assert days_kept(catalog, build) == [old - 2, old + 3, old + 5], "nothing is older than that as seen from there"
    keep(0, "never fixed")
    assert days_kept(catalog, build) == [0, old - 2]
    assert open_at(catalog, build) == {"never fixed": old + 5}
    with closing(sqlite3.connect(path)) as connection:
        kept = {row[0] for row in connection.execute("SELECT subject FROM audit_findings")}
    assert kept == {"never fixed", "fixed late"}


def test_an_audit_by_a_clock_that_was_put_back_changes_nothing(catalog, build, keep):
    keep(1, "a")
    keep(2, "b")
    assert (open_at(catalog, build), days_kept(catalog, build)) == ({"a": 1}, [1])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audits SET counts = '{\"bad\": 1}'",
        "UPDATE audits SET at = 'soon'",
        "UPDATE audit_findings SET severity = ''",
    ],
)
def test_a_row_that_nobody_can_have_written_is_damage(catalog, keep, path, change):
    keep(1, "a")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    with pytest.raises(CatalogError, match="is damaged"):
        catalog.kept_audit()
