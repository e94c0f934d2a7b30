"""Check: try out what the store of a vault really enforces, and keep the answer as signed evidence."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cto_backups import clock
from cto_backups.core.model import Evidence, Rung
from cto_backups.core.vault_check import CHECK, Told, failing, told_in
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.flows import records
from cto_backups.flows.installation import Installation


@dataclass(frozen=True)
class Found:
    """What a check came upon. `left`: what could not be removed again, by key, and why; `locked_until`: till when."""

    told: tuple[Told, ...]
    left: Mapping[str, str]
    locked_until: datetime | None = None


@dataclass(frozen=True)
class VaultChecked:
    """A check of one vault, with the evidence that was kept of it."""

    vault: str
    evidence: Evidence
    left: Mapping[str, str]
    locked_until: datetime | None

    @property
    def told(self) -> tuple[Told, ...]:
        """What each rule came to."""
        return told_in(self.evidence)


def check_vault(installation: Installation, vault_name: str, examine: Callable[[], Found]) -> VaultChecked:
    """Try the vault out by `examine`, and keep what came of it, also where it is not what policy relies on.

    Raises VaultError where the vault is not there or nobody answers: that is evidence of nothing.
    """
    installation.check_readable(vault_name)
    started_at = clock.now()
    with installation.progress(f"Trying out {vault_name}"):
        found = examine()
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
    return VaultChecked(vault_name, evidence, dict(found.left), found.locked_until)
