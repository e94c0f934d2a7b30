"""Audits in signed records: told exactly, in bounded length, and refused where no audit can have said it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups.core.audit_comparison import FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.evidence import statements
from cto_backups.evidence.audits import LISTED, ToldAudit, audit_from_payload, audit_to_payload
from cto_backups.evidence.records import Record, SigningKey, parse, sign

AT = datetime(2026, 3, 2, 3, 4, 5, 6, UTC)
BEFORE = AT - timedelta(days=1)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.builds(FindingKey, st.sampled_from(["rpo", "owner"]), words, st.integers(1, 2**53 - 1))
moments = st.integers(1, 10**9).map(lambda seconds: AT - timedelta(seconds=seconds))


def finding(key: FindingKey, since: datetime = AT, **changes: Any) -> KeptFinding:
    return replace(KeptFinding(key, "Title", Severity.HIGH, "why", "B", since), **changes)


@st.composite
def audits(draw: st.DrawFn) -> ToldAudit:
    named = draw(st.lists(keys, unique=True, max_size=6))
    parts: dict[str, list[FindingKey]] = {"new": [], "fixed": [], "still_open": []}
    previous = draw(st.none() | moments)
    for key in named:
        parts[draw(st.sampled_from(list(parts))) if previous else "new"].append(key)
    severity = draw(st.sampled_from(Severity))
    new, still_open = (
        tuple(
            finding(
                key,
                draw(moments) if name == "still_open" else AT,
                title=draw(words),
                severity=severity,
                detail=draw(words),
                category=draw(st.none() | words),
                by_look=draw(st.booleans()),
            )
            for key in parts[name]
        )
        for name in ("new", "still_open")
    )
    return ToldAudit(
        KeptAudit(AT, draw(st.integers(0, 100)), {severity: draw(st.integers(len(new), 10**18 - 1))}),
        policy=draw(words),
        by=draw(words),
        looked=tuple(draw(st.lists(words, max_size=3))),
        compared_with=previous,
        new=new,
        fixed=tuple(parts["fixed"]),
        still_open=still_open,
    )


def through_json(payload: Any) -> Any:
    return parse(rfc8785.dumps(payload))


@given(audits())
def test_an_audit_comes_back_exactly(told: ToldAudit) -> None:
    assert audit_from_payload(through_json(audit_to_payload(told))) == told


@settings(max_examples=25)
@given(st.integers(0, 3 * LISTED), st.integers(0, 3 * LISTED), st.integers(0, 3 * LISTED))
def test_lists_are_bounded_and_their_numbers_are_exact(new: int, fixed: int, still: int) -> None:
    told = ToldAudit(
        KeptAudit(AT, 1, {Severity.LOW: new}),
        policy="d1",
        by="ada",
        compared_with=BEFORE,
        new=tuple(finding(FindingKey("new", str(number))) for number in range(new)),
        fixed=tuple(FindingKey("fixed", str(number)) for number in range(fixed)),
        still_open=tuple(finding(FindingKey("open", str(number)), BEFORE) for number in range(still)),
    )
    payload = audit_to_payload(told)
    for name, number in (("new", new), ("fixed", fixed), ("still_open", still)):
        assert (len(payload[name]), payload[f"{name}_count"]) == (min(number, LISTED), str(number))
    back = audit_from_payload(payload)
    assert (back.new, back.fixed, back.still_open) == (told.new[:1000], told.fixed[:1000], told.still_open[:1000])
    assert back.unlisted == sum(max(0, number - LISTED) for number in (new, fixed, still))


# -- what no audit can have said ---------------------------------------------------------------------------------------

TOLD = ToldAudit(
    KeptAudit(AT, 80, {Severity.HIGH: 2}),
    policy="ef" * 32,
    by="ada",
    looked=("/srv",),
    compared_with=BEFORE,
    new=(finding(FindingKey("rpo", "ledger")),),
    fixed=(FindingKey("owner", "ledger"),),
    still_open=(finding(FindingKey("owner", "documents"), BEFORE),),
)
SAID = audit_to_payload(TOLD)
FIRST = audit_to_payload(replace(TOLD, compared_with=None, fixed=(), still_open=()))
(NEW,), (FIXED,), (OPEN,) = SAID["new"], SAID["fixed"], SAID["still_open"]


def record(payload: dict[str, Any], written_at: datetime = AT) -> Record:
    return sign(SigningKey(bytes(32)), "audit", payload, sequence=1, previous=None, written_at=written_at)


def test_a_record_tells_of_its_audit() -> None:
    assert statements.audit(record(SAID)) == TOLD
    assert statements.audit(record(FIRST)).compared_with is None


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SAID.items() if key != name}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        *(without(name) for name in SAID),
        {**SAID, "at": "2026-03-02T03:04:05.000006"},
        {**SAID, "at": "2026-03-02T04:04:05.000006+01:00"},
        {**SAID, "at": "2026-03-02"},
        {**FIRST, "at": "0001-01-01T00:00:00.000000Z"},
        {**SAID, "at": "2026-03-02T03:04:05.000007Z"},
        {**SAID, "at": 7},
        {**SAID, "compared_with": SAID["at"]},
        {**SAID, "compared_with": None},
        *({**SAID, "score": score} for score in (101, -1, 80.5, True, "80", None)),
        {**SAID, "counts": {"grave": "2"}},
        {**SAID, "counts": {"high": 2}},
        {**SAID, "counts": {"high": "0"}},
        {**SAID, "counts": ["high"]},
        {**SAID, "policy": "../../etc"},
        {**SAID, "policy": None},
        {**SAID, "by": 0},
        {**SAID, "looked": [7]},
        {**SAID, "looked": "/", "looked_count": "1"},
        *({**SAID, "new_count": count} for count in ("0", "2", "01", "+1", "1 ", "\u0661", 1, None, "1" * 30)),
        {**SAID, "fixed_count": "2"},
        {**SAID, "still_open_count": "0"},
        {**SAID, "new": {}, "new_count": "0"},
        {**SAID, "new": [NEW, NEW], "new_count": "2"},
        {**SAID, "fixed": [{**FIXED, "control": "rpo"}]},
        {**SAID, "still_open": [{**OPEN, "control": "rpo", "subject": "ledger"}]},
        {**SAID, "still_open": [{**OPEN, "since": SAID["at"]}]},
        {**SAID, "still_open": [{**OPEN, "since": None}]},
        {**SAID, "fixed": [FIXED["control"]]},
        {**SAID, "fixed": [{**FIXED, "occurrence": 0}]},
        {**SAID, "fixed": [{**FIXED, "occurrence": "1"}]},
        {**SAID, "fixed": [{**FIXED, "occurrence": True}]},
        {**SAID, "fixed": [{**FIXED, "occurrence": 1.5}]},
        {**SAID, "fixed": [{**FIXED, "control": "\x1b[2J"}]},
        {**SAID, "fixed": [{**FIXED, "subject": None}]},
        *({**SAID, "new": [{**NEW, name: 7}]} for name in NEW if name != "occurrence"),
        {**SAID, "new": [{**NEW, "severity": "grave"}]},
        {**SAID, "new": [{**NEW, "control": "a b"}]},
    ],
)
def test_what_no_audit_can_have_said_is_senseless(payload: dict[str, Any]) -> None:
    with pytest.raises(statements.SENSELESS):
        statements.audit(record(payload))
