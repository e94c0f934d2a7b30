"""Rows of the tables as nouns of the core, and back.

In the tables a moment is UTC text of fixed width, so that it sorts and date functions read it; what has
parts is JSON; in text that may name a file whose name is no text, what UTF-8 cannot say is an escape.
"""

import json
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Protocol, TypeVar

from cto_backups.core.alerts import Alert, Telling, Trouble
from cto_backups.core.facts import Heartbeat
from cto_backups.core.keeping import Hold, Mark
from cto_backups.core.model import ActionKind, Copy, Evidence, Outcome, RecoveryPoint, Resource, Run, Rung
from cto_backups.evidence.payloads import (
    change_from_payload,
    change_to_payload,
    figures_to_payload,
    fingerprint_from_payload,
    fingerprint_to_payload,
    moment_from_text,
    moment_to_text,
    problems_from_payload,
    problems_to_payload,
    step_from_payload,
    step_to_payload,
)

_Noun = TypeVar("_Noun")


class Row(Protocol):
    """A row of a table, read by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any:
        """The value in this column."""
        ...


class UnreadableError(ValueError):
    """A stored value is not what this program wrote."""


def moment_to_column(moment: datetime | None) -> str | None:
    """A moment as it is stored. Raises ValueError for a naive datetime."""
    return None if moment is None else moment_to_text(moment)


def moment_from_column(stored: Any) -> datetime | None:
    """The moment that was stored. Raises UnreadableError."""
    try:
        return None if stored is None else moment_from_text(stored)
    except (ValueError, TypeError):
        raise UnreadableError("a moment is not one") from None


def words_to_column(text: str) -> str:
    """Text as it is stored, whatever file name is in it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def truth_from_column(stored: int | None) -> bool | None:
    """Yes, no, or not known."""
    return None if stored is None else bool(stored)


def rung_from_column(stored: Any) -> Rung | None:
    """The rung that was stored. Raises UnreadableError."""
    try:
        return None if stored is None else Rung(stored)
    except ValueError:
        raise UnreadableError("a rung is not one") from None


def _moment(row: Row, name: str) -> datetime:
    moment = moment_from_column(row[name])
    if moment is None:
        raise UnreadableError("a moment is missing")
    return moment


def readable_row(convert: Callable[[Row], _Noun]) -> Callable[[Row], _Noun]:
    """Raise UnreadableError for a row that this program cannot have written."""

    @wraps(convert)
    def converted(row: Row) -> _Noun:
        try:
            return convert(row)
        except UnreadableError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnreadableError(f"{convert.__name__.strip('_').partition('_')[0]}: {type(error).__name__}") from error

    return converted


def point_to_row(point: RecoveryPoint) -> dict[str, Any]:
    """A new point as a row of `points`."""
    return {
        "id": point.id,
        "source": point.source,
        "kind": point.kind,
        "category": point.category,
        "business": point.business,
        "started_at": moment_to_column(point.started_at),
        "captured_at": moment_to_column(point.captured_at),
        "finished_at": moment_to_column(point.finished_at),
        "size_bytes": point.size_bytes,
        "added_bytes": point.added_bytes,
        "entry_count": point.entry_count,
        "root": point.root,
        "paths": json.dumps(point.paths),
        "fingerprint": json.dumps(fingerprint_to_payload(point.fingerprint)),
        "policy_digest": point.policy_digest,
        "domain": point.domain,
        "parent": point.parent,
        "label": point.label,
        "keep_until": moment_to_column(point.keep_until),
        "problems": json.dumps(problems_to_payload(point.problems)),
        "complete": point.complete,
        "newest_content_at": moment_to_column(point.newest_content_at),
        "change": None if point.change is None else json.dumps(change_to_payload(point.change)),
        "suspicions": json.dumps(point.suspicions) if point.suspicions else None,
    }


