"""A worker that gives no sign of life is dead, once there was one and something is scheduled."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.facts import Facts, Heartbeat
from cto_backups.core.heartbeat import name_for, silence, silent

SECOND = timedelta(seconds=1)


@pytest.fixture
def told(build):
    """What is said of a worker whose last sign was so long ago; the next was owed two minutes later."""

    def told(ago, *, policy=None, busy_with=""):
        at = build.now - ago
        beat = Heartbeat(at, at + 120 * SECOND, "here", 77, busy_with)
        return silence(policy or build.policy(), Facts(heartbeats=(beat,)), build.now)

    return told


def test_where_no_worker_ever_worked_none_is_dead(build):
    assert silence(build.policy(), Facts(), build.now) is None


def test_a_worker_is_alive_until_its_next_sign_is_overdue(told):
    assert told(120 * SECOND) is None
    assert "the worker is dead" in told(121 * SECOND)


def test_the_sentence_says_which_process_since_when_and_what_it_was_at(told):
    sentence = told(timedelta(hours=3), busy_with="backup/ledger")
    assert "from process 77 on here, was 3 h ago while it was busy with 'backup/ledger'" in sentence
    assert sentence.endswith("nothing that is scheduled gets done")


def test_with_nothing_scheduled_nobody_misses_the_worker(build, told):
    assert told(timedelta(days=1), policy=replace(build.policy(), sources={})) is None


def test_a_sign_from_the_future_is_not_believed(told):
    assert "in the future" in told(-timedelta(hours=1))
    assert told(-timedelta(minutes=4)) is None


def test_naive_moments_are_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        silence(build.policy(), Facts(), build.now.replace(tzinfo=None))


def worker(build, name, pid, *, host="here", ago=0, busy_with=""):
    """A sign of a worker, given so many minutes ago; the next was owed two minutes later."""
    at = build.now - ago * 60 * SECOND
    return Heartbeat(at, at + 120 * SECOND, host, pid, busy_with, name)


def test_each_worker_is_missed_by_its_own_name(build):
    alive, dead = worker(build, "one", 1), worker(build, "two", 2, ago=60)
    assert silent(build.policy(), Facts(heartbeats=(alive, dead)), build.now) == (dead,)
    sentence = silence(build.policy(), Facts(heartbeats=(alive, dead)), build.now)
    assert sentence == "the worker 'two' is dead: its last sign of life, from process 2 on here, was 1 h ago"
    both = silence(build.policy(), Facts(heartbeats=(worker(build, "one", 1, ago=30), dead)), build.now)
    assert both == (
        "both workers are dead: 'one' on here and 'two' on here; their last sign of life was 30 minutes ago; nothing "
        "that is scheduled gets done"
    )


def test_of_many_dead_workers_the_first_are_named_and_the_others_counted(build):
    """However many there are, it is one sentence."""

    def sentence(*heartbeats):
        return silence(build.policy(), Facts(heartbeats=heartbeats), build.now)

    def fleet(hosts, workers, ago=60):
        names = [(f"db{host}", f"db{host}#{n}" if n > 1 else f"db{host}") for host in hosts for n in workers]
        return [worker(build, name, 1, host=host, ago=ago) for host, name in names]

    dead, alive = fleet(range(10, 20), range(1, 5)), worker(build, "well", 1)
    told = sentence(*dead, alive)
    assert told == (
        "40 of 41 workers are dead: 'db10', 'db10#2', 'db10#3' and 37 others on 10 hosts; "
        "their last sign of life was 60 minutes ago"
    ).replace("60 minutes", "1 h")
    assert "'db10', 'db10#2', 'db10#3' and 1 other on db10;" in sentence(*dead[:4], alive)
    assert "'db10', 'db10#2' and 'db10#3';" in sentence(*dead[:3], alive)
    assert sentence(*dead).startswith("all 40 workers are dead") and sentence(*dead).endswith("gets done")

    wrong = fleet(range(30, 32), [1], ago=-60)
    both = sentence(*dead, *wrong)
    assert both.startswith("40 of 42 workers are dead: ")
    assert "; the last signs of life of 'db30' and 'db31' are dated in the future: a clock is or was wrong" in both
    assert not both.endswith("gets done"), "those may be at work"


def named(build, sign, *known, alive=()):
    return name_for(sign, known, lambda pid: pid in alive)


def test_a_worker_keeps_its_name_and_another_one_beside_it_gets_a_number(build):
    first, second = worker(build, "here", 1), worker(build, "here", 2)
    assert named(build, first) == "here"
    assert named(build, first, first, alive={1}) == "here"
    assert named(build, second, first, alive={1, 2}) == "here#2"
    known = first, replace(second, name="here#2")
    assert named(build, second, *known, alive={1, 2}) == "here#2"
    assert named(build, worker(build, "here", 3), *known, alive={1, 2, 3}) == "here#3"


def test_a_worker_that_starts_takes_the_place_of_one_that_is_gone(build):
    known = worker(build, "here", 1), replace(worker(build, "here", 2), name="here#2")
    assert named(build, worker(build, "here", 3), *known, alive={1}) == "here#2"
    assert named(build, worker(build, "here", 3), *known, alive={2}) == "here"
    assert named(build, worker(build, "here", 2), *known, alive={2}) == "here#2", "and who works already stays"


def test_the_number_of_a_process_may_be_anothers_now_unless_it_is_busy(build):
    sign = worker(build, "here", 3)
    assert named(build, sign, worker(build, "here", 1, ago=60), alive={1}) == "here"
    assert named(build, sign, worker(build, "here", 1, ago=60, busy_with="backup/ledger"), alive={1}) == "here#2"


def test_of_another_host_only_silence_tells(build):
    sign = worker(build, "pool", 3)
    assert named(build, sign, worker(build, "pool", 1, host="there"), alive={1}) == "pool#2"
    assert named(build, sign, worker(build, "pool", 1, host="there", ago=60), alive={1}) == "pool"


def test_nobody_waits_for_a_worker_whose_clock_is_wrong_alone(build):
    later = worker(build, "one", 1, ago=-60)
    assert not silence(build.policy(), Facts(heartbeats=(later,)), build.now).endswith("gets done")
