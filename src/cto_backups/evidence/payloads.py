"""Points, copies and evidence as plain JSON, exactly, both ways. The names here are part of format 1."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cto_backups.core.alerts import Alert, Trouble
from cto_backups.core.change import Change, NewContent
from cto_backups.core.keeping import Hold, Mark
from cto_backups.core.model import Copy, Evidence, Fingerprint, Problem, RecoveryPoint, Rung, Sample, Step

Json = dict[str, Any]


def moment_to_text(moment: datetime) -> str:
    """RFC 3339, UTC, with microseconds. Raises ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone cannot be recorded")
    utc = moment.astimezone(UTC)
    return f"{utc.year:04d}-{utc:%m-%dT%H:%M:%S.%f}Z"


def moment_from_text(text: str) -> datetime:
    """The moment that `moment_to_text` wrote."""
    return datetime.fromisoformat(text)


def fingerprint_to_payload(fingerprint: Fingerprint) -> Json:
    """A fingerprint as JSON."""
    return {
        "algorithm": fingerprint.algorithm,
        "checksums": dict(fingerprint.checksums),
        "counts": {name: str(count) for name, count in fingerprint.counts.items()},
        "samples": [{"key": sample.key, "fields": dict(sample.fields)} for sample in fingerprint.samples],
    }


def fingerprint_from_payload(payload: Mapping[str, Any]) -> Fingerprint:
    """A fingerprint from JSON."""
    return Fingerprint(
        algorithm=payload["algorithm"],
        checksums=dict(payload["checksums"]),
        counts={name: int(count) for name, count in payload["counts"].items()},
        samples=tuple(Sample(sample["key"], dict(sample["fields"])) for sample in payload["samples"]),
    )


def problems_to_payload(problems: tuple[Problem, ...]) -> list[Json]:
    """Problems as JSON."""
    return [{"path": problem.path, "kind": problem.kind, "detail": problem.detail} for problem in problems]


def problems_from_payload(payload: list[Json]) -> tuple[Problem, ...]:
    """Problems from JSON."""
    return tuple(Problem(problem["path"], problem["kind"], problem["detail"]) for problem in payload)


def point_to_payload(point: RecoveryPoint) -> Json:
    """A recovery point as JSON. Sizes are decimal text: JSON numbers are exact only up to 2^53."""
    return {
        "id": point.id,
        "source": point.source,
        "kind": point.kind,
        "category": point.category,
        "business": point.business,
        "started_at": moment_to_text(point.started_at),
        "captured_at": moment_to_text(point.captured_at),
        "finished_at": moment_to_text(point.finished_at),
        "size_bytes": str(point.size_bytes),
        "added_bytes": str(point.added_bytes),
        "entry_count": str(point.entry_count),
        "root": point.root,
        "paths": list(point.paths),
        "fingerprint": fingerprint_to_payload(point.fingerprint),
        "policy_digest": point.policy_digest,
        "domain": point.domain,
        "parent": point.parent,
        "label": point.label,
        "keep_until": None if point.keep_until is None else moment_to_text(point.keep_until),
        "problems": problems_to_payload(point.problems),
        **({"newest_content_at": moment_to_text(point.newest_content_at)} if point.newest_content_at else {}),
        **({"change": change_to_payload(point.change)} if point.change else {}),
        **({"suspicions": list(point.suspicions)} if point.suspicions else {}),
    }


def point_from_payload(payload: Mapping[str, Any]) -> RecoveryPoint:
    """A recovery point from JSON."""
    keep_until = payload["keep_until"]
    return RecoveryPoint(
        id=payload["id"],
        source=payload["source"],
        kind=payload["kind"],
        category=payload["category"],
        business=payload["business"],
        started_at=moment_from_text(payload["started_at"]),
        captured_at=moment_from_text(payload["captured_at"]),
        finished_at=moment_from_text(payload["finished_at"]),
        size_bytes=int(payload["size_bytes"]),
        added_bytes=int(payload["added_bytes"]),
        entry_count=int(payload["entry_count"]),
        root=payload["root"],
        paths=tuple(payload["paths"]),
        fingerprint=fingerprint_from_payload(payload["fingerprint"]),
        policy_digest=payload["policy_digest"],
        domain=payload["domain"],
        parent=payload["parent"],
        label=payload["label"],
        keep_until=None if keep_until is None else moment_from_text(keep_until),
        problems=problems_from_payload(payload["problems"]),
        newest_content_at=moment_from_text(payload["newest_content_at"]) if "newest_content_at" in payload else None,
        change=change_from_payload(payload["change"]) if "change" in payload else None,
        suspicions=tuple(payload.get("suspicions", ())),
    )


