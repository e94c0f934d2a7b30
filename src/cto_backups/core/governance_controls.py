"""Controls of governance: the documents that govern, how approvals came about, and sources that were taken out."""

from collections.abc import Iterator

from cto_backups.core.findings import Audited, Check
from cto_backups.core.governance import flaws


def check_documents(audited: Audited) -> Iterator[Check]:
    """Each governing document can be read and understood, and is the version that was accepted."""
    for name, problem in audited.environment.documents.items():
        yield Check(name, not problem, problem or "it can be read, and is the version that was accepted")


def check_approvals(audited: Audited) -> Iterator[Check]:
    """No approval was given by who asked for it, where a second person was needed."""
    for approval in audited.facts.approvals:
        if approval.granted:
            found = flaws(approval)
            sound = f"given by {approval.decided_by}, asked for by {approval.requested_by}"
            yield Check(approval.id, not found, "; ".join(found) or sound)


def check_loosened(audited: Audited) -> Iterator[Check]:
    """The section on governance asks for as much as it did when it was accepted last."""
    if audited.environment.loosened is not None:
        found = "; ".join(audited.environment.loosened)
        held = f"the policy asks for less, which nobody has approved: {found}; the rules before hold until then"
        yield Check("governance", not found, held if found else "the policy asks for all that was accepted")


def check_revocations(audited: Audited) -> Iterator[Check]:
    """Each host that was revoked is shut out everywhere."""
    for host in audited.environment.hosts:
        if host.revoked_at is not None:
            yield Check(
                f"host {host.name}", host.half_revoked is None, host.half_revoked or "it is shut out everywhere"
            )


def check_removals(audited: Audited) -> Iterator[Check]:
    """No source was taken out of the policy without the approval that this needs."""
    for name in sorted(audited.facts.sources.keys() - audited.policy.sources.keys()):
        yield Check(name, False, "it was taken out of the policy, which governance has not accepted")
