"""Escalation: what has to be told to whom now, given what is wrong and what was told before. Pure.

Moves follow from what is noted alone: a process that was killed between noting and telling tells once more, never not
at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cto_backups.core.alerts import Alert, AlertPolicy, AlertRule, Happening, Trouble
from cto_backups.core.calendar_times import require_aware
from cto_backups.core.duration import roughly
from cto_backups.core.retries import CLOCK_TOLERANCE


class MoveKind(StrEnum):
    """What is done with an alert."""

    RAISE = "raise"
    TELL = "tell"
    STEP_UP = "step-up"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Move:
    """One thing to do with an alert (None: with one that `happening` raises).

    `people` are those to tell now: nobody while it is quiet. `added` are those of them whom it did not concern before.
    """

    kind: MoveKind
    people: tuple[str, ...]
    rule: AlertRule | None = None
    alert: Alert | None = None
    happening: Happening | None = None
    added: tuple[str, ...] = ()
    cause: str = ""


def decide(
    policy: AlertPolicy, happenings: Iterable[Happening], open_alerts: Iterable[Alert], now: datetime
) -> tuple[Move, ...]:
    """What to do now: close first, then raise, then repeat and step up. Raises ValueError when `now` is naive."""
    require_aware(now)
    present = {(happening.rule, happening.subject): happening for happening in happenings}
    alerts = {alert.key: alert for alert in open_alerts}
    moves = [_close(policy, alert) for key, alert in alerts.items() if key not in present]
    moves += [_raise(policy, happening, now) for key, happening in present.items() if key not in alerts]
    for key, alert in alerts.items():
        if key in present:
            moves.extend(_go_on(policy, alert, present[key], now))
    return tuple(moves)


def _close(policy: AlertPolicy, alert: Alert) -> Move:
    cause = "the condition has ended"
    if alert.trouble is Trouble.DRILL:
        answered = alert.answered_after
        cause = f"answered by {alert.acknowledged_by} after {roughly(answered)}" if answered is not None else "ended"
    elif policy.rule(alert.rule) is None:
        cause = f"the policy has no rule {alert.rule} any more"
    people = tuple(name for name in alert.told if name in policy.people) if alert.told_at is not None else ()
    return Move(MoveKind.CLOSE, people, policy.rule(alert.rule), alert, cause=cause)


def _raise(policy: AlertPolicy, happening: Happening, now: datetime) -> Move:
    rule = policy.rule(happening.rule)
    assert rule is not None  # what happens, happens by a rule
    first = policy.first(rule)
    return Move(MoveKind.RAISE, () if _quiet(policy, rule, now) else first, rule, None, happening, first)


def _go_on(policy: AlertPolicy, alert: Alert, happening: Happening, now: datetime) -> Iterator[Move]:
    rule = policy.rule(alert.rule)
    assert rule is not None
    if alert.acknowledged_at is not None or _quiet(policy, rule, now):
        return
    told = tuple(name for name in alert.told if name in policy.people) or policy.first(rule)
    following = policy.next(rule, told)
    if alert.told_at is None:
        yield Move(MoveKind.TELL, told, rule, alert, happening)
    elif following is not None and _passed(alert.stepped_at or alert.told_at, rule.step_up, now):
        # The others hear of it again when it is repeated.
        yield Move(MoveKind.STEP_UP, (following,), rule, alert, happening, (following,))
    elif _passed(alert.told_at, rule.repeat, now):
        yield Move(MoveKind.TELL, told, rule, alert, happening)


def _passed(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether this much time has gone by; a moment in the future is no reason to be silent until then."""
    return now - since >= span or since > now + CLOCK_TOLERANCE


def _quiet(policy: AlertPolicy, rule: AlertRule, now: datetime) -> bool:
    return policy.quiet is not None and not rule.urgent and policy.quiet.covers(now)
