"""A worker of a simulated fleet: the first one plans for all, each does what it takes from the queue; tells figures.

Actions are processes of their own, as they are in a real one, and stay: what it costs to start one is not in it.
"""

import json
import multiprocessing
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from benchmarks import fleet_counting
from benchmarks.fleet_world import Simulated, policy_of
from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.model import Action
from cto_backups.core.plan import priority
from cto_backups.core.policy import Policy
from cto_backups.evidence.records import SigningKey
from cto_backups.flows.desk import LONGEST_SLEEP, PLAN_FACTOR
from cto_backups.flows.planning import plan
from cto_backups.flows.queue_port import POOL, Offer, Queue
from cto_backups.queues.embedded import Embedded

DISPATCH_SECONDS = 0.05
CATCHING_UP = 0.4
"""In the first part of the time, what came due while the catalog was filled is caught up with: waits do not count."""


@dataclass(frozen=True)
class Done:
    """What became of an action: whether nobody else was at it, and what it cost: round trips, seconds of CPU."""

    done: bool
    round_trips: int
    cpu: float


_doing: Simulated | None = None
"""In the process of an action: what does it."""


def _ready(url: str, number: int, takes: float) -> None:
    """Make this process ready to do actions."""
    global _doing
    fleet_counting.count()
    catalog = Catalog.open(url, now=clock.now())
    catalog.latest("s0000000", complete=False)
    _doing = Simulated(catalog, SigningKey(bytes([number + 1]) * 32), f"host-{number}", takes)


def _do(action: Action | None) -> Done:
    """Do an action; None: wait, so that every process gets one of these."""
    if action is None:
        time.sleep(1.0)
        return Done(True, 0, 0.0)
    assert _doing is not None
    asked, cpu = fleet_counting.asked.round_trips, fleet_counting.own_cpu()
    done = _doing.do(action)
    return Done(done, fleet_counting.asked.round_trips - asked, fleet_counting.own_cpu() - cpu)


@dataclass
class Worker:
    """One worker, and what is to be told of it: how long each action waited, from when it was due, in seconds."""

    policy: Policy
    catalog: Catalog
    queue: Queue
    actions: ProcessPoolExecutor
    slots: int
    plans: bool
    done: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    looked: int = 0
    planning: float = 0.0
    round_trips: int = 0
    cpu: float = 0.0
    _running: dict[Future[Done], Action] = field(default_factory=dict)

    def work(self, seconds: float) -> None:
        """Work for so long; what is under way then is finished, and counts."""
        until, plan_due = time.monotonic() + seconds, 0.0
        counts_from = clock.now() + timedelta(seconds=seconds * CATCHING_UP)
        while time.monotonic() < until:
            if self.plans and time.monotonic() >= plan_due:
                plan_due = self._plan()
            self._collect()
            for action in self.queue.waiting()[: self.slots - len(self._running)]:
                if self.queue.take(action):
                    if action.due_at > counts_from:
                        self.waits.append((clock.now() - action.due_at).total_seconds())
                    self._running[self.actions.submit(_do, action)] = action
            time.sleep(DISPATCH_SECONDS)
        self.actions.shutdown()
        self._collect()

    def _plan(self) -> float:
        """Plan; when to do so again."""
        began, now, mark = time.monotonic(), clock.now(), self.queue.mark()
        found = plan(self.policy, self.catalog, now)
        offers = [Offer(action, POOL, priority(self.policy, action)) for action in found.due]
        self.queue.put(offers, mark, of=[each.place.key for each in found.looked])
        moment = self.catalog.due_times.next_look(now)
        ended = time.monotonic()
        self.looked += len(found.looked)
        self.planning += ended - began
        wait = LONGEST_SLEEP if moment is None else min(moment - now, LONGEST_SLEEP)
        return ended + max(wait.total_seconds(), 1.0, PLAN_FACTOR * (ended - began))

    def _collect(self) -> None:
        for future in [each for each in self._running if each.done()]:
            action = self._running.pop(future)
            cost = future.result()
            kind = action.kind.value if cost.done else "busy"
            self.round_trips += cost.round_trips
            self.cpu += cost.cpu
            self.done[kind] = self.done.get(kind, 0) + 1
            self.queue.end(action)


def main() -> None:
    """Work, and tell."""
    url, sources, seconds, takes, slots, number, workers = sys.argv[1:]
    actions = ProcessPoolExecutor(int(slots), _forking(), _ready, (url, int(number), float(takes)))
    list(actions.map(_do, [None] * int(slots)))  # all are there
    fleet_counting.count()
    policy = policy_of(int(sources))
    with Catalog.open(url, now=clock.now()) as catalog:
        queue = _queue(url, policy, alone=workers == "1")
        worker = Worker(policy, catalog, queue, actions, int(slots), plans=number == "0")
        cpu = fleet_counting.own_cpu()
        worker.work(float(seconds))
        queue.close()
        told = {"done": worker.done, "waits": worker.waits, "looked": worker.looked, "planning": worker.planning}
        told |= {"trips": worker.round_trips + fleet_counting.asked.round_trips}
    print(json.dumps({**told, "cpu": worker.cpu + fleet_counting.own_cpu() - cpu}))


def _forking() -> multiprocessing.context.ForkServerContext:
    """Processes that share the memory of what was imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.fleet_worker"])
    return context


def _queue(url: str, policy: Policy, *, alone: bool) -> Queue:
    if alone:
        return Embedded()
    from cto_backups.queues.server import ServerQueue

    return ServerQueue(url, None, lanes=(POOL,), policy=policy.digest)
