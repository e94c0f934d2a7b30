"""Audits as JSON: what each changed against the one before it, as signed records say it; strict both ways."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from cto_backups.core.audit_comparison import KEPT_FOR, FindingKey, KeptAudit, KeptFinding
from cto_backups.core.findings import Severity
from cto_backups.evidence.payloads import Json, moment_from_text, moment_to_text

LISTED = 1000
"""How many entries each list of a record has at most (of what is new, the gravest). Their numbers are of all."""

_COUNT = re.compile("0|[1-9][0-9]{0,17}")
_EARLIEST = datetime.min.replace(tzinfo=UTC) + KEPT_FOR
_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class ToldAudit:
    """An audit with what it changed: its findings are those that were open before, and `new`, without those `fixed`.

    `policy` is the digest of the one that it was by, `by` who ran it, `looked` the folders that were looked through to
    the end, `compared_with` the moment of the audit before it. `still_open` were open before, and no record of this
    signer tells of them: only its first has any. `unlisted` is how many of all these findings a record counts, and is
    too short for.
    """

    audit: KeptAudit
    policy: str
    by: str
    looked: tuple[str, ...] = ()
    compared_with: datetime | None = None
    new: tuple[KeptFinding, ...] = ()
    fixed: tuple[FindingKey, ...] = ()
    still_open: tuple[KeptFinding, ...] = ()
    unlisted: int = 0

    @property
    def keys(self) -> tuple[FindingKey, ...]:
        """Every finding that it speaks of."""
        return (*(finding.key for finding in (*self.new, *self.still_open)), *self.fixed)


# -- written -----------------------------------------------------------------------------------------------------------


def audit_to_payload(told: ToldAudit, hide: Callable[[str], str] = str) -> Json:
    """An audit as JSON; counts are decimal text. `hide` takes secrets out of what is said of findings."""
    audit = told.audit

    def finding_to_payload(finding: KeptFinding) -> Json:
        return _finding_to_payload(replace(finding, detail=hide(finding.detail)))

    return {
        "at": moment_to_text(audit.at),
        "score": audit.score,
        "counts": {severity.value: str(number) for severity, number in audit.counts.items()},
        "policy": told.policy,
        "by": told.by,
        "compared_with": None if told.compared_with is None else moment_to_text(told.compared_with),
        **_list_to_payload("looked", told.looked, str),
        **_list_to_payload("new", told.new, finding_to_payload),
        **_list_to_payload("fixed", told.fixed, _key_to_payload),
        **_list_to_payload(
            "still_open",
            told.still_open,
            lambda each: {**finding_to_payload(each), "since": moment_to_text(each.since)},
        ),
    }


def _list_to_payload(name: str, entries: Sequence[_Entry], say: Callable[[_Entry], Json | str]) -> Json:
    return {name: [say(each) for each in entries[:LISTED]], f"{name}_count": str(len(entries))}


def _key_to_payload(key: FindingKey) -> Json:
    return {"control": key.control, "subject": key.subject, "occurrence": key.occurrence}


def _finding_to_payload(finding: KeptFinding) -> Json:
    return {
        **_key_to_payload(finding.key),
        "title": finding.title,
        "severity": finding.severity.value,
        "detail": finding.detail,
        "category": finding.category,
        "by_look": finding.by_look,
    }


# -- read --------------------------------------------------------------------------------------------------------------


def audit_from_payload(payload: Mapping[str, Any]) -> ToldAudit:
    """An audit from JSON. Raises ValueError, LookupError, TypeError, AttributeError for what no audit can have said."""
    at, score = _moment(payload["at"]), payload["score"]
    before = None if payload["compared_with"] is None else _moment(payload["compared_with"])
    counts = {Severity(name): _count(number) for name, number in payload["counts"].items()}
    looked, _ = _list_from_payload(payload, "looked", _text)
    new, more_new = _list_from_payload(payload, "new", lambda each: _finding(each, at))
    fixed, more_fixed = _list_from_payload(payload, "fixed", _key)
    still_open, more_open = _list_from_payload(
        payload, "still_open", lambda each: _finding(each, _moment(each["since"]))
    )
    told = ToldAudit(
        KeptAudit(at, score, counts),
        policy=_text(payload["policy"]),
        by=_text(payload["by"]),
        looked=looked,
        compared_with=before,
        new=new,
        fixed=fixed,
        still_open=still_open,
        unlisted=more_new + more_fixed + more_open,
    )
    if at < _EARLIEST or type(score) is not int or not 0 <= score <= 100:
        raise ValueError("no moment, or no score, of an audit")
    if (before is not None and before >= at) or any(finding.since >= at for finding in still_open):
        raise ValueError("it follows what came later")
    if len(new) + more_new > sum(counts.values()) or (before is None and (fixed or still_open)):
        raise ValueError("it counts what cannot be")
    if len(set(told.keys)) != len(told.keys):
        raise ValueError("it tells of a finding twice")
    return told


def _list_from_payload(
    payload: Mapping[str, Any], name: str, read: Callable[[Any], _Entry]
) -> tuple[tuple[_Entry, ...], int]:
    """The entries, and how many more there were."""
    listed, count = payload[name], _count(payload[f"{name}_count"])
    if not isinstance(listed, list) or len(listed) != min(count, LISTED):
        raise ValueError(f"{name} has another length than it says")
    return tuple(read(each) for each in listed), count - len(listed)


def _finding(payload: Mapping[str, Any], since: datetime) -> KeptFinding:
    category, by_look = payload["category"], payload["by_look"]
    if type(by_look) is not bool:
        raise TypeError("neither yes nor no")
    return KeptFinding(
        _key(payload),
        _text(payload["title"]),
        Severity(payload["severity"]),
        _text(payload["detail"]),
        None if category is None else _text(category),
        since,
        by_look,
    )


def _key(payload: Mapping[str, Any]) -> FindingKey:
    occurrence = payload["occurrence"]
    if type(occurrence) is not int or occurrence < 1:
        raise ValueError("not a number of a finding")
    return FindingKey(_text(payload["control"]), _text(payload["subject"]), occurrence)


def _moment(text: str) -> datetime:
    moment = moment_from_text(text)
    if moment_to_text(moment) != text:
        raise ValueError("not a moment as records have it")
    return moment


def _count(text: Any) -> int:
    if not _COUNT.fullmatch(_text(text)):
        raise ValueError("not a count")
    return int(text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value
