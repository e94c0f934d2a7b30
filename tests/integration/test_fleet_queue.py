"""The queue of a fleet when things go wrong: workers that die, a server that goes away, jobs that nobody here knows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from queue_contract import names, offer, put

from cto_backups import clock
from cto_backups.core.model import ActionKind
from cto_backups.errors import CatalogAwayError
from cto_backups.queues import server as queue_server
from cto_backups.queues.server import ServerQueue
from servers import postgresql
from servers.postgresql import Server

DIGEST = "the digest of a policy"
WORKER = f"""
import sys, time
from cto_backups.queues.server import ServerQueue
queue = ServerQueue(sys.argv[1], None, lanes=("",), policy="{DIGEST}")
(action,) = queue.waiting()
assert queue.take(action)
print("taken", flush=True)
time.sleep(600)
"""


class Restarting:
    """A server that can crash and come back."""

    def __init__(self, made: Server, stack: ExitStack) -> None:
        self.made, self._stack = made, stack
        self.url = f"postgresql://{made.user}@/jobs?host={made.place}"

    def stop(self) -> None:
        file = self.made.place / "data" / "postmaster.pid"
        os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
        while file.exists():
            time.sleep(0.02)

    def start(self) -> None:
        self._stack.enter_context(postgresql.running(self.made.bin, self.made.place))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.made.do("SET search_path = cto_backups_queue", statement, database="jobs")


@pytest.fixture
def server(postgresql_programs: Any) -> Iterator[Restarting]:
    with ExitStack() as stack:
        made = stack.enter_context(postgresql.server(postgresql_programs))
        made.do("CREATE DATABASE jobs")
        yield Restarting(made, stack)


@pytest.fixture
def worker(server: Restarting) -> Iterator[Callable[..., ServerQueue]]:
    with ExitStack() as stack:

        def start(*lanes: str, policy: str = DIGEST, warn: Callable[[str], None] = lambda _: None) -> ServerQueue:
            queue = ServerQueue(server.url, None, lanes=("", *lanes), policy=policy, warn=warn)
            stack.callback(queue.close)
            return queue

        yield start


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives no sign for a second is gone, and signs come four times as often."""
    monkeypatch.setattr(queue_server, "GONE_SECONDS", 1.0)
    monkeypatch.setattr(queue_server, "BEAT_SECONDS", 0.25)


def revived(queue: ServerQueue) -> list[str | None]:
    until = clock.monotonic() + 30
    while clock.monotonic() < until:
        if found := queue.beat():
            return [action.source for action in found]
        time.sleep(0.2)
    return []


