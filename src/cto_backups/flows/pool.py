"""Who does the actions that a worker dispatches: one after the other in this process, or several in others."""

from dataclasses import dataclass, field
from typing import Protocol

from cto_backups.core.model import Action
from cto_backups.core.worker import Limits
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed, attempt


class Pool(Protocol):
    """Does actions, as many at once as `limits` say; whoever dispatches keeps to them."""

    @property
    def limits(self) -> Limits:
        """How many at once."""

    @property
    def running(self) -> tuple[Action, ...]:
        """The actions that were started, and not told as ended yet."""

    def start(self, action: Action) -> None:
        """Begin an action."""

    def ended(self, seconds: float) -> tuple[Performed, ...]:
        """The actions that have ended, and were not told yet; waits for the first of them for so long."""


@dataclass
class InTurn:
    """One action at a time, in this process and thread: `start` returns when it is done."""

    installation: Installation
    _done: list[Performed] = field(default_factory=list)

    @property
    def limits(self) -> Limits:
        """One at a time."""
        return Limits(1, 1, 1)

    @property
    def running(self) -> tuple[Action, ...]:
        """What is done, and not told yet."""
        return tuple(performed.action for performed in self._done)

    def start(self, action: Action) -> None:
        """Do an action."""
        self._done.append(attempt(self.installation, action))

    def ended(self, seconds: float) -> tuple[Performed, ...]:
        """What was done since this was last asked; at once."""
        done, self._done = self._done, []
        return tuple(done)
