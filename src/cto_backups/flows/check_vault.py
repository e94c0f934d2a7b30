"""Check: try out what the store of a vault really enforces, and keep the answer as signed evidence."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cto_backups import clock
from cto_backups.core.model import ActionKind, Evidence, Rung
from cto_backups.core.vault_check import CHECK, Told, failing, told_in
from cto_backups.core.vault_settings import Seen
from cto_backups.errors import VerificationError
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.flows import records, vault_settings
from cto_backups.flows.installation import Installation
from cto_backups.flows.runs import recorded


@dataclass(frozen=True)
class Found:
    """What a check came upon. `left`: what could not be removed again, by key, and why; `locked_until`: till when."""

    told: tuple[Told, ...]
    left: Mapping[str, str]
    locked_until: datetime | None = None


@dataclass(frozen=True)
class VaultChecked:
    """A check of one vault, with the evidence that was kept of it; `looked`: how its bucket was seen to be set."""

    vault: str
    evidence: Evidence
    left: Mapping[str, str]
    locked_until: datetime | None
    looked: tuple[Seen, ...] = ()

    @property
    def failure(self) -> VerificationError | None:
        """What is not as policy relies on, as an error; None where all is."""
        other = [each.told() for each in self.looked if each.differs]
        if self.evidence.passed and not other:
            return None
        return VerificationError(
            f"Vault '{self.vault}' is not what policy relies on",
            why="; ".join(filter(None, (self.evidence.reason, *other))),
            todo="Set the bucket and the role as docs/how-to/add-a-vault.md tells, or take another store; where "
            "policy asks for more than is meant, correct it. Then check again.",
        )

    @property
    def told(self) -> tuple[Told, ...]:
        """What each rule came to."""
        return told_in(self.evidence)


def check_vault(installation: Installation, vault_name: str) -> VaultChecked:
    """Try the vault out, look how its bucket is set, and keep what came of both, be it as policy relies on or not.

    Raises VaultError where the vault is not there or nobody answers: that is evidence of nothing.
    """
    with recorded(installation, ActionKind.CHECK, vault=vault_name) as run:
        installation.check_readable(vault_name)
        started_at = clock.now()
        with installation.progress(f"Trying out {vault_name}"):
            found = installation.examine(vault_name)
        evidence = _kept(installation, vault_name, found, started_at)
        looked: tuple[Seen, ...] = ()
        if not installation.policy.vaults[vault_name].url.startswith("file:"):
            looked = vault_settings.look(installation, vault_name, installation.bucket(vault_name))
            vault_settings.keep(installation, vault_name, looked)
        run.figures.update(rules=len(found.told), broken=sum(1 for each in found.told if not each.passed))
        return VaultChecked(vault_name, evidence, dict(found.left), found.locked_until, looked)


def _kept(installation: Installation, vault_name: str, found: Found, started_at: datetime) -> Evidence:
    """The signed evidence of what was found."""
    finished_at = clock.now()
    reason = failing(found.told)
    evidence = Evidence(
        id=f"check-{vault_name}-{finished_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        kind=CHECK,
        source=None,
        point=None,
        vault=vault_name,
        started_at=started_at,
        finished_at=finished_at,
        passed=not reason,
        rung=Rung.DECLARED,
        steps=tuple(each.step(started_at) for each in found.told),
        reason=reason,
    )
    records.write(installation, "evidence", evidence_to_payload(evidence))
    records.deliver_everywhere(installation)
    installation.catalog.add_evidence(evidence)
    return evidence