@pytest.mark.usefixtures("soon")
def test_what_a_killed_worker_had_waits_again(server: Restarting, worker: Callable[..., ServerQueue]) -> None:
    queue = worker()
    put(queue, offer("ledger"))
    with subprocess.Popen([sys.executable, "-c", WORKER, server.url], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"taken\n"
        assert names(queue) == []
        other.kill()
    assert revived(queue) == ["ledger"]
    assert queue.take(offer("ledger").action)


@pytest.mark.usefixtures("soon")
def test_a_worker_that_froze_ends_nothing_that_another_one_has_by_now(
    server: Restarting, worker: Callable[..., ServerQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, other, ledger = worker(), worker(), offer("ledger")
    put(frozen, ledger)
    assert frozen.take(ledger.action)
    frozen._stop.set()  # it gives no signs of life any more
    frozen._beating.join()
    assert revived(other) == ["ledger"]
    assert other.take(ledger.action)
    frozen.end(ledger.action)
    assert server.rows("SELECT status::text FROM procrastinate_jobs") == [("doing",)]
    other.end(ledger.action)
    assert server.rows("SELECT status::text FROM procrastinate_jobs") == [("succeeded",)]


@pytest.mark.usefixtures("soon")
def test_signs_of_life_come_whatever_the_worker_is_at(worker: Callable[..., ServerQueue]) -> None:
    busy, other, ledger = worker(), worker(), offer("ledger")
    put(busy, ledger)
    assert busy.take(ledger.action)
    until = clock.monotonic() + 3
    while clock.monotonic() < until:
        assert other.beat() == ()
        time.sleep(0.1)


def test_a_restart_of_the_server_is_not_noticed(server: Restarting, worker: Callable[..., ServerQueue]) -> None:
    queue, ledger, app = worker(), offer("ledger"), offer("app")
    put(queue, ledger, app)
    assert queue.take(ledger.action)
    server.stop()
    server.start()
    assert names(queue) == ["app"]
    assert queue.take(app.action)
    put(queue, ledger, app)
    assert names(queue) == []
    queue.end(ledger.action)
    queue.end(app.action)
    assert server.rows("SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1") == [("succeeded", 2)]


def test_while_the_server_is_away_nothing_is_lost_and_what_ended_is_said_later(
    server: Restarting, worker: Callable[..., ServerQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_server, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(queue_server, "GONE_SECONDS", 1.0)
    queue, other, ledger, app = worker(), worker(), offer("ledger"), offer("app")
    put(queue, ledger, app)
    assert queue.take(ledger.action)
    assert queue.take(app.action)
    server.stop()
    queue.end(ledger.action)
    with pytest.raises(CatalogAwayError):
        other.beat()
    time.sleep(2)  # longer than it takes to be taken for dead
    server.start()
    assert other.beat() == (), "who has just come back gives the others time to do so"
    assert queue.beat() == ()
    assert other.beat() == ()
    found = server.rows("SELECT queueing_lock, status::text FROM procrastinate_jobs ORDER BY 1")
    assert found == [("backup:app", "doing"), ("backup:ledger", "succeeded")]


def test_what_was_taken_without_an_answer_waits_again(server: Restarting, worker: Callable[..., ServerQueue]) -> None:
    queue, ledger = worker(), offer("ledger")
    put(queue, ledger)
    server.rows(f"UPDATE procrastinate_jobs SET status = 'doing', worker_id = {queue._worker} RETURNING id")
    queue.beat()
    assert names(queue) == ["ledger"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("task_name = 'cto_backups.teleport'", "teleport"),
        ("args = jsonb_set(args, '{format}', '2')", "format 2"),
        ("args = jsonb_set(args, '{action,colour}', '1')", "colour"),
        ("args = jsonb_set(args, '{action,kind}', '\"teleport\"')", "teleport"),
        ("args = jsonb_set(args, '{policy}', '\"another\"')", "under the policy another"),
    ],
)
def test_what_a_worker_does_not_understand_is_told_once_and_left(
    server: Restarting, worker: Callable[..., ServerQueue], change: str, told: str
) -> None:
    sentences: list[str] = []
    queue = worker(warn=sentences.append)
    put(queue, offer("ledger"), offer("app"))
    server.rows(f"UPDATE procrastinate_jobs SET {change} WHERE queueing_lock = 'backup:ledger' RETURNING id")
    for _ in range(2):
        queue.beat()
        queue._look_at = 0.0
        assert names(queue) == ["app"]
    assert len(sentences) == 1 and told in sentences[0], sentences
    assert "left to" in sentences[0]
    assert server.rows("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'") == [(2,)]


def test_each_takes_what_was_planned_under_the_policy_that_it_has(worker: Callable[..., ServerQueue]) -> None:
    before, after = worker(policy="before"), worker(policy="after")
    put(before, offer("ledger"))
    put(after, offer("app"))
    assert (names(before), names(after)) == (["ledger"], ["app"])
    before.follow("after")
    assert names(before) == ["app"]


def test_what_ended_long_ago_and_what_nobody_wanted_is_forgotten(
    server: Restarting, worker: Callable[..., ServerQueue]
) -> None:
    queue, ledger = worker(), offer("ledger")
    put(queue, ledger, offer("app"), offer("gone"))
    queue.take(ledger.action)
    queue.end(ledger.action)
    server.rows("UPDATE procrastinate_events SET at = at - interval '2 hours' RETURNING id")
    old = "args = jsonb_set(jsonb_set(args, '{put_at}', '1'), '{policy}', '\"a former one\"')"
    server.rows(f"UPDATE procrastinate_jobs SET {old} WHERE queueing_lock = 'backup:gone' RETURNING id")
    queue._tidy_at = 0.0
    put(queue, offer("app"))
    assert server.rows("SELECT queueing_lock FROM procrastinate_jobs") == [("backup:app",)]


def test_a_host_with_a_long_name_has_a_lane_too(worker: Callable[..., ServerQueue]) -> None:
    long = "a-host-with-a-very-long-name.in-a-department.of-a-company.example.com"
    queue = worker(long)
    put(queue, offer("ledger", long), offer("app", long + ".other"))
    assert names(queue) == ["ledger"]


def test_tables_that_are_behind_the_installed_release_are_brought_up_to_it(
    server: Restarting, worker: Callable[..., ServerQueue]
) -> None:
    worker()
    (last,) = server.rows("SELECT max(migration) FROM cto_backups_applied")[0]
    server.rows(f"DELETE FROM cto_backups_applied WHERE migration = '{last}' RETURNING 1")
    server.rows("DROP FUNCTION procrastinate_retry_job_v1; SELECT 1")
    queue = worker()
    assert server.rows("SELECT max(migration) FROM cto_backups_applied") == [(last,)]
    put(queue, offer("ledger"))
    assert names(queue) == ["ledger"]


def test_what_waits_for_a_busy_vault_hides_nothing_that_could_begin_at_another_one(
    worker: Callable[..., ServerQueue],
) -> None:
    """However much it is, and however urgent: nothing is left to wait for what it has nothing to do with."""
    queue, other = worker(), worker()
    busy = [replace(offer(f"s{number:04}", priority=5), vaults=("near",)) for number in range(700)]
    late = replace(offer("near", priority=1, kind=ActionKind.PRUNE), vaults=("near",))
    free = [replace(offer(f"t{number}", priority=1), vaults=("far",)) for number in range(3)]
    put(queue, *busy, late, *free)
    seen = names(other)
    assert seen[:100] == [f"s{number:04}" for number in range(100)]
    assert set(seen[100:]) == {"near", "t0", "t1", "t2"}
    assert other.take(free[1].action)
    assert "t1" not in names(queue)
    for each in busy[:300]:
        other.take(each.action)
    queue._look_at = 0.0
    assert len(names(queue)) == 400 + 3, "few enough are seen whole"
