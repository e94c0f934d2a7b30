"""Points, copies and evidence survive the way through JSON exactly."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.audit_comparison import FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.core.model import Copy, Evidence, Fingerprint, Problem, RecoveryPoint, Rung, Sample, Step
from cto_backups.evidence import payloads
from cto_backups.evidence.audits import ToldAudit, audit_to_payload
from cto_backups.evidence.records import parse

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
naive = {"min_value": datetime(1970, 1, 3), "max_value": datetime(9999, 12, 29)}  # noqa: DTZ001 as hypothesis wants
moments = st.datetimes(**naive, timezones=zones)
sizes = st.integers(0, 2**63 - 1)
exact = st.integers(-(2**53) + 1, 2**53 - 1)
figures = st.dictionaries(
    words, exact | st.floats(allow_nan=False, allow_infinity=False) | words | st.booleans(), max_size=4
)
fingerprints = st.builds(
    Fingerprint,
    algorithm=words,
    checksums=st.dictionaries(words, words, max_size=3),
    counts=st.dictionaries(words, sizes, max_size=3),
    samples=st.lists(st.builds(Sample, words, st.dictionaries(words, words, max_size=3)), max_size=3).map(tuple),
)
points = st.builds(
    RecoveryPoint,
    id=words,
    source=words,
    kind=words,
    category=words,
    business=words,
    started_at=moments,
    captured_at=moments,
    finished_at=moments,
    size_bytes=sizes,
    added_bytes=sizes,
    entry_count=sizes,
    root=words,
    paths=st.lists(words, max_size=3).map(tuple),
    fingerprint=fingerprints,
    policy_digest=words,
    domain=words,
    parent=st.none() | words,
    label=st.none() | words,
    keep_until=st.none() | moments,
    problems=st.lists(st.builds(Problem, words, words, words), max_size=3).map(tuple),
    newest_content_at=st.none() | moments,
)
copies = st.builds(Copy, point=words, vault=words, reference=words, stored_at=moments, added_bytes=sizes)
steps = st.builds(
    Step,
    name=words,
    started_at=moments,
    seconds=st.floats(0, 1e9),
    passed=st.booleans(),
    detail=words,
    figures=figures,
)
evidences = st.builds(
    Evidence,
    id=words,
    kind=words,
    source=st.none() | words,
    point=st.none() | words,
    vault=words,
    started_at=moments,
    finished_at=moments,
    passed=st.booleans(),
    rung=st.sampled_from(Rung),
    steps=st.lists(steps, max_size=3).map(tuple),
    reason=words,
)


def through_json(payload):
    """What a reader of the stored record gets."""
    return parse(rfc8785.dumps(payload))


@given(points)
def test_a_recovery_point_comes_back_exactly(point):
    assert payloads.point_from_payload(through_json(payloads.point_to_payload(point))) == point


@given(points)
def test_the_moment_of_the_newest_content_is_told_only_where_it_is_known(point):
    """A reader of format 1 that does not know the field reads all other points as before."""
    told = payloads.point_to_payload(point)
    assert ("newest_content_at" in told) == (point.newest_content_at is not None)


@given(copies)
def test_a_copy_comes_back_exactly(copy):
    assert payloads.copy_from_payload(through_json(payloads.copy_to_payload(copy))) == copy


@given(evidences)
def test_evidence_comes_back_exactly(evidence):
    assert payloads.evidence_from_payload(through_json(payloads.evidence_to_payload(evidence))) == evidence


@given(moments)
def test_moments_are_utc_of_fixed_width_so_that_they_sort(moment):
    text = payloads.moment_to_text(moment)
    assert len(text) == len("2026-01-02T03:04:05.000006Z")
    assert payloads.moment_from_text(text) == moment
    later = moment + timedelta(microseconds=1)
    assert payloads.moment_to_text(later) > text


def test_a_moment_looks_like_this():
    assert payloads.moment_to_text(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)) == "2026-01-02T03:04:05.000006Z"


def test_a_moment_without_time_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        payloads.moment_to_text(datetime(2026, 1, 2))  # noqa: DTZ001 the very mistake


def test_figures_that_json_cannot_say_become_text():
    told = payloads.figures_to_payload({"huge": 2**60, "nan": float("nan"), "endless": float("-inf"), "yes": True})
    assert told == {"huge": str(2**60), "nan": "nan", "endless": "-inf", "yes": True}
    rfc8785.dumps(told)


AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
PINNED = {
    "recovery-point": payloads.point_to_payload(
        RecoveryPoint(
            id="ledger-20260102T030405Z-0a1b",
            source="ledger",
            kind="sqlite",
            category="A",
            business="acme",
            started_at=AT,
            captured_at=AT + timedelta(seconds=1),
            finished_at=AT + timedelta(seconds=2),
            size_bytes=2**60,
            added_bytes=3,
            entry_count=4,
            root="ab" * 32,
            paths=("/data/ledger.db",),
            fingerprint=Fingerprint("sqlite/1", {"rows": "cd"}, {"rows": 5}, (Sample("entries:7", {"sum": "1,00 €"}),)),
            policy_digest="ef" * 32,
            parent="01" * 32,
            label="before the move",
            keep_until=AT + timedelta(days=90),
            problems=(Problem("/data/\\x80", "permission", "not readable"),),
        )
    ),
    "copy": payloads.copy_to_payload(Copy("ledger-20260102T030405Z-0a1b", "near", "ab" * 32, AT, 2**60)),
    "evidence": payloads.evidence_to_payload(
        Evidence(
            id="test-ledger-20260102T030405Z-0a1b",
            kind="restore_test",
            source="ledger",
            point="ledger-20260102T030405Z-0a1b",
            vault="near",
            started_at=AT,
            finished_at=AT + timedelta(seconds=9),
            passed=False,
            rung=Rung.RESTORED,
            steps=(Step("restore", AT, 1.25, True, "", {"files": 3, "rate": 0.5, "whole": True, "place": "x"}),),
            reason="counts differ",
        )
    ),
    "audit": audit_to_payload(
        ToldAudit(
            KeptAudit(AT, 80, {Severity.CRITICAL: 0, Severity.HIGH: 2}),
            policy="ef" * 32,
            by="ada",
            looked=("/srv/é",),
            compared_with=AT - timedelta(days=1),
            new=(KeptFinding(FindingKey("rpo", "ledger"), "Title", Severity.HIGH, "1 day", "A", AT, by_look=True),),
            fixed=(FindingKey("owner", "ledger", 2),),
            still_open=(
                KeptFinding(FindingKey("mfa", "near"), "Title", Severity.HIGH, "", None, AT - timedelta(days=2)),
            ),
        )
    ),
}


@pytest.mark.parametrize("kind", PINNED)
def test_the_form_of_each_payload_is_fixed_for_ever(kind):
    """Format 1: if this fails, what old records say can no longer be read. Never change the golden files."""
    golden = Path(__file__).parents[2] / "golden" / "records" / f"payload-{kind}.json"
    assert rfc8785.dumps(PINNED[kind]) + b"\n" == golden.read_bytes()


def test_every_field_of_a_payload_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "formats.md").read_text()
    for kind, payload in PINNED.items():
        assert not [name for name in payload if f"`{name}`" not in page], kind