def change_to_payload(change: Change) -> Json:
    """What a point changed as JSON; counts and sizes are decimal text."""
    content = change.content
    return {
        "parent_entries": str(change.parent_entries),
        "parent_bytes": str(change.parent_bytes),
        "compared": change.compared,
        "new_entries": str(change.new_entries),
        "changed_entries": str(change.changed_entries),
        "removed_entries": str(change.removed_entries),
        "renamed_entries": str(change.renamed_entries),
        "read_bytes": str(content.read_bytes),
        "new_bytes": str(content.new_bytes),
        "stored_bytes": str(content.stored_bytes),
        "dense_bytes": str(content.dense_bytes),
        "blank_bytes": str(content.blank_bytes),
        "entropy": content.entropy,
    }


def change_from_payload(payload: Mapping[str, Any]) -> Change:
    """What a point changed from JSON."""
    return Change(
        parent_entries=int(payload["parent_entries"]),
        parent_bytes=int(payload["parent_bytes"]),
        compared=bool(payload["compared"]),
        new_entries=int(payload["new_entries"]),
        changed_entries=int(payload["changed_entries"]),
        removed_entries=int(payload["removed_entries"]),
        renamed_entries=int(payload["renamed_entries"]),
        content=NewContent(
            read_bytes=int(payload["read_bytes"]),
            new_bytes=int(payload["new_bytes"]),
            stored_bytes=int(payload["stored_bytes"]),
            dense_bytes=int(payload["dense_bytes"]),
            blank_bytes=int(payload["blank_bytes"]),
            entropy=float(payload["entropy"]),
        ),
    )


def copy_to_payload(copy: Copy) -> Json:
    """A copy as JSON."""
    return {
        "point": copy.point,
        "vault": copy.vault,
        "reference": copy.reference,
        "stored_at": moment_to_text(copy.stored_at),
        "added_bytes": str(copy.added_bytes),
    }


def copy_from_payload(payload: Mapping[str, Any]) -> Copy:
    """A copy from JSON."""
    return Copy(
        point=payload["point"],
        vault=payload["vault"],
        reference=payload["reference"],
        stored_at=moment_from_text(payload["stored_at"]),
        added_bytes=int(payload["added_bytes"]),
    )


def figures_to_payload(figures: Mapping[str, int | float | str | bool]) -> Json:
    """Figures as JSON: integers beyond 2^53 and floats that JSON lacks become text."""
    return {name: _figure(value) for name, value in figures.items()}


def _figure(value: int | float | str | bool) -> int | float | str | bool:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    return value if value == value and abs(value) != float("inf") else str(value)


def step_to_payload(step: Step) -> Json:
    """A step as JSON."""
    return {
        "name": step.name,
        "started_at": moment_to_text(step.started_at),
        "seconds": step.seconds,
        "passed": step.passed,
        "detail": step.detail,
        "figures": figures_to_payload(step.figures),
    }


def step_from_payload(payload: Mapping[str, Any]) -> Step:
    """A step from JSON."""
    return Step(
        name=payload["name"],
        started_at=moment_from_text(payload["started_at"]),
        seconds=float(payload["seconds"]),
        passed=payload["passed"],
        detail=payload["detail"],
        figures=dict(payload["figures"]),
    )


