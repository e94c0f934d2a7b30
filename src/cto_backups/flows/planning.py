"""Planning: what is due of the sources and vaults that are worth a look now, as the catalog keeps that."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from cto_backups.core.facts import Facts
from cto_backups.core.looks import Looked, Place, look, reads_kept_points
from cto_backups.core.model import Action
from cto_backups.core.plan import most_urgent
from cto_backups.core.policy import Policy
from cto_backups.flows.catalog_port import Catalog

AT_MOST = 500
"""How many sources and vaults one pass looks at, of those that are due; the others come with the next."""
AT_LEISURE = 200
"""How many it looks at beside these that were not looked at for long, or came with another policy."""

Observe = Callable[[Facts, datetime], Facts]


def place_of(action: Action) -> Place:
    """Where an action has its due time: at its source, or at the vault of one that is of no source."""
    return Place(action.source) if action.source is not None else Place(action.vault or "", is_vault=True)


@dataclass(frozen=True)
class Pass:
    """What a plan pass looked at, and what is due there, the most urgent first."""

    looked: tuple[Looked, ...]
    due: tuple[Action, ...]

    def renewed(self, policy: Policy, waiting: Collection[Action]) -> tuple[Action, ...]:
        """What is due in all, of what waited before: where it was looked, only that counts which is due now."""
        seen = {(each.place.name, each.place.is_vault) for each in self.looked}
        kept = [action for action in waiting if (place_of(action).name, action.source is None) not in seen]
        return most_urgent(policy, (*self.due, *kept))


def _unchanged(facts: Facts, _now: datetime) -> Facts:
    return facts


def plan(
    policy: Policy,
    catalog: Catalog,
    now: datetime,
    *,
    also: Collection[Place] = (),
    observe: Observe = _unchanged,
    limit: int = AT_MOST,
    at_leisure: int = AT_LEISURE,
) -> Pass:
    """Look at what is due, changed, or named, and note when each is due next. `observe` adds what was noticed.

    What others write meanwhile is looked at by the next pass. Raises CatalogError and BusyError as the catalog does.
    """
    places = catalog.due_times.to_look_at(now, limit=limit, at_leisure=at_leisure, also=also)
    if not places:
        return Pass((), ())
    names = [place.name for place in places if not place.is_vault]
    facts = observe(catalog.facts(now, names, inventory=False), now)
    reading = [place.name for place in places if reads_kept_points(policy, place, facts, now)]
    if reading:
        kept = catalog.facts(now, reading, kept_points=True, inventory=False)
        # Of one moment: what has changed in between is looked at again, since it was touched.
        sources = {**facts.sources, **observe(kept, now).sources}
        facts = replace(kept, sources=sources, vaults=facts.vaults)
    looked = tuple(look(policy, place, facts, now) for place in places)
    catalog.due_times.note(looked, now)
    return Pass(looked, most_urgent(policy, (action for each in looked for action in each.due)))


def until_next_look(catalog: Catalog, now: datetime) -> float | None:
    """In how many seconds there is something to look at, as far as is known; None where there is nothing at all."""
    moment = catalog.due_times.next_look(now)
    return None if moment is None else (moment - now).total_seconds()
