"""What of a service a source relies on, tried out in the user's own account; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from cto_backups.core.limits import UNLIMITED, Limit


class Outcome(StrEnum):
    """What came of trying something."""

    WORKS = "works"
    DIFFERS = "comes otherwise"
    REFUSED = "refused"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Tried:
    """What one thing came to. `wanted`: backups of this source, as policy declares it, rely on it."""

    name: str
    outcome: Outcome
    detail: str = ""
    wanted: bool = True
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing relies on what was not seen to work."""
        return self.outcome is Outcome.WORKS or not self.wanted


@dataclass(frozen=True, slots=True)
class Found:
    """What a check came upon; `scanned_bytes` is what it had the service read, as that says."""

    tried: tuple[Tried, ...]
    scanned_bytes: int = 0


@runtime_checkable
class Checkable(Protocol):
    """A source whose service can be tried out at a place made for that."""

    def rules(self) -> Mapping[str, str]:
        """What is tried, in its order, in words for people."""

    def check_cost(self) -> str:
        """What a check costs at most, in a sentence; nothing is asked of the service for it."""

    def try_out(self, limit: Limit = UNLIMITED) -> Found:
        """Try it, and remove what was made. Raises SourceError where nobody answers."""


def failing(tried: Iterable[Tried]) -> str:
    """Why a check did not pass, in a sentence; "" where it did."""
    return "; ".join(f"{each.name}: {each.outcome}" for each in tried if not each.passed)