@readable_row
def point_from_row(row: Row) -> RecoveryPoint:
    """A point from a row of `points`."""
    return RecoveryPoint(
        id=row["id"],
        source=row["source"],
        kind=row["kind"],
        category=row["category"],
        business=row["business"],
        started_at=_moment(row, "started_at"),
        captured_at=_moment(row, "captured_at"),
        finished_at=_moment(row, "finished_at"),
        size_bytes=row["size_bytes"],
        added_bytes=row["added_bytes"],
        entry_count=row["entry_count"],
        root=row["root"],
        paths=tuple(json.loads(row["paths"])),
        fingerprint=fingerprint_from_payload(json.loads(row["fingerprint"])),
        policy_digest=row["policy_digest"],
        domain=row["domain"],
        parent=row["parent"],
        label=row["label"],
        keep_until=moment_from_column(row["keep_until"]),
        problems=problems_from_payload(json.loads(row["problems"])),
        newest_content_at=moment_from_column(row["newest_content_at"]),
        change=None if row["change"] is None else change_from_payload(json.loads(row["change"])),
        suspicions=_suspicions(row),
    )


def _suspicions(row: Row) -> tuple[str, ...]:
    return () if row["suspicions"] is None else tuple(json.loads(row["suspicions"]))


@readable_row
def mark_from_row(row: Row) -> Mark:
    """A point under suspicion from its row of `points`."""
    return Mark(
        point=row["id"],
        source=row["source"],
        captured_at=_moment(row, "captured_at"),
        suspicions=_suspicions(row),
        cleared_at=moment_from_column(row["cleared_at"]),
        cleared_by=row["cleared_by"],
        cleared_because=row["cleared_because"],
    )


def copy_to_row(copy: Copy) -> dict[str, Any]:
    """A copy as a row of `copies`."""
    return {
        "point": copy.point,
        "vault": copy.vault,
        "reference": copy.reference,
        "stored_at": moment_to_column(copy.stored_at),
        "added_bytes": copy.added_bytes,
    }


@readable_row
def copy_from_row(row: Row) -> Copy:
    """A copy from a row of `copies`."""
    return Copy(row["point"], row["vault"], row["reference"], _moment(row, "stored_at"), row["added_bytes"])


def hold_to_row(hold: Hold) -> dict[str, Any]:
    """A new hold as a row of `holds`."""
    return {
        "id": hold.id,
        "source": hold.source,
        "point": hold.point,
        "reason": words_to_column(hold.reason),
        "placed_at": moment_to_column(hold.placed_at),
        "placed_by": words_to_column(hold.placed_by),
        "approver": None if hold.approver is None else words_to_column(hold.approver),
    }


@readable_row
def hold_from_row(row: Row) -> Hold:
    """A hold from a row of `holds`."""
    return Hold(
        id=row["id"],
        source=row["source"],
        point=row["point"],
        reason=row["reason"],
        placed_at=_moment(row, "placed_at"),
        placed_by=row["placed_by"],
        approver=row["approver"],
        released_at=moment_from_column(row["released_at"]),
        released_by=row["released_by"],
        released_because=row["released_because"],
    )


def alert_to_row(alert: Alert) -> dict[str, Any]:
    """An alert as a row of `alerts`."""
    words = {name: getattr(alert, name) for name in ("subject", "detail", "acknowledged_by", "note", "cause")}
    moments = ("raised_at", "told_at", "stepped_at", "acknowledged_at", "closed_at")
    return {
        "id": alert.id,
        "rule": alert.rule,
        "trouble": alert.trouble.value,
        "category": alert.category,
        "told": json.dumps(alert.told),
        **{name: None if text is None else words_to_column(text) for name, text in words.items()},
        **{name: moment_to_column(getattr(alert, name)) for name in moments},
    }


