"""The catalog's claims, as flows read and write them; `catalog.claims` implements them."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from cto_backups.core.claims import Claim, Outdone


class Begun(Protocol):
    """A run that has begun."""

    @property
    def run(self) -> int:
        """Its number."""

    @property
    def claim(self) -> Claim | None:
        """What it has claimed."""

    @property
    def outdone(self) -> Outdone | None:
        """Who had the claim before, and gave no sign of life."""


class Claims(Protocol):
    """Who may do what, and until when; see `catalog.claims`."""

    def under(self, claim: Claim) -> AbstractContextManager[None]:
        """What is written in here by this thread is written under the claim. Raises ClaimLostError then."""

    def extend(self, claim: Claim, now: datetime) -> bool:
        """Give a sign of life; false when the claim was lost or given back."""

    def check(self) -> None:
        """Raise ClaimLostError when a claim of what this thread is at was lost."""
