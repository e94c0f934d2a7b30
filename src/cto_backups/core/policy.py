"""What must survive: the declared intent, validated by `config` and read by every pure function."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from cto_backups.core.alerts import AlertPolicy
from cto_backups.core.bandwidth import BandwidthLimits
from cto_backups.core.duration import format_duration
from cto_backups.core.escrow import Escrow
from cto_backups.core.governance import Governance
from cto_backups.core.model import Rung
from cto_backups.core.retention import Retention
from cto_backups.core.schedule import Triggers, format_triggers, longest_gap
from cto_backups.core.worker import WorkerPolicy


class LockMode(StrEnum):
    """How strongly a vault protects stored files against deletion."""

    NONE = "none"
    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


class LegalHolds(StrEnum):
    """What a legal hold does to what is stored: its locks are renewed, or the store's own hold is put on it as well."""

    RENEWED = "renewed"
    STORED = "stored"


class Access(StrEnum):
    """What this installation does in a vault: all there is to do, or only add (somebody else expires and prunes)."""

    FULL = "full"
    APPEND_ONLY = "append-only"


class Tls(StrEnum):
    """The lowest version of TLS that is accepted on the way to a vault; none for a server of this very machine."""

    V1_3 = "1.3"
    V1_2 = "1.2"
    NONE = "none"


class Payload(StrEnum):
    """What lies behind a recovery point: files cut into a repository, or stored one by one as they are."""

    SNAPSHOT = "snapshot"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a vault's provider charges: for a GiB stored for a month, for a GiB read, and for a thousand requests."""

    currency: str
    storage: float
    egress: float = 0.0
    writes: float = 0.0
    reads: float = 0.0


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """What policy asks of a vault's bucket; `noncurrent_days` 0 and `soft_delete_days` 0 ask for nothing.

    `access_logs` names the bucket that is to get them. `retention_days` is for how long the bucket itself keeps
    whatever is stored there; 0: it is to have no such rule.
    """

    versioning: bool = True
    noncurrent_days: int = 365
    soft_delete_days: int = 7
    replicated: bool = False
    access_logs: str | None = None
    retention_days: int = 0


@dataclass(frozen=True, slots=True)
class VaultPolicy:
    """A named place for copies. `provider` with `region` says what fails together; `storage` is the storage type.

    `repository` is where the repository lies inside, "." for the vault's root. Where it locks what is stored
    (`lock_mode`), then for `lock_window` at a time; `legal_holds` says what holds do there.
    `read_part` is the share of it that one scheduled verification reads.
    Of a vault in an object store: `endpoint` is its server's address, None for the provider's own; `logins` are the
    references to what the policy names for logging in, by setting; `tls` is None for a folder; `kms_key` is the key of
    the provider under which it encrypts what is stored. With `plain_exports` the files of exports lie as they are.
    `copies` is the schedule on which copies come there; empty: each as soon as its point is made. `bandwidth` limits
    what travels to and from it. `prices` are what its provider charges; None: nobody said. `settings` are those of its
    bucket. `checks` is the schedule on which what its store enforces is tried out; empty: by people alone.
    `on_host` is the host whose folder it is, "*" for one that all have; None: nobody said so.
    """

    name: str
    url: str
    provider: str
    region: str
    storage: str
    off_site: bool = False
    lock_mode: LockMode = LockMode.NONE
    lock_window: timedelta = timedelta(days=30)
    legal_holds: LegalHolds = LegalHolds.RENEWED
    repository: str = "repositories/main"
    read_part: Fraction = Fraction(1)
    access: Access = Access.FULL
    endpoint: str | None = None
    tls: Tls | None = None
    logins: Mapping[str, object] = field(default_factory=dict)
    plain_exports: bool = False
    kms_key: str | None = None
    domain_of: str | None = None
    copies: Triggers = ()
    bandwidth: BandwidthLimits = ()
    prices: Prices | None = None
    settings: VaultSettings = VaultSettings()
    checks: Triggers = ()
    on_host: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """Objectives that many sources share.

    `copies`, `storage_types` and `off_site` state the 3-2-1 rule for this category; `read_within` is the time within
    which every stored byte must be read again; `rung` says how strongly proven a source must be, as fresh as its
    test cadence and `read_within` ask.
    """

    name: str
    title: str
    rpo: timedelta
    rto: timedelta
    point_in_time: bool
    copies: int
    storage_types: int
    off_site: bool
    read_within: timedelta
    rung: Rung


