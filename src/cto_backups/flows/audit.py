"""Audit: look afresh at what there is, say where protection falls short of policy, and what changed since last time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from cto_backups import clock
from cto_backups.core.assurance import judge
from cto_backups.core.audit_comparison import Comparison, KeptAudit, compare, kept_findings
from cto_backups.core.auditing import Auditing, remembered
from cto_backups.core.bucket_settings import BucketTeller, SeenBucket
from cto_backups.core.cloud_sql import Instance, InstanceSource
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.findings import AuditReport, Environment
from cto_backups.core.inventory_controls import UNCLAIMED
from cto_backups.core.model import Disappearance, Resource
from cto_backups.core.policy import Policy
from cto_backups.core.retained_log import LogRetainer, RetainedLog
from cto_backups.core.time_travel import TimeTravelling, Window
from cto_backups.errors import BackupsError, BusyError, CatalogError
from cto_backups.flows import presence, records
from cto_backups.flows.catalog_port import Catalog
from cto_backups.flows.fleet import sources_elsewhere
from cto_backups.flows.gone_back import gone_back
from cto_backups.flows.governance import inspect
from cto_backups.flows.heartbeat import observed
from cto_backups.flows.installation import Installation
from cto_backups.flows.stream import wanted

AT_ONCE: Final = 1000
"""How many sources are judged at once."""


@dataclass(frozen=True)
class Look:
    """What a look around this machine came upon, and the folders that it looked through to the end."""

    found: tuple[Resource, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """The findings, with what could not be looked at (a source that cannot be reached is itself a finding).

    `policy` and `facts` are what they rest on, of each source what is `remembered`. `compared` is against the audit
    before it, and `history` are the audits that are kept, the last first, this one among them once it is `kept`;
    `unkept` says why it could not be. `undelivered` are the vaults that do not have its signed record yet, and why, but
    for those that are away: a finding tells of these.
    """

    report: AuditReport
    unreachable: dict[str, BackupsError]
    now: datetime
    policy: Policy
    facts: Facts
    compared: Comparison = field(default_factory=Comparison)
    history: tuple[KeptAudit, ...] = ()
    kept: bool = False
    unkept: BackupsError | None = None
    undelivered: Mapping[str, BackupsError] = field(default_factory=dict)


def audit(
    installation: Installation,
    environment: Environment,
    look: Look | None = None,
    *,
    keep: bool = True,
    write: bool = True,
    since: datetime | None = None,
) -> Audit:
    """Audit the whole policy, and compare with the last audit that is kept; with `since`, of those until then.

    With `keep` the next audit compares with this one; what it changed is signed, and brought to every vault that is
    there. Without `write` nothing at all is written: the catalog may lie where nothing can be. One that turns out to be
    so, or is in use for long, does not fail the audit either.
    """
    now = clock.now()
    found: dict[str, Sequence[Resource]] = {}
    unreachable: dict[str, BackupsError] = {}
    retained: dict[str, tuple[RetainedLog, ...]] = {}
    buckets: dict[str, SeenBucket] = {}
    cloud_sql: dict[str, Instance] = {}
    windows: dict[str, tuple[Window, ...]] = {}
    with installation.progress("Looking at every source") as progress:
        others = sources_elsewhere(installation)  # whose inventory is as their own hosts found it last
        names = [name for name in installation.policy.sources if name not in others]
        progress.total(entries=len(names), size_bytes=0)
        for name in names:
            try:
                source = installation.source(name)
                if isinstance(source, InstanceSource):
                    cloud_sql[name] = source.instance()  # the service tells, also where the server does not answer
                found[name] = source.discover()
                if isinstance(source, LogRetainer):
                    retained[name] = tuple(source.retained_logs())
                if isinstance(source, TimeTravelling):
                    windows[name] = tuple(source.windows())
                if isinstance(source, BucketTeller):
                    buckets[name] = source.seen()
            except BackupsError as error:
                unreachable[name] = error
            progress.advance(entries=1)
    away = presence.away(installation)
    behind = gone_back(installation, away)
    unkept: BackupsError | None = behind
    if write and behind is None:  # what is signed by a catalog that has gone back contradicts what vaults have
        unkept = _record(installation, found, now)
    hosts = installation.catalog.hosts.listed() if installation.policy.enrolled_as is None else ()
    environment = replace(
        environment, documents=inspect(installation), hosts=hosts, catalog_behind=behind.why if behind else ""
    )
    told = {name: _told(error) for name, error in unreachable.items()}
    environment = replace(environment, unreachable=told, retained=retained, buckets=buckets, cloud_sql=cloud_sql)
    environment = replace(environment, windows=windows, streams=wanted(installation))
    points_of = partial(_points_of, installation.catalog, now)
    auditing = Auditing(installation.policy, now, environment, points_of)
    unrecorded = found if unkept is not None or not write else {}
    facts = _added(installation, auditing, unrecorded, away, now)
    if look is not None:
        facts = replace(facts, resources={**facts.resources, UNCLAIMED: look.found})
    report = auditing.report(facts)

    catalog, findings = installation.catalog, kept_findings(report, facts)
    looked = look.folders if look is not None else ()
    previous, before = catalog.audits.last(since) or (None, ())
    compared = compare(findings, previous, before, looked)
    kept, undelivered = False, dict[str, BackupsError]()
    if keep and write and unkept is None:
        this = KeptAudit(now, report.score, report.counts)
        policy, by, signer = installation.policy.digest, installation.user, installation.signer
        try:
            signed = catalog.audits.keep(this, findings, looked, policy=policy, by=by, signer=signer)
            kept = True
            problems = records.deliver_everywhere(installation) if signed else {}
            undelivered = {name: problem for name, problem in problems.items() if name not in away}
        except (CatalogError, BusyError) as error:
            unkept = error
    return Audit(
        report,
        unreachable,
        now,
        installation.policy,
        facts,
        compared,
        catalog.audits.history(),
        kept,
        unkept,
        undelivered,
    )


def _added(
    installation: Installation,
    auditing: Auditing,
    unrecorded: Mapping[str, Sequence[Resource]],
    away: Mapping[str, str],
    now: datetime,
) -> Facts:
    """Judge all sources, so many at a time; the facts of all, as far as they are `remembered`.

    `unrecorded` was found by looks that the catalog does not know of.
    """
    policy, catalog = installation.policy, installation.catalog
    around = observed(installation, catalog.facts(now, ()), now)
    around = replace(around, vaults_away=away, approvals=catalog.approvals.listed())
    active = frozenset(catalog.active_sources())
    names = [*policy.sources, *(name for name in catalog.known_sources() if name not in policy.sources)]
    sources: dict[str, SourceFacts] = {}
    resources: dict[str, tuple[Resource, ...]] = {}
    vanished: dict[str, tuple[Disappearance, ...]] = {}
    for begin in range(0, len(names), AT_ONCE):
        part = names[begin : begin + AT_ONCE]
        facts = replace(catalog.facts(now, part), vaults_away=away)
        facts = _as_found(facts, {name: unrecorded[name] for name in part if name in unrecorded}, now)
        asked = [name for name in part if name in policy.sources]
        auditing.add(facts, judge(policy, facts, now, asked))
        # One that has left the policy counts for what was found in it; its removal, unless somebody has approved that.
        sources.update((name, remembered(facts.sources[name])) for name in part if name in asked or name in active)
        resources |= facts.resources
        vanished |= facts.vanished
    return replace(
        around, sources=sources, resources=dict(sorted(resources.items())), vanished=dict(sorted(vanished.items()))
    )


def _record(installation: Installation, found: Mapping[str, Sequence[Resource]], now: datetime) -> BackupsError | None:
    """Remember what was found; why that could not be, if it could not."""
    try:
        # At once: each transaction waits for the disk.
        installation.catalog.record_inventory(found, now)
    except (CatalogError, BusyError) as error:
        return error
    return None


def _as_found(facts: Facts, found: Mapping[str, Sequence[Resource]], now: datetime) -> Facts:
    """The facts as they would be if what was found had been recorded."""
    sources, resources, vanished = dict(facts.sources), dict(facts.resources), dict(facts.vanished)
    for name, seen in found.items():
        known, names = facts.resources.get(name, ()), {resource.name for resource in seen}
        missing = tuple(resource for resource in known if resource.name not in names)
        before = sources.get(name)
        if missing:
            last_found_at = (before.discovered_at if before else None) or now
            vanished[name] = (Disappearance(last_found_at, missing, len(known)), *vanished.get(name, ()))
        resources[name] = tuple(seen)
        if before is not None:
            sources[name] = replace(before, discovered_at=now)
    return replace(facts, sources=sources, resources=resources, vanished=vanished)


def _told(error: BackupsError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what


def _points_of(catalog: Catalog, now: datetime, name: str) -> Facts:
    return catalog.facts(now, [name], kept_points=True)
