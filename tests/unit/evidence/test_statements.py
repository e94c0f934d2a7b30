"""What records say: told as this product wrote it, and refused where the words are somebody else's."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from cto_backups.core.model import Copy, Fingerprint, Hold, RecoveryPoint
from cto_backups.evidence import statements
from cto_backups.evidence.payloads import copy_to_payload, evidence_to_payload, hold_to_payload, point_to_payload
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
