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
from cto_backups.flows.presence import away

AT_ONCE: Final = 1000
"""How many sources are judged at once: the facts of more need not be in memory together."""


class Judging:
    """The judgement on sources for whoever has other things to do as well: some at a time, `found` once all are.

    `away` says why vaults could not be read when it began.
    """

    def __init__(self, installation: Installation) -> None:
        self._policy, self._catalog = installation.policy, installation.catalog
        self.away = away(installation)
        self._places = _to_judge(self._policy, self._catalog, clock.now())
        self._begin = 0
        self._found: list[Happening] = []

    @property
    def found(self) -> tuple[Happening, ...]:
        """What is wrong with those that were judged so far."""
        return tuple(self._found)

    def go_on(self, seconds: float) -> bool:
        """Judge some more, for about so long; whether all are judged. Each is judged as it is when its turn comes."""
        until = clock.monotonic() + seconds
        while self._begin < len(self._places):
            some = self._places[self._begin : self._begin + AT_ONCE]
            self._found += _judged(self._policy, self._catalog, some, self.away, clock.now())
            self._begin += len(some)
            if clock.monotonic() >= until:
                break
        return self._begin >= len(self._places)


def troubles(
    installation: Installation,
    open_alerts: Sequence[Alert],
    now: datetime,
    judged: Judging | None = None,
) -> tuple[Happening, ...]:
    """What is wrong now, in the order of the rules; what is found to be well is noted as that.

    With `judged`, the sources and the vaults were looked at before.
    """
    catalog, policy = installation.catalog, installation.policy
    away_now = away(installation) if judged is None else judged.away
    around = replace(observed(installation, catalog.facts(now, ()), now), vaults_away=away_now)
    others = beside(Scene(policy, around, {}, now, tuple(open_alerts)))
    found = of_sources(policy, catalog, away_now, now) if judged is None else judged.found
    return in_order(policy, (*found, *others))


def unanswered(installation: Installation, judged: Judging | None = None) -> str | None:
    """Something that is wrong by now without anybody having said that he takes care of it, in words; None: nothing is.

    Where people are told, that is what they were told last, which is to be done before. `judged` as in `troubles`.
    """
    catalog, policy = installation.catalog, installation.policy
    if policy.alerts.people and policy.enrolled_as is None:
        alerts = catalog.alerts.listed()
        open_ones = [each for each in alerts if each.acknowledged_at is None and each.trouble is not Trouble.DRILL]
        return open_ones[0].detail if open_ones else None
    found = troubles(installation, (), clock.now(), judged)
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
