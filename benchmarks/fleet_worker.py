"""A worker of a simulated fleet: the first one plans for all, each does what it takes from the queue; tells figures."""

import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from benchmarks import fleet_counting
from benchmarks.fleet_world import Simulated, policy_of
from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.postgresql import server
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


@dataclass
class Worker:
    """One worker, and what is to be told of it: how long each action waited, from when it was due, in seconds."""

    policy: Policy
    catalog: Catalog
    queue: Queue
    doing: Simulated
    slots: int
    plans: bool
    done: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    looked: int = 0
    planning: float = 0.0
    _running: dict[Future[bool], Action] = field(default_factory=dict)

    def work(self, seconds: float) -> None:
        """Work for so long; what is under way then is finished, and counts."""
        until, plan_due = time.monotonic() + seconds, 0.0
        counts_from = clock.now() + timedelta(seconds=seconds * CATCHING_UP)
        with ThreadPoolExecutor(self.slots) as threads:
            while time.monotonic() < until:
                if self.plans and time.monotonic() >= plan_due:
                    plan_due = self._plan()
                self._collect()
                for action in self.queue.waiting()[: self.slots - len(self._running)]:
                    if self.queue.take(action):
                        if action.due_at > counts_from:
                            self.waits.append((clock.now() - action.due_at).total_seconds())
                        self._running[threads.submit(self.doing.do, action)] = action
                time.sleep(DISPATCH_SECONDS)
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
            kind = action.kind.value if future.result() else "busy"
            self.done[kind] = self.done.get(kind, 0) + 1
            self.queue.end(action)


def main() -> None:
    """Work, and tell."""
    url, sources, seconds, takes, slots, number, workers = sys.argv[1:]
    fleet_counting.count()
    server._MOST_IDLE = int(slots) + 2  # actions are threads here, not processes with a session each
    policy = policy_of(int(sources))
    host = f"host-{number}"
    with Catalog.open(url, now=clock.now()) as catalog:
        doing = Simulated(catalog, SigningKey(bytes([int(number) + 1]) * 32), host, float(takes))
        queue = _queue(url, policy, alone=workers == "1")
        worker = Worker(policy, catalog, queue, doing, int(slots), plans=number == "0")
        cpu = fleet_counting.own_cpu()
        worker.work(float(seconds))
        queue.close()
        told = {"done": worker.done, "waits": worker.waits, "looked": worker.looked}
        told |= {"planning": worker.planning, "trips": fleet_counting.asked.round_trips}
    print(json.dumps({**told, "cpu": fleet_counting.own_cpu() - cpu}))


def _queue(url: str, policy: Policy, *, alone: bool) -> Queue:
    if alone:
        return Embedded()
    from cto_backups.queues.server import ServerQueue

    return ServerQueue(url, None, lanes=(POOL,), policy=policy.digest)


if __name__ == "__main__":
    main()
