"""Past audits in the catalog: what was found when, for how long that is remembered, and what brings it back."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.audit_comparison import KEPT_FOR, FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.errors import CatalogError
from cto_backups.evidence import statements
from cto_backups.evidence.audits import LISTED
from cto_backups.evidence.records import SigningKey, verify_chain

DAY = timedelta(days=1)


def kept(catalog, build, days, *subjects, looked=(), by_look=False, seconds=0, key=None, detail=None):
    """Keep an audit of some days ago that made findings about these subjects; whether it was signed."""
    at = build.now - timedelta(days=days) + timedelta(seconds=seconds)
    findings = [
        KeptFinding(FindingKey("rpo", subject), "Title", Severity.HIGH, detail or f"{subject}: é", "B", at, by_look)
        for subject in subjects
    ]
    audit = KeptAudit(at, max(0, 100 - len(subjects)), {Severity.HIGH: len(subjects)})
    return catalog.audits.keep(audit, findings, looked, policy="d1", by="ada", signer=key or build.key)


@pytest.fixture
def keep(catalog, build):
    def keep(days, *subjects, **more):
        return kept(catalog, build, days, *subjects, **more)

    return keep


def open_at(catalog, build, days=None):
    """By subject, since how many days each finding was open."""
    last = catalog.audits.last(None if days is None else build.now - days * DAY)
    return None if last is None else {each.key.subject: (build.now - each.since) / DAY for each in last[1]}


def days_kept(catalog, build):
    return [(build.now - each.at) / DAY for each in catalog.audits.history()]


def test_a_finding_stays_open_since_the_audit_that_first_made_it(catalog, build, keep):
    assert catalog.audits.last() is None
    assert catalog.audits.history() == ()
    keep(5, "a", "b")
    keep(3, "a", "c")
    keep(1, "c", "b")
    assert open_at(catalog, build) == {"c": 3, "b": 1}, "what comes again is new again"
    assert open_at(catalog, build, 2) == {"a": 5, "c": 3}
    assert open_at(catalog, build, 5) == {"a": 5, "b": 5}
    assert open_at(catalog, build, 6) is None
    audit, findings = catalog.audits.last()
    assert (audit.score, audit.counts) == (98, {Severity.HIGH: 2})
    assert findings[0] == KeptFinding(
        FindingKey("rpo", "c"), "Title", Severity.HIGH, "c: é", "B", build.ago(days=3), by_look=False
    )


def test_an_open_finding_is_one_row_however_often_it_is_made(catalog, keep):
    for days in range(30, 0, -1):
        keep(days, "a", "b")
    with catalog.reading() as connection:
        assert connection.scalar("SELECT count(*) FROM audit_findings") == 2


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


def test_history_is_bounded(catalog, build, keep):
    old = KEPT_FOR.days
    keep(old + 5, "fixed long ago", "fixed late", "never fixed")
    keep(old + 3, "fixed late", "never fixed")
    keep(old - 2, "never fixed")
    assert days_kept(catalog, build) == [old - 2, old + 3, old + 5], "nothing is older than that as seen from there"
    keep(0, "never fixed")
    assert days_kept(catalog, build) == [0, old - 2]
    assert open_at(catalog, build) == {"never fixed": old + 5}
    with catalog.reading() as connection:
        subjects = set(connection.scalars("SELECT subject FROM audit_findings"))
    assert subjects == {"never fixed", "fixed late"}


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
def test_a_row_that_nobody_can_have_written_is_damage(catalog, keep, change):
    keep(1, "a")
    with catalog._writing() as connection:
        connection.execute(change)
    with pytest.raises(CatalogError, match="is damaged"):
        catalog.audits.last()


# -- signed records ----------------------------------------------------------------------------------------------------


def told(catalog, key):
    """The audits that the records of a key tell of, each of which says something sensible."""
    return [statements.audit(record) for record in catalog.takeover.delivered_records(key.signer, "audit", all=True)]


def subjects_of(keys):
    return [key.subject for key in keys]


def test_a_record_says_what_an_audit_changed(catalog, build, keep):
    keep(3, "a", "b", looked=("/srv", "/home"))
    keep(1, "b", "c", by_look=True)
    first, second = told(catalog, build.key)
    assert (first.audit, first.policy, first.by) == (KeptAudit(build.ago(days=3), 98, {Severity.HIGH: 2}), "d1", "ada")
    assert (first.looked, first.compared_with) == (("/srv", "/home"), None)
    assert first.new == (
        KeptFinding(FindingKey("rpo", "a"), "Title", Severity.HIGH, "a: é", "B", build.ago(days=3)),
        KeptFinding(FindingKey("rpo", "b"), "Title", Severity.HIGH, "b: é", "B", build.ago(days=3)),
    )
    assert second.compared_with == build.ago(days=3)
    assert [(each.key.subject, each.since, each.by_look) for each in second.new] == [("c", build.ago(days=1), True)]
    assert (subjects_of(second.fixed), second.still_open, second.unlisted) == (["a"], (), 0)
    records = list(catalog.records_after(build.key.signer, 0))
    assert verify_chain(records).intact
    assert [record.body["written_at"] for record in records] == [record.payload["at"] for record in records]


def test_an_audit_is_signed_once_a_day_and_when_it_changed_something(catalog, build, keep):
    assert keep(2, "a") is True
    assert keep(2, "a", seconds=60) is False
    assert keep(2, "a", "b", seconds=120) is True
    assert keep(2, "b", seconds=180) is True
    assert keep(2, "b", seconds=240) is False
    assert keep(2, "b", seconds=30) is False, "a clock that was put back"
    assert keep(1, "b") is True
    assert len(told(catalog, build.key)) == 4
    assert days_kept(catalog, build) == [1, 2 - 240 / 86400], "the last of the day is kept, though nothing is signed"


def test_no_secret_that_a_program_said_is_signed(catalog, build, keep):
    """What an audit prints is without them, too."""
    other, said = SigningKey(bytes(range(32))), "cannot reach postgresql://ada:hunter2hunter2@db.example.com"
    keep(2, "ledger", detail=said)
    keep(1, "ledger", detail=said, key=other)
    for finding in (*told(catalog, build.key)[0].new, *told(catalog, other)[0].still_open):
        assert finding.detail == "cannot reach postgresql://ada:[hidden]@db.example.com"
    for key in (build.key, other):
        assert not any(b"hunter2" in record.to_bytes() for record in catalog.records_after(key.signer, 0))


def test_what_cannot_be_signed_is_not_kept(catalog, build, keep, monkeypatch):
    keep(2, "a")
    monkeypatch.setattr(SigningKey, "sign", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keep(1, "a", "b")
    assert (open_at(catalog, build), days_kept(catalog, build)) == ({"a": 2}, [2])


def test_the_first_record_of_another_key_tells_what_is_still_open(catalog, build, keep):
    other = SigningKey(bytes(range(32)))
    keep(3, "a", "b", "seen by a look", by_look=True, looked=("/",))
    keep(2, "b", "c", key=other)
    keep(1, "b", "c", "d", key=other)
    first, second = told(catalog, other)
    assert {(each.key.subject, each.since) for each in first.still_open} == {
        (subject, build.ago(days=3)) for subject in ("a", "b", "seen by a look")
    }, "nobody has looked again"
    assert (subjects_of(each.key for each in first.new), first.fixed) == (["c"], ())
    assert (second.still_open, subjects_of(each.key for each in second.new)) == ((), ["d"])


def many(number, what="x"):
    return [f"{what} {each:04}" for each in range(number)]


@pytest.mark.parametrize("number", [LISTED, LISTED + 1, 2 * LISTED + 7])
def test_a_record_lists_no_more_than_a_thousand_and_counts_all(catalog, build, keep, number):
    keep(3, *many(number), looked=many(number, "/folder"))
    keep(2)
    other = SigningKey(bytes(range(32)))
    keep(1, *many(number, "y"))
    keep(0, *many(number, "y"), key=other)
    first, second, third = (record.payload for record in catalog.records_after(build.key.signer, 0))
    for payload, name in (
        (first, "new"),
        (first, "looked"),
        (second, "fixed"),
        (next(iter(catalog.records_after(other.signer, 0))).payload, "still_open"),
    ):
        assert (len(payload[name]), payload[f"{name}_count"]) == (LISTED, str(number)), name
    assert subjects_of(each.key for each in told(catalog, build.key)[0].new) == many(LISTED), "the first, the gravest"
    assert [each.unlisted for each in told(catalog, build.key)] == [number - LISTED] * 3
    assert third["fixed_count"] == "0"


def rows_of_findings(file):
    with closing(sqlite3.connect(file)) as connection:
        return sorted(connection.execute("SELECT * FROM audit_findings").fetchall())


@pytest.fixture
def another(tmp_path, empty_catalog):
    """Opens a new catalog, which knows nothing."""
    opened = []

    def another(now):
        file = tmp_path / f"another-{len(opened)}.db"
        file.write_bytes(empty_catalog)
        opened.append(Catalog.open(f"sqlite:{file}", now=now))
        return opened[-1], file

    yield another
    for catalog in opened:
        catalog.close()


AUDITS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.sets(st.sampled_from("abcd")), st.booleans(), st.booleans()),
    max_size=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(AUDITS)
def test_records_bring_back_since_when_and_until_when_each_finding_was_open(build, another, audits):
    """Whatever order they come in, and whichever of them look: but for the time of a day's last audit."""
    catalog, file = another(build.now)
    for days, seconds, subjects, looked, by_look in sorted(audits, key=lambda each: (-each[0], each[1])):
        kept(catalog, build, days, *subjects, looked=("/",) * looked, by_look=by_look, seconds=seconds)
    again, file_again = another(build.now)
    taken = told(catalog, build.key)
    assert again.audits.take(taken) == len(taken)
    assert rows_of_findings(file_again) == rows_of_findings(file)
    assert [round(days) for days in days_kept(again, build)] == [round(days) for days in days_kept(catalog, build)]
    assert {each.at for each in again.audits.history()} <= {each.audit.at for each in taken}
    assert again.audits.take(taken) == 0, "twice is once"


