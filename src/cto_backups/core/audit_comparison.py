"""An audit against the one before it: what is new, what is still open and since when, what is fixed; pure.

A finding is the same one as long as its control and its subject are. Its words hold ages and figures, and do not
count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cto_backups.core.facts import Facts
from cto_backups.core.findings import AuditReport, Finding, Severity
from cto_backups.core.inventory_controls import UNCLAIMED

KEPT_FOR = timedelta(days=400)
"""For how long past audits are kept, the last of each day: a year, and time enough to write the yearly report."""


@dataclass(frozen=True, slots=True)
class FindingKey:
    """What makes a finding the same one; `occurrence` counts those of one control about one subject from 1."""

    control: str
    subject: str
    occurrence: int = 1


@dataclass(frozen=True, slots=True)
class KeptFinding:
    """A finding as it was when it was first made, `since` then; `by_look`: something found beside all sources."""

    key: FindingKey
    title: str
    severity: Severity
    detail: str
    category: str | None
    since: datetime
    by_look: bool = False


@dataclass(frozen=True, slots=True)
class KeptAudit:
    """What is kept of an audit, beside its findings."""

    at: datetime
    score: int
    counts: Mapping[Severity, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """An audit against a previous one (None: there is none to compare with).

    `since` says of each finding that was there before, since when it has been; those that it lacks are new. `unseen`
    were found by a look at folders that this audit did not look into: nobody knows whether they are fixed.
    """

    previous: KeptAudit | None = None
    since: Mapping[FindingKey, datetime] = field(default_factory=dict)
    fixed: tuple[KeptFinding, ...] = ()
    unseen: tuple[KeptFinding, ...] = ()


def keyed(findings: Iterable[Finding]) -> dict[FindingKey, Finding]:
    """Findings by what makes them the same tomorrow, in their order."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[FindingKey, Finding] = {}
    for finding in findings:
        seen[finding.control, finding.subject] += 1
        found[FindingKey(finding.control, finding.subject, seen[finding.control, finding.subject])] = finding
    return found


def kept_findings(report: AuditReport, facts: Facts) -> tuple[KeptFinding, ...]:
    """The findings of an audit as they are kept, all of them since now."""
    found = {resource.name for resource in facts.resources.get(UNCLAIMED, ())}
    return tuple(
        KeptFinding(
            key,
            finding.title,
            finding.severity,
            finding.detail,
            finding.category,
            report.at,
            by_look=_is_by_look(key, found),
        )
        for key, finding in keyed(report.findings).items()
    )


def _is_by_look(key: FindingKey, found: Set[str]) -> bool:
    return key.control == "exclusions-used" or (key.control == "coverage" and key.subject in found)


def compare(
    findings: Sequence[KeptFinding],
    previous: KeptAudit | None,
    before: Iterable[KeptFinding],
    looked: Sequence[str] = (),
) -> Comparison:
    """The findings of now against those `before`. `looked` are the folders that were looked through to the end."""
    if previous is None:
        return Comparison()
    now = {finding.key for finding in findings}
    since: dict[FindingKey, datetime] = {}
    fixed: list[KeptFinding] = []
    unseen: list[KeptFinding] = []
    for finding in before:
        if finding.key in now:
            since[finding.key] = finding.since
        elif finding.by_look and not _looked_at(finding, looked):
            unseen.append(finding)
        else:
            fixed.append(finding)
    return Comparison(previous, since, tuple(fixed), tuple(unseen))


def _looked_at(finding: KeptFinding, looked: Sequence[str]) -> bool:
    if finding.key.control == "exclusions-used":
        return bool(looked)
    place = finding.key.subject.partition(":")[2]
    return any(place == folder or place.startswith(folder.rstrip("/") + "/") for folder in looked)
