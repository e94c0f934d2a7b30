"""The controls on the keys that nobody looks at from day to day: key services, and the shares of custodians."""

from collections.abc import Iterator

from cto_backups.core.assurance import CLOCK_TOLERANCE
from cto_backups.core.duration import format_cadence, roughly
from cto_backups.core.findings import Audited, Check
from cto_backups.core.wording import counted, listed


def check_key_services(audited: Audited) -> Iterator[Check]:
    """Each key service is there, enabled, and unwraps the secret of every vault, now."""
    for name, problem in audited.environment.key_services.items():
        yield Check(name, not problem, problem or "it is enabled, and unwrapped the secret of every vault")


def check_escrow(audited: Audited) -> Iterator[Check]:
    """The custodians of the policy hold shares, as many as it says are enough, and these open every vault."""
    asked, facts = audited.policy.escrow, audited.environment.escrow
    if asked is None:
        return
    shares = facts.shares
    if shares is None:
        yield Check("escrow", False, "no shares were handed out")
        return
    if shares.threshold != asked.threshold:
        detail = f"{shares.threshold} shares are enough, and policy asks for {asked.threshold}"
        yield Check("escrow", False, detail)
    elif set(shares.custodians) != set(asked.custodians):
        held = f"held by {listed(shares.custodians)}; policy names {listed(asked.custodians)}"
        yield Check("escrow", False, held)
    else:
        yield Check("escrow", True, f"{counted(len(shares.custodians), 'share')}, {shares.threshold} are enough")
    for vault in audited.policy.vaults:
        if vault not in shares.keys:
            yield Check(vault, False, f"the shares of set {shares.identifier} do not open it")
        elif vault in facts.gone:
            yield Check(vault, False, f"its key file for the shares of set {shares.identifier} is gone")
        else:
            yield Check(vault, True, f"the shares of set {shares.identifier} open it")


def check_key_drills(audited: Audited) -> Iterator[Check]:
    """Within the time that policy asks for, shares of the newest set alone opened each vault, and restored from it."""
    asked, facts = audited.policy.escrow, audited.environment.escrow
    if asked is None:
        return
    every = format_cadence(asked.drill)
    drills = [drill for drill in facts.drills if facts.shares and drill.identifier == facts.shares.identifier]
    for vault in audited.policy.vaults:
        tried = [drill for drill in drills if vault in drill.vaults]
        if not tried:
            yield Check(vault, False, f"shares were never tried on it; policy asks for a drill, {every}")
            continue
        last = tried[-1]
        age = audited.now - last.finished_at
        if problem := last.vaults[vault]:
            yield Check(vault, False, f"the last drill failed: {problem}")
        else:
            fresh = -CLOCK_TOLERANCE <= age <= asked.drill
            yield Check(vault, fresh, f"shares opened it {roughly(age)} ago; policy asks for a drill, {every}")
