"""Dispatch: which of the actions that are due may begin now, beside those under way; within limits, and fair. Pure.

Who is first in the plan begins first, as far as the limits let him; behind somebody who has to wait, others may begin.
But who has waited long comes before all others, and keeps his places: nothing else begins there until he can. So
nothing waits for ever, not even a prune, which wants a vault for itself.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cto_backups.core.model import Action, ActionKind
from cto_backups.core.policy import Policy
from cto_backups.core.worker import HEAVY, Limits

PATIENCE = timedelta(minutes=15)
"""How long an action lets others pass that can begin when it cannot."""

_ALONE_IN_SOURCE = frozenset({ActionKind.BACKUP, ActionKind.RESTORE_TEST, ActionKind.EXPIRE})
"""A run of these holds its source: a second one would only find it busy."""
_ALONE_IN_VAULT = frozenset({ActionKind.PRUNE, ActionKind.REPAIR})
"""These want that nobody else writes to the vault."""

Place = tuple[str, str]


@dataclass
class _Load:
    """What is under way, and where."""

    policy: Policy
    limits: Limits
    actions: list[Action] = field(default_factory=list)
    places: Counter[Place] = field(default_factory=Counter)
    alone: set[Place] = field(default_factory=set)

    def add(self, action: Action) -> None:
        self.actions.append(action)
        self.places.update(_places(self.policy, action))
        self.alone.update(_alone(action))

    def fits(self, action: Action) -> bool:
        heavy = sum(each.kind in HEAVY for each in self.actions)
        if len(self.actions) >= self.limits.actions or any(_same(action, each) for each in self.actions):
            return False
        # However many restores and readings there are, a backup finds a place.
        if action.kind in HEAVY and heavy >= max(self.limits.actions - 1, 1):
            return False
        if any(place in self.alone and _wants(action, place) for place in _places(self.policy, action)):
            return False
        if any(self.places[place] for place in _alone(action) if place[0] == "vault"):
            return False
        return all(self.places[place] < self._most(place) for place in _places(self.policy, action))

    def _most(self, place: Place) -> int:
        return self.limits.per_source if place[0] == "source" else self.limits.per_vault


def startable(
    policy: Policy,
    waiting: Sequence[Action],
    running: Sequence[Action],
    limits: Limits,
    waited: Mapping[str, timedelta] | None = None,
) -> tuple[Action, ...]:
    """Those of the waiting actions that may begin now, the most urgent first, given in the plan's order.

    `waited` says how long an action has waited already, by its key; not at all where it does not.
    """
    known = waited or {}
    late = {action.key for action in waiting if known.get(action.key, timedelta()) >= PATIENCE}
    load = _Load(policy, limits)
    for action in running:
        load.add(action)
    chosen, kept = [], set[Place]()
    for action in sorted(waiting, key=lambda action: action.key not in late):
        places = _places(policy, action)
        if not kept.intersection(places) and load.fits(action):
            load.add(action)
            chosen.append(action)
        elif action.key in late:
            kept.update(places)
    return tuple(chosen)


def vaults_of(policy: Policy, action: Action) -> tuple[str, ...]:
    """The vaults that an action writes to or reads."""
    source = policy.sources.get(action.source or "")
    if action.vault is not None:
        return (action.vault,)
    if source is None:
        return ()
    return source.vaults if action.kind is ActionKind.EXPIRE else source.vaults[:1]


def _places(policy: Policy, action: Action) -> tuple[Place, ...]:
    """Where an action works: at its source, and in its vaults."""
    own: tuple[Place, ...] = () if action.source is None else (("source", action.source),)
    return (*own, *(("vault", vault) for vault in vaults_of(policy, action)))


def _alone(action: Action) -> tuple[Place, ...]:
    """The place that an action wants for itself, if any."""
    if action.kind in _ALONE_IN_VAULT:
        return (("vault", action.vault or ""),)
    return (("source", action.source or ""),) if action.kind in _ALONE_IN_SOURCE else ()


def _wants(action: Action, place: Place) -> bool:
    """Whether an action minds that another one has this place for itself: a copy does not mind a backup."""
    return place[0] == "vault" or action.kind in _ALONE_IN_SOURCE


def _same(one: Action, other: Action) -> bool:
    return (one.kind, one.source, one.vault) == (other.kind, other.source, other.vault)
