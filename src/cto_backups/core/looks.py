"""When a source or a vault is to be looked at again, so that a plan reads what is due, and not all there is; pure.

Whoever plans looks at what is due by now, at what has changed since it was looked at, and now and then at everything.
What a look finds not due will not be due before the moment that it gives, unless something changes: as time goes on,
no rule asks for anything earlier than it said before. A clock that was put back breaks that, so what was looked at
in the future is looked at again.

Kept points are many, so retention is applied once a day at most, and they are read for that alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.expiry import all_young
from cto_backups.core.facts import Facts, SourceFacts
from cto_backups.core.model import Action, ActionKind
from cto_backups.core.plan import EXPIRE_EVERY, expires_after, is_running, of_source, of_vault
from cto_backups.core.policy import Policy

IN_HAND = timedelta(seconds=30)
"""How long what is due is left to whoever planned it, unless something changes: then it is planned again."""

EVERYTHING_WITHIN = timedelta(hours=1)
"""Within which time everything is looked at, whether or not it is due: should something have changed unseen."""


@dataclass(frozen=True, slots=True)
class Place:
    """A source, or a vault, as the catalog keeps when it is due.

    `expiry_at` is when the kept points of a source are to be read next. `touched` counts what has changed there: what
    a look came to only counts while that is as it was before.
    """

    name: str
    is_vault: bool = False
    expiry_at: datetime | None = None
    touched: int = 0

    @property
    def key(self) -> str:
        """What tells it from every other source and vault."""
        return f"{'vault' if self.is_vault else 'source'}:{self.name}"


def place_of(action: Action) -> Place:
    """Where an action is planned: at its source, or at the vault of one that is of no source."""
    return Place(action.source) if action.source is not None else Place(action.vault or "", is_vault=True)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look came to: the actions that are due, and when to look again (None: when something changes)."""

    place: Place
    due: tuple[Action, ...]
    next_due_at: datetime | None
    expiry_at: datetime | None = None


def reads_kept_points(policy: Policy, place: Place, facts: Facts, now: datetime) -> bool:
    """Whether kept points have to be read to say what is due at a place, by facts that are without them."""
    source = policy.sources.get(place.name)
    if place.is_vault or source is None or _waits(place, now):
        return False
    known = facts.sources.get(place.name, SourceFacts(place.name))
    if known.oldest_at is None or all_young(source.retention, known.oldest_at, now):
        return False
    return not is_running(known.last_runs.get(ActionKind.EXPIRE)) and expires_after(known, now) <= now


def look(policy: Policy, place: Place, facts: Facts, now: datetime) -> Looked:
    """Look at a source or a vault. `facts` have the kept points of a source for which `reads_kept_points`.

    Raises ValueError when `now` is naive.
    """
    require_aware(now)
    if place.is_vault:
        planned = tuple(of_vault(policy, place.name, facts, now)) if place.name in policy.vaults else ()
        return Looked(place, _due(planned, now), _again(planned, now))
    if place.name not in policy.sources:
        return Looked(place, (), None)
    planned = tuple(of_source(policy, policy.sources[place.name], facts, now))
    expiry_at = _expiry(policy, place, planned, facts, now)
    again = _again(planned, now)
    return Looked(place, _due(planned, now), expiry_at if again is None else min(again, expiry_at), expiry_at)


def _waits(place: Place, now: datetime) -> bool:
    """Whether kept points were read lately: not when a clock that was put back says so."""
    return place.expiry_at is not None and now < place.expiry_at <= now + EXPIRE_EVERY


def _expiry(policy: Policy, place: Place, planned: Iterable[Action], facts: Facts, now: datetime) -> datetime:
    """When kept points are to be read next."""
    if _waits(place, now):
        assert place.expiry_at is not None
        return place.expiry_at
    known, latest = facts.sources.get(place.name, SourceFacts(place.name)), now + EXPIRE_EVERY
    if is_running(known.last_runs.get(ActionKind.EXPIRE)):
        return now + IN_HAND
    if (again := expires_after(known, now)) > now:
        return min(again, latest)
    if any(action.kind is ActionKind.EXPIRE for action in planned):
        return now + IN_HAND
    retention = policy.sources[place.name].retention
    if known.oldest_at is not None and retention.keep_for is not None:
        grown_old = known.oldest_at + retention.keep_for
        return min(grown_old, latest) if grown_old > now else latest
    return latest


def _due(planned: Iterable[Action], now: datetime) -> tuple[Action, ...]:
    return tuple(replace(action, planned_at=now) for action in planned if action.due_at <= now)


def _again(planned: Iterable[Action], now: datetime) -> datetime | None:
    """When the first of these is due that is not; before that, when what is due is no longer in somebody's hand."""
    moments = [action.due_at if action.due_at > now else now + IN_HAND for action in planned]
    return min(moments, default=None)
