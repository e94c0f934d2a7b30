"""The rules of governance: they bind as soon as the policy has them, and until it is approved that it asks for less."""

from cto_backups import clock
from cto_backups.core.governance import Governance, Governed
from cto_backups.core.governing_rules import in_force, loosened
from cto_backups.errors import GovernanceError
from cto_backups.evidence.approvals import rules_to_text
from cto_backups.flows.governance import admit
from cto_backups.flows.installation import Installation


def review(installation: Installation) -> tuple[Governance | None, tuple[str, ...]]:
    """Accept the rules of the policy, or ask for the approval that lesser ones need; what holds, and what to tell.

    Where they ask for more in one place and for less in another, the more is accepted at once.
    """
    policy, approvals = installation.policy, installation.catalog.approvals
    while True:
        accepted, asked = approvals.rules(), policy.governance
        bound = in_force(accepted, asked)
        if bound == accepted:
            break
        if approvals.accept_rules(bound, accepted, policy.digest, installation.user, installation.signer, clock.now()):
            accepted = bound
            break  # else somebody else has accepted others meanwhile: they are looked at first
    if not (less := loosened(accepted, asked)):
        return asked, ()
    parameters = {"was": rules_to_text(accepted), "becomes": rules_to_text(asked), "loosens": list(less)}
    summary = f"Letting governance ask for less ({'; '.join(less)})"
    try:
        admit(installation, Governed.GOVERNANCE_CHANGE, parameters, summary=summary)
    except GovernanceError as error:
        return accepted, (f"{error}. {error.todo}",)
    return asked, ()
