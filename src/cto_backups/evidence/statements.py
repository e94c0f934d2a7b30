"""What records say, made sense of: a signature alone gives none to their words, and anybody may have signed them.

Each takes a record of its kind, and raises one of `SENSELESS` for words that are none of this product's.
"""

import re
from datetime import datetime

from cto_backups.core.model import Copy, Evidence, RecoveryPoint
from cto_backups.evidence.payloads import (
    copy_from_payload,
    evidence_from_payload,
    hold_from_payload,
    moment_from_text,
    point_from_payload,
)
from cto_backups.evidence.records import Record

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
    """The evidence that was found."""
    found = evidence_from_payload(record.payload)
    check_names(found.id, found.kind, found.vault)
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
