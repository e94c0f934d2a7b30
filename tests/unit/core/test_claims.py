"""Claims: when somebody else may take one over, by whatever clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.claims import CLOCKS_APART, GRACE, LEASE, SIGN_EVERY, Claim, Standing, doing, standing, subject_of
from cto_backups.core.model import ActionKind
from cto_backups.core.payloads import LeftBy

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def alive(_pid: int) -> bool:
    return True


def dead(_pid: int) -> bool:
    return False


def claim(until: datetime | None, *, doubted: bool = False) -> Claim:
    return Claim("source:ledger", 1, 1, "shop", 7, until, doubted)


def test_what_nobody_has_or_was_given_back_is_free() -> None:
    assert standing(None, "shop", NOW, alive) is Standing.FREE
    assert standing(claim(None), "other", NOW, alive) is Standing.FREE


def test_a_process_of_this_host_that_is_gone_has_nothing() -> None:
    assert standing(claim(NOW + LEASE), "shop", NOW, dead) is Standing.FREE
    assert standing(claim(NOW + LEASE), "other", NOW, dead) is Standing.HELD, "who knows of another host's?"


@pytest.mark.parametrize("until", [NOW + SECOND, NOW + LEASE, NOW + LEASE + SECOND, NOW + LEASE + CLOCKS_APART])
def test_a_lease_holds(until: datetime) -> None:
    """Also one that another gave by a clock that is ahead a little, or after whoever looks at it has looked at his."""
    assert standing(claim(until), "shop", NOW, alive) is Standing.HELD


@pytest.mark.parametrize(
    "until", [NOW, NOW - timedelta(hours=3), NOW + LEASE + CLOCKS_APART + SECOND, NOW + timedelta(hours=3)]
)
def test_a_lease_that_is_over_or_that_a_wrong_clock_gave_is_doubted_first(until: datetime) -> None:
    assert standing(claim(until), "shop", NOW, alive) is Standing.DOUBTFUL


def test_who_gives_no_sign_until_the_grace_is_over_has_lost_it() -> None:
    doubted = claim(NOW + GRACE, doubted=True)
    assert standing(doubted, "other", NOW, alive) is Standing.HELD
    assert standing(doubted, "other", NOW + GRACE, alive) is Standing.FREE


@given(
    ahead=st.timedeltas(-timedelta(days=2), timedelta(days=2)),
    tries=st.lists(st.floats(0, 60), min_size=1, max_size=40),
)
def test_who_lives_keeps_it_however_the_clocks_differ(ahead: timedelta, tries: list[float]) -> None:
    """Another host, whose clock is `ahead`, tries at any moments; the holder gives its signs as it is to."""
    held, real, sign = claim(NOW + LEASE), NOW, NOW
    for pause in tries:
        real += timedelta(seconds=pause)
        while sign + SIGN_EVERY <= real:
            sign += SIGN_EVERY
            held = claim(sign + LEASE)
        found = standing(held, "other", real + ahead, alive)
        assert found is not Standing.FREE
        if found is Standing.DOUBTFUL:
            held = claim(real + ahead + GRACE, doubted=True)


@given(ahead=st.timedeltas(-timedelta(days=2), timedelta(days=2)))
def test_who_is_frozen_loses_it_within_a_minute_and_a_half_however_the_clocks_differ(ahead: timedelta) -> None:
    """Another tries every ten seconds."""
    held = claim(NOW + LEASE)
    for tries in range(10):
        now = NOW + ahead + tries * timedelta(seconds=10)
        found = standing(held, "other", now, alive)
        if found is Standing.FREE:
            return
        if found is Standing.DOUBTFUL:
            held = claim(now + GRACE, doubted=True)
    raise AssertionError("it is waited for longer")


@pytest.mark.parametrize(
    ("action", "subject", "words"),
    [
        (ActionKind.BACKUP, "source:ledger", "working on source 'ledger'"),
        (ActionKind.RESTORE_TEST, "source:ledger", "working on source 'ledger'"),
        (ActionKind.EXPIRE, "source:ledger", "working on source 'ledger'"),
        (ActionKind.COPY, "copy:ledger@near", "copying source 'ledger' to vault 'near'"),
        (ActionKind.PRUNE, "vault:near", "at work alone in vault 'near'"),
        (ActionKind.REPAIR, "vault:near", "at work alone in vault 'near'"),
        (ActionKind.VERIFY, "verify:near", "at the verify of vault 'near'"),
        (ActionKind.RENEW, "renew:near", "at the renew of vault 'near'"),
        (ActionKind.CHECK, "check:near", "at the check of vault 'near'"),
    ],
)
def test_what_an_action_claims(action: ActionKind, subject: str, words: str) -> None:
    assert (subject_of(action, "ledger", "near"), doing(subject)) == (subject, words)


def test_what_a_silent_process_left_is_of_the_time_before() -> None:
    left = LeftBy("shop", 7, NOW)
    assert left.has_made("shop", 7, NOW - SECOND)
    assert not left.has_made("shop", 7, NOW), "it has come back since, and is at something else"
    assert not left.has_made("shop", 8, NOW - SECOND)
    assert not left.has_made("other", 7, NOW - SECOND)
