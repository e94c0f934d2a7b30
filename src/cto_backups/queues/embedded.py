"""The queue of a worker that is alone: in its memory. What is due is planned again when it starts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cto_backups.core.looks import place_of
from cto_backups.core.model import Action
from cto_backups.flows.queue_port import Offer


@dataclass
class Embedded:
    """What waits in one process, for the thread that made it. With `lanes`, what others are to do is left out."""

    lanes: Collection[str] | None = None
    _waiting: dict[str, Offer] = field(default_factory=dict)
    _taken: dict[str, Action] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)

    def mark(self) -> int:
        """What ends from now on is not put by the next plan."""
        self._ended = set()
        return 0

    def put(self, offers: Sequence[Offer], mark: int, *, of: Collection[str] | None) -> None:
        """Let actions wait, before those that wait already."""
        ours = (offer for offer in offers if self.lanes is None or offer.lane in self.lanes)
        fresh = {offer.action.key: offer for offer in ours}
        waiting = {} if of is None else self._waiting
        left = {
            key: offer
            for key, offer in waiting.items()
            if key not in fresh and place_of(offer.action).key not in (of or ())
        }
        wanted = {**fresh, **left}
        order = sorted(wanted, key=lambda key: -wanted[key].priority)
        self._waiting = {key: wanted[key] for key in order if key not in self._taken and key not in self._ended}

    def waiting(self) -> tuple[Action, ...]:
        """What waits, in order."""
        return tuple(offer.action for offer in self._waiting.values())

    def take(self, action: Action) -> bool:
        """Have an action for oneself."""
        if self._waiting.pop(action.key, None) is None:
            return False
        self._taken[action.key] = action
        return True

    def end(self, action: Action) -> None:
        """Forget an action that has ended."""
        if self._taken.pop(action.key, None) is not None:
            self._ended.add(action.key)

    def beat(self) -> tuple[Action, ...]:
        """There is nobody else."""
        return ()

    def close(self) -> None:
        """Nothing outlives the process."""
        self._waiting, self._taken = {}, {}
