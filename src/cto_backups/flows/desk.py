"""The desk of a worker: what is due goes into the queue, what may begin goes from there to the pool that does it."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cto_backups import clock
from cto_backups.core.dispatch import startable, vaults_of
from cto_backups.core.heavy_work import heavy_work_begins
from cto_backups.core.looks import IN_HAND, Place, place_of
from cto_backups.core.model import Action
from cto_backups.core.plan import due, priority
from cto_backups.core.retries import broke_off
from cto_backups.errors import CrashError
from cto_backups.flows.crashes import note_crash
from cto_backups.flows.fleet import Member
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed
from cto_backups.flows.planning import plan
from cto_backups.flows.pool import Pool
from cto_backups.flows.queue_port import Offer, Queue
from cto_backups.flows.watch import Watching

LONGEST_SLEEP = timedelta(minutes=1)
LONGEST_BESIDE_OTHERS = timedelta(seconds=5)
_BEHIND_ALL = 1_000_000_000
PLAN_FACTOR = 2
"""A worker plans for a third of its time at most."""


@dataclass
class Desk:
    """What waits for its turn, and what was tried already: in vain for good (`again` None), or for so many seconds.

    `left` is what the worker could not begin when it looked last.
    """

    installation: Installation
    pool: Pool
    queue: Queue
    member: Member
    watching: Watching | None
    again: float | None = None
    left: tuple[Action, ...] = ()
    took: float = 0.0
    _heavy: bool = True
    _first: bool = True
    _led: bool = False
    _next: float = 0.0
    _looked: dict[str, float] = field(default_factory=dict)
    _ended: dict[Place, float] = field(default_factory=dict)
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

        What waits of other sources goes on waiting then, unless these are to be done `alone`. What broke off is last:
        who does all in one process may have ended with it, and would again before anything else is done.
        """
        began, now, mark = clock.monotonic(), clock.now(), self.queue.mark()
        whole = sources is None or alone
        if whole or not self.left:  # what waits of other sources was planned before
            self._heavy = heavy_work_begins(self.installation.policy, now)
        facts = self.installation.catalog.facts(now, sources, kept_points=expiry)
        if self.watching is not None:
            facts = self.watching.observed(facts, until or now)
        actions = due(self.installation.policy, facts, now, sources)
        last = {action.key for action in actions if broke_off(action, facts)}
        self._put(actions, mark, None if whole else [f"source:{name}" for name in sources or ()], last)
        self.took = clock.monotonic() - began

    def look(self, sources: Collection[str] = ()) -> None:
        """See what is due of all that is worth a look by now, and of these sources; the rest goes on waiting."""
        began, now, mark = clock.monotonic(), clock.now(), self.queue.mark()
        catalog = self.installation.catalog
        found = plan(
            self.installation.policy,
            catalog,
            now,
            also=(*map(Place, sources), *self._unsettled(began, now)),
            observe=self.watching.observed if self.watching is not None else None,
            take_over=self._first,
        )
        self._first = False
        self._put(found.due, mark, [each.place.key for each in found.looked])
        self._looked.update((each.place.key, began) for each in found.looked)
        enrolled = self.installation.policy.enrolled_as is not None  # it looks at all of its own, once a minute
        moment = None if enrolled else catalog.due_times.next_look(now)
        self._next = began + (LONGEST_SLEEP if moment is None else moment - now).total_seconds()
        self.took = clock.monotonic() - began

    def unserved(self) -> tuple[str, ...]:
        """The sources in which this worker has noticed changes while another one plans, which knows nothing of them.

        What was known of them when they were looked at last may be old: nobody here looks at them otherwise.
        """
        return () if self._led or self.watching is None else self.watching.noticed

    def _unsettled(self, at: float, now: datetime) -> list[Place]:
        """What to look at again whether or not the catalog says so.

        What has ended and left no trace there; what has waited for a while, since others may have done it; and all that
        waits when a window of heavy work has opened or closed.
        """
        ended = [place for place, again in self._ended.items() if again <= at]
        for place in ended:
            del self._ended[place]
        turned, self._heavy = self.outdated(), heavy_work_begins(self.installation.policy, now)
        self._looked = {key: looked for key, looked in self._looked.items() if at - looked < IN_HAND.total_seconds()}
        waiting = {place_of(action) for action in (self.queue.waiting() if turned else self.left)}
        return [*ended, *(place for place in waiting if turned or place.key not in self._looked)]

    def wait(self) -> float:
        """In how many seconds to look again: a second to a minute; looks take a third of the time at most.

        Nobody says what other workers have done, so in a fleet that is looked for more often.
        """
        at, longest = clock.monotonic(), LONGEST_SLEEP if self.member.is_alone else LONGEST_BESIDE_OTHERS
        waits = min(self._next, *self._ended.values(), at + longest.total_seconds()) - at
        return max(waits, 1.0, PLAN_FACTOR * self.took)

    def _put(
        self, actions: Collection[Action], mark: int, of: Collection[str] | None, last: Collection[str] = ()
    ) -> None:
        policy = self.installation.policy

        def urgency(action: Action) -> int:
            return priority(policy, action) - (_BEHIND_ALL if action.key in last else 0)

        offers = [
            Offer(action, self.member.lane(action), urgency(action), vaults_of(policy, action)) for action in actions
        ]
        self.queue.put(offers, mark, of=of)

    def leads(self) -> bool:
        """Whether this worker plans for all; the first time, also what others had in hand, since they may be gone."""
        led, self._led = self._led, self.member.leads()
        self._first = self._first or (self._led and not led)
        return self._led

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
            self._tried[each.action.key] = at = clock.monotonic()
            if each.error is not None:
                self._ended[place_of(each.action)] = at + (self.again or 0.0)
            try:
                if isinstance(each.error, CrashError):
                    note_crash(self.installation, each)
            finally:
                self.queue.end(each.action)
        return done
