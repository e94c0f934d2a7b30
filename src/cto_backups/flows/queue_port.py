"""What the worker asks of a queue: where what is due waits until somebody begins it, and nobody else does then."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cto_backups.core.lanes import POOL
from cto_backups.core.model import Action


@dataclass(frozen=True, slots=True)
class Offer:
    """An action that is to wait: in the lane of one host or in the pool (""); the higher `priority`, the sooner.

    `vaults` are those at which it works: where these are busy, what works elsewhere is not to be lost sight of.
    """

    action: Action
    lane: str = POOL
    priority: int = 0
    vaults: tuple[str, ...] = ()


class Queue(Protocol):
    """What waits, for the worker that holds this. An action is known by its key: it waits or runs once at a time.

    Every method raises CatalogAwayError when what keeps the queue is away; nothing is lost then.
    """

    def mark(self) -> int:
        """To be taken before the facts are read on which a plan rests: what ends from then on is not put by it."""

    def put(self, offers: Sequence[Offer], mark: int, *, of: Collection[str] | None) -> None:
        """Let actions wait, in this order where their priority is the same; what waits or runs already does so once.

        This is all that is due `of` these places (None: of all; see `core.looks.place_of`, by their keys), so what
        waited there and is not among it waits no longer.
        """

    def waiting(self) -> tuple[Action, ...]:
        """What waits that this worker may do, the most urgent first.

        Of many, the first of each kind and priority in each place: none hides from sight what could begin elsewhere.
        """

    def take(self, action: Action) -> bool:
        """Have an action that waits for oneself; no where another one was faster, or it is no longer to be done."""

    def end(self, action: Action) -> None:
        """Say that an action which was taken has ended, however it did."""

    def beat(self) -> tuple[Action, ...]:
        """Say that this worker lives; the actions that wait again by this, since those who had them live no more."""

    def close(self) -> None:
        """Let go of it; what was taken and has not ended waits again."""


class FleetQueue(Queue, Protocol):
    """A queue that workers of several hosts share."""

    def follow(self, policy: str) -> None:
        """From now on take what was planned under the policy with this digest; what is taken stays taken."""
