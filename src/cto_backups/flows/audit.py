"""Audit: look afresh at what there is, and say where protection falls short of policy."""

from dataclasses import dataclass, replace
from datetime import datetime

from cto_backups import clock
from cto_backups.core.assurance import judge
from cto_backups.core.controls import audit as audit_controls
from cto_backups.core.findings import AuditReport, Environment
from cto_backups.core.model import Facts, Resource
from cto_backups.core.policy import Policy
from cto_backups.errors import BackupsError
from cto_backups.flows.heartbeat import observed
from cto_backups.flows.installation import Installation


@dataclass(frozen=True)
class Audit:
    """The findings, with what could not be looked at (a source that cannot be reached is itself a finding).

    `policy` and `facts` are what they rest on.
    """

    report: AuditReport
    unreachable: dict[str, BackupsError]
    now: datetime
    policy: Policy
    facts: Facts


def audit(installation: Installation, environment: Environment, found: tuple[Resource, ...] = ()) -> Audit:
    """Audit the whole policy. `found` are resources that a look around this machine came upon."""
    now = clock.now()
    unreachable: dict[str, BackupsError] = {}
    for name in installation.policy.sources:
        try:
            installation.catalog.record_resources(name, installation.source(name).discover(), now)
        except BackupsError as error:
            unreachable[name] = error
    environment = replace(
        environment,
        unreachable={name: str(error) for name, error in unreachable.items()},
        vaults_away=_away(installation),
    )
    facts = observed(installation, installation.catalog.facts(now, kept_points=True), now)
    if found:
        facts = replace(facts, resources={**facts.resources, "": found})
    verdicts = judge(installation.policy, facts, now)
    report = audit_controls(installation.policy, facts, verdicts, now, environment)
    return Audit(report, unreachable, now, installation.policy, facts)


def _away(installation: Installation) -> dict[str, str]:
    """The vaults that cannot be read now, and why."""
    away: dict[str, str] = {}
    for name in installation.policy.vaults:
        try:
            installation.check_readable(name)
        except BackupsError as error:
            away[name] = str(error)
    return away
