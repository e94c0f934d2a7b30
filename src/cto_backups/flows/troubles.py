"""Troubles: what is wrong now by the policy's alert rules, without judging again what is known to be well.

What has changed was touched in the catalog, and what becomes wrong by time alone does so at a moment that is kept
there; so it costs with what has changed or is wrong, and not with what exists.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from cto_backups import clock
from cto_backups.core.alerts import Alert, Happening, Trouble
from cto_backups.core.assurance import judge
from cto_backups.core.conditions import Scene, beside, in_order, of_source, well_until
from cto_backups.core.looks import Place
from cto_backups.core.policy import Policy
from cto_backups.flows.catalog_port import Catalog
from cto_backups.flows.heartbeat import observed
from cto_backups.flows.installation import Installation
from cto_backups.flows.presence import looked_at

AT_ONCE: Final = 1000
"""How many sources are judged at once: the facts of more need not be in memory together."""


def troubles(installation: Installation, open_alerts: Sequence[Alert], now: datetime) -> tuple[Happening, ...]:
    """What is wrong now, in the order of the rules; what is found to be well is noted as that."""
    catalog, policy = installation.catalog, installation.policy
    around = looked_at(installation, observed(installation, catalog.facts(now, ()), now))
    others = beside(Scene(policy, around, {}, now, tuple(open_alerts)))
    return in_order(policy, (*of_sources(policy, catalog, around.vaults_away or {}, now), *others))


def unanswered(installation: Installation) -> str | None:
    """Something that is wrong by now without anybody having said that he takes care of it, in words; None: nothing is.

    Where people are told, that is what they were told last, which is to be done before.
    """
    catalog, policy = installation.catalog, installation.policy
    if policy.alerts.people and policy.enrolled_as is None:
        alerts = catalog.alerts.listed()
        open_ones = [each for each in alerts if each.acknowledged_at is None and each.trouble is not Trouble.DRILL]
        return open_ones[0].detail if open_ones else None
    found = troubles(installation, (), clock.now())
    return found[0].detail if found else None


def of_sources(policy: Policy, catalog: Catalog, away: Mapping[str, str], now: datetime) -> Iterator[Happening]:
    """What is wrong with sources, while these vaults cannot be read."""
    places = _to_judge(policy, catalog, now)
    for begin in range(0, len(places), AT_ONCE):
        yield from _judged(policy, catalog, places[begin : begin + AT_ONCE], away, now)


def _to_judge(policy: Policy, catalog: Catalog, now: datetime) -> tuple[Place, ...]:
    """The sources of the policy that are to be judged: all of an enrolled host's, which are few."""
    if policy.enrolled_as is not None:
        return tuple(map(Place, policy.sources))
    # The catalog may also know what the policy names no more, or what is another host's.
    return tuple(place for place in catalog.due_times.to_judge(now) if place.name in policy.sources)


def _judged(
    policy: Policy, catalog: Catalog, places: Sequence[Place], away: Mapping[str, str], now: datetime
) -> Iterator[Happening]:
    names = [place.name for place in places]
    facts = replace(catalog.facts(now, names, inventory=False), vaults_away=away)
    scene = Scene(policy, facts, judge(policy, facts, now, names), now)
    well: dict[Place, datetime] = {}
    for place in places:
        found = of_source(scene, place.name)
        yield from found
        if (until := well_until(scene, place.name, found)) is not None:
            well[place] = until
    if policy.enrolled_as is None:  # to whom the catalog is shown in part: others note
        catalog.due_times.note_well(well, now)