@dataclass(frozen=True, slots=True)
class DataClass:
    """A kind of data, its defaults. `retention` None: a source must state it; `test_every` None: none required."""

    name: str
    title: str
    category: str
    triggers: Triggers
    retention: Retention | None
    test_every: timedelta | None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A resource that is left out on purpose, by whom, why and until when."""

    resource: str
    reason: str
    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Hooks:
    """Commands before and after each capture of a source, each for `timeout` at most; they run in `folder`."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout: timedelta = timedelta(minutes=10)
    folder: str = "/"


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """One protected source, with everything resolved: no default is left to look up.

    `probe` is a command that a restore test runs on what came back, for `probe_timeout` at most.
    `backup_timeout` is how long a backup may work at the source; None: as long as it takes.
    `expects_change`: something in it changes at least this often; None: nobody said so. `repositories` says of those in
    which another program keeps its data (by their names there) what a vault's policy says of a vault. `payload` is what
    its points are to be. `tls` is the lowest version that the provider's service has to speak through which it is read;
    None: there is none, or what is seen of the source itself tells it. `on_host` is the host that captures it, "*" when
    any can; None: nobody said so.
    """

    name: str
    kind: str
    category: Category
    triggers: Triggers
    retention: Retention
    test_every: timedelta | None
    vaults: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    data_class: str | None = None
    owner: str | None = None
    probe: tuple[str, ...] = ()
    hooks: Hooks = field(default_factory=Hooks)
    probe_timeout: timedelta = timedelta(minutes=10)
    backup_timeout: timedelta | None = None
    expects_change: timedelta | None = None
    repositories: Mapping[str, VaultPolicy] = field(default_factory=dict)
    payload: Payload = Payload.SNAPSHOT
    tls: Tls | None = None
    on_host: str | None = None


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """Where reports go: `kind` is that of the place, `name` what people call it, `options` are its adapter's.

    `tls` is the lowest version that it has to speak.
    """

    kind: str
    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    tls: Tls = Tls.V1_3


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole declared intent. `digest` is the SHA-256 of its file; calendar times are in `timezone`.

    `prune_every` is how often vaults are pruned; None: only by hand. `dead_mans_switch` is an address (http or https)
    that is told after each pass of the worker in which nothing failed. `alerts` says who is told what is wrong,
    `escrow` who holds word shares of a key, `report_to` where what is known is reported, `worker` how workers work.
    `enrolled_as`: this is the installation of an enrolled host of this name; whoever enrolled it expires and prunes.
    """

    business: str
    timezone: str
    sources: Mapping[str, SourcePolicy]
    vaults: Mapping[str, VaultPolicy]
    categories: Mapping[str, Category]
    classes: Mapping[str, DataClass]
    exclusions: tuple[Exclusion, ...]
    digest: str
    prune_every: timedelta | None = None
    dead_mans_switch: str | None = None
    alerts: AlertPolicy = field(default_factory=AlertPolicy)
    governance: Governance | None = None
    escrow: Escrow | None = None
    report_to: ReportPolicy | None = None
    worker: WorkerPolicy = field(default_factory=WorkerPolicy)
    enrolled_as: str | None = None

    def governed_by(self, rules: Governance | None) -> "Policy":
        """The same policy under other rules: those that bind, whatever its file says."""
        return replace(self, governance=rules)

    def enrolled_host(self, source: str) -> str | None:
        """The enrolled host in whose trust domain the points of a source lie: it captures them. None: nobody else's."""
        known = self.sources.get(source)
        vault = self.vaults.get(known.vaults[0]) if known and known.vaults else None
        return vault.domain_of if vault else None

    @property
    def own_sources(self) -> tuple[str, ...]:
        """The sources that are captured under this policy, and not by an enrolled host under its own."""
        return tuple(name for name in self.sources if self.enrolled_host(name) is None)

    def append_only(self, vault: str) -> bool:
        """Whether this installation may only add to a vault; no for one that the policy names no longer."""
        known = self.vaults.get(vault)
        return known is not None and known.access is Access.APPEND_ONLY

    def within(self, vault: str) -> tuple[str, ...]:
        """The folders of a vault in which others lie, as the domains of hosts do; each ends in a slash.

        What is stored there is theirs: they know what of it is needed.
        """
        around = self.vaults[vault]
        begin = f"{around.url.rstrip('/')}/"
        places = (f"{each.url.rstrip('/')}/" for each in self.vaults.values() if each.endpoint == around.endpoint)
        return tuple(place.removeprefix(begin) for place in places if place.startswith(begin) and place != begin)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a policy must not say: about which source, in which of its fields, and what to do."""

    source: str
    field: str
    what: str
    why: str
    todo: str


def check_policy(policy: Policy) -> tuple[Violation, ...]:
    """Everything in a policy whose parts are each valid, but do not fit together; empty when it is sound."""
    return tuple(
        violation
        for source in policy.sources.values()
        for violation in (*check_source(source), *check_copies(source, policy.vaults))
    )


def check_source(source: SourcePolicy) -> tuple[Violation, ...]:
    """What is wrong with one source, as far as it can be told without the rest of the policy."""
    violations = []
    if not source.vaults:
        violations.append(
            Violation(
                source.name,
                "vaults",
                f"source '{source.name}' has no vault",
                "its recovery points would lie nowhere",
                "name at least one vault",
            )
        )
    if not source.triggers:
        violations.append(
            Violation(
                source.name,
                "triggers",
                f"source '{source.name}' has no trigger",
                "it would never be backed up",
                "name at least one trigger, such as 'daily at 02:00'",
            )
        )
    elif (gap := longest_gap(source.triggers, source.category.rpo)) > source.category.rpo:
        rpo = format_duration(source.category.rpo)
        violations.append(
            Violation(
                source.name,
                "triggers",
                f"the triggers of source '{source.name}' cannot meet its RPO",
                f"'{format_triggers(source.triggers)}' leaves up to {format_duration(gap)} between two points; "
                f"the RPO of category {source.category.name} is {rpo}",
                f"add a trigger that runs at least every {rpo}, or choose a category with a longer RPO",
            )
        )
    return tuple(violations)


def check_copies(source: SourcePolicy, vaults: Mapping[str, VaultPolicy]) -> tuple[Violation, ...]:
    """Where the schedules of a source's vaults cannot give what its category asks of copies.

    The first vault takes the points. Where a category asks for two copies or more, one beside the first has to come
    within the RPO: otherwise the loss of one place loses more than the RPO allows. Further ones may come later.
    """
    known = [vaults[name] for name in source.vaults if name in vaults]
    if known and known[0].copies:
        return (
            Violation(
                source.name,
                "vaults",
                f"the first vault of source '{source.name}' has a schedule for copies",
                f"its points are made in vault {known[0].name}, when the source's triggers say so",
                "name a vault without 'copies' first, or leave 'copies' out there",
            ),
        )
    rpo = source.category.rpo
    gaps = [longest_gap(vault.copies, rpo) if vault.copies else timedelta() for vault in known[1:]]
    if source.category.copies < 2 or not gaps or min(gaps) <= rpo:
        return ()
    return (
        Violation(
            source.name,
            "vaults",
            f"no second copy of source '{source.name}' comes within its RPO",
            f"with vault {known[0].name} lost, up to {format_duration(min(gaps))} are lost with it, by the schedules "
            f"of the others; the RPO of category {source.category.name} is {format_duration(rpo)}",
            f"leave 'copies' out of one of its other vaults, or let copies come there every {format_duration(rpo)}",
        ),
    )


def unstated_retention(source: str, data_class: DataClass | None, stated: Retention | None) -> Violation | None:
    """The violation when neither the source nor its data class says how long points are kept."""
    if stated is not None or (data_class is not None and data_class.retention is not None):
        return None
    reason = (
        f"class {data_class.name} is kept per policy, so it has no default"
        if data_class is not None
        else "it has no data class whose retention it could take"
    )
    return Violation(
        source,
        "retention",
        f"source '{source}' does not say how long its points are kept",
        reason,
        "state its retention, such as '2 years' or 'permanent'",
    )
