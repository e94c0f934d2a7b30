"""The rules of governance: they bind as soon as the policy has them, and until it is approved that it asks for less."""

from dataclasses import replace

from cto_backups import clock
from cto_backups.core.governance import Governance, Governed
from cto_backups.core.governing_rules import in_force, loosened
from cto_backups.errors import GovernanceError
from cto_backups.evidence.approvals import rules_to_text
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation


def review(installation: Installation) -> tuple[Governance | None, tuple[str, ...]]:
    """Accept the rules of the policy, or ask for the approval that lesser ones need; what holds, and what to tell."""
    policy, catalog = installation.policy, installation.catalog
    accepted, asked = catalog.approvals.rules(), policy.governance
    if accepted == asked:
        return asked, ()
    less = loosened(accepted, asked)
    if not less:
        catalog.approvals.accept_rules(asked, policy.digest, installation.user, installation.signer, clock.now())
        return asked, ()
    parameters = {"was": rules_to_text(accepted), "becomes": rules_to_text(asked), "loosens": list(less)}
    bound = replace(installation, policy=policy.governed_by(in_force(accepted, asked)))
    summary = f"Letting governance ask for less ({'; '.join(less)})"
    try:
        admit(bound, Governed.GOVERNANCE_CHANGE, parameters, summary=summary)
    except GovernanceError as error:
        return bound.policy.governance, (f"{error}. {error.todo}",)
    return asked, ()
