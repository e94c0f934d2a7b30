"""Status: what is protected right now, how fresh, how strongly proven, and what is overdue or failed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from cto_backups import clock
from cto_backups.core.assurance import Verdict, judge
from cto_backups.core.facts import Facts
from cto_backups.core.heartbeat import silence
from cto_backups.core.policy import Policy
from cto_backups.core.traffic import COUNTED_FOR, VaultCosts, vault_costs
from cto_backups.errors import CatalogBehindError
from cto_backups.flows.expire import kept_by_owners
from cto_backups.flows.gone_back import gone_back
from cto_backups.flows.heartbeat import observed
from cto_backups.flows.installation import Installation
from cto_backups.flows.presence import looked_at

AT_ONCE: Final = 1000


@dataclass(frozen=True)
class StatusReport:
    """The verdict on every source, with the facts that it rests on.

    `kept_by_owners` counts the copies of expired points in vaults to which this host may only add. `silence` says why
    the worker is to be taken for dead (None: it is not). `costs` are those of the vaults, where asked for.
    `half_revoked` says, in sentences, which hosts may still get in although they were revoked. `gone_back` says that
    vaults have what the catalog lacks: what is judged here is older than what is so.
    """

    policy: Policy
    facts: Facts
    verdicts: Mapping[str, Verdict]
    now: datetime
    kept_by_owners: Mapping[str, int] = field(default_factory=dict)
    silence: str | None = None
    costs: tuple[VaultCosts, ...] = ()
    half_revoked: tuple[str, ...] = ()
    gone_back: CatalogBehindError | None = None


def status(installation: Installation, sources: Iterable[str] | None = None, *, costs: bool = False) -> StatusReport:
    """Judge the named sources, or all, from the catalog and from a short look at each vault: is it there at all?"""
    names = None if sources is None else [installation.source_policy(name).name for name in sources]
    now = clock.now()
    facts = observed(installation, installation.catalog.facts(now, names), now)
    facts = looked_at(installation, facts)
    verdicts = judge(installation.policy, facts, now, names)
    book = installation.catalog.traffic
    return StatusReport(
        installation.policy,
        facts,
        verdicts,
        now,
        kept_by_owners(installation),
        silence(installation.policy, facts, now),
        vault_costs(installation.policy, facts, book.stored(), book.since(now - COUNTED_FOR)) if costs else (),
        half_revoked(installation),
        gone_back(installation, facts.vaults_away or ()),
    )


def in_parts(installation: Installation, most: int = AT_ONCE) -> Iterator[StatusReport]:
    """Judge all sources, so many at a time: of very many, the facts need not be in memory together.

    Each part knows of the whole what is not of sources. Without any source there is one part.
    """
    policy, now = installation.policy, clock.now()
    around = looked_at(installation, observed(installation, installation.catalog.facts(now, ()), now))
    kept, revoked, dead = kept_by_owners(installation), half_revoked(installation), silence(policy, around, now)
    behind = gone_back(installation, around.vaults_away or ())
    names = list(policy.sources)
    for begin in range(0, max(len(names), 1), most):
        part = names[begin : begin + most]
        facts = replace(
            installation.catalog.facts(now, part), heartbeats=around.heartbeats, vaults_away=around.vaults_away
        )
        yield StatusReport(policy, facts, judge(policy, facts, now, part), now, kept, dead, (), revoked, behind)


def half_revoked(installation: Installation) -> tuple[str, ...]:
    """Which hosts may still get in although they were revoked, in sentences; to an enrolled host, none is shown."""
    if installation.policy.enrolled_as is not None:
        return ()
    return tuple(host.half_revoked for host in installation.catalog.hosts.listed() if host.half_revoked)
