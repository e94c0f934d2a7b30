"""What every queue promises. A queue's test gives `queues`: what makes one for each worker of the same installation."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from cto_backups.core.model import Action, ActionKind
from cto_backups.flows.queue_port import Offer, Queue

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_SECONDS = 60.0
Queues = Callable[..., Queue]


def offer(source: str, lane: str = "", priority: int = 0, kind: ActionKind = ActionKind.BACKUP) -> Offer:
    return Offer(Action(kind, f"{kind.value}:{source}", "it is time", NOW, source=source), lane, priority)


def put(queue: Queue, *offers: Offer, of: Collection[str] | None = None) -> None:
    queue.put(offers, queue.mark(), of=of)


def names(queue: Queue) -> list[str | None]:
    return [action.source for action in queue.waiting()]


class QueueContract:
    """What is asked of one queue."""

    def test_what_is_put_waits_whole(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        assert queue.waiting() == (ledger.action,)

    def test_it_waits_once_however_often_it_is_put(self, queues: Queues) -> None:
        queue = queues()
        put(queue, offer("ledger"), offer("app"))
        put(queue, offer("ledger"), offer("app"))
        assert names(queue) == ["ledger", "app"]

    def test_what_is_more_urgent_comes_first_and_else_what_was_put_first(self, queues: Queues) -> None:
        queue = queues()
        put(queue, offer("third", priority=-2), offer("fourth", priority=-2), offer("second", priority=-1))
        put(queue, offer("first", priority=5), of=["source:first"])
        assert names(queue) == ["first", "second", "third", "fourth"]

    def test_what_was_taken_waits_no_more_and_is_not_put_again_while_it_runs(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        assert queue.take(ledger.action)
        assert names(queue) == []
        put(queue, ledger)
        assert names(queue) == []
        assert not queue.take(ledger.action)

    def test_what_has_ended_may_be_put_again(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        queue.take(ledger.action)
        queue.end(ledger.action)
        assert names(queue) == []
        put(queue, ledger)
        assert queue.take(ledger.action)

    def test_a_plan_that_did_not_know_that_it_has_ended_does_not_put_it_again(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        queue.take(ledger.action)
        mark = queue.mark()
        queue.end(ledger.action)
        queue.put([ledger], mark, of=None)
        assert names(queue) == []

    def test_what_is_due_no_more_waits_no_more(self, queues: Queues) -> None:
        queue = queues()
        put(queue, offer("ledger"), offer("app"))
        put(queue, offer("app"))
        assert names(queue) == ["app"]
        assert not queue.take(offer("ledger").action)

    def test_a_plan_for_some_sources_leaves_the_others_waiting(self, queues: Queues) -> None:
        queue = queues()
        put(queue, offer("ledger"))
        put(queue, offer("app"), of=["source:app"])
        assert sorted(str(name) for name in names(queue)) == ["app", "ledger"]

    def test_what_is_due_no_more_of_the_sources_of_a_plan_waits_no_more(self, queues: Queues) -> None:
        queue = queues()
        put(queue, offer("ledger"), offer("ledger", kind=ActionKind.COPY), offer("app"))
        put(queue, offer("ledger", kind=ActionKind.COPY), of=["source:ledger", "vault:app"])
        assert [action.key for action in queue.waiting()] in (
            ["copy:ledger", "backup:app"],
            ["backup:app", "copy:ledger"],
        )

    def test_what_runs_stays_with_who_has_it_when_it_is_due_no_more(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        queue.take(ledger.action)
        put(queue)
        put(queue, ledger)
        assert names(queue) == []

    def test_a_sign_of_life_gives_nothing_back_while_all_live(self, queues: Queues) -> None:
        queue, ledger = queues(), offer("ledger")
        put(queue, ledger)
        queue.take(ledger.action)
        assert queue.beat() == ()
        put(queue, ledger)
        assert names(queue) == []

    def test_the_end_of_what_nobody_took_is_nothing(self, queues: Queues) -> None:
        queue = queues()
        queue.end(offer("ledger").action)
        assert names(queue) == []


class FleetContract:
    """What is asked beside it of a queue that several workers share; `queues` takes the lanes of each."""

    def test_of_several_workers_one_gets_an_action(self, queues: Queues) -> None:
        one, other, ledger = queues(), queues(), offer("ledger")
        put(one, ledger)
        assert names(other) == ["ledger"] == names(one)
        assert [one.take(ledger.action), other.take(ledger.action)] == [True, False]
        put(other, ledger)
        assert names(other) == []

    def test_a_lane_is_its_hosts_and_the_pool_is_everybodys(self, queues: Queues) -> None:
        here, there = queues("here"), queues("there")
        put(here, offer("ours", "here"), offer("theirs", "there"), offer("anybody's"))
        assert (names(here), names(there)) == (["ours", "anybody's"], ["theirs", "anybody's"])

    def test_what_another_one_puts_is_seen(self, queues: Queues) -> None:
        one, other = queues(), queues()
        assert names(other) == []
        put(one, offer("ledger"))
        # Told by the server, which takes its time on a busy machine, or else at the next look.
        until = time.monotonic() + PATIENCE_SECONDS
        while names(other) != ["ledger"]:
            assert time.monotonic() < until
            time.sleep(0.01)

    def test_who_goes_gives_back_what_was_taken(self, queues: Queues) -> None:
        one, other, ledger = queues(), queues(), offer("ledger")
        put(one, ledger)
        assert one.take(ledger.action)
        one.close()
        other = queues()
        assert other.take(other.waiting()[0])

    def test_what_a_change_was_noticed_for_outlives_a_plan_that_does_not_know_of_it(self, queues: Queues) -> None:
        planner, other = queues(), queues()
        put(other, offer("noticed"), of=["source:noticed"])
        put(planner, offer("ledger"))
        assert sorted(map(str, names(planner))) == ["ledger", "noticed"]

    def test_the_end_of_what_another_one_has_by_now_changes_nothing(self, queues: Queues) -> None:
        one, other, ledger = queues(), queues(), offer("ledger")
        put(one, ledger)
        assert one.take(ledger.action)
        other.end(ledger.action)
        put(other, ledger)
        assert names(other) == []