@readable_row
def alert_from_row(row: Row) -> Alert:
    """An alert from a row of `alerts`."""
    return Alert(
        id=row["id"],
        rule=row["rule"],
        trouble=Trouble(row["trouble"]),
        subject=row["subject"],
        detail=row["detail"],
        raised_at=_moment(row, "raised_at"),
        category=row["category"],
        told=tuple(json.loads(row["told"])),
        told_at=moment_from_column(row["told_at"]),
        stepped_at=moment_from_column(row["stepped_at"]),
        acknowledged_at=moment_from_column(row["acknowledged_at"]),
        acknowledged_by=row["acknowledged_by"],
        note=row["note"],
        closed_at=moment_from_column(row["closed_at"]),
        cause=row["cause"],
    )


@readable_row
def telling_from_row(row: Row) -> Telling:
    """An attempt to tell somebody from a row of `tellings`."""
    return Telling(_moment(row, "at"), row["person"], row["channel"], row["alert"], row["problem"])


@readable_row
def time_of(row: Row) -> datetime:
    """When something was, from the column `at` of a row."""
    return _moment(row, "at")


_TOLD = ("version", "running", "most", "policy", "machine")


def heartbeat_to_row(beat: Heartbeat) -> dict[str, Any]:
    """A sign of life as the row of `heartbeat`."""
    return {
        "name": beat.name,
        "at": moment_to_column(beat.at),
        "next_by": moment_to_column(beat.next_by),
        "host": beat.host,
        "pid": beat.pid,
        "busy_with": beat.busy_with,
        "told": json.dumps({name: getattr(beat, name) for name in _TOLD}),
    }


@readable_row
def heartbeat_from_row(row: Row) -> Heartbeat:
    """A sign of life from the row of `heartbeat`."""
    told = json.loads(row["told"])
    known = {name: told[name] for name in _TOLD if name in told}
    return Heartbeat(
        _moment(row, "at"), _moment(row, "next_by"), row["host"], row["pid"], row["busy_with"], row["name"], **known
    )


def evidence_to_row(evidence: Evidence) -> dict[str, Any]:
    """Evidence as a row of `evidence`."""
    return {
        "id": evidence.id,
        "kind": evidence.kind,
        "source": evidence.source,
        "point": evidence.point,
        "vault": evidence.vault,
        "started_at": moment_to_column(evidence.started_at),
        "finished_at": moment_to_column(evidence.finished_at),
        "passed": evidence.passed,
        "rung": int(evidence.rung),
        "steps": json.dumps([step_to_payload(step) for step in evidence.steps]),
        "reason": words_to_column(evidence.reason),
        "read_since": moment_to_column(evidence.read_since),
    }


@readable_row
def evidence_from_row(row: Row) -> Evidence:
    """Evidence from a row of `evidence`."""
    return Evidence(
        id=row["id"],
        kind=row["kind"],
        source=row["source"],
        point=row["point"],
        vault=row["vault"],
        started_at=_moment(row, "started_at"),
        finished_at=_moment(row, "finished_at"),
        passed=bool(row["passed"]),
        rung=Rung(row["rung"]),
        steps=tuple(step_from_payload(step) for step in json.loads(row["steps"])),
        reason=row["reason"],
        read_since=moment_from_column(row["read_since"]),
    )


@readable_row
def run_from_row(row: Row) -> Run:
    """A run from a row of `runs`."""
    return Run(
        id=row["id"],
        action=ActionKind(row["action"]),
        source=row["source"],
        vault=row["vault"],
        point=row["point"],
        started_at=_moment(row, "started_at"),
        finished_at=moment_from_column(row["finished_at"]),
        outcome=Outcome(row["outcome"]),
        error_code=row["error_code"],
        message=row["message"],
        figures=figures_to_payload(json.loads(row["figures"])),
    )


@readable_row
def resource_from_row(row: Row) -> Resource:
    """A resource from a row of `resources`."""
    changed_at = moment_from_column(row["changed_at"])
    return Resource(row["name"], row["kind"], row["location"], row["size_bytes"], changed_at, bool(row["covered"]))
