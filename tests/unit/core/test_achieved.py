"""What a loss of the source now would cost, from the data itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cto_backups.core.achieved import achieved, achieved_against_rpo
from cto_backups.core.facts import Facts
from cto_backups.core.model import Resource

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def of(build):
    """The achieved RPO of a source in order, but for what is given."""

    def of(known=None, *, changed=(), **policy):
        resources = tuple(Resource(f"sqlite:/{number}", "sqlite", f"/{number}", 1, at) for number, at in changed)
        facts = build.facts(known, resources={"ledger": resources} if resources else {})
        return achieved(build.policy(build.source(**policy)), facts, "ledger", build.now)

    return of


def told(found):
    return achieved_against_rpo(found, DAY)


def test_everything_since_the_newest_point_may_be_lost(build, of):
    found = of()
    assert (found.loss, found.behind, found.content_age) == (HOUR, False, None)
    assert told(found) == "a loss now would cost at most the changes of the last 1 h; RPO is 24 h"


def test_what_a_scan_confirmed_is_held_until_then(build, of):
    found = of(build.healthy(confirmed_at=build.ago(minutes=10)))
    assert (found.holds_until, found.loss) == (build.ago(minutes=10), timedelta(minutes=10))


def test_a_source_that_did_not_change_is_not_late(build, of):
    """Nobody backed it up for three days, and yet nothing would be lost: a look at it a minute ago says so."""
    old = build.point(build.ago(days=3))
    known = build.healthy(newest=old, discovered_at=build.ago(minutes=1))
    found = of(known, changed=[(1, build.ago(days=4)), (2, build.ago(days=3))])
    assert (found.loss, found.behind) == (timedelta(minutes=1), False)
    assert told(found).endswith("RPO is 24 h; the source was not changed since")


def test_a_source_whose_content_is_newer_than_its_newest_point_is_behind(build, of):
    old = build.point(build.ago(days=3))
    known = build.healthy(newest=old, discovered_at=build.ago(minutes=1))
    found = of(known, changed=[(1, build.ago(days=4)), (2, build.ago(hours=2))])
    assert (found.loss, found.behind) == (3 * DAY, True)
    assert "the source was changed 2 h ago, and that would not come back" in told(found)


def test_one_resource_that_cannot_tell_leaves_it_open(build, of):
    old = build.point(build.ago(days=3))
    known = build.healthy(newest=old, discovered_at=build.ago(minutes=1))
    found = of(known, changed=[(1, build.ago(days=4)), (2, None)])
    assert (found.loss, found.changed_at, found.looked_at) == (3 * DAY, None, None)


def test_a_look_that_is_dated_in_the_future_counts_as_now(build, of):
    known = build.healthy(discovered_at=build.now + DAY)
    assert of(known, changed=[(1, build.ago(days=4))]).loss == timedelta()


def test_resources_without_a_look_say_nothing(build, of):
    assert of(changed=[(1, build.ago(days=4))]).loss == HOUR


def test_it_says_how_old_the_content_is_that_would_come_back(build, of):
    point = build.point(build.ago(hours=1), newest_content_at=build.ago(hours=49))
    found = of(build.healthy(newest=point))
    assert found.content_age == timedelta(hours=49)
    assert told(found).endswith("; the newest content that would come back is 49 h old")
    later = replace(found, point=replace(point, newest_content_at=build.now + DAY))
    assert later.content_age == timedelta()


def test_a_damaged_newest_point_costs_all_since_the_last_proven_one(build, of):
    known = build.healthy()
    damaged = tuple(replace(each, read_passed=False) for each in known.copies)
    intact = (build.copy(known.proven, "near"),)
    found = of(replace(known, copies=damaged, proven_copies=intact, confirmed_at=build.ago(minutes=1)))
    assert (found.point, found.loss) == (known.proven, timedelta(days=2, hours=1))


def test_one_sound_copy_suffices_and_one_beside_the_policy_does_not(build, of):
    known = build.healthy()
    near, far = known.copies
    assert of(replace(known, copies=(replace(near, read_passed=False), far))).loss == HOUR
    assert of(replace(known, copies=(far,)), vaults=("near",)) is None


def test_nothing_sound_is_nothing_to_return_to(build, of):
    known = build.healthy(copies=())
    assert of(known) is None
    assert of(replace(known, proven=None)) is None
    partial = build.point(build.ago(days=2), incomplete=True)
    assert of(replace(known, proven=partial, proven_copies=(build.copy(partial, "near"),))) is None
    damaged = (build.copy(known.proven, "near", read_passed=False),)
    assert of(replace(known, proven_copies=damaged)) is None
    assert achieved(build.policy(), Facts(), "ledger", build.now) is None


def test_a_point_from_the_future_makes_the_loss_unknown(build, of):
    found = of(build.healthy(newest=build.point(build.now + DAY)))
    assert found.loss is None
    assert "is dated in the future" in told(found)
    assert of(build.healthy(newest=build.point(build.now + timedelta(minutes=2)))).loss == timedelta()


def test_a_naive_moment_is_refused(build):
    with pytest.raises(ValueError, match="time zone"):
        achieved(build.policy(), build.facts(), "ledger", build.now.replace(tzinfo=None))
