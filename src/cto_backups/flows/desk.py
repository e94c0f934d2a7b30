"""The desk of a worker: what is due goes into the queue, what may begin goes from there to the pool that does it."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cto_backups import clock
from cto_backups.core.dispatch import startable
from cto_backups.core.facts import Facts
from cto_backups.core.heavy_work import heavy_work_begins
from cto_backups.core.model import Action
from cto_backups.core.plan import due
from cto_backups.errors import CrashError
from cto_backups.flows.crashes import note_crash
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed
from cto_backups.flows.pool import Pool
from cto_backups.flows.queue_port import Offer, Queue
from cto_backups.flows.watch import Watching


@dataclass
class Desk:
    """What waits for its turn, and what was tried already: in vain for good (`again` None), or for so many seconds.

    `left` is what the worker could not begin when it looked last.
    """

    installation: Installation
    pool: Pool
    queue: Queue
    watching: Watching | None
    again: float | None = None
    facts: Facts = field(default_factory=Facts)
    left: tuple[Action, ...] = ()
    took: float = 0.0
    _heavy: bool = True
    _since: dict[str, float] = field(default_factory=dict)
    _tried: dict[str, float] = field(default_factory=dict)

    def plan(
        self,
        *,
        expiry: bool,
        until: datetime | None = None,
        sources: Collection[str] | None = None,
        alone: bool = False,
    ) -> None:
        """See what is due, with the changes that were noticed up to a moment; with `sources`, for these.

        What waits of other sources goes on waiting then, unless these are to be done `alone`.
        """
        began, now, mark = clock.monotonic(), clock.now(), self.queue.mark()
        whole = sources is None or alone
        if whole or not self.left:  # what waits of other sources was planned before
            self._heavy = heavy_work_begins(self.installation.policy, now)
        facts = self.installation.catalog.facts(now, sources, kept_points=expiry)
        if self.watching is not None:
            facts = self.watching.observed(facts, until or now)
        actions = due(self.installation.policy, facts, now, sources)
        self.queue.put([Offer(action) for action in actions], mark, whole=whole)
        self.facts = facts
        self.took = clock.monotonic() - began

    def waiting(self) -> tuple[Action, ...]:
        """What waits, but for what was tried already."""
        at = clock.monotonic()
        if self.again is not None:
            self._tried = {key: tried for key, tried in self._tried.items() if at - tried < self.again}
        found = tuple(action for action in self.queue.waiting() if action.key not in self._tried)
        self._since = {action.key: self._since.get(action.key, at) for action in found}
        return found

    def outdated(self) -> bool:
        """Whether a window of heavy work has opened or closed since the last plan."""
        return heavy_work_begins(self.installation.policy, clock.now()) is not self._heavy

    def begin(self, stop: threading.Event, before: Callable[[Action], None]) -> None:
        """Start what may begin now, each after `before`."""
        at, pool = clock.monotonic(), self.pool
        self.left = self.waiting()
        waited = {key: timedelta(seconds=at - since) for key, since in self._since.items()}
        for action in startable(self.installation.policy, self.left, pool.running, pool.limits, waited):
            if stop.is_set():
                return
            if not self.queue.take(action):
                continue
            self.left = tuple(each for each in self.left if each.key != action.key)
            self._tried[action.key] = at
            if self.watching is not None:
                self.watching.look()
            before(action)
            pool.start(action)

    def ended(self, seconds: float) -> tuple[Performed, ...]:
        """What has ended; how a crash did is noted, since its process cannot any more."""
        done = self.pool.ended(seconds)
        for each in done:
            self._tried[each.action.key] = clock.monotonic()
            if isinstance(each.error, CrashError):
                note_crash(self.installation, each)
            self.queue.end(each.action)
        return done
