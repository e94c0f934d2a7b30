"""What records say: told as this product wrote it, and refused where the words are somebody else's."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cto_backups.core.alerts import Alert, Trouble
from cto_backups.core.governance import Approval, Governance, Governed, GoverningDocument, Identity, Who
from cto_backups.core.keeping import Hold, RetentionTold
from cto_backups.core.model import Copy, Fingerprint, RecoveryPoint
from cto_backups.evidence import statements
from cto_backups.evidence.approvals import (
    Authorization,
    ReadDocument,
    action_digest,
    authorization_to_payload,
    decided_by_payload,
    decision_to_payload,
    request_to_payload,
    rules_from_text,
    rules_to_text,
)
from cto_backups.evidence.payloads import (
    alert_to_payload,
    copy_to_payload,
    evidence_to_payload,
    hold_to_payload,
    point_to_payload,
)
from cto_backups.evidence.records import Record, SigningKey, sign

from .conftest import evidence

AT = datetime(2026, 3, 1, tzinfo=UTC)
COPY = copy_to_payload(Copy("documents-1", "one", "a" * 64, AT, 7))
EXPIRY = {"point": "documents-1", "source": "documents", "reasons": ["older than 30 days"]}
RELEASE = {
    "id": "case-7",
    "source": "documents",
    "released_at": "2026-03-01T00:00:00Z",
    "released_by": "a",
    "reason": "b",
}
PROOF = evidence_to_payload(evidence(1))
TAKEN = RecoveryPoint(
    id="documents-1",
    source="documents",
    kind="files",
    category="A",
    business="acme",
    started_at=AT,
    captured_at=AT,
    finished_at=AT,
    size_bytes=1,
    added_bytes=1,
    entry_count=1,
    root="ab" * 32,
    paths=("/data",),
    fingerprint=Fingerprint("tree/1", {}, {}, ()),
    policy_digest="ef" * 32,
)
POINT = point_to_payload(TAKEN)
HOLD = hold_to_payload(Hold("case-7", "documents", None, "a case", AT, "somebody"))


def record(kind: str, payload: dict[str, Any]) -> Record:
    return sign(SigningKey(bytes(32)), kind, payload, sequence=1, previous=None, written_at=AT)


def test_what_was_written_is_told() -> None:
    assert statements.copy(record("copy", COPY)) == Copy("documents-1", "one", "a" * 64, AT, 7)
    assert statements.expiry(record("expiry", EXPIRY)) == ("documents-1", AT, ("older than 30 days",))
    assert statements.evidence(record("evidence", PROOF)) == evidence(1)
    assert statements.point(record("recovery-point", POINT)) == TAKEN
    assert statements.hold(record("hold", HOLD)) == "case-7"
    assert statements.hold(record("release", RELEASE)) == "case-7 a b"


@pytest.mark.parametrize(
    ("kind", "read", "payload"),
    [
        ("copy", statements.copy, {**COPY, "vault": "../one"}),
        ("copy", statements.copy, {**COPY, "point": "a/b"}),
        ("copy", statements.copy, {**COPY, "reference": ""}),
        ("copy", statements.copy, {**COPY, "stored_at": "yesterday"}),
        ("copy", statements.copy, {}),
        ("expiry", statements.expiry, {**EXPIRY, "point": 7}),
        ("expiry", statements.expiry, {**EXPIRY, "point": "p" * 129}),
        ("expiry", statements.expiry, {**EXPIRY, "reasons": None}),
        ("evidence", statements.evidence, {**PROOF, "id": "\x1b[2J"}),
        ("evidence", statements.evidence, {**PROOF, "vault": "-one"}),
        ("evidence", statements.evidence, {"id": "x"}),
        ("recovery-point", statements.point, {"id": "documents-1"}),
        *(
            ("recovery-point", statements.point, {**POINT, field: "../../etc"})
            for field in ("id", "source", "kind", "category", "business", "root", "domain")
        ),
        ("release", statements.hold, {**RELEASE, "released_at": 3}),
        ("release", statements.hold, {**RELEASE, "source": "../documents"}),
        ("hold", statements.hold, {"id": "case-7", "source": "documents"}),
    ],
)
def test_what_is_none_of_our_words_is_senseless(
    kind: str, read: Callable[[Record], object], payload: dict[str, Any]
) -> None:
    with pytest.raises(statements.SENSELESS):
        read(record(kind, payload))


# -- what people decided -----------------------------------------------------------------------------------------------

CHANGE = {
    "digest": "ef" * 32,
    "source": "documents",
    "retention_before": "1 year",
    "retention_after": "30 days",
    "shorter": True,
    "first_seen": "2026-03-01T00:00:00.000000Z",
    "by": "ada",
}
ASKED = Approval(
    id="approval-1",
    action=Governed.RESTORE,
    parameters={"source": "documents"},
    digest=action_digest(Governed.RESTORE, {"source": "documents"}),
    summary="A restore",
    who=Who.SECOND_PERSON,
    requested_at=AT,
    requested_by=Identity("ada", 1000),
    expires_at=AT,
)
GIVEN = replace(ASKED, decided_at=AT, decided_by=Identity("bo", 1001), granted=True, reason="agreed")
REQUEST, DECISION = request_to_payload(ASKED), decision_to_payload(GIVEN, ())
DONE = authorization_to_payload(
    Authorization(
        Governed.RESTORE, {"a": 1}, Identity("ada", 1000), "host", AT, "approval-1", (ReadDocument("e.md", "ab"),)
    )
)
CHANGED = authorization_to_payload(
    Authorization(
        Governed.DOCUMENT_CHANGE,
        {"document": "e.md", "was": "ab", "becomes": "cd"},
        Identity("ada", 1000),
        "host",
        AT,
        None,
        (ReadDocument("e.md", "cd"),),
    )
)
ALERT = Alert("alert-1", "rpo-missed", Trouble.NO_BACKUP, "documents", "too old", AT, "A", ("cto",), AT)


def test_what_people_decided_is_told() -> None:
    said = statements.retention(record("policy", CHANGE))
    assert said is not None
    source, before, after = said
    assert (source, before.text, after) == ("documents", "1 year", RetentionTold("30 days", AT))
    assert before.since < AT
    removed = Authorization(Governed.SOURCE_REMOVAL, {"source": "old"}, Identity("ada", 1000), "host", AT)
    assert statements.removal(record("authorization", authorization_to_payload(removed))) == "old"
    assert statements.removal(record("authorization", DONE)) is None
    assert statements.retention(record("policy", {"digest": "ef" * 32})) is None
    assert statements.request(record("approval-request", REQUEST)) == ASKED
    assert statements.decision(record("approval", DECISION)) == "approval-1 agreed"
    assert decided_by_payload(ASKED, DECISION) == GIVEN
    used = statements.authorization(record("authorization", DONE))
    assert used == ("approval-1", AT, Identity("ada", 1000), (ReadDocument("e.md", "ab"),))
    *_, read = statements.authorization(record("authorization", CHANGED))
    assert read[-1] == ReadDocument("e.md", "cd")


RULES = Governance(
    documents=(GoverningDocument("e.md", "/srv/e.md", frozenset({Governed.PRUNE})),),
    approvals={Governed.RESTORE: Who.SECOND_PERSON},
    approvers=("ada",),
)
LOOSENED = authorization_to_payload(
    Authorization(
        Governed.GOVERNANCE_CHANGE, {"was": rules_to_text(RULES), "becomes": ""}, Identity("ada", 1000), "host", AT
    )
)


def test_rules_that_were_accepted_are_told() -> None:
    text = rules_to_text(RULES)
    assert rules_from_text(text) == RULES
    assert rules_from_text(rules_to_text(None)) is None
    assert statements.rules(record("policy", {"digest": "ef", "governance": text, "by": "ada"})) == (text, AT)
    assert statements.rules(record("policy", CHANGE)) is None
    assert statements.rules(record("authorization", LOOSENED)) == ("", AT)
    assert statements.rules(record("authorization", DONE)) is None


def test_to_approve_a_shorter_retention_is_to_use_the_approval() -> None:
    asked = replace(ASKED, action=Governed.SHORTER_RETENTION)
    decided = decided_by_payload(asked, DECISION)
    assert (decided.used_at, decided.used_by) == (AT, Identity("bo", 1001))
    denied = decided_by_payload(asked, {**DECISION, "granted": False})
    assert (denied.used_at, denied.granted) == (None, False)


def test_an_alert_is_told_as_it_was_when_its_record_was_written() -> None:
    for event, changes in (
        ("raised", {}),
        ("stepped-up", {"stepped_at": AT}),
        ("acknowledged", {"acknowledged_at": AT, "acknowledged_by": "ada", "note": "on it"}),
        ("closed", {"closed_at": AT, "cause": "the condition has ended"}),
    ):
        alert = replace(ALERT, **changes)
        assert statements.alert(record("alert", alert_to_payload(alert, event))) == alert


@pytest.mark.parametrize(
    ("kind", "read", "payload"),
    [
        ("policy", statements.retention, {**CHANGE, "source": "../documents"}),
        ("policy", statements.retention, {**CHANGE, "retention_after": "for a while"}),
        ("policy", statements.retention, {**CHANGE, "first_seen": None}),
        ("policy", statements.retention, {"retention_before": "1 year"}),
        ("alert", statements.alert, {**alert_to_payload(ALERT, "raised"), "id": "../alert"}),
        ("alert", statements.alert, {**alert_to_payload(ALERT, "raised"), "trouble": "boredom"}),
        ("alert", statements.alert, {}),
        ("approval-request", statements.request, {**REQUEST, "action": "party"}),
        ("approval-request", statements.request, {**REQUEST, "id": "a b"}),
        ("approval-request", statements.request, {**REQUEST, "requested_by": None}),
        ("approval", statements.decision, {**DECISION, "id": None}),
        ("approval", statements.decision, {**DECISION, "decided_at": "now"}),
        ("approval", statements.decision, {**DECISION, "decided_by": {}}),
        ("policy", statements.rules, {"governance": "{"}),
        ("policy", statements.rules, {"governance": rules_to_text(RULES).replace("prune", "party")}),
        ("policy", statements.rules, {"governance": "[]"}),
        ("authorization", statements.rules, {**LOOSENED, "parameters": {}}),
        ("authorization", statements.authorization, {**DONE, "approval": "../x"}),
        ("authorization", statements.authorization, {**DONE, "documents": [{"name": "e.md", "sha256": "../x"}]}),
        ("authorization", statements.authorization, {**CHANGED, "parameters": {}}),
        ("authorization", statements.authorization, {**DONE, "by": {"login": "ada"}}),
    ],
)
def test_what_nobody_can_have_decided_is_refused(
    kind: str, read: Callable[[Record], Any], payload: dict[str, Any]
) -> None:
    with pytest.raises(statements.SENSELESS):
        read(record(kind, payload))
