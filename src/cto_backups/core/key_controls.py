"""The controls on keys that nobody looks at from day to day: those of vaults, key services, shares of custodians."""

from collections.abc import Iterator

from cto_backups.core.duration import format_cadence, roughly
from cto_backups.core.findings import Audited, Check
from cto_backups.core.policy import VaultPolicy
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.wording import counted, listed


def check_own_keys(audited: Audited) -> Iterator[Check]:
    """What opens an off-site vault opens no other: who steals the secret of one place has none of another."""
    secrets = audited.environment.secrets
    for vault in audited.policy.vaults.values():
        if not vault.off_site or vault.name not in secrets:
            continue
        others = [
            other.name
            for other in audited.policy.vaults.values()
            if secrets.get(other.name) == secrets[vault.name] and not _one_place(vault, other)
        ]
        told = f"its secret opens {listed(others)}, too" if others else "its secret opens no other vault"
        yield Check(vault.name, not others, told)


def _one_place(vault: VaultPolicy, other: VaultPolicy) -> bool:
    """Whether one is the domain of a host inside the other, or both are domains: of these, the vault around counts."""
    if vault.domain_of is not None and other.domain_of is not None:
        return True
    return vault.name == other.name or any(
        inner.url.startswith(f"{outer.url}/") for inner, outer in ((vault, other), (other, vault))
    )


def check_separated(audited: Audited) -> Iterator[Check]:
    """A vault with a key of its own in the policy opens with the shared secret no more."""
    for vault, apart in audited.environment.separated.items():
        still = f"the shared secret still opens it; run: cto.backups key separate {vault}"
        yield Check(vault, apart, "the shared secret does not open it" if apart else still)


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
