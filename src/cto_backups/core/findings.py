"""The nouns of the audit: controls, what they check, and the report of what they found."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from cto_backups.core.assurance import Verdict
from cto_backups.core.bucket_settings import SeenBucket
from cto_backups.core.cloud_sql import Instance
from cto_backups.core.enrolment import Host
from cto_backups.core.escrow import EscrowFacts
from cto_backups.core.facts import Facts, SourceFacts, VaultFacts
from cto_backups.core.frameworks import Clause
from cto_backups.core.policy import Policy
from cto_backups.core.reporting import ReportState
from cto_backups.core.retained_log import RetainedLog
from cto_backups.core.time_travel import Window


class Severity(StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def weight(self) -> int:
        """What one check of a control of this severity counts in a score."""
        return _WEIGHTS[self]

    def at_least(self, other: "Severity") -> bool:
        """Whether it matters as much as `other`, or more."""
        return self.weight >= other.weight


_WEIGHTS = {Severity.CRITICAL: 8, Severity.HIGH: 4, Severity.MEDIUM: 2, Severity.LOW: 1}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies on this machine: its absolute path, the device (st_dev) where that is known; is it there?"""

    path: str
    device: int | None = None
    there: bool = True


@dataclass(frozen=True, slots=True)
class Environment:
    """What controls need to know that neither policy nor catalog says; each mapping leaves out what is not known.

    `keys` maps the name of each key that is kept as a file to its place, `vaults` each vault on this machine, `sources`
    each source whose data is on this machine. `ciphers` says how a vault's stored bytes are encrypted at rest.
    `catalog` is the place of the catalog, where it is a file. `unreachable` says why a source could not be
    looked at; None: nobody tried. `documents` says of each governing document what is
    wrong with it, or nothing. `loosened` says in which ways the policy's governance asks for less than was accepted;
    None: nothing governs. `streams` are the sources whose log is to be followed all the time.
    `retained` says what servers keep of their logs for a source. `key_services` says, of each key service that gives
    a secret of repositories, what is wrong with it, or nothing. `opens` says which vaults a key of `keys` is to open;
    one that is not in it is meant for all. `secrets` names what opens each vault: those with the same share a secret.
    `separated` says of vaults with a key of their own whether the shared one opens them no more. `escrow`
    is what is known of the word shares. `buckets` says how each source that is a bucket is set, `cloud_sql` what the
    instances of such sources are set to.
    `windows` says how far back the services of sources keep a history of their own.
    `catalog_behind` says which vault has what the catalog lacks, or nothing; None: nobody looked.
    `hosts` are those that were enrolled. `report` is how reporting has gone; None: nothing is known of it.
    """

    keys: Mapping[str, Place] = field(default_factory=dict)
    vaults: Mapping[str, Place] = field(default_factory=dict)
    sources: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    ciphers: Mapping[str, str] = field(default_factory=dict)
    catalog: Place | None = None
    unreachable: Mapping[str, str] | None = None
    documents: Mapping[str, str] = field(default_factory=dict)
    loosened: tuple[str, ...] | None = None
    streams: tuple[str, ...] = ()
    retained: Mapping[str, tuple[RetainedLog, ...]] = field(default_factory=dict)
    key_services: Mapping[str, str] = field(default_factory=dict)
    opens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    separated: Mapping[str, bool] = field(default_factory=dict)
    escrow: EscrowFacts = field(default_factory=EscrowFacts)
    buckets: Mapping[str, SeenBucket] = field(default_factory=dict)
    cloud_sql: Mapping[str, Instance] = field(default_factory=dict)
    windows: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    report: ReportState | None = None
    hosts: tuple[Host, ...] = ()
    catalog_behind: str | None = None


PointsOf = Callable[[str], Facts]


