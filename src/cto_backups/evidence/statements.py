"""What records say, made sense of: a signature alone gives none to their words, and anybody may have signed them.

Each takes a record of its kind, and raises one of `SENSELESS` for words that are none of this product's.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cto_backups.core.alerts import Alert
from cto_backups.core.enrolment import Host
from cto_backups.core.governance import Approval, Governed, Identity
from cto_backups.core.keeping import RetentionTold
from cto_backups.core.model import Copy, Evidence, RecoveryPoint
from cto_backups.core.retention import format_retention, parse_retention
from cto_backups.evidence.approvals import ReadDocument, identity_from_payload, request_from_payload, rules_from_text
from cto_backups.evidence.payloads import (
    alert_from_payload,
    copy_from_payload,
    evidence_from_payload,
    hold_from_payload,
    moment_from_text,
    point_from_payload,
)
from cto_backups.evidence.records import Record

if TYPE_CHECKING:
    from cto_backups.evidence.audits import ToldAudit

SENSELESS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_names(*names: object) -> None:
    """Names become those of files, and stand on screens: what is none comes from somebody else's program."""
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("not a name")


def point(record: Record) -> RecoveryPoint:
    """The recovery point that was taken."""
    taken = point_from_payload(record.payload)
    check_names(taken.id, taken.source, taken.kind, taken.category, taken.business, taken.root, taken.domain)
    return taken


def copy(record: Record) -> Copy:
    """The copy that was stored."""
    stored = copy_from_payload(record.payload)
    check_names(stored.point, stored.vault, stored.reference)
    return stored


def expiry(record: Record) -> tuple[str, datetime, tuple[str, ...]]:
    """The point that was dropped, when, and why."""
    payload = record.payload
    check_names(payload["point"])
    reasons = tuple(str(reason) for reason in payload["reasons"])
    return payload["point"], moment_from_text(record.body["written_at"]), reasons


def evidence(record: Record) -> Evidence:
    """The evidence that was found. A test that failed before it came to any copy names no vault."""
    found = evidence_from_payload(record.payload)
    check_names(found.id, found.kind, *([] if not found.passed and found.vault == "" else [found.vault]))
    return found


def hold(record: Record) -> str:
    """The id of the legal hold that was placed, or of the released one with by whom and why."""
    payload = record.payload
    check_names(payload["id"], payload["source"])
    if record.kind == "hold":
        return hold_from_payload(payload).id
    moment_from_text(payload["released_at"])
    return f"{payload['id']} {payload['released_by']} {payload['reason']}"


def clearance(record: Record) -> str:
    """That a suspicion was cleared: of which point, by whom, and why."""
    payload = record.payload
    check_names(payload["point"], payload["source"])
    moment_from_text(payload["cleared_at"])
    return f"{payload['point']} {payload['cleared_by']} {payload['reason']}"


def retention(record: Record) -> tuple[str, RetentionTold, RetentionTold] | None:
    """Of a source, the retention that it had and the one that it got; None where another thing was changed."""
    payload = record.payload
    if "retention_before" not in payload:
        return None
    check_names(payload["source"])
    before, after = (format_retention(parse_retention(payload[f"retention_{which}"])) for which in ("before", "after"))
    first_seen = moment_from_text(payload["first_seen"])
    return payload["source"], RetentionTold(before, first_seen - timedelta.resolution), RetentionTold(after, first_seen)


def removal(record: Record) -> str | None:
    """The source that was to be taken out of the policy; None where something else was authorized."""
    payload = record.payload
    if payload["action"] != Governed.SOURCE_REMOVAL:
        return None
    check_names(payload["parameters"]["source"])
    return str(payload["parameters"]["source"])


def rules(record: Record) -> tuple[str, datetime] | None:
    """The rules of governance that were accepted, as `approvals.rules_to_text` writes them, and when.

    None for a record that says something else of the policy, or authorizes something else.
    """
    payload = record.payload
    if record.kind == "authorization":
        if payload["action"] != Governed.GOVERNANCE_CHANGE:
            return None
        text = payload["parameters"]["becomes"]
    elif "governance" in payload:
        text = payload["governance"]
    else:
        return None
    rules_from_text(text)
    return text, moment_from_text(record.body["written_at"])


def alert(record: Record) -> Alert:
    """The alert, as it was when the record was written."""
    told = alert_from_payload(record.payload, moment_from_text(record.body["written_at"]))
    check_names(told.id)
    return told


def audit(record: Record) -> "ToldAudit":
    """The audit, and what it changed."""
    from cto_backups.evidence.audits import audit_from_payload  # it rests on much that no other record needs

    told = audit_from_payload(record.payload)
    check_names(told.policy, *{key.control for key in told.keys})
    if told.audit.at > moment_from_text(record.body["written_at"]):
        raise ValueError("it was signed before it was made")
    return told


def request(record: Record) -> Approval:
    """What was asked for."""
    asked = request_from_payload(record.payload)
    check_names(asked.id)
    return asked


def decision(record: Record) -> str:
    """The id of the request that was decided."""
    payload = record.payload
    check_names(payload["id"])
    for moment in ("decided_at", "expires_at"):
        moment_from_text(payload[moment])
    identity_from_payload(payload["decided_by"])
    return f"{payload['id']} {payload['reason']}"


def authorization(record: Record) -> tuple[str | None, datetime, Identity, tuple[ReadDocument, ...]]:
    """The approval that was used, when and by whom; and the governing documents as they were accepted then."""
    payload = record.payload
    read = [ReadDocument(each["name"], each["sha256"]) for each in payload["documents"]]
    if payload["action"] == Governed.DOCUMENT_CHANGE:
        changed = payload["parameters"]
        read.append(ReadDocument(changed["document"], changed["becomes"]))
    check_names(*(each.sha256 for each in read))
    if payload["approval"] is not None:
        check_names(payload["approval"])
    by = identity_from_payload(payload["by"])
    return payload["approval"], moment_from_text(payload["at"]), by, tuple(read)


@dataclass(frozen=True, slots=True)
class HostTold:
    """A key of an enrolled host, and the last of its records that counts; None: it is the host's own from now on."""

    host: Host
    signer: str
    until: int | None = None


def host(record: Record) -> tuple[HostTold, ...]:
    """What became of an enrolled host's key, and of the one that it had before."""
    payload = record.payload
    at = moment_from_text(payload["at"])
    check_names(payload["host"], payload["role"])
    if payload["change"] == "revoked":
        ended = Host(payload["host"], payload["role"], at, revoked_at=at)
        return (HostTold(ended, str(payload["signer"]), int(payload["last_sequence"])),)
    if payload["change"] != "enrolled":
        raise ValueError("neither enrolled nor revoked")
    check_names(payload["signer"], *payload["sources"], *payload["vaults"])
    names = {"source": payload["sources"], "vault": payload["vaults"], "key": payload["keys"]}
    kept = {kind: tuple(map(str, each)) for kind, each in names.items()} | {"signer": (payload["signer"],)}
    now = HostTold(Host(payload["host"], payload["role"], at, joined_at=at, names=kept), payload["signer"])
    if (former := payload["former"]) is None:
        return (now,)
    return (HostTold(now.host, str(former["signer"]), int(former["last_sequence"])), now)
