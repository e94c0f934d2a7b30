"""Approvals and retentions in the catalog, as flows use them; see `catalog.approvals` and `catalog.retentions`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cto_backups.core.governance import Approval, Governance, Governed
from cto_backups.core.keeping import RetentionSeen, RetentionTold
from cto_backups.core.policy import Policy
from cto_backups.evidence.approvals import Authorization, ReadDocument
from cto_backups.evidence.records import SigningKey


class Approvals(Protocol):
    """What somebody has to approve, or had to; and the accepted versions of governing documents."""

    def ask(self, wanted: Approval, signer: SigningKey) -> Approval:
        """Sign and keep a request; the one that is open for just the same already, where there is one."""

    def decide(
        self, name: str, decide: Callable[[Approval], Approval], documents: Sequence[ReadDocument], signer: SigningKey
    ) -> Approval:
        """Sign and keep what `decide` makes of an open request. Raises NotFoundError, and what `decide` raises."""

    def authorize(self, authorization: Authorization, signer: SigningKey) -> None:
        """Sign that an action may be carried out, and use up its approval. Raises GovernanceError."""

    def named(self, name: str) -> Approval:
        """An approval by its id or a unique beginning of it. Raises NotFoundError."""

    def listed(self) -> tuple[Approval, ...]:
        """Every approval that was ever asked for, the oldest first."""

    def unused(self, action: Governed, now: datetime) -> tuple[Approval, ...]:
        """What is open, given or denied for an action, and has not expired; the newest first."""

    def accepted(self, document: str) -> str | None:
        """The SHA-256 of the version of a governing document that was accepted last; None for a new one."""

    def accept(self, document: ReadDocument, now: datetime) -> None:
        """Keep the version of a governing document that is read for the first time."""

    def rules(self) -> Governance | None:
        """The rules of governance that were accepted last; None where there are none."""

    def accept_rules(
        self,
        rules: Governance | None,
        before: Governance | None,
        digest: str,
        by: str,
        signer: SigningKey,
        now: datetime,
    ) -> bool:
        """Sign and keep rules that ask for no less than those before, unless those are others now; whether it did."""

    def take_rules(self, text: str, accepted_at: datetime) -> bool:
        """Bring in the rules that the last signed record of any tells of, unless they are those here; whether not."""

    def take(self, approvals: Sequence[Approval], accepted: Sequence[ReadDocument], now: datetime) -> int:
        """Bring in approvals, and accepted versions of documents, that records tell of; how many were unknown."""


class Retentions(Protocol):
    """Which retentions policy gave each source, and since when."""

    def note(
        self, policy: Policy, signer: SigningKey, by: str, now: datetime
    ) -> Mapping[str, tuple[RetentionSeen, ...]]:
        """Note the retentions of a policy as first seen now; those of each source from its last settled one on."""

    def settle(self, source: str, retention: str) -> None:
        """Note that the newest retention of a source, where it is this one, has waited and is applied now."""

    def take(self, told: Mapping[str, Sequence[RetentionTold]]) -> int:
        """Bring in the retentions of sources that records tell of; of how many sources some were unknown."""