def evidence_to_payload(evidence: Evidence) -> Json:
    """Evidence as JSON."""
    return {
        "id": evidence.id,
        "kind": evidence.kind,
        "source": evidence.source,
        "point": evidence.point,
        "vault": evidence.vault,
        "started_at": moment_to_text(evidence.started_at),
        "finished_at": moment_to_text(evidence.finished_at),
        "passed": evidence.passed,
        "rung": evidence.rung.name.lower(),
        "steps": [step_to_payload(step) for step in evidence.steps],
        "reason": evidence.reason,
        **({"read_since": moment_to_text(evidence.read_since)} if evidence.read_since else {}),
    }


def evidence_from_payload(payload: Mapping[str, Any]) -> Evidence:
    """Evidence from JSON."""
    return Evidence(
        id=payload["id"],
        kind=payload["kind"],
        source=payload["source"],
        point=payload["point"],
        vault=payload["vault"],
        started_at=moment_from_text(payload["started_at"]),
        finished_at=moment_from_text(payload["finished_at"]),
        passed=payload["passed"],
        rung=Rung[payload["rung"].upper()],
        steps=tuple(step_from_payload(step) for step in payload["steps"]),
        reason=payload["reason"],
        read_since=moment_from_text(payload["read_since"]) if "read_since" in payload else None,
    )


def hold_to_payload(hold: Hold) -> Json:
    """A legal hold as JSON, as it was placed."""
    return {
        "id": hold.id,
        "source": hold.source,
        "point": hold.point,
        "reason": hold.reason,
        "placed_at": moment_to_text(hold.placed_at),
        "placed_by": hold.placed_by,
        "approver": hold.approver,
    }


def hold_from_payload(payload: Mapping[str, Any]) -> Hold:
    """A legal hold from JSON, as it was placed."""
    return Hold(
        id=payload["id"],
        source=payload["source"],
        point=payload["point"],
        reason=payload["reason"],
        placed_at=moment_from_text(payload["placed_at"]),
        placed_by=payload["placed_by"],
        approver=payload["approver"],
    )


def alert_to_payload(alert: Alert, event: str) -> Json:
    """What has happened to an alert as JSON: raised, stepped-up, acknowledged or closed."""
    return {
        "id": alert.id,
        "event": event,
        "rule": alert.rule,
        "trouble": alert.trouble.value,
        "subject": alert.subject,
        "detail": alert.detail,
        "category": alert.category,
        "raised_at": moment_to_text(alert.raised_at),
        "told": list(alert.told),
        "told_at": None if alert.told_at is None else moment_to_text(alert.told_at),
        "acknowledged_at": None if alert.acknowledged_at is None else moment_to_text(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "note": alert.note,
        "cause": alert.cause,
    }


def alert_from_payload(payload: Mapping[str, Any], at: datetime) -> Alert:
    """The alert as it was after what happened to it at this moment."""
    event = payload["event"]
    told_at, acknowledged_at = payload["told_at"], payload["acknowledged_at"]
    return Alert(
        id=payload["id"],
        rule=payload["rule"],
        trouble=Trouble(payload["trouble"]),
        subject=payload["subject"],
        detail=payload["detail"],
        raised_at=moment_from_text(payload["raised_at"]),
        category=payload["category"],
        told=tuple(payload["told"]),
        told_at=None if told_at is None else moment_from_text(told_at),
        stepped_at=at if event == "stepped-up" else None,
        acknowledged_at=None if acknowledged_at is None else moment_from_text(acknowledged_at),
        acknowledged_by=payload["acknowledged_by"],
        note=payload["note"],
        closed_at=at if event == "closed" else None,
        cause=payload["cause"],
    )


def release_to_payload(hold: Hold, by: str, because: str, at: datetime) -> Json:
    """The release of a legal hold as JSON."""
    return {
        "id": hold.id,
        "source": hold.source,
        "point": hold.point,
        "reason": because,
        "released_at": moment_to_text(at),
        "released_by": by,
    }


def clearance_to_payload(mark: Mark, by: str, because: str, at: datetime) -> Json:
    """The clearance of a point under suspicion as JSON."""
    return {
        "point": mark.point,
        "source": mark.source,
        "reason": because,
        "cleared_at": moment_to_text(at),
        "cleared_by": by,
    }
