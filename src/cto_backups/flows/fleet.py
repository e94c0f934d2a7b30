"""A worker among those of other hosts: what is its own to do, who plans for all, and what the dead had begun.

One that is alone leads, and does all.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core import lanes
from cto_backups.core.facts import Heartbeat
from cto_backups.core.hosts import Host, hosts
from cto_backups.core.lanes import Homes
from cto_backups.core.model import Action
from cto_backups.core.policy import Policy
from cto_backups.errors import BusyError, RefusedError
from cto_backups.flows.heartbeat import machine, observed
from cto_backups.flows.installation import Installation
from cto_backups.flows.queue_port import Queue

log = logging.getLogger("cto_backups")

LEAD_LASTS: Final = timedelta(seconds=40)
ASK_SECONDS: Final = 15.0
"""How often the lead is kept, or asked for: with what it lasts, another one takes over within a minute."""


class Member:
    """One worker's part in a fleet, for as long as one policy holds."""

    def __init__(self, installation: Installation, queue: Queue) -> None:
        self._installation = installation
        self._queue = queue
        self._book = installation.catalog.fleet
        self._lease = f"planner:{installation.policy.digest[:16]}"
        self._holder = f"{installation.host}:{os.getpid()}:{secrets.token_hex(4)}"
        # An enrolled host has a policy of its own, plans for itself, and is let near no queue.
        self._alone = not self._book.is_one or installation.policy.enrolled_as is not None
        self._leads = self._alone
        self._ask_at = self._beat_at = 0.0
        if not self._alone:
            self._book.adopt(installation.host, *_found_here(installation.policy))
        self.homes = Homes() if self._alone else self._book.homes()

    @property
    def is_alone(self) -> bool:
        """Whether there can be no others."""
        return self._alone

    def leads(self) -> bool:
        """Whether this worker plans for all, and tells people how it goes."""
        at = clock.monotonic()
        if not self.is_alone and at >= self._ask_at:
            self._ask_at = at + ASK_SECONDS
            try:
                leads = self._book.lead(self._lease, self._holder, clock.now(), LEAD_LASTS)
            except BusyError:
                leads = False
            if leads is not self._leads:
                log.info("leads" if leads else "follows", extra={"fields": {"host": self._installation.host}})
            self._leads = leads
        return self._leads

    def lane(self, action: Action) -> str:
        """Who is to do an action."""
        return lanes.lane(self._installation.policy, action, self.homes)

    def own(self) -> Installation:
        """The installation with those sources alone that this host can capture: what it watches and follows."""
        policy, others = self._installation.policy, sources_elsewhere(self._installation, self.homes)
        if not others:
            return self._installation
        own = {name: source for name, source in policy.sources.items() if name not in others}
        return replace(self._installation, policy=replace(policy, sources=own))

    def beat(self) -> None:
        """Now and then, see to it that what the dead had in hand waits again."""
        at = clock.monotonic()
        if at < self._beat_at:
            return
        self._beat_at = at + ASK_SECONDS
        for action in self._queue.beat():
            log.warning("taken back", extra={"fields": {"action": action.key}})
            self._book.interrupt(action, clock.now())

    def leave(self) -> None:
        """Let another one lead at once."""
        if not self.is_alone and self._leads:
            self._book.yield_lead(self._lease, self._holder)


def _found_here(policy: Policy) -> tuple[list[str], list[str]]:
    """The sources and vaults of which something is here, or that name no place."""

    def here(places: Iterable[object]) -> bool:
        known = [Path(str(place)) for place in places if str(place).startswith("/")]
        return not known or any(map(os.path.lexists, known))

    def of(options: Mapping[str, object]) -> Iterable[object]:
        paths = options.get("paths", ())
        return (*(paths if isinstance(paths, tuple) else ()), *(options.get(name, "") for name in ("path", "url")))

    sources = [name for name, source in policy.sources.items() if here(of(source.options))]
    return sources, [name for name, vault in policy.vaults.items() if here([vault.url.removeprefix("file:")])]


def sources_elsewhere(installation: Installation, homes: Homes | None = None) -> frozenset[str]:
    """The sources that other hosts capture: nobody can look at them here."""
    policy, here = installation.policy, ("", installation.host)
    known = _homes(installation) if homes is None else homes
    return frozenset(name for name in policy.sources if lanes.home_of_source(policy, name, known) not in here)


def vaults_elsewhere(installation: Installation) -> frozenset[str]:
    """The vaults that are folders of other hosts: nobody can look into them here."""
    policy, here = installation.policy, ("", installation.host)
    known = _homes(installation)
    return frozenset(name for name in policy.vaults if lanes.home_of_vault(policy, name, known) not in here)


def _homes(installation: Installation) -> Homes:
    """Which host has what; to an enrolled host, everything that it knows is its own."""
    return Homes() if installation.policy.enrolled_as is not None else installation.catalog.fleet.homes()


def look(installation: Installation) -> tuple[tuple[Host, ...], Homes, datetime]:
    """The hosts, which of them has what, and as of when."""
    now, homes = clock.now(), installation.catalog.fleet.homes()
    facts = observed(installation, installation.catalog.facts(now, ()), now)
    return hosts(installation.policy, facts, homes, now), homes, now


def refuse_twins(installation: Installation, stop: threading.Event) -> None:
    """Raise RefusedError when another machine has this host's name, and works under it.

    One that was started anew has its name back once its former self would have given a sign: that is waited for.
    """
    if not installation.catalog.fleet.is_one or not machine():
        return
    first: dict[str, datetime] = {}
    while twins := list(_twins(installation, first)):
        for twin in twins:
            if twin.at > first.setdefault(twin.name, twin.at):
                raise RefusedError(
                    f"Another machine is called {twin.host} as well, and works under that name",
                    why="what is to be captured on one of them would be captured on the other",
                    todo="Give each host a name of its own, with CTO_BACKUPS_HOST in its worker's environment.",
                )
        if stop.wait(1.0):
            return


def _twins(installation: Installation, known: dict[str, datetime]) -> Iterable[Heartbeat]:
    now = clock.now()
    for last in installation.catalog.facts(now, ()).heartbeats:
        others = last.host == installation.host and last.machine not in ("", machine())
        if others and (now <= last.next_by or last.at > known.get(last.name, last.at)):
            yield last
