"""Raised once, repeated until acknowledged, stepped up when nobody answers, closed with the cause."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.alerts import (
    DRILL_RULE,
    Alert,
    AlertPolicy,
    AlertRule,
    Happening,
    Person,
    QuietHours,
    Reach,
    Trouble,
)
from cto_backups.core.escalation import MoveKind, decide
from cto_backups.core.windows import Window

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RULE = AlertRule("r", Trouble.NO_BACKUP, ("ops",), ("cto", "ceo"), repeat=15 * MINUTE, step_up=40 * MINUTE)
HAPPENING = Happening("r", "ledger", "no backup for 26 h")


def policy(*names, rule=RULE, quiet=None):
    people = {name: Person(name, (Reach("mail", f"{name}@example.com"),)) for name in names or ("ops", "cto", "ceo")}
    return AlertPolicy(people=people, rules=(rule,), quiet=quiet)


def alert(told_ago=None, **changes):
    made = Alert("a", "r", Trouble.NO_BACKUP, "ledger", "no backup for 26 h", NOW - timedelta(hours=3))
    if told_ago is not None:
        changes = {"told": ("ops",), "told_at": NOW - told_ago, "stepped_at": NOW - told_ago, **changes}
    return replace(made, **changes)


def moves(*open_alerts, of=None, happening=HAPPENING, now=NOW):
    happenings = (happening,) if happening else ()
    return [(move.kind, move.people) for move in decide(of or policy(), happenings, open_alerts, now)]


def test_what_happens_is_raised_once():
    assert moves() == [(MoveKind.RAISE, ("ops",))]
    assert moves(alert(MINUTE)) == []
    other = replace(HAPPENING, subject="other")
    assert moves(alert(MINUTE), happening=other) == [(MoveKind.CLOSE, ("ops",)), (MoveKind.RAISE, ("ops",))]


def test_it_is_repeated_until_acknowledged():
    assert moves(alert(14 * MINUTE)) == []
    assert moves(alert(15 * MINUTE)) == [(MoveKind.TELL, ("ops",))]
    assert moves(alert(15 * MINUTE, acknowledged_at=NOW)) == []


def test_it_is_stepped_up_one_by_one_when_nobody_answers():
    since = {"told_at": NOW - MINUTE, "stepped_at": NOW - 40 * MINUTE}
    assert moves(alert(MINUTE, **since)) == [(MoveKind.STEP_UP, ("cto",))]
    assert moves(alert(MINUTE, **since, told=("ops", "cto"))) == [(MoveKind.STEP_UP, ("ceo",))]
    assert moves(alert(MINUTE, **since, told=("ops", "cto", "ceo"))) == []
    (step,) = decide(policy(), (HAPPENING,), (alert(MINUTE, **since),), NOW)
    assert step.added == ("cto",)
    assert moves(alert(41 * MINUTE, stepped_at=None)) == [(MoveKind.STEP_UP, ("cto",))]


def test_what_was_noted_and_never_told_is_told():
    """A process that was killed in between, or nobody who could be reached."""
    assert moves(alert()) == [(MoveKind.TELL, ("ops",))]
    assert moves(alert(told=("ops", "cto"))) == [(MoveKind.TELL, ("ops", "cto"))]


def test_it_is_closed_with_its_cause_to_those_who_were_told():
    (close,) = decide(policy(), (), (alert(MINUTE),), NOW)
    assert (close.kind, close.people, close.cause) == (MoveKind.CLOSE, ("ops",), "the condition has ended")
    assert moves(alert(), happening=None) == [(MoveKind.CLOSE, ())], "nobody heard of it"
    assert moves(alert(MINUTE, told=("gone", "cto")), happening=None) == [(MoveKind.CLOSE, ("cto",))]
    (close,) = decide(policy(), (), (alert(MINUTE, rule="old"),), NOW)
    assert "no rule old" in close.cause and close.rule is None


def test_whom_the_policy_does_not_know_somebody_else_is_told_for():
    assert moves(of=policy("cto", "ceo")) == [(MoveKind.RAISE, ("cto",))], "who comes next"
    assert moves(of=policy("bo", "ada")) == [(MoveKind.RAISE, ("bo", "ada"))], "or else everybody"
    assert moves(of=AlertPolicy(rules=(RULE,))) == [(MoveKind.RAISE, ())]
    assert moves(alert(20 * MINUTE, told=("gone",)), of=policy("ops")) == [(MoveKind.TELL, ("ops",))]


@pytest.mark.parametrize(
    ("begin", "end", "hour", "covered"),
    [(22, 7, 23, True), (22, 7, 6, True), (22, 7, 7, False), (22, 7, 12, False), (1, 5, 4, True), (1, 5, 5, False)],
)
def test_quiet_hours_may_go_over_midnight(begin, end, hour, covered):
    quiet = QuietHours(Window(begin * 60, end * 60), "Europe/Berlin")
    assert quiet.covers(datetime(2026, 1, 5, hour, 30 if covered else 0, tzinfo=ZoneInfo("Europe/Berlin"))) is covered


def test_in_quiet_hours_only_the_urgent_is_told_and_the_rest_when_they_end():
    quiet = QuietHours(Window(11 * 60, 13 * 60), "UTC")
    urgent = replace(RULE, urgent=True)
    assert moves(of=policy(quiet=quiet)) == [(MoveKind.RAISE, ())]
    assert moves(of=policy(quiet=quiet, rule=urgent)) == [(MoveKind.RAISE, ("ops",))]
    assert moves(alert(20 * MINUTE), of=policy(quiet=quiet)) == []
    assert moves(alert(20 * MINUTE), of=policy(quiet=quiet, rule=urgent)) == [(MoveKind.TELL, ("ops",))]
    assert moves(alert(), of=policy(quiet=quiet), now=NOW + timedelta(hours=1)) == [(MoveKind.TELL, ("ops",))]


def test_a_clock_that_was_ahead_does_not_silence_an_alert():
    assert moves(alert(-timedelta(days=9), stepped_at=NOW)) == [(MoveKind.TELL, ("ops",))]
    assert moves(alert(-3 * MINUTE, stepped_at=NOW)) == [], "within what clocks may differ"


def test_a_drill_is_closed_with_the_time_it_took():
    drill = Alert("d", DRILL_RULE.name, Trouble.DRILL, "drill-1", "an exercise", NOW - 20 * MINUTE)
    drill = replace(drill, told=("ops",), told_at=drill.raised_at, acknowledged_by="ada", acknowledged_at=NOW)
    (close,) = decide(policy(), (), (drill,), NOW)
    assert close.cause == "answered by ada after 20 minutes" and close.rule == DRILL_RULE
    (close,) = decide(policy(), (), (replace(drill, acknowledged_at=None),), NOW)
    assert close.cause == "ended"


def test_naive_moments_are_refused():
    with pytest.raises(ValueError, match="no time zone"):
        decide(policy(), (), (), NOW.replace(tzinfo=None))


@given(st.lists(st.integers(1, 90), max_size=30), st.sets(st.integers(0, 29)), st.integers(0, 29))
def test_told_at_once_never_more_often_than_the_rule_says_and_never_after_an_answer(gaps, killed, answered):
    """A life of one alert, in which some runs are killed right after they have noted what they are about to tell."""
    rules, current, now, heard = policy(), None, NOW, {"ops": [], "cto": [], "ceo": []}
    for number, gap in enumerate(gaps):
        now += gap * MINUTE
        for move in decide(rules, (HAPPENING,), (current,) if current else (), now):
            if move.kind is MoveKind.RAISE:
                current = replace(alert(), raised_at=now, told=move.added)
            elif move.kind is MoveKind.STEP_UP:
                current = replace(current, told=(*current.told, *move.added), told_at=None)
            if number not in killed:
                for name in move.people:
                    heard[name].append(now)
                stepped = now if move.kind is not MoveKind.TELL or current.stepped_at is None else current.stepped_at
                current = replace(current, told_at=now, stepped_at=stepped)
        if number == answered and current:
            current = replace(current, acknowledged_at=now)
            assert decide(rules, (HAPPENING,), (current,), now + timedelta(days=9)) == ()
            break
    if not killed:
        assert all(later - earlier >= 15 * MINUTE for times in heard.values() for earlier, later in pairwise(times))
    if gaps and 0 not in killed:
        assert heard["ops"][0] == NOW + gaps[0] * MINUTE
    elif answered > 0 and len(gaps) > 1 and 1 not in killed:
        assert heard["ops"][0] == NOW + sum(gaps[:2]) * MINUTE, "what was noted and not told is told next time"
