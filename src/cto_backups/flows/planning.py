"""Planning: what is due of the sources and vaults that are worth a look now, as the catalog keeps that."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from cto_backups.core.facts import Facts
from cto_backups.core.looks import IN_HAND, Looked, Place, look, reads_kept_points
from cto_backups.core.model import Action
from cto_backups.core.plan import most_urgent
from cto_backups.core.policy import Policy
from cto_backups.flows.catalog_port import Catalog

AT_MOST = 500
"""How many sources and vaults one pass looks at, of those that are due; the others come with the next."""
AT_LEISURE = 200
"""How many it looks at beside these that were not looked at for long, or came with another policy."""

Observe = Callable[[Facts, datetime], Facts]


@dataclass(frozen=True)
class Pass:
    """What a plan pass looked at, and what is due there, the most urgent first."""

    looked: tuple[Looked, ...]
    due: tuple[Action, ...]


def plan(
    policy: Policy,
    catalog: Catalog,
    now: datetime,
    *,
    also: Iterable[Place] = (),
    observe: Observe | None = None,
    take_over: bool = False,
    limit: int = AT_MOST,
    at_leisure: int = AT_LEISURE,
) -> Pass:
    """Look at what is due, changed, or named, and note when each is due next. `observe` adds what was noticed.

    With `take_over`, also at what another worker has in hand: it may be gone. What others write meanwhile is looked at
    by the next pass. Raises CatalogError and BusyError as the catalog does.
    """
    until = now + IN_HAND if take_over else now
    if policy.enrolled_as is not None:  # all of its own, which is little: when the rest is due, others note
        also = (*also, *map(Place, policy.sources), *(Place(name, is_vault=True) for name in policy.vaults))
    places = catalog.due_times.to_look_at(now, limit=limit, at_leisure=at_leisure, also=also, until=until)
    if not places:
        return Pass((), ())
    names = [place.name for place in places if not place.is_vault]
    facts = catalog.facts(now, names, inventory=False)
    if observe is not None:
        facts = observe(facts, now)
    reading = [place.name for place in places if reads_kept_points(policy, place, facts, now)]
    if reading:
        kept = catalog.facts(now, reading, kept_points=True, inventory=False)
        # They are later by a moment: what has changed in between was touched, and is looked at again.
        facts = replace(kept, sources=facts.sources, vaults=facts.vaults)
    looked = tuple(look(policy, place, facts, now) for place in places)
    if policy.enrolled_as is None:
        catalog.due_times.note(looked, now)
    return Pass(looked, most_urgent(policy, (action for each in looked for action in each.due)))
