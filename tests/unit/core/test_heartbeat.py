"""A worker that gives no sign of life is dead, once there was one and something is scheduled."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.heartbeat import silence
from cto_backups.core.model import Facts, Heartbeat

SECOND = timedelta(seconds=1)


@pytest.fixture
def silent(build):
    """What is said of a worker whose last sign was so long ago; the next was owed two minutes later."""

    def silent(ago, *, policy=None, busy_with=""):
        at = build.now - ago
        beat = Heartbeat(at, at + 120 * SECOND, "here", 77, busy_with)
        return silence(policy or build.policy(), Facts(heartbeat=beat), build.now)

    return silent


def test_where_no_worker_ever_worked_none_is_dead(build):
    assert silence(build.policy(), Facts(), build.now) is None


def test_a_worker_is_alive_until_its_next_sign_is_overdue(silent):
    assert silent(120 * SECOND) is None
    assert "the worker is dead" in silent(121 * SECOND)


def test_the_sentence_says_which_process_since_when_and_what_it_was_at(silent):
    told = silent(timedelta(hours=3), busy_with="backup/ledger")
    assert "from process 77 on here, was 3 h ago while it was busy with 'backup/ledger'" in told


def test_with_nothing_scheduled_nobody_misses_the_worker(build, silent):
    assert silent(timedelta(days=1), policy=replace(build.policy(), sources={})) is None


def test_a_sign_from_the_future_is_not_believed(silent):
    assert "in the future" in silent(-timedelta(hours=1))
    assert silent(-timedelta(minutes=4)) is None


def test_naive_moments_are_refused(build):
    with pytest.raises(ValueError, match="no time zone"):
        silence(build.policy(), Facts(), build.now.replace(tzinfo=None))
