"""Rows of the tables as nouns of the core, and back."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy import RowMapping

from cto_backups.catalog.schema import UnreadableError
from cto_backups.core.model import (
    ActionKind,
    Copy,
    Evidence,
    Outcome,
    RecoveryPoint,
    Resource,
    Run,
    Rung,
)
from cto_backups.evidence.payloads import (
    figures_to_payload,
    fingerprint_from_payload,
    fingerprint_to_payload,
    problems_from_payload,
    problems_to_payload,
    step_from_payload,
    step_to_payload,
)

Row = Mapping[str, Any] | RowMapping
_Noun = TypeVar("_Noun")


def _readable(convert: Callable[[Row], _Noun]) -> Callable[[Row], _Noun]:
    """Raise UnreadableError for a row that this program cannot have written."""

    @wraps(convert)
    def converted(row: Row) -> _Noun:
        try:
            return convert(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableError(f"{convert.__name__.partition('_')[0]}: {type(error).__name__}") from error

    return converted


def point_to_row(point: RecoveryPoint) -> dict[str, Any]:
    """A new point as a row of `points`."""
    return {
        "id": point.id,
        "source": point.source,
        "kind": point.kind,
        "category": point.category,
        "business": point.business,
        "started_at": point.started_at,
        "captured_at": point.captured_at,
        "finished_at": point.finished_at,
        "size_bytes": point.size_bytes,
        "added_bytes": point.added_bytes,
        "entry_count": point.entry_count,
        "root": point.root,
        "paths": list(point.paths),
        "fingerprint": fingerprint_to_payload(point.fingerprint),
        "policy_digest": point.policy_digest,
        "domain": point.domain,
        "parent": point.parent,
        "label": point.label,
        "keep_until": point.keep_until,
        "problems": problems_to_payload(point.problems),
        "complete": point.complete,
    }


@_readable
def point_from_row(row: Row) -> RecoveryPoint:
    """A point from a row of `points`."""
    return RecoveryPoint(
        id=row["id"],
        source=row["source"],
        kind=row["kind"],
        category=row["category"],
        business=row["business"],
        started_at=row["started_at"],
        captured_at=row["captured_at"],
        finished_at=row["finished_at"],
        size_bytes=row["size_bytes"],
        added_bytes=row["added_bytes"],
        entry_count=row["entry_count"],
        root=row["root"],
        paths=tuple(row["paths"]),
        fingerprint=fingerprint_from_payload(row["fingerprint"]),
        policy_digest=row["policy_digest"],
        domain=row["domain"],
        parent=row["parent"],
        label=row["label"],
        keep_until=row["keep_until"],
        problems=problems_from_payload(row["problems"]),
    )


def copy_to_row(copy: Copy) -> dict[str, Any]:
    """A copy as a row of `copies`."""
    return {
        "point": copy.point,
        "vault": copy.vault,
        "reference": copy.reference,
        "stored_at": copy.stored_at,
        "added_bytes": copy.added_bytes,
    }


@_readable
def copy_from_row(row: Row) -> Copy:
    """A copy from a row of `copies`."""
    return Copy(row["point"], row["vault"], row["reference"], row["stored_at"], row["added_bytes"])


def evidence_to_row(evidence: Evidence) -> dict[str, Any]:
    """Evidence as a row of `evidence`."""
    return {
        "id": evidence.id,
        "kind": evidence.kind,
        "source": evidence.source,
        "point": evidence.point,
        "vault": evidence.vault,
        "started_at": evidence.started_at,
        "finished_at": evidence.finished_at,
        "passed": evidence.passed,
        "rung": int(evidence.rung),
        "steps": [step_to_payload(step) for step in evidence.steps],
        "reason": evidence.reason,
    }


@_readable
def evidence_from_row(row: Row) -> Evidence:
    """Evidence from a row of `evidence`."""
    return Evidence(
        id=row["id"],
        kind=row["kind"],
        source=row["source"],
        point=row["point"],
        vault=row["vault"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        passed=row["passed"],
        rung=Rung(row["rung"]),
        steps=tuple(step_from_payload(step) for step in row["steps"]),
        reason=row["reason"],
    )


@_readable
def run_from_row(row: Row) -> Run:
    """A run from a row of `runs`."""
    return Run(
        id=row["id"],
        action=ActionKind(row["action"]),
        source=row["source"],
        vault=row["vault"],
        point=row["point"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        outcome=Outcome(row["outcome"]),
        error_code=row["error_code"],
        message=row["message"],
        figures=figures_to_payload(row["figures"]),
    )


@_readable
def resource_from_row(row: Row) -> Resource:
    """A resource from a row of `resources`."""
    return Resource(row["name"], row["kind"], row["location"], row["size_bytes"])