@dataclass(frozen=True, slots=True)
class Audited:
    """All that a control may look at. `points_of` reads the facts of one source with all its kept points."""

    policy: Policy
    facts: Facts
    verdicts: Mapping[str, Verdict]
    now: datetime
    environment: Environment
    points_of: PointsOf | None = None

    def with_points(self, name: str) -> Facts:
        """The facts with the kept points of one source, and what keeps them; those of all need not fit into memory."""
        return self.facts if self.points_of is None else self.points_of(name)

    def source(self, name: str) -> SourceFacts:
        """What is known of a source, which may be nothing."""
        return self.facts.sources.get(name, SourceFacts(name))

    def vault(self, name: str) -> VaultFacts:
        """What is known of a vault, which may be nothing."""
        return self.facts.vaults.get(name, VaultFacts(name))


@dataclass(frozen=True, slots=True)
class Check:
    """What a control says of one subject: a source, a vault, a resource. `detail` is a sentence with figures."""

    subject: str
    passed: bool
    detail: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """One rule of the audit. `check` yields one result for each subject that the rule applies to.

    `clauses` are the requirements of control frameworks that its result is evidence for. With `by_source` it judges
    each source of the policy by itself, in the policy's order, by nothing of the facts, verdicts and inventory of
    others: then it may be given the sources in parts.
    """

    id: str
    title: str
    severity: Severity
    rationale: str
    remedy: str
    check: Callable[[Audited], Iterable[Check]]
    clauses: tuple[Clause, ...] = ()
    by_source: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a control found wrong, with what to do."""

    control: str
    title: str
    severity: Severity
    subject: str
    detail: str
    rationale: str
    remedy: str
    category: str | None = None
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlResult:
    """A control with all its checks; without any, it does not apply."""

    control: Control
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong (also where it does not apply)."""
        return all(check.passed for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Its failed checks."""
        control = self.control
        return tuple(
            Finding(
                control=control.id,
                title=control.title,
                severity=control.severity,
                subject=check.subject,
                detail=check.detail,
                rationale=control.rationale,
                remedy=control.remedy,
                category=check.category,
                clauses=control.clauses,
            )
            for check in self.checks
            if not check.passed
        )


@dataclass(frozen=True)
class AuditReport:
    """What every control found at one moment."""

    at: datetime
    results: tuple[ControlResult, ...]

    @cached_property  # asked for a dozen times in an audit, and there may be a million
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, the gravest first."""
        found = [finding for result in self.results for finding in result.findings]
        return tuple(sorted(found, key=lambda finding: -finding.severity.weight))

    @property
    def passed(self) -> tuple[ControlResult, ...]:
        """The controls that apply and found nothing wrong."""
        return tuple(result for result in self.results if result.checks and result.passed)

    @property
    def not_applicable(self) -> tuple[Control, ...]:
        """The controls that nothing here falls under."""
        return tuple(result.control for result in self.results if not result.checks)

    @property
    def counts(self) -> Mapping[Severity, int]:
        """How many findings of each severity."""
        found = [finding.severity for finding in self.findings]
        return {severity: found.count(severity) for severity in Severity}

    @property
    def score(self) -> int:
        """0 … 100: the share of passed checks, weighted by severity; 100 only when nothing is wrong."""
        return _score(self._weighted())

    @property
    def scores(self) -> Mapping[str, int]:
        """The score of each category that has checks of its own."""
        categories = sorted({check.category for result in self.results for check in result.checks if check.category})
        return {category: _score(self._weighted(category)) for category in categories}

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of this severity or graver: what a pipeline fails on."""
        return tuple(finding for finding in self.findings if finding.severity.at_least(severity))

    def _weighted(self, category: str | None = None) -> list[tuple[int, bool]]:
        return [
            (result.control.severity.weight, check.passed)
            for result in self.results
            for check in result.checks
            if category in (None, check.category)
        ]


def _score(weighted: list[tuple[int, bool]]) -> int:
    total = sum(weight for weight, _ in weighted)
    # Rounded down, so that a single finding among thousands of checks still shows.
    return 100 * sum(weight for weight, passed in weighted if passed) // total if total else 100
