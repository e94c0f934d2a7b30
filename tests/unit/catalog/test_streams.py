"""Streams in the catalog: one worker at a time has one, and whoever lost it notices."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.streams import LEASE, StreamFacts
from cto_backups.errors import BusyError

SECOND = timedelta(seconds=1)


def alive(_pid):
    return True


def lease(catalog, build, holder="one", *, host="shop", pid=7, later=0 * SECOND, alive=alive):
    return catalog.streams.lease("ledger", holder, host, pid, build.now + later, alive)


def known(catalog, build):
    return catalog.facts(build.now).sources["ledger"].stream


def test_a_stream_is_one_workers_until_its_lease_is_over(catalog, build):
    assert known(catalog, build) is None
    first = lease(catalog, build)
    with pytest.raises(BusyError, match="followed by another worker"):
        lease(catalog, build, "two", host="other", later=LEASE - SECOND)
    second = lease(catalog, build, "two", host="other", later=LEASE)
    assert second > first
    assert known(catalog, build).holder == "two"


def test_a_lease_by_a_clock_that_was_hours_ahead_holds_nobody_up(catalog, build):
    """Its worker may be gone, and would have the stream until then; clocks that differ by less are let be."""
    lease(catalog, build, later=timedelta(minutes=50))
    with pytest.raises(BusyError):
        lease(catalog, build, "two", host="other")
    lease(catalog, build, later=timedelta(hours=3))
    assert known(catalog, build).holder == "one"
    lease(catalog, build, "two", host="other")
    assert known(catalog, build).holder == "two"


def test_what_a_stream_needs_stays_known_while_it_is_tried_again(catalog, build):
    token = lease(catalog, build)
    needs = StreamFacts("ledger", "a", stuck_at="p", stuck_since=build.now, problem="set back", token=token)
    catalog.streams.report(needs, build.now)
    catalog.streams.release("ledger", token)
    lease(catalog, build)
    assert (known(catalog, build).stuck_since, known(catalog, build).problem) == (build.now, "set back")


def test_who_lost_the_lease_can_note_nothing_more(catalog, build):
    first = lease(catalog, build)
    facts = replace(known(catalog, build), log="a", ends=100, reached_at=build.now, moment=build.now, unsent_bytes=3)
    assert catalog.streams.report(facts, build.now + SECOND)
    assert known(catalog, build) == replace(facts, leased_until=build.now + SECOND + LEASE)
    lease(catalog, build, "two", host="other", later=2 * LEASE)
    assert not catalog.streams.report(replace(facts, ends=200), build.now)
    catalog.streams.release("ledger", first)
    assert (known(catalog, build).ends, known(catalog, build).holder) == (100, "two")
    assert known(catalog, build).leased_until is not None


def test_a_killed_worker_of_this_host_is_not_waited_for(catalog, build):
    lease(catalog, build, pid=7)
    with pytest.raises(BusyError):
        lease(catalog, build, pid=8)
    assert lease(catalog, build, pid=8, alive=lambda pid: pid != 7) == 2
    with pytest.raises(BusyError):
        lease(catalog, build, host="other", pid=9, alive=lambda pid: False)


def test_a_stream_that_was_given_back_is_free_and_what_is_known_stays(catalog, build):
    token = lease(catalog, build)
    catalog.streams.report(StreamFacts("ledger", "a", 5, build.now, token=token, problem="slow"), build.now)
    catalog.streams.release("ledger", token)
    assert (known(catalog, build).leased_until, known(catalog, build).ends) == (None, 5)
    lease(catalog, build, "two", host="other")
    assert (known(catalog, build).ends, known(catalog, build).problem) == (5, "")
    assert not catalog.streams.report(StreamFacts("unheard", token=1), build.now)