def test_a_catalog_that_is_older_gets_what_came_later(build, another):
    catalog, file = another(build.now)
    kept(catalog, build, 5, "a", "b")
    older, file_of_older = another(build.now)
    older.audits.take(told(catalog, build.key))
    kept(catalog, build, 3, "b", "c")
    kept(catalog, build, 1, "a", "c")
    assert older.audits.take(told(catalog, build.key)) == 2
    assert rows_of_findings(file_of_older) == rows_of_findings(file)
    assert open_at(older, build) == {"a": 1, "c": 3}


def test_audits_that_are_brought_back_are_bounded_like_others(build, another):
    catalog, _ = another(build.now)
    old = KEPT_FOR.days
    kept(catalog, build, old + 5, "fixed long ago", "never fixed")
    kept(catalog, build, old + 3, "never fixed")
    kept(catalog, build, 0, "never fixed")
    again, file = another(build.now)
    again.audits.take(told(catalog, build.key))
    assert days_kept(again, build) == [0]
    assert {row[1] for row in rows_of_findings(file)} == {"never fixed"}


def test_what_is_told_twice_is_open_since_the_first_time(build, another):
    """A record that was too short, or another key's first: what is open stays so since when it was."""
    catalog, _ = another(build.now)
    other = SigningKey(bytes(range(32)))
    kept(catalog, build, 5, "a", "b")
    kept(catalog, build, 3, "a", "b", key=other)
    (first,), (second,) = told(catalog, build.key), told(catalog, other)
    again, _ = another(build.now)
    repeated = replace(second, new=tuple(replace(each, since=second.audit.at) for each in first.new[:1]))
    assert again.audits.take([first, repeated]) == 2
    assert open_at(again, build) == {"a": 5, "b": 5}
    without, _ = another(build.now)
    assert without.audits.take([second]) == 1
    assert open_at(without, build) == {"a": 5, "b": 5}
